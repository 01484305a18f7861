"""A MySQL or MariaDB database for tests: made once per process of the test run, emptied before each test."""

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine, Sequence
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from commandjobs.storage.mysql.address import PREFIX, parse
from commandjobs.storage.mysql.connections import MysqlConnection, MysqlDriver
from commandjobs.storage.mysql.storage import MysqlStorage

T = TypeVar("T")

ADDRESS = os.environ.get("COMMANDJOBS_TEST_MYSQL", "mysql://root@127.0.0.1:3306/test")
DATABASE = f"commandjobs_test_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{os.getpid()}"
KEPT = ("migration", "turnstile")
"""Tables that are not emptied."""
LOW_IDS = 1_000
"""To count from 1 again takes up to 80 ms, so it is done after this many jobs; no test takes such an id for unknown."""


def url(**parameters: str) -> str:
    """The URL of this process's database on the tests' server."""
    return urlsplit(ADDRESS)._replace(path=f"/{DATABASE}", query=urlencode(parameters)).geturl()


def empty_url() -> str:
    """The same, without any job in it."""
    tables = _tables()
    job, summary = table("job"), table("job_summary")
    [(highest,)] = query(f"select max(id) from (select id from {job} union all select id from {summary}) as jobs")
    for name in tables:
        execute(f"delete from {DATABASE}.{name}")
    if (highest or 0) > LOW_IDS:
        execute(f"alter table {job} auto_increment = 1")
    return url()


def table(name: str) -> str:
    """A table of this process's database."""
    return f"{DATABASE}.{PREFIX}{name}"


def now() -> int:
    """The server's time."""
    [(moment,)] = query("select timestampdiff(microsecond, '1970-01-01', utc_timestamp(6))")
    return int(moment)


def execute(text: str) -> None:
    """Run SQL; from any thread, also one in which a loop runs."""
    query(text)


def query(text: str) -> Sequence[Sequence[Any]]:
    """The rows of one statement."""
    return do(_fetch(text))


@cache
def _tables() -> list[str]:
    """The database is made at first use, and dropped when the process ends."""
    execute(f"create database {DATABASE}")
    atexit.register(execute, f"drop database {DATABASE}")
    do(_open_once())
    found = query(f"select table_name from information_schema.tables where table_schema = '{DATABASE}'")
    return [name for (name,) in found if name.removeprefix(PREFIX) not in KEPT]


async def _open_once() -> None:
    storage = MysqlStorage(url())
    await storage.open(on_wake=lambda: None)
    await storage.close()


def do(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop of the tests' own."""
    return asyncio.run_coroutine_threadsafe(work, _loop()).result(timeout=120)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="tests' own connection", daemon=True).start()
    return loop


_connection: MysqlConnection | None = None


async def _fetch(text: str) -> Sequence[Sequence[Any]]:
    global _connection  # noqa: PLW0603  one for all tests of this process
    if _connection is None or _connection.is_closed:
        _connection = await MysqlDriver(parse(ADDRESS)).connect()
    return await _connection.fetch(text)
