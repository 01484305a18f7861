"""psycopg 3: its connections, blocking and async, also as a pool lends them."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from commandjobs.storage.queries import Statement, Style
from commandjobs.storage.sql.callers.caller import CLOSED, FAILED, Caller, autocommit


def adapted(connection: object) -> Caller | None:
    """The connection as the storage can use it."""
    if isinstance(connection, psycopg.Connection):
        return PsycopgCaller(connection)
    if isinstance(connection, psycopg.AsyncConnection):
        return AsyncPsycopgCaller(connection)
    return None


class PsycopgCaller:
    """A blocking connection of psycopg."""

    kind = "a Connection of psycopg"
    blocking = True
    databases = frozenset({"postgresql"})
    style: Style = "%s"

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        """Over psycopg's own."""
        self.raw = connection

    async def begin(self) -> None:
        """It is at hand."""

    def refusal(self) -> str | None:
        """Why nothing can be enqueued on it now."""
        return _refusal(self.raw, "with connection.transaction():")

    async def rows(self, statement: Statement, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a statement; the rows it returns."""
        with self.raw.cursor(row_factory=tuple_row) as cursor:
            return cursor.execute(statement.text.encode(), statement.values(parameters)).fetchall()

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        """Run a statement whose answer nobody needs."""
        with self.raw.cursor() as cursor:
            cursor.execute(statement.text.encode(), statement.values(parameters))


class AsyncPsycopgCaller:
    """An async connection of psycopg."""

    kind = "an AsyncConnection of psycopg"
    blocking = False
    databases = frozenset({"postgresql"})
    style: Style = "%s"

    def __init__(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        """Over psycopg's own."""
        self.raw = connection

    async def begin(self) -> None:
        """It is at hand."""

    def refusal(self) -> str | None:
        """Why nothing can be enqueued on it now."""
        return _refusal(self.raw, "async with connection.transaction():")

    async def rows(self, statement: Statement, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a statement; the rows it returns."""
        async with self.raw.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(statement.text.encode(), statement.values(parameters))
            return await cursor.fetchall()

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        """Run a statement whose answer nobody needs."""
        async with self.raw.cursor() as cursor:
            await cursor.execute(statement.text.encode(), statement.values(parameters))


def _refusal(connection: "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]", way_out: str) -> str | None:
    status = connection.info.transaction_status
    if connection.closed:
        return CLOSED
    if connection.pgconn.pipeline_status != PipelineStatus.OFF:  # a bare number in the C implementation
        return "is in pipeline mode, where an error would end your transaction: enqueue before or after the pipeline"
    if status is TransactionStatus.INERROR:
        return FAILED
    if status is TransactionStatus.IDLE and connection.autocommit:
        return autocommit(f"open one with `{way_out}`")
    return None
