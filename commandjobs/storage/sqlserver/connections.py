"""Connections to SQL Server, through Microsoft's driver: each with a thread of its own, a few for transactions, a few
for single statements and a few for looking, opened when they are needed.

The driver itself keeps a pool for the whole process: what is closed here goes back there, rolled back, and what is
opened may come from there. So each connection is told how to behave before its first use.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import mssql_python

from commandjobs.errors import InvalidOption
from commandjobs.storage.queries import Statement
from commandjobs.storage.sql.driver import PATIENCE, TryAgain
from commandjobs.storage.sql.pool import Pool
from commandjobs.storage.sqlserver.address import Address
from commandjobs.storage.sqlserver.call_thread import CallThread
from commandjobs.storage.sqlserver.errors import is_lost, raise_translated
from commandjobs.storage.sqlserver.loading import Loader
from commandjobs.storage.sqlserver.parameters import sizes, values

TRANSACTIONS, SINGLES, READERS = 5, 2, 3
"""Most connections of a process."""
CONNECT_TIMEOUT = 5
"""Seconds for one attempt to connect."""
CLOSE_TIMEOUT = 2
STATEMENT_TIMEOUT = 15
"""Seconds; nobody waits for a statement so long, but its thread does."""
PREPARED = 100
"""Statements that a connection keeps prepared."""
BEHAVIOUR = (
    f"set nocount on; set xact_abort on; set lock_timeout {round(PATIENCE * 1000)}; set language us_english; "
    "set transaction isolation level read committed"
)
"""Counts of rows are not sent, an error rolls its transaction back whole, and errors speak English (`errors`)."""


class SqlServerConnection:
    """One connection. Its public coroutines run in the loop, everything that blocks in its thread."""

    def __init__(self, thread: CallThread, raw: mssql_python.Connection, loader: Loader) -> None:
        """thread: the one that has opened the driver's connection. loader: for `load`."""
        self._thread = thread
        self._loader = loader
        self._raw = raw
        self._prepared: dict[str, mssql_python.Cursor] = {}
        self._patience = PATIENCE
        self.is_closed = False

    async def rows(self, statement: Statement, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a statement; the rows it returns."""
        return await self._thread.call(lambda: self._execute(statement, values(statement, parameters)))

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        """Run a statement whose answer nobody needs."""
        await self.rows(statement, **parameters)

    async def load(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write many rows into a table of the schema."""
        for statement, document in self._loader.loads(table, columns, rows):
            await self.run(statement, rows=document)

    async def wait_no_longer_than(self, patience: float) -> None:
        """Let no lock be waited for longer than so many seconds."""
        if patience != self._patience:
            await self.run(Statement("patience", f"set lock_timeout {round(patience * 1000)}", ()))
            self._patience = patience

    async def commit(self) -> None:
        """End the transaction."""
        await self._thread.call(self._raw.commit)

    async def rollback(self) -> None:
        """Undo the transaction; there may be none any more."""
        await self._thread.call(self._raw.rollback)

    async def close(self) -> None:
        """Say good-bye to the server; it is not waited for long."""
        self.is_closed = True
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._thread.call(self._raw.close)
        self._thread.end(lambda: None)

    def is_lost_by(self, error: BaseException) -> bool:
        """It may be translated by now."""
        return is_lost(error) or (error.__cause__ is not None and is_lost(error.__cause__))

    def drop(self) -> None:
        """Close it as soon as what is under way on it is over. Nobody waits for that."""
        if not self.is_closed:
            self.is_closed = True
            self._thread.end(self._raw.close)

    # ── in the thread ───────────────────────────────────────────────────────────────────────────────────────────────

    def _execute(self, statement: Statement, sent: list[Any]) -> list[tuple[Any, ...]]:
        cursor = self._cursor(statement)
        if statement.parameters:
            cursor.setinputsizes([*sizes(statement)])
            cursor.execute(statement.text, sent)
        else:
            cursor.execute(statement.text)
        return _fetched(cursor)

    def _cursor(self, statement: Statement) -> mssql_python.Cursor:
        """The one that has the statement prepared."""
        cursor = self._prepared.pop(statement.text, None)
        if cursor is None:
            cursor = self._raw.cursor()
            if len(self._prepared) >= PREPARED:
                self._prepared.pop(next(iter(self._prepared))).close()
        self._prepared[statement.text] = cursor  # the newest last
        return cursor


class SqlServerDriver:
    """A SQL Server database."""

    def __init__(self, address: Address, loader: Loader) -> None:
        """Nothing is opened yet."""
        self.address = address
        self._loader = loader
        self.place = address.place
        self._transactions: Pool[SqlServerConnection] | None = None
        self._singles: Pool[SqlServerConnection] | None = None
        self._readers: Pool[SqlServerConnection] | None = None

    def another(self) -> "SqlServerDriver":
        """The same database through connections of its own."""
        return SqlServerDriver(self.address, self._loader)

    async def connect(self, *, autocommit: bool, timeout: int = STATEMENT_TIMEOUT) -> SqlServerConnection:
        """A new connection. timeout: seconds for a statement; 0: any number.

        Raises `TryAgain` when the server cannot be reached now.
        """
        thread = CallThread("commandjobs SQL Server")
        opened: list[mssql_python.Connection] = []

        def open_connection() -> mssql_python.Connection:
            raw = mssql_python.connect(self.address.connection, autocommit=autocommit, timeout=CONNECT_TIMEOUT)
            opened.append(raw)
            raw.timeout = timeout
            cursor = raw.cursor()
            cursor.execute(BEHAVIOUR)
            _fetched(cursor)
            return raw

        def forget() -> None:
            for raw in opened:
                raw.close()

        try:
            return SqlServerConnection(thread, await thread.call(open_connection), self._loader)
        except BaseException as error:
            thread.end(forget)
            if isinstance(error, mssql_python.ConnectionStringParseError):
                raise InvalidOption(f"storage: the driver does not understand the URL: {error}") from error
            if isinstance(error, (mssql_python.Error, OSError)):
                raise TryAgain(f"{type(error).__name__}: {error}") from error
            raise

    @asynccontextmanager
    async def transaction(self, *, patience: float = PATIENCE) -> AsyncGenerator[SqlServerConnection]:
        """One transaction."""
        if self._transactions is None:
            self._transactions = Pool(self._open, TRANSACTIONS)
        async with self._transactions.connection() as connection, self._transaction(connection, patience):
            yield connection

    @asynccontextmanager
    async def statement(self) -> AsyncGenerator[SqlServerConnection]:
        """A connection for one writing statement."""
        if self._singles is None:
            self._singles = Pool(self._open_single, SINGLES)
        async with self._singles.connection() as connection, self._single(connection, writing=True):
            yield connection

    @asynccontextmanager
    async def looking(self) -> AsyncGenerator[SqlServerConnection]:
        """A connection for reading."""
        if self._readers is None:
            self._readers = Pool(self._open_single, READERS)
        async with self._readers.connection() as connection, self._single(connection, writing=False):
            yield connection

    @asynccontextmanager
    async def seldom(self) -> AsyncGenerator[SqlServerConnection]:
        """A transaction on a connection of its own, for work that may take its time."""
        connection = await self.connect(autocommit=False, timeout=0)
        try:
            async with self._transaction(connection):
                yield connection
        finally:
            await connection.close()

    async def close(self) -> None:
        """Close all connections."""
        for pool in (self._transactions, self._singles, self._readers):
            if pool is not None:
                await pool.close()
        self._transactions = self._singles = self._readers = None

    async def _open(self) -> SqlServerConnection:
        return await self.connect(autocommit=False)

    async def _open_single(self) -> SqlServerConnection:
        return await self.connect(autocommit=True)

    @asynccontextmanager
    async def _transaction(self, connection: SqlServerConnection, patience: float = PATIENCE) -> AsyncGenerator[None]:
        """The first statement begins it."""
        committing = False
        try:
            await connection.wait_no_longer_than(patience)
            yield
            committing = True
            await connection.commit()
        except Exception as error:
            if is_lost(error):
                connection.drop()
            else:
                try:
                    await connection.rollback()
                except Exception:
                    connection.drop()
            raise_translated(error, self.place, committing=committing)

    @asynccontextmanager
    async def _single(self, connection: SqlServerConnection, *, writing: bool) -> AsyncGenerator[None]:
        try:
            yield
        except Exception as error:
            if is_lost(error):
                connection.drop()
            raise_translated(error, self.place, committing=writing)


def _fetched(cursor: mssql_python.Cursor) -> list[tuple[Any, ...]]:
    """The rows of whichever statement returned some. All answers are read: an error may come with any of them."""
    rows: list[tuple[Any, ...]] = []
    while True:
        if cursor.description is not None:
            rows = [tuple(row) for row in cursor.fetchall()]
        if not cursor.nextset():
            return rows
