from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from tests.cluster.cluster import Cluster
from tests.servers.sql import ask_postgres, blocking


@pytest.fixture
def schema_url(postgres_url: str) -> Iterator[str]:
    """An empty schema of the shared PostgreSQL server."""
    schema = f"cluster_{token_hex(6)}"
    yield f"{postgres_url}?schema={schema}"
    blocking(ask_postgres(postgres_url, f"drop schema if exists {schema} cascade"))


@pytest.fixture
def cluster(tmp_path: Path, schema_url: str) -> Cluster:
    """No node yet, on that schema."""
    return Cluster(tmp_path, schema_url)
