"""The conformance suite: what any storage must do, run on each of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from commandjobs.storage import open_storage
from commandjobs.storage.base import Storage
from tests import postgres, sqlserver
from tests.storage.life import node

STORAGES = ("memory", "sqlite", "postgres", *sqlserver.TESTED)
collect_ignore = [] if sqlserver.TESTED else ["test_sqlserver_only.py"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def wakes() -> list[None]:
    """Grows by one each time that the storage calls `on_wake`."""
    return []


@pytest.fixture(params=STORAGES)
async def storage(request: pytest.FixtureRequest, tmp_path: Path, wakes: list[None]) -> AsyncIterator[Storage]:
    """An empty storage, open, with one node that executes."""
    opened = make(request.param, tmp_path)
    await opened.open(on_wake=lambda: wakes.append(None))
    await opened.register(node())
    assert await opened.try_execute()
    yield opened
    await opened.close()


def make(kind: str, directory: Path) -> Storage:
    if kind == "mssql":
        return open_storage(sqlserver.empty_url())
    if kind == "postgres":
        return open_storage(postgres.empty_url())
    return open_storage("memory://" if kind == "memory" else directory / "jobs.db")
