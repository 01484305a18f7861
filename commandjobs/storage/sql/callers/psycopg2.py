"""psycopg2: its connections."""

from collections.abc import Sequence
from typing import Any

import psycopg2.extensions

from commandjobs.storage.queries import Statement, Style
from commandjobs.storage.sql.callers.caller import CLOSED, FAILED, Caller, autocommit


def adapted(connection: object) -> Caller | None:
    """The connection as the storage can use it."""
    return Psycopg2Caller(connection) if isinstance(connection, psycopg2.extensions.connection) else None


class Psycopg2Caller:
    """A connection of psycopg2."""

    kind = "a connection of psycopg2"
    blocking = True
    databases = frozenset({"postgresql"})
    style: Style = "%s"

    def __init__(self, connection: "psycopg2.extensions.connection") -> None:
        """Over psycopg2's own."""
        self.raw = connection

    async def begin(self) -> None:
        """It is at hand."""

    def refusal(self) -> str | None:
        """Why nothing can be enqueued on it now."""
        if self.raw.closed:
            return CLOSED
        status = self.raw.get_transaction_status()
        if status == psycopg2.extensions.TRANSACTION_STATUS_INERROR:
            return FAILED
        if status == psycopg2.extensions.TRANSACTION_STATUS_IDLE and self.raw.autocommit:
            return autocommit("set `connection.autocommit = False`")
        return None

    async def rows(self, statement: Statement, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a statement; the rows it returns."""
        with self.raw.cursor(cursor_factory=psycopg2.extensions.cursor) as cursor:
            cursor.execute(statement.text, statement.values(parameters))
            return cursor.fetchall()

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        """Run a statement whose answer nobody needs."""
        with self.raw.cursor(cursor_factory=psycopg2.extensions.cursor) as cursor:
            cursor.execute(statement.text, statement.values(parameters))
