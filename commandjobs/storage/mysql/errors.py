"""asyncmy's errors, translated once: into what the storage raises, or what it tries again."""

import re
from datetime import date
from typing import NoReturn

import asyncmy

from commandjobs.errors import StorageCorrupt, StorageFull
from commandjobs.storage.sql.driver import MonthMissing, OutcomeUnknown, Taken, TryAgain

ROLLED_BACK = {
    1205,  # lock not got in time
    1213,  # deadlock, or a cluster's other node was quicker
    1020,  # the record has changed since it was read
    1412,  # the table was altered meanwhile
    1615,  # the same, of a prepared statement
    1040,  # too many connections
    1203,  # too many connections of this user
    1226,  # one of this user's limits
    1290,  # read only: a fail-over, or an operator
    1792,
    1836,
    1317,  # interrupted
    1969,  # statement took too long
    3024,
    1637,  # too many transactions
    1047,  # a cluster's node that is not ready
    3101,  # a cluster took another transaction
}
GONE = {
    1053,  # shutting down
    1152,
    1158,
    1159,
    1160,
    1161,
    1180,  # while it committed
    1184,
    1927,  # killed
    2002,
    2003,
    2006,
    2013,
    2014,
    2055,
    3169,
    4031,
}
"""Errors of a connection that is gone."""
TAKEN = {1062, 1586}
NO_PARTITION = 1526
FULL = {1021, 1114}
CORRUPT = {1034, 1035, 1194, 1195, 1712, 1877}
NO_SPACE = re.compile(r"\b(errno|error):? *28\b", re.IGNORECASE)
VALUE = re.compile(r"\bvalue (\d{4})(\d{2})\b")


def code_of(error: BaseException) -> int:
    """The number of a server's or driver's error; 0: it has none."""
    given = error.args[0] if isinstance(error, asyncmy.MySQLError) and error.args else 0
    return given if isinstance(given, int) else 0


def is_lost(error: BaseException) -> bool:
    """Whether the connection is of no use any more. What has no number is a reply that makes no sense."""
    if isinstance(error, asyncmy.MySQLError):
        return code_of(error) in GONE or code_of(error) == 0
    return isinstance(error, (OSError, EOFError))


def raise_translated(error: BaseException, place: str, *, committing: bool) -> NoReturn:
    """Raise what an error means. committing: what it interrupted may have been done."""
    if is_lost(error):
        face = OutcomeUnknown if committing else TryAgain
        raise face(f"{type(error).__name__}: {error}") from error
    if not isinstance(error, asyncmy.MySQLError):
        raise error
    code, message = code_of(error), str(error.args[-1])
    if code in ROLLED_BACK:
        raise TryAgain(f"{message} ({code})") from error
    if code in TAKEN:
        raise Taken(message) from error
    if code == NO_PARTITION and (month := VALUE.search(message)):
        raise MonthMissing(date(int(month[1]), int(month[2]), 1)) from error
    if code in FULL or NO_SPACE.search(message):
        raise StorageFull(
            f"{place} has no space left ({message}). Free some; everything goes on by itself then."
        ) from error
    if code in CORRUPT:
        raise StorageCorrupt(
            f"{place} is damaged ({message}). Stop every process that uses it, and restore it from a backup."
        ) from error
    raise error
