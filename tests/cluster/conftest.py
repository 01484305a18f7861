from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_hex

import pytest

from tests.cluster.cluster import Cluster
from tests.servers.sql import ask_postgres


@pytest.fixture
async def schema_url(postgres_url: str) -> AsyncIterator[str]:
    """An empty schema of the shared PostgreSQL server."""
    schema = f"cluster_{token_hex(6)}"
    await ask_postgres(postgres_url, f"create schema {schema}")
    yield f"{postgres_url}?schema={schema}"
    await ask_postgres(postgres_url, f"drop schema {schema} cascade")


@pytest.fixture
def cluster(tmp_path: Path, schema_url: str) -> Cluster:
    """No node yet, on that schema."""
    return Cluster(tmp_path, schema_url)
