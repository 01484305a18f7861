"""What the storage needs of a caller's connection."""

from collections.abc import Sequence
from typing import Any, Protocol

from commandjobs.storage.queries import Statement, Style


class Caller(Protocol):
    """A connection of the caller's with the transaction that is open on it: a `Connection` like our own ones.

    Its errors are not translated: what they mean depends on the database.
    """

    @property
    def kind(self) -> str:
        """What it is, as one says it: "a Connection of psycopg"."""
        ...

    @property
    def blocking(self) -> bool:
        """Whether the thread that uses it waits for its answers: nothing here ever suspends."""
        ...

    async def begin(self) -> None:
        """Get hold of the connection, if a session has it. Everything below is known only then."""
        ...

    @property
    def databases(self) -> frozenset[str]:
        """What kind of database it may lead to: "postgresql", "mysql", "mariadb", "mssql" …"""
        ...

    @property
    def style(self) -> Style:
        """How its statements have their parameters."""
        ...

    @property
    def raw(self) -> object:
        """The driver's own connection, which stays the same as long as it is connected."""
        ...

    def refusal(self) -> str | None:
        """Why nothing can be enqueued on it now, as far as it can be told from here: the end of a sentence that begins
        with its kind. None: it can.
        """
        ...

    async def rows(self, statement: Statement, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a statement; the rows it returns."""
        ...

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        """Run a statement whose answer nobody needs."""
        ...


CLOSED = "is closed"
FAILED = "is in a transaction that has failed: roll it back, and begin anew"


def autocommit(way_out: str) -> str:
    """The refusal of a connection without a transaction. way_out: how one begins."""
    return f"is in autocommit, in no transaction that the job could be part of: {way_out}"
