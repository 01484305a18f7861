"""What tests of a job's life share: a stage to act on, and a storage that outlives its engine."""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from commandjobs import BackgroundJobs, Storage
from commandjobs.storage.memory import MemoryStorage
from tests.lifecycle.commands import clear_stage, stage


@pytest.fixture(autouse=True)
def cleared_stage() -> Iterator[None]:
    """Every test begins with an empty stage, and leaves no thread waiting."""
    clear_stage()
    yield
    stage.open()


@pytest.fixture
def engine(engine: Callable[..., AbstractAsyncContextManager[BackgroundJobs]]) -> Callable[..., Any]:
    """The engine of all tests; when one fails, what is held on stage may go, or a clock that stands would keep it."""

    @asynccontextmanager
    async def enter(*where: Any, **settings: Any) -> AsyncGenerator[BackgroundJobs]:
        async with engine(*where, **settings) as jobs:
            try:
                yield jobs
            except BaseException:
                stage.open()
                raise

    return enter


@pytest.fixture
def place(storage_url: str) -> str | Storage:
    """A storage for several engines, one after the other: `async with engine(place) as jobs:`."""
    return MemoryStorage() if storage_url == "memory://" else storage_url
