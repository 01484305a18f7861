"""SQLAlchemy: connections and sessions, blocking and async, over whatever driver their engine has."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from commandjobs.errors import InvalidOption
from commandjobs.storage.queries import Statement, Style
from commandjobs.storage.sql.callers.caller import CLOSED, Caller, autocommit

STYLES: dict[str, Style] = {"numeric_dollar": "$1", "format": "%s", "pyformat": "%s", "qmark": "?"}
"""How drivers take parameters by their place."""
CONNECTION, SESSION = "a Connection of SQLAlchemy", "a Session of SQLAlchemy"
ASYNC_CONNECTION, ASYNC_SESSION = "an AsyncConnection of SQLAlchemy", "an AsyncSession of SQLAlchemy"


def adapted(connection: object) -> Caller | None:
    """The connection, or that of a session, as the storage can use it."""
    if isinstance(connection, scoped_session | async_scoped_session):
        connection = connection()
    if isinstance(connection, Connection | Session):
        return SqlalchemyCaller(connection)
    if isinstance(connection, AsyncConnection | AsyncSession):
        return AsyncSqlalchemyCaller(connection)
    return None


class SqlalchemyCaller:
    """A blocking connection of SQLAlchemy."""

    blocking = True

    def __init__(self, given: Connection | Session) -> None:
        """Over SQLAlchemy's own."""
        self._given = given
        self.kind = SESSION if isinstance(given, Session) else CONNECTION

    async def begin(self) -> None:
        """Get the connection of a session."""
        try:
            self._connection = self._given.connection() if isinstance(self._given, Session) else self._given
        except InvalidRequestError as error:
            raise _unusable(self.kind, error) from error
        self._about = About(self._connection)

    @property
    def databases(self) -> frozenset[str]:
        """What its dialect is for."""
        return self._about.databases

    @property
    def style(self) -> Style:
        """As its driver wants it."""
        return self._about.style

    @property
    def raw(self) -> object:
        """The driver's own connection."""
        return self._about.raw

    def refusal(self) -> str | None:
        """Why nothing can be enqueued on it now."""
        return self._about.refusal()

    async def rows(self, statement: Statement, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a statement; the rows it returns."""
        return self._connection.exec_driver_sql(statement.text, tuple(statement.values(parameters))).all()

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        """Run a statement whose answer nobody needs."""
        self._connection.exec_driver_sql(statement.text, tuple(statement.values(parameters))).close()


class AsyncSqlalchemyCaller:
    """An async connection of SQLAlchemy."""

    blocking = False

    def __init__(self, given: AsyncConnection | AsyncSession) -> None:
        """Over SQLAlchemy's own."""
        self._given = given
        self.kind = ASYNC_SESSION if isinstance(given, AsyncSession) else ASYNC_CONNECTION

    async def begin(self) -> None:
        """Get the connection of a session."""
        try:
            self._connection = await self._given.connection() if isinstance(self._given, AsyncSession) else self._given
            under = self._connection.sync_connection
        except InvalidRequestError as error:
            raise _unusable(self.kind, error) from error
        if under is None:
            raise InvalidOption(
                f"connection: {self.kind} is not open. Open it and a transaction with `async with engine.begin() as "
                "connection:`."
            )
        self._about = About(under)

    @property
    def databases(self) -> frozenset[str]:
        """What its dialect is for."""
        return self._about.databases

    @property
    def style(self) -> Style:
        """As its driver wants it."""
        return self._about.style

    @property
    def raw(self) -> object:
        """The driver's own connection."""
        return self._about.raw

    def refusal(self) -> str | None:
        """Why nothing can be enqueued on it now."""
        return self._about.refusal()

    async def rows(self, statement: Statement, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a statement; the rows it returns."""
        return (await self._connection.exec_driver_sql(statement.text, tuple(statement.values(parameters)))).all()

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        """Run a statement whose answer nobody needs."""
        (await self._connection.exec_driver_sql(statement.text, tuple(statement.values(parameters)))).close()


class About:
    """What can be told of a connection without asking its server."""

    def __init__(self, connection: Connection) -> None:
        """Over the blocking connection, which an async one has inside."""
        dialect = connection.dialect
        self._connection = connection
        self.databases = frozenset({dialect.name})
        if dialect.paramstyle not in STYLES and not dialect.name.startswith("sqlite"):
            raise InvalidOption(
                f"connection: SQLAlchemy's driver {dialect.driver!r} takes its parameters by name "
                f"({dialect.paramstyle}), and the job is stored by a statement that numbers them. Use another driver."
            )
        self.style: Style = STYLES.get(dialect.paramstyle, "?")

    @property
    def raw(self) -> object:
        """The driver's own connection."""
        return self._connection.connection.driver_connection

    def refusal(self) -> str | None:
        """Why nothing can be enqueued on it now."""
        if self._connection.closed:
            return CLOSED
        if self._connection.invalidated:
            return "has lost its server, and its transaction with it: roll it back, and begin anew"
        options = self._connection.get_execution_options()
        level = options.get("isolation_level", getattr(self._connection.dialect, "_on_connect_isolation_level", None))
        if level == "AUTOCOMMIT":
            return autocommit("give its engine, or the connection, another isolation_level")
        return None


def _unusable(kind: str, error: InvalidRequestError) -> InvalidOption:
    return InvalidOption(f"connection: {kind} cannot be used now: {error}")
