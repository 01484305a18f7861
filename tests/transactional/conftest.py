"""Enqueueing in a caller's own transaction, on the real server and with the real libraries."""

from collections.abc import AsyncIterator, Iterator

import pytest

from commandjobs import BackgroundJobs
from tests import postgres
from tests.lifecycle.commands import clear_stage, stage
from tests.transactional.callers import KINDS, ORDERS, Asyncpg, Caller, Psycopg


@pytest.fixture(autouse=True)
def cleared_stage() -> Iterator[None]:
    clear_stage()
    yield
    stage.open()


@pytest.fixture(scope="session")
def table() -> Iterator[None]:
    postgres.execute(f"drop table if exists {ORDERS}; create table {ORDERS} (name text)")
    yield
    postgres.execute(f"drop table {ORDERS}")


@pytest.fixture
def url(table: None) -> str:
    """An empty queue, beside a table of the callers' own."""
    postgres.execute(f"delete from {ORDERS}")
    return postgres.empty_url()


@pytest.fixture
async def jobs(url: str) -> AsyncIterator[BackgroundJobs]:
    async with BackgroundJobs(url, shutdown_grace=1.0) as entered:
        yield entered


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
async def caller(request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    """A caller of each kind, with an open transaction."""
    async with request.param() as one:
        yield one


@pytest.fixture
async def someone() -> AsyncIterator[Caller]:
    """A caller where it does not matter what he uses."""
    async with Asyncpg() as one:
        yield one


@pytest.fixture(params=[Asyncpg, Psycopg], ids=["async", "blocking"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    """An async caller, and one who blocks."""
    async with request.param() as one:
        yield one
