"""asyncpg's errors, translated once: into what the storage raises, or what it tries again."""

import re
from typing import NoReturn

import asyncpg

from commandjobs.errors import StorageCorrupt, StorageFull
from commandjobs.model.moment import month_of
from commandjobs.storage.sql.driver import MonthMissing, OutcomeUnknown, Taken, TryAgain

ROLLED_BACK = {
    "40P01",  # deadlock
    "40001",  # serialization failure
    "55P03",  # lock not got in time
    "57014",  # cancelled by a statement timeout
    "25006",  # read only: a fail-over, or an operator
    "53200",  # out of memory
    "53300",  # too many connections
    "57P03",  # starting up, or shutting down
    "0A000",  # a cached plan of before a migration
    "26000",  # a prepared statement that its connection does not know: a pooler was not noticed
}
UNREACHABLE = ("08", "57P01", "57P02", "57P05")
"""SQLSTATEs, or their beginnings, of a connection that is gone."""
FULL = ("53100", "53400")
CORRUPT = ("XX001", "XX002")
PARTITION_KEY = re.compile(r"\(created\) = \((-?\d+)\)")
LOST = (OSError, EOFError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a connection raises that was cut, also in the middle of something: asyncpg then says that it was in a state that
cannot be.
"""


def is_lost(error: BaseException) -> bool:
    """Whether the connection is of no use any more."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(UNREACHABLE)
    return isinstance(error, LOST)


def raise_translated(error: BaseException, place: str, *, committing: bool) -> NoReturn:
    """Raise what an error means. committing: what it interrupted may have been done."""
    if is_lost(error):
        face = OutcomeUnknown if committing else TryAgain
        raise face(f"{type(error).__name__}: {error}") from error
    if not isinstance(error, asyncpg.PostgresError):
        raise error
    code = error.sqlstate or ""
    if code in ROLLED_BACK:
        raise TryAgain(f"{error.message} ({code})") from error
    if code == "23505":
        raise Taken(error.message) from error
    if code == "23514" and (found := PARTITION_KEY.search(error.detail or "")):
        raise MonthMissing(month_of(int(found[1]))) from error
    if code.startswith(FULL):
        raise StorageFull(
            f"{place} has no space left ({error.message}). Free some; everything goes on by itself then."
        ) from error
    if code.startswith(CORRUPT):
        raise StorageCorrupt(
            f"{place} is damaged ({error.message}). Stop every process that uses it, and restore it from a backup."
        ) from error
    raise error
