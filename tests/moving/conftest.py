"""Storages to move between: a queue on SQLite, and empty ones of each kind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from commandjobs.storage import open_storage
from commandjobs.storage.base import Storage
from tests import postgres


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Storage]:
    """An empty queue, in which nobody executes yet."""
    opened = open_storage(tmp_path / "source" / "jobs.db")
    await opened.open(on_wake=lambda: None)
    yield opened
    await opened.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """An empty storage of each kind."""
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/target/jobs.db"}
    url = postgres.empty_url(postgres.OTHER_SCHEMA) if request.param == "postgres" else urls[request.param]
    opened = open_storage(url)
    await opened.open(on_wake=lambda: None)
    yield opened
    await opened.close()
