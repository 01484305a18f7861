"""Errors of PostgreSQL, translated once: into what the storage raises, or what it tries again."""

import re
from typing import NoReturn

import asyncpg

from commandjobs.errors import InvalidOption, StorageCorrupt, StorageFull, StorageUnavailable
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
FORBIDDEN = "42501"
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
    if code == FORBIDDEN:
        raise StorageUnavailable(
            f"{place} refuses what jobs need ({error.message}). Grant its user the rights, or connect as another."
        ) from error
    if code.startswith(FULL):
        raise StorageFull(
            f"{place} has no space left ({error.message}). Free some; everything goes on by itself then."
        ) from error
    if code.startswith(CORRUPT):
        raise StorageCorrupt(
            f"{place} is damaged ({error.message}). Stop every process that uses it, and restore it from a backup."
        ) from error
    raise error


# ── on connections of callers, which may be of any driver ───────────────────────────────────────────────────────────

UNUSABLE = {
    "25P01": "is in autocommit, in no transaction that the job could be part of: open one",
    "25P02": "is in a transaction that has failed: roll it back, and begin anew",
    "25006": "is in a transaction that may only read",
    "42501": "may not write to {place}: grant its user what `commandjobs` needs there",
    "3F000": "leads to a database without the schema of {place}",
    "42P01": "leads to a database without the tables of {place}",
}
"""What is wrong with a connection, by SQLSTATE."""
WAITED = {"55P03", "57014"}
THEIRS = {"40001", "40P01"}
"""A serialization failure or a deadlock is raised as the driver does: it is the caller's transaction that is to be done
again, by whatever does so when one of his own statements fails like this."""
DRIVERS = {"asyncpg", "psycopg", "psycopg2", "sqlalchemy", "django"}


def meaning(error: Exception, kind: str, place: str) -> Exception:
    """What an error on a connection of a caller's means; itself: it is the caller's as it is."""
    code = sqlstate(error)
    said = str(getattr(error, "orig", error)).strip()  # not the statement, which SQLAlchemy tells too
    if code == "23505":
        return Taken(str(error))
    if code in UNUSABLE:
        return InvalidOption(f"connection: {kind} was given that {UNUSABLE[code].format(place=place)} ({said}).")
    if code in WAITED:
        return StorageUnavailable(
            f"Another open transaction keeps the ref id or unique key of this job for too long ({said}). "
            "Nothing was enqueued."
        )
    is_drivers = type(error).__module__.partition(".")[0] in DRIVERS
    if code in THEIRS or not (is_drivers or isinstance(error, OSError)):
        return error
    return StorageUnavailable(
        f"{kind[0].upper()}{kind[1:]} did not take the job ({type(error).__name__}: {said}). Nothing was enqueued."
    )


def sqlstate(error: BaseException | None) -> str | None:
    """The SQLSTATE of an error of any driver, also inside one of SQLAlchemy or Django."""
    while error is not None:
        for name in ("sqlstate", "pgcode"):
            code = getattr(error, name, None)
            if isinstance(code, str):
                return code
        error = getattr(error, "orig", None) or error.__cause__
    return None
