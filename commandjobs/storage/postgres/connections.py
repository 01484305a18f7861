"""Connections to PostgreSQL: a few for writing and a few for looking, opened when they are needed.

No session state is kept between two transactions, so that a pooler in transaction mode may stand between: only prepared
statements, and those not behind a pooler. It is found by its process id: a pooler invents the one that it tells.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import asyncpg

from commandjobs.storage.postgres.address import Address
from commandjobs.storage.postgres.errors import is_lost, raise_translated
from commandjobs.storage.queries import Statement
from commandjobs.storage.sql.driver import TryAgain

WRITERS, READERS = 6, 3
"""Most connections of a process."""
LOCK_TIMEOUT = "5s"
CONNECT_TIMEOUT = 5.0
"""Seconds for one attempt to connect."""
BEGIN = f"begin; set local lock_timeout = '{LOCK_TIMEOUT}'"


class PostgresConnection:
    """One connection."""

    def __init__(self, raw: asyncpg.Connection) -> None:
        """Over asyncpg's."""
        self.raw = raw

    async def rows(self, statement: Statement, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a statement; the rows it returns."""
        return await self.raw.fetch(statement.text, *statement.values(parameters))

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        """Run a statement whose answer nobody needs."""
        await self.raw.fetch(statement.text, *statement.values(parameters))


class Pool:
    """Connections for one purpose."""

    def __init__(self, driver: "PostgresDriver", size: int) -> None:
        """size: most connections at once."""
        self._driver = driver
        self._places = asyncio.Semaphore(size)
        self._idle: list[PostgresConnection] = []
        self._closed = False

    async def take(self) -> PostgresConnection:
        """One of them, or a new one; it is to be given back."""
        await self._places.acquire()
        while self._idle:
            connection = self._idle.pop()
            if not connection.raw.is_closed():
                return connection
        try:
            return PostgresConnection(await self._driver.connect())
        except BaseException:
            self._places.release()
            raise

    def give_back(self, connection: PostgresConnection, error: BaseException | None) -> None:
        """It is thrown away if what was done with it has left it in the middle of something."""
        if self._closed or (error is not None and (is_lost(error) or not isinstance(error, Exception))):
            connection.raw.terminate()
        elif not connection.raw.is_closed():
            self._idle.append(connection)
        self._places.release()

    async def close(self) -> None:
        """Close all that are idle, and each other one when it comes back."""
        self._closed = True
        while self._idle:
            with suppress(Exception):
                await self._idle.pop().raw.close(timeout=1.0)


class Lent:
    """A connection of a pool, within an `async with`. (A class: as a generator it takes a lone enqueue 3 us more.)"""

    __slots__ = ("_committing", "_connection", "_place", "_pool")
    _connection: PostgresConnection

    def __init__(self, pool: Pool, place: str, *, committing: bool) -> None:
        """committing: what an error interrupts may have been done."""
        self._pool = pool
        self._place = place
        self._committing = committing

    async def __aenter__(self) -> PostgresConnection:
        """Take it."""
        self._connection = await self._pool.take()
        return self._connection

    async def __aexit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        """Give it back; errors leave translated."""
        self._pool.give_back(self._connection, error)
        if isinstance(error, Exception):
            raise_translated(error, self._place, committing=self._committing)


class PostgresDriver:
    """A PostgreSQL database through asyncpg."""

    def __init__(self, address: Address) -> None:
        """Nothing is opened yet."""
        self.address = address
        self.place = address.place
        self.pooled = bool(address.pooled)
        self._writers: Pool | None = None
        self._readers: Pool | None = None

    def another(self) -> "PostgresDriver":
        """The same database through connections of its own."""
        driver = PostgresDriver(self.address)
        driver.pooled = self.pooled
        return driver

    async def connect(self, **settings: str) -> asyncpg.Connection:
        """A new connection. Raises `TryAgain` when the server cannot be reached now."""
        settings |= {} if self.pooled else {"jit": "off", "application_name": "commandjobs"}  # poolers refuse settings
        try:
            return await asyncpg.connect(
                self.address.dsn,
                timeout=CONNECT_TIMEOUT,
                statement_cache_size=0 if self.pooled else 200,
                max_cached_statement_lifetime=0,
                server_settings=settings or None,
            )
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
            raise TryAgain(f"{type(error).__name__}: {error}") from error

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[PostgresConnection]:
        """One transaction."""
        async with Lent(self._writing, self.place, committing=False) as connection, self._transaction(connection):
            yield connection

    def statement(self) -> AbstractAsyncContextManager[PostgresConnection]:
        """A connection for one writing statement. Behind a pooler it needs a transaction, to stay on one server."""
        return self.transaction() if self.pooled else Lent(self._writing, self.place, committing=True)

    def looking(self) -> AbstractAsyncContextManager[PostgresConnection]:
        """A connection for reading."""
        return self._look_behind_pooler() if self.pooled else Lent(self._reading, self.place, committing=False)

    @asynccontextmanager
    async def _look_behind_pooler(self) -> AsyncGenerator[PostgresConnection]:
        async with Lent(self._reading, self.place, committing=False) as connection, self._transaction(connection):
            yield connection

    @property
    def _writing(self) -> Pool:
        if self._writers is None:
            self._writers = Pool(self, WRITERS)
        return self._writers

    @property
    def _reading(self) -> Pool:
        if self._readers is None:
            self._readers = Pool(self, READERS)
        return self._readers

    async def close(self) -> None:
        """Close all connections."""
        for pool in (self._writers, self._readers):
            if pool is not None:
                await pool.close()
        self._writers = self._readers = None

    @asynccontextmanager
    async def _transaction(self, connection: PostgresConnection) -> AsyncGenerator[None]:
        committing = False
        try:
            await connection.raw.execute(BEGIN)
            yield
            committing = True
            await connection.raw.execute("commit")
        except Exception as error:
            if not is_lost(error):
                try:
                    await connection.raw.execute("rollback")
                except Exception:
                    connection.raw.terminate()
            else:
                connection.raw.terminate()
            raise_translated(error, self.place, committing=committing)
