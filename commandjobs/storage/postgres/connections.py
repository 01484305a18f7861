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
from commandjobs.storage.sql.driver import PATIENCE, TryAgain
from commandjobs.storage.sql.pool import Pool

WRITERS, READERS = 6, 3
"""Most connections of a process."""
CONNECT_TIMEOUT = 5.0
"""Seconds for one attempt to connect."""


@asynccontextmanager
async def in_transaction(connection: asyncpg.Connection, *, patience: float = PATIENCE) -> AsyncGenerator[None]:
    """One transaction on a connection that is nobody else's. Behind a pooler every statement with an answer needs one:
    it is prepared and run in two steps, which else might be two servers'.

    patience: seconds that a lock is waited for; 0: for ever.
    """
    await connection.execute(f"begin; set local lock_timeout = {round(patience * 1000)}")
    try:
        yield
        await connection.execute("commit")
    except BaseException:
        if not connection.is_closed():
            await connection.execute("rollback")
        raise


async def is_pooled(connection: asyncpg.Connection) -> bool:
    """Whether a pooler stands between: the process id that it tells is not that of the server."""
    async with in_transaction(connection):
        [(pid,)] = await connection.fetch("select pg_backend_pid()")
    return bool(pid != connection.get_server_pid())


class PostgresConnection:
    """One connection."""

    def __init__(self, raw: asyncpg.Connection, schema: str) -> None:
        """Over asyncpg's."""
        self.raw = raw
        self.schema = schema

    async def rows(self, statement: Statement, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a statement; the rows it returns."""
        return await self.raw.fetch(statement.text, *statement.values(parameters))

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        """Run a statement whose answer nobody needs."""
        await self.raw.fetch(statement.text, *statement.values(parameters))

    async def load(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write many rows by COPY."""
        await self.raw.copy_records_to_table(table, schema_name=self.schema, columns=columns, records=rows)

    @property
    def is_closed(self) -> bool:
        """Whether it is of no use any more."""
        return self.raw.is_closed()

    async def close(self) -> None:
        """Say good-bye to the server."""
        await self.raw.close(timeout=1.0)

    def is_lost_by(self, error: BaseException) -> bool:
        """It may be translated by now."""
        return is_lost(error) or (error.__cause__ is not None and is_lost(error.__cause__))

    def drop(self) -> None:
        """Close it without a word."""
        self.raw.terminate()


class PostgresDriver:
    """A PostgreSQL database through asyncpg."""

    def __init__(self, address: Address) -> None:
        """Nothing is opened yet."""
        self.address = address
        self.place = address.place
        self.pooled = address.pooled is not False
        """Also until it is found out: what a pooler cannot do is not asked for before."""
        self._writers: Pool[PostgresConnection] | None = None
        self._readers: Pool[PostgresConnection] | None = None

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

    async def _open(self) -> PostgresConnection:
        return PostgresConnection(await self.connect(), self.address.schema)

    @asynccontextmanager
    async def transaction(self, *, patience: float = PATIENCE) -> AsyncGenerator[PostgresConnection]:
        """One transaction."""
        if self._writers is None:
            self._writers = Pool(self._open, WRITERS)
        async with self._writers.connection() as connection, self._transaction(connection, patience):
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
    async def _transaction(self, connection: PostgresConnection, patience: float = PATIENCE) -> AsyncGenerator[None]:
        committing = False
        try:
            await connection.raw.execute(f"begin; set local lock_timeout = {round(patience * 1000)}")
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
