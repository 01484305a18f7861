"""A SQL Server schema for tests, where `COMMANDJOBS_TEST_MSSQL` names a database: made once per process of the test
run, emptied before each test. There is no server that a test run could bring up by itself.
"""

import asyncio
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import mssql_python

from commandjobs.storage.sqlserver.address import parse
from commandjobs.storage.sqlserver.storage import SqlServerStorage

ADDRESS = os.environ.get("COMMANDJOBS_TEST_MSSQL")
"""A URL such as mssql://sa:password@127.0.0.1/test?TrustServerCertificate=yes."""
TESTED = ("mssql",) if ADDRESS else ()
"""What tests over all storages add to the others."""
NOT_TESTED = "SQL Server was not tested: COMMANDJOBS_TEST_MSSQL names no database."
CHECKOUT = zlib.crc32(str(Path(__file__).resolve()).encode())
"""Two checkouts may be tested on one server at the same time."""
SCHEMA = f"commandjobs_test_{CHECKOUT:08x}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
KEPT = ("migration", "mutex")


def url(schema: str = SCHEMA, **parameters: str) -> str:
    """The URL of a schema on the tests' server."""
    assert ADDRESS is not None, NOT_TESTED
    joint = "&" if "?" in ADDRESS else "?"
    return f"{ADDRESS}{joint}{urlencode({'schema': schema, **parameters})}"


def empty_url() -> str:
    """The URL of this process's schema, without any job in it."""
    _make_schema()
    for table in _tables():
        if table not in KEPT:
            execute(f"delete from [{SCHEMA}].[{table}]")
    execute(f"alter sequence [{SCHEMA}].job_ids restart with 1")
    return url()


def execute(sql: str) -> None:
    """Run SQL."""
    _connected().cursor().execute(sql)


def query(sql: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows of one statement."""
    cursor = _connected().cursor()
    cursor.execute(sql, list(values)) if values else cursor.execute(sql)
    return [tuple(row) for row in cursor.fetchall()]


def drop(schema: str) -> None:
    """Take a schema away, with all that is in it."""
    for kind, name in query(
        "select case type when 'V' then 'view' when 'SO' then 'sequence' else 'table' end, name "
        f"from sys.objects where schema_id = schema_id('{schema}') and type in ('U', 'V', 'SO') order by type desc"
    ):
        execute(f"drop {kind} if exists [{schema}].[{name}]")
    execute(f"drop schema if exists [{schema}]")


@cache
def _make_schema() -> None:
    """The schema is made anew, whatever an earlier run has left."""
    drop(SCHEMA)
    with ThreadPoolExecutor(1) as thread:  # a loop may be running in this one
        thread.submit(asyncio.run, _open_once()).result()


async def _open_once() -> None:
    storage = SqlServerStorage(url())
    await storage.open(on_wake=lambda: None)
    await storage.close()


def _tables() -> list[str]:
    return [name for (name,) in query(f"select name from sys.tables where schema_id = schema_id('{SCHEMA}')")]


@cache
def _connected() -> mssql_python.Connection:
    return mssql_python.connect(parse(url()).connection, autocommit=True, timeout=10)
