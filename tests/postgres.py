"""A PostgreSQL schema for tests: made once per process of the test run, emptied before each test."""

import asyncio
import os
from functools import cache
from urllib.parse import urlencode

import asyncpg

from commandjobs.storage.postgres.storage import PostgresStorage

ADDRESS = os.environ.get("COMMANDJOBS_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
SCHEMA = f"commandjobs_test_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
EMPTY = """
do $$
declare name text;
begin
    for name in
        select relname from pg_class
        where relnamespace = '{schema}'::regnamespace and relkind in ('r', 'p') and not relispartition
          and relname <> 'migration'
    loop
        execute format('delete from {schema}.%I', name);
    end loop;
end $$
"""


def url(schema: str = SCHEMA, **parameters: str) -> str:
    """The URL of a schema on the tests' server."""
    return f"{ADDRESS}?{urlencode({'schema': schema, **parameters})}"


def empty_url() -> str:
    """The URL of this process's schema, without any job in it."""
    _made()
    asyncio.run(_execute(EMPTY.format(schema=SCHEMA)))
    return url()


@cache
def _made() -> None:
    """The schema is made anew, whatever an earlier run has left."""
    asyncio.run(_make())


async def _make() -> None:
    await _execute(f"drop schema if exists {SCHEMA} cascade")
    storage = PostgresStorage(url())
    await storage.open(on_wake=lambda: None)
    await storage.close()


async def _execute(sql: str) -> None:
    connection = await asyncpg.connect(ADDRESS)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
