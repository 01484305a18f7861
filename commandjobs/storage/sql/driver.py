"""What a server database must offer: connections that run named statements, in transactions at READ COMMITTED.

A driver translates its errors once, at its edge: into the three errors of a storage, or into one of those below, which
never leave the package.
"""

from collections.abc import Awaitable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import date
from typing import Any, Protocol

from commandjobs.storage.queries import Statement

PATIENCE = 5.0
"""Seconds that a lock is waited for."""


class TryAgain(Exception):
    """The transaction was rolled back and may go better: a deadlock, a lock not got in time, a serialization failure,
    a server that cannot be reached or refuses writes for now.
    """


class OutcomeUnknown(TryAgain):
    """The connection was lost while it committed or ran a statement of its own: it may or may not have happened."""


class Taken(TryAgain):
    """Somebody else was quicker to take a name that must be unique; the next attempt sees him."""


class MonthMissing(TryAgain):
    """The archive has no place for a job's month: it was dropped, or not made yet."""

    def __init__(self, month: date) -> None:
        super().__init__(f"the archive has no place for {month:%Y-%m}")
        self.month = month


class LanesWanted(TryAgain):
    """Lanes that somebody else has locked, and that the next try has to begin with."""

    def __init__(self, numbers: Collection[int]) -> None:
        super().__init__("others are at work in its lanes")
        self.numbers = frozenset(numbers)


class Connection(Protocol):
    """A connection that is the caller's for a while. Values are bound by name.

    Lists of ids or texts are bound as the database's statements want them; documents are JSON texts.
    """

    async def rows(self, statement: Statement, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a statement; the rows it returns."""
        ...

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        """Run a statement whose answer nobody needs."""
        ...


class Loading(Connection, Protocol):
    """A connection of the storage's own, which can also write rows by the thousand."""

    async def load(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write many rows into a table of the schema, by the quickest way that the database has."""
        ...


class Look(Protocol):
    """Runs statements that only look, by their names: on whatever connection."""

    def __call__(self, name: str, /, **parameters: Any) -> Awaitable[Sequence[Sequence[Any]]]:
        """The rows of a named statement."""
        ...


class Driver(Protocol):
    """A database, through a few connections that are opened when they are needed."""

    place: str
    """What is said of it in errors: host, database and schema, without secrets."""

    def transaction(self, *, patience: float = PATIENCE) -> AbstractAsyncContextManager[Connection]:
        """One transaction: committed at the end, rolled back by an error. No lock is waited for longer than `patience`
        seconds.
        """
        ...

    def statement(self) -> AbstractAsyncContextManager[Connection]:
        """A connection for one writing statement, which is a transaction of its own."""
        ...

    def looking(self) -> AbstractAsyncContextManager[Connection]:
        """A connection for reading, apart from those that write: long looks never hold up work."""
        ...

    def another(self) -> "Driver":
        """The same database through connections of its own, for another thread and its loop."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
