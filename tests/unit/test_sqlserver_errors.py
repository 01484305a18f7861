"""What the driver's errors become: made by the driver itself from a SQLSTATE and a server's words."""

from datetime import date

import mssql_python
import pytest
from mssql_python.exceptions import sqlstate_to_exception

from commandjobs.errors import StorageCorrupt, StorageFull
from commandjobs.storage.sql.driver import MonthMissing, OutcomeUnknown, Taken, TryAgain
from commandjobs.storage.sqlserver.errors import STATES, is_lost, raise_translated, state_of

PLACE = "SQL Server at db:1433, database app (schema jobs)"


def error(state: str, words: str) -> mssql_python.Error:
    made = sqlstate_to_exception(state, f"[Microsoft][SQL Server]{words}")
    assert isinstance(made, mssql_python.Error)
    return made


def translated(found: BaseException, *, committing: bool = False) -> Exception:
    with pytest.raises(Exception) as raised:
        raise_translated(found, PLACE, committing=committing)
    return raised.value


@pytest.mark.parametrize("state", STATES)
def test_the_drivers_phrase_for_a_state_stands_for_no_other(state: str) -> None:
    assert state_of(error(state, "words")) == state


@pytest.mark.parametrize(
    ("state", "words", "becomes"),
    [
        ("40001", "Transaction (Process ID 52) was deadlocked on lock resources with another process.", TryAgain),
        ("HYT00", "Lock request time out period exceeded.", TryAgain),
        ("08S01", "Communication link failure", TryAgain),
        ("23000", "Violation of UNIQUE KEY constraint 'x'. Cannot insert duplicate key in object 'jobs.job'.", Taken),
        ("23000", "Cannot insert duplicate key row in object 'jobs.job' with unique index 'job_ref'.", Taken),
        ("42000", "Could not allocate space for object 'jobs.job' in database 'app'.", StorageFull),
        ("42000", "The transaction log for database 'app' is full due to 'LOG_BACKUP'.", StorageFull),
        ("HY000", "SQL Server detected a logical consistency-based I/O error: incorrect checksum.", StorageCorrupt),
        ("42000", 'Failed to update database "app" because the database is read-only.', TryAgain),
        ("42S01", "There is already an object named 'job' in the database.", TryAgain),
        ("42S02", "Invalid object name 'jobs.finished_2026_11'.", MonthMissing),
        ("42S02", "Invalid object name 'jobs.log_2026_11'.", MonthMissing),
    ],
)
def test_an_error_becomes_what_the_storage_can_do_about_it(state: str, words: str, becomes: type[Exception]) -> None:
    assert type(translated(error(state, words))) is becomes


def test_a_month_that_has_no_table_is_told() -> None:
    missing = translated(error("42S02", "Invalid object name 'jobs.finished_2026_11'."))

    assert isinstance(missing, MonthMissing)
    assert missing.month == date(2026, 11, 1)


@pytest.mark.parametrize("state", ["08S01", "HYT00"])
def test_what_was_interrupted_while_it_committed_may_have_been_done(state: str) -> None:
    assert type(translated(error(state, "words"), committing=True)) is OutcomeUnknown


def test_a_deadlock_has_certainly_not_been_done() -> None:
    assert type(translated(error("40001", "words"), committing=True)) is TryAgain


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("42000", "Incorrect syntax near 'selct'."),
        ("42S02", "Invalid object name 'jobs.nothing'."),
        ("23000", "Cannot insert the value NULL into column 'command'."),
    ],
)
def test_a_mistake_of_ours_stays_what_it_is(state: str, words: str) -> None:
    found = error(state, words)

    assert translated(found) is found


def test_an_error_that_is_not_the_drivers_stays_what_it_is() -> None:
    found = KeyError("x")

    assert translated(found) is found


def test_only_a_lost_connection_is_thrown_away() -> None:
    assert is_lost(error("08S01", "Communication link failure"))
    assert not is_lost(error("40001", "deadlocked"))


def test_an_error_tells_the_place_and_what_to_do() -> None:
    full = translated(error("42000", "Could not allocate space for object 'jobs.job'."))

    assert str(full).startswith(f"{PLACE} has no space left (")
