"""Connections to PostgreSQL: a few for writing and a few for looking, opened when they are needed.

No session state is kept between two transactions, so that a pooler in transaction mode may stand between: only prepared
statements, and those not behind a pooler. It is found by its process id: a pooler invents the one that it tells.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from commandjobs.storage.postgres.address import Address
from commandjobs.storage.postgres.errors import is_lost, raise_translated
from commandjobs.storage.queries import Statement
from commandjobs.storage.sql.driver import TryAgain
from commandjobs.storage.sql.pool import Pool

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

    @property
    def is_closed(self) -> bool:
        """Whether it is of no use any more."""
        return self.raw.is_closed()

    async def close(self) -> None:
        """Say good-bye to the server."""
        await self.raw.close(timeout=1.0)

    def drop(self) -> None:
        """Close it without a word."""
        self.raw.terminate()


class PostgresDriver:
    """A PostgreSQL database through asyncpg."""

    def __init__(self, address: Address) -> None:
        """Nothing is opened yet."""
        self.address = address
        self.place = address.place
        self.pooled = bool(address.pooled)
        self._writers: Pool[PostgresConnection] | None = None
        self._readers: Pool[PostgresConnection] | None = None

    def another(self) -> "PostgresDriver":
        """The same database through connections of its own."""
        driver = PostgresDriver(self.address)
        driver.pooled = self.pooled
        return driver

    async def connect(self) -> asyncpg.Connection:
        """A new connection. Raises `TryAgain` when the server cannot be reached now."""
        settings = {} if self.pooled else {"jit": "off", "application_name": "commandjobs"}  # poolers refuse settings
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

    async def _open(self) -> PostgresConnection:
        return PostgresConnection(await self.connect())

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[PostgresConnection]:
        """One transaction."""
        if self._writers is None:
            self._writers = Pool(self._open, WRITERS)
        async with self._writers.connection() as connection, self._transaction(connection):
            yield connection

    @asynccontextmanager
    async def statement(self) -> AsyncGenerator[PostgresConnection]:
        """A connection for one writing statement. Behind a pooler it needs a transaction, to stay on one server."""
        if self._writers is None:
            self._writers = Pool(self._open, WRITERS)
        async with self._writers.connection() as connection:
            if self.pooled:
                async with self._transaction(connection):
                    yield connection
                return
            try:
                yield connection
            except Exception as error:
                raise_translated(error, self.place, committing=True)

    @asynccontextmanager
    async def looking(self) -> AsyncGenerator[PostgresConnection]:
        """A connection for reading."""
        if self._readers is None:
            self._readers = Pool(self._open, READERS)
        async with self._readers.connection() as connection:
            if self.pooled:
                async with self._transaction(connection):
                    yield connection
                return
            try:
                yield connection
            except Exception as error:
                raise_translated(error, self.place, committing=False)

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
