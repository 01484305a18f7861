"""Connections to MySQL: a few for transactions, a few for single statements, a few for looking, opened when needed.

Those for transactions never commit by themselves: the first statement begins one, so that a BEGIN need not be sent.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncmy
from asyncmy.cursors import Cursor

from commandjobs.storage.mysql.address import Address
from commandjobs.storage.mysql.errors import is_lost, raise_translated
from commandjobs.storage.mysql.literals import literal
from commandjobs.storage.queries import Statement
from commandjobs.storage.sql.driver import PATIENCE, TryAgain
from commandjobs.storage.sql.pool import Pool

WRITERS, STATEMENTS, READERS = 5, 3, 3
"""Most connections of a process."""
CONNECT_TIMEOUT = 5.0
"""Seconds for one attempt to connect."""
FOUND_ROWS = 2
"""A flag of the protocol: an update counts the rows it has met, be they changed by it or not."""
SESSION = (
    "set session transaction isolation level read committed",
    """set session sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00',
        innodb_lock_wait_timeout = 5, lock_wait_timeout = 5, wait_timeout = 28800""",
)
MARIADB = "set session in_predicate_conversion_threshold = 0"
"""Or a list of a thousand ids would be joined as a table, and lock what it passes."""
UNION = " union all "


class MysqlConnection:
    """One connection."""

    def __init__(self, raw: asyncmy.Connection) -> None:
        """Over asyncmy's."""
        self.raw = raw
        self.id_step = 1
        """How far the next id is: a cluster's nodes leave gaps for each other."""

    async def prepare(self) -> None:
        """Make the session as all are."""
        for setting in (*SESSION, MARIADB) if is_mariadb(self.raw) else SESSION:
            await self.execute(setting)
        [(self.id_step,)] = await self.fetch("select @@session.auto_increment_increment")
        await self.raw.commit()

    async def rows(self, statement: Statement, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a statement; the rows it returns."""
        return await self.fetch(bound(statement, parameters))

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        """Run a statement whose answer nobody needs."""
        await self.execute(bound(statement, parameters))

    async def change(self, statement: Statement, /, **parameters: Any) -> int:
        """Run an update; how many rows it was for."""
        return (await self.execute(bound(statement, parameters))).rowcount

    async def insert(self, statement: Statement, /, **parameters: Any) -> int:
        """Run an insert; the id that the row was given."""
        return (await self.execute(bound(statement, parameters))).lastrowid

    async def each(self, parts: Iterable[tuple[Statement, Mapping[str, Any]]]) -> Sequence[Sequence[Any]]:
        """Run selects as one, in brackets each: the rows of all of them, where there is no LATERAL."""
        texts = [f"({bound(statement, parameters)})" for statement, parameters in parts]
        return await self.fetch(UNION.join(texts)) if texts else ()

    async def fetch(self, text: str) -> Sequence[Sequence[Any]]:
        """The rows that a text returns."""
        return await (await self.execute(text)).fetchall()

    async def execute(self, text: str) -> Cursor:
        """Run a text."""
        cursor = self.raw.cursor()
        await cursor.execute(text)
        return cursor

    @property
    def is_closed(self) -> bool:
        """Whether it is of no use any more."""
        return not self.raw.connected

    async def close(self) -> None:
        """Say good-bye to the server."""
        async with asyncio.timeout(1.0):
            await self.raw.ensure_closed()

    def is_lost_by(self, error: BaseException) -> bool:
        """It may be translated by now."""
        return is_lost(error) or (error.__cause__ is not None and is_lost(error.__cause__))

    def drop(self) -> None:
        """Close it without a word; the server rolls back what was begun."""
        self.raw.close()


class MysqlDriver:
    """A MySQL or MariaDB database through asyncmy."""

    def __init__(self, address: Address) -> None:
        """Nothing is opened yet."""
        self.address = address
        self.place = address.place
        self._pools: dict[str, Pool[MysqlConnection]] = {}

    def another(self) -> "MysqlDriver":
        """The same database through connections of its own."""
        return MysqlDriver(self.address)

    async def connect(self, *, autocommit: bool = True) -> MysqlConnection:
        """A new connection. Raises `TryAgain` when the server cannot be reached now."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                connection = MysqlConnection(await self._connect(autocommit=autocommit))
                try:
                    await connection.prepare()
                except BaseException:
                    connection.drop()
                    raise
        except (OSError, TimeoutError, asyncmy.MySQLError) as error:
            raise TryAgain(f"{type(error).__name__}: {error}") from error
        return connection

    async def _connect(self, *, autocommit: bool) -> asyncmy.Connection:
        """In a task of its own: asyncmy connects by `asyncio.wait_for`, which may swallow a cancellation before Python
        3.12.
        """
        address = self.address
        connecting = asyncio.ensure_future(
            asyncmy.connect(
                host=address.host,
                port=address.port,
                unix_socket=address.socket,
                user=address.user,
                password=address.password,
                database=address.database,
                charset="utf8mb4",
                autocommit=autocommit,
                client_flag=FOUND_ROWS,
                ssl=address.ssl_context(),
                program_name="commandjobs",
            )
        )
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(_drop)
            connecting.cancel()
            raise

    @asynccontextmanager
    async def transaction(self, *, patience: float = PATIENCE) -> AsyncGenerator[MysqlConnection]:
        """One transaction. (Locks are waited for as long as its connection was told to, whatever `patience` says.)"""
        async with self._pool("transactions", WRITERS, autocommit=False).connection() as connection:
            committing = False
            try:
                yield connection
                committing = True
                await connection.raw.commit()
            except Exception as error:
                await self._roll_back(connection, error)
                raise_translated(error, self.place, committing=committing)

    @asynccontextmanager
    async def statement(self) -> AsyncGenerator[MysqlConnection]:
        """A connection for one writing statement."""
        async with self._pool("statements", STATEMENTS).connection() as connection:
            try:
                yield connection
            except Exception as error:
                self._drop_lost(connection, error)
                raise_translated(error, self.place, committing=True)

    @asynccontextmanager
    async def looking(self) -> AsyncGenerator[MysqlConnection]:
        """A connection for reading."""
        async with self._pool("looks", READERS).connection() as connection:
            try:
                yield connection
            except Exception as error:
                self._drop_lost(connection, error)
                raise_translated(error, self.place, committing=False)

    async def close(self) -> None:
        """Close all connections."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.close()

    def _pool(self, purpose: str, size: int, *, autocommit: bool = True) -> Pool[MysqlConnection]:
        pool = self._pools.get(purpose)
        if pool is None:
            pool = self._pools[purpose] = Pool(lambda: self.connect(autocommit=autocommit), size)
        return pool

    async def _roll_back(self, connection: MysqlConnection, error: Exception) -> None:
        self._drop_lost(connection, error)
        if not connection.is_closed:
            try:
                await connection.raw.rollback()
            except Exception:
                connection.drop()

    def _drop_lost(self, connection: MysqlConnection, error: Exception) -> None:
        """A connection that is lost; so are, most likely, the others, and each would cost a try to find it out."""
        if is_lost(error):
            connection.drop()
            for pool in self._pools.values():
                pool.drop_idle()


def _drop(connecting: "asyncio.Future[asyncmy.Connection]") -> None:
    """Close a connection that nobody waits for any more."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()


def is_mariadb(raw: asyncmy.Connection) -> bool:
    """Which of the two it is."""
    return "MariaDB" in raw.server_version


def bound(statement: Statement, parameters: Mapping[str, Any]) -> str:
    """The text of a statement with its values."""
    return statement.text % tuple([literal(value) for value in statement.values(parameters)])
