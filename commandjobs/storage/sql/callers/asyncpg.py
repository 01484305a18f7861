"""asyncpg: its connections, also as a pool lends them."""

from collections.abc import Sequence
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from commandjobs.storage.queries import Statement, Style
from commandjobs.storage.sql.callers.caller import CLOSED, Caller, autocommit


def adapted(connection: object) -> Caller | None:
    """The connection as the storage can use it."""
    return AsyncpgCaller(connection) if isinstance(connection, asyncpg.Connection | PoolConnectionProxy) else None


class AsyncpgCaller:
    """A connection of asyncpg."""

    kind = "a Connection of asyncpg"
    blocking = False
    databases = frozenset({"postgresql"})
    style: Style = "$1"

    def __init__(self, connection: "asyncpg.Connection | PoolConnectionProxy") -> None:
        """Over asyncpg's own."""
        self._connection = connection
        self.raw = getattr(connection, "_con", connection)  # a pool lends one connection under many proxies

    async def begin(self) -> None:
        """It is at hand."""

    def refusal(self) -> str | None:
        """Why nothing can be enqueued on it now."""
        if self.raw is None:
            return "was given back to its pool"
        if self._connection.is_closed():
            return CLOSED
        if not self._connection.is_in_transaction():
            return autocommit("open one with `async with connection.transaction():`")
        return None

    async def rows(self, statement: Statement, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a statement; the rows it returns."""
        return await self._connection.fetch(statement.text, *statement.values(parameters))

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        """Run a statement whose answer nobody needs."""
        await self._connection.fetch(statement.text, *statement.values(parameters))
