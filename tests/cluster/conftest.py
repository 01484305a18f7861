from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from tests.cluster.cluster import Cluster
from tests.servers.postgres import PrivatePostgres
from tests.servers.run import Run


@pytest.fixture(scope="session")
def clusters_server(servers: Run) -> Iterator[PrivatePostgres]:
    """A server for all clusters of this process: eight nodes have as many connections as others usually give to all."""
    server = PrivatePostgres(servers)
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def make_schema_url(clusters_server: PrivatePostgres) -> Callable[[], str]:
    """Names an empty schema there."""
    return lambda: f"{clusters_server.url}?schema=cluster_{token_hex(6)}"


@pytest.fixture
def cluster(tmp_path: Path, make_schema_url: Callable[[], str]) -> Cluster:
    """No node yet, on a schema of its own."""
    return Cluster(tmp_path, make_schema_url())
