from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from tests.cluster.cluster import Cluster
from tests.servers.sql import ask_postgres, blocking


@pytest.fixture(scope="session")
def make_schema_url(postgres_url: str) -> Iterator[Callable[[], str]]:
    """Names an empty schema of the shared PostgreSQL server, which is dropped at the end."""
    schemas = list[str]()

    def make() -> str:
        schemas.append(f"cluster_{token_hex(6)}")
        return f"{postgres_url}?schema={schemas[-1]}"

    yield make
    for schema in schemas:
        blocking(ask_postgres(postgres_url, f"drop schema if exists {schema} cascade"))


@pytest.fixture
def cluster(tmp_path: Path, make_schema_url: Callable[[], str]) -> Cluster:
    """No node yet, on a schema of its own."""
    return Cluster(tmp_path, make_schema_url())
