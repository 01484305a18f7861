"""A PostgreSQL schema for tests, of each process of the run: emptied before each test, dropped at the end."""

import asyncio
import threading
from collections.abc import Coroutine
from functools import cache
from secrets import token_hex
from typing import Any, TypeVar
from urllib.parse import urlencode

import asyncpg

from commandjobs.storage.postgres.storage import PostgresStorage
from tests.servers.backends import POSTGRES
from tests.servers.run import Run

T = TypeVar("T")

SCHEMA = f"commandjobs_test_{token_hex(6)}"
"""Of this process alone: several runs may share a server."""
OTHER_SCHEMA = f"{SCHEMA}_other"
"""For what goes from one schema to another."""
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
    perform setval('{schema}.job_id_seq', 1, false);
end $$
"""


def url(schema: str = SCHEMA, **parameters: str) -> str:
    """The URL of a schema on the tests' server."""
    return f"{address()}?{urlencode({'schema': schema, **parameters})}"


@cache
def address() -> str:
    """The server that all tests of the run share."""
    return POSTGRES.find(Run()).url


def empty_url(schema: str = SCHEMA) -> str:
    """The URL of this process's schema (or of another one of its own), without any job in it."""
    _make_schema(schema)
    execute(EMPTY.format(schema=schema))
    return url(schema)


def execute(sql: str) -> None:
    """Run SQL; from any thread, also one in which a loop runs."""
    do(_execute(sql))


def query(sql: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows of one statement."""
    return [tuple(row) for row in do(_query(sql, values))]


def query_and_roll_back(sql: str, *values: object) -> list[tuple[Any, ...]]:
    """The same, leaving nothing behind."""
    return [tuple(row) for row in do(_query_and_roll_back(sql, values))]


def do(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop of the tests' own."""
    return asyncio.run_coroutine_threadsafe(work, _loop()).result(timeout=120)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="tests' own connection", daemon=True).start()
    return loop


@cache
def _make_schema(schema: str) -> None:
    _made.add(schema)
    do(_open_once(schema))


_made = set[str]()


def drop_schemas() -> None:
    """Leave nothing of this process behind."""
    for schema in _made:
        execute(f"drop schema if exists {schema} cascade")


async def _open_once(schema: str) -> None:
    storage = PostgresStorage(url(schema))
    await storage.open(on_wake=lambda: None)
    await storage.close()


_connection: asyncpg.Connection | None = None


async def _connected() -> asyncpg.Connection:
    global _connection  # noqa: PLW0603  one for all tests of this process
    if _connection is None or _connection.is_closed():
        _connection = await asyncpg.connect(address())
    return _connection


async def _execute(sql: str) -> None:
    await (await _connected()).execute(sql)


async def _query(sql: str, values: tuple[object, ...]) -> list[Any]:
    return await (await _connected()).fetch(sql, *values)


async def _query_and_roll_back(sql: str, values: tuple[object, ...]) -> list[Any]:
    connection = await _connected()
    await connection.execute("begin")
    try:
        return await connection.fetch(sql, *values)
    finally:
        await connection.execute("rollback")
