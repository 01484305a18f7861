"""Statements on a server, through a driver and nothing of the package."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from importlib import import_module
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

asyncpg: Any = import_module("asyncpg")
asyncmy: Any = import_module("asyncmy")

T = TypeVar("T")


def blocking(work: Coroutine[Any, Any, T]) -> T:
    """Do it on a loop in a thread of the tests' own, also where a loop runs."""
    return asyncio.run_coroutine_threadsafe(work, _loop()).result(120)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="tests' statements", daemon=True).start()
    return loop


@contextmanager
def session(url: str) -> Generator[Callable[[str], Any]]:
    """A connection that stays open, for statements one after the other."""
    connection = blocking(connect(url))
    try:
        yield lambda sql: blocking(connection.execute(sql))
    finally:
        blocking(connection.close(timeout=30))


async def ask_postgres(url: str, sql: str = "select 1") -> Any:
    """The first value of its first row."""
    async with connected(url) as connection:
        return await connection.fetchval(sql)


async def postgres_rows(url: str, *statements: str) -> list[list[dict[str, Any]]]:
    """All rows of each statement, as of one moment."""
    async with connected(url) as connection, connection.transaction(isolation="repeatable_read"):
        return [[dict(row) for row in await connection.fetch(sql)] for sql in statements]


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Any]:
    """A connection for a while."""
    connection = await connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def connect(url: str) -> Any:
    """A connection, in the schema that the URL may name: `?schema=jobs`."""
    parts = urlsplit(url)
    schema = parse_qs(parts.query).get("schema", ["public"])[0]
    address = parts._replace(query="").geturl()
    return await asyncpg.connect(address, timeout=30, server_settings={"search_path": schema})


async def ask_mysql(url: str, sql: str = "select 1") -> Any:
    """The same."""
    parts = urlsplit(url)
    account = {"user": parts.username or "root", "password": parts.password or ""}
    connection = await asyncmy.connect(host=parts.hostname, port=parts.port or 3306, db=parts.path[1:], **account)
    try:
        async with connection.cursor() as cursor:
            await cursor.execute(sql)
            row = await cursor.fetchone()
            return row[0] if row is not None else None
    finally:
        await connection.ensure_closed()
