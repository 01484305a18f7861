"""What tests of the engine share: storages to run on, engines, a clock to move, and waiting for a condition."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from commandjobs import BackgroundJobs
from commandjobs.testing import FakeClock
from tests import postgres, sqlserver

pytest_plugins = ["tests.servers.plugin"]

# Its limits on time (0.2 s for an example) tell of the machine, and a stall would break them.
settings.register_profile("no watch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no watch")


def pytest_sessionfinish() -> None:
    """The server that tests share is not ours alone."""
    postgres.drop_schemas()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what could not be tested here."""
    if not sqlserver.TESTED:
        terminalreporter.write_line(sqlserver.NOT_TESTED)


@pytest.fixture(params=["memory", "sqlite", "postgres", *sqlserver.TESTED])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty storage of each kind."""
    if request.param == "mssql":
        return sqlserver.empty_url()
    if request.param == "postgres":
        return postgres.empty_url()
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture
def engine(storage_url: str) -> Callable[..., Any]:
    """`async with engine(retry_limit=0) as jobs:` enters an engine with these settings on the test's storage."""

    @asynccontextmanager
    async def enter(url: str = storage_url, **settings: Any) -> AsyncGenerator[BackgroundJobs]:
        settings.setdefault("shutdown_grace", 1.0)
        async with BackgroundJobs(url, **settings) as jobs:
            yield jobs

    return enter


@pytest.fixture
async def jobs(engine: Callable[..., Any]) -> AsyncGenerator[BackgroundJobs]:
    """An entered engine on each storage."""
    async with engine() as entered:
        yield entered


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands at noon of 15 January 2026."""
    return FakeClock()


async def until(condition: Callable[[], object], *, within: float = 30.0) -> None:
    """Wait until a condition holds; fail when it does not in time."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110  conditions of all kinds: states, files, other processes
            await asyncio.sleep(0.002)
