"""The driver's errors, translated once: into what the storage raises, or what it tries again.

The driver tells neither SQLSTATE nor the server's number of an error, but a phrase for each SQLSTATE, which is taken
back to it here. What one SQLSTATE is too coarse for is told by the server's own words; connections are set to English.
"""

import re
from collections.abc import Mapping
from datetime import date
from functools import cache
from typing import NoReturn

import mssql_python
from mssql_python.exceptions import sqlstate_to_exception

from commandjobs.errors import StorageCorrupt, StorageFull
from commandjobs.storage.sql.driver import MonthMissing, OutcomeUnknown, Taken, TryAgain

UNREACHABLE = ("08001", "08003", "08004", "08007", "08S01", "HYT01")
"""SQLSTATEs of a connection that is gone, or never was."""
ROLLED_BACK = ("40001", "25S03", "HYT00", "HY008", "HY001", "HY013")
"""A deadlock, a lock not got in time, a statement that took too long, a server short of memory."""
MADE_MEANWHILE = "42S01"
"""What was to be created is there: another process was quicker."""
NO_SUCH_TABLE = "42S02"
STATES = (*UNREACHABLE, *ROLLED_BACK, MADE_MEANWHILE, NO_SUCH_TABLE)

MONTH = re.compile(r"\b(?:finished|log)_(\d{4})_(\d{2})\b")
TAKEN = ("Cannot insert duplicate key",)  # 2601, 2627
FULL = (
    "Could not allocate",  # 1101, 1105: a file group, tempdb
    "The transaction log for database",  # 9002
    "has reached its size quota",  # 40544, Azure
)
CORRUPT = (
    "logical consistency-based I/O error",  # 824
    "The operating system returned error",  # 823
    "possible schema corruption",  # 211
    "possible index corruption",  # 8646 and others
)
NOT_NOW = (
    "is read-only",  # 3906: a fail-over, or an operator
    "not currently available",  # 40613, Azure
    "is not accessible for queries",  # 976: a replica that is not the primary
    "is participating in an availability group and is currently not accessible",  # 983
    "in the middle of a restore",  # 927
    "is being recovered",  # 922
    "Cannot open database",  # 4060: it is not up yet, or is not there at all
    "Cannot obtain a LOCK resource",  # 1204
    "insufficient system memory",  # 701
    "A timeout occurred while waiting for memory resources",  # 8645
    "SHUTDOWN is in progress",  # 6005
    "server is currently busy",  # 40501, Azure
    "Resource ID",  # 10928, 10929, Azure
    "encountered an error processing your request",  # 40197, Azure
)


def state_of(error: BaseException) -> str | None:
    """The SQLSTATE of an error, if it is one that matters here."""
    return _states().get(getattr(error, "driver_error", ""))


def is_lost(error: BaseException) -> bool:
    """Whether the connection is of no use any more."""
    if not isinstance(error, mssql_python.Error):
        return isinstance(error, OSError)
    return state_of(error) in UNREACHABLE or isinstance(error, mssql_python.InterfaceError)


def raise_translated(error: BaseException, place: str, *, committing: bool) -> NoReturn:
    """Raise what an error means. committing: what it interrupted may have been done."""
    if is_lost(error):
        face = OutcomeUnknown if committing else TryAgain
        raise face(f"{type(error).__name__}: {error}") from error
    if not isinstance(error, mssql_python.Error):
        raise error
    words, state = str(error), state_of(error)
    if state in ROLLED_BACK:  # a statement of its own that took too long may have ended all the same
        face = OutcomeUnknown if committing and state == "HYT00" else TryAgain
        raise face(words) from error
    if any(phrase in words for phrase in TAKEN):
        raise Taken(words) from error
    if state == NO_SUCH_TABLE and (found := MONTH.search(words)):
        raise MonthMissing(date(int(found[1]), int(found[2]), 1)) from error
    if any(phrase in words for phrase in FULL):
        raise StorageFull(
            f"{place} has no space left ({words}). Free some; everything goes on by itself then."
        ) from error
    if any(phrase in words for phrase in CORRUPT):
        raise StorageCorrupt(
            f"{place} is damaged ({words}). Stop every process that uses it, and restore it from a backup."
        ) from error
    if state == MADE_MEANWHILE or any(phrase in words for phrase in NOT_NOW):
        raise TryAgain(words) from error
    raise error


@cache
def _states() -> Mapping[str, str]:
    """The driver's phrases, and what they stand for."""
    known = ((sqlstate_to_exception(state, ""), state) for state in STATES)
    return {error.driver_error: state for error, state in known if error is not None}
