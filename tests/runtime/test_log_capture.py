"""Standard logging inside a job goes into the job's own log."""

import logging
from collections.abc import Iterator
from contextvars import copy_context

import pytest

from commandjobs.context import running
from commandjobs.runtime.execution import LOG_LIMIT, Execution
from commandjobs.runtime.logcapture import JobLogHandler
from tests.runtime.attempts import attempt

log = logging.getLogger("tests.runtime.log_capture")


@pytest.fixture(autouse=True)
def handler() -> Iterator[JobLogHandler]:
    handler = JobLogHandler.attach()
    yield handler
    handler.detach()


def inside(execution: Execution, message: object, *arguments: object, **options: bool) -> None:
    """Log a warning as code of the attempt does."""

    def code() -> None:
        running.set(execution)
        log.warning(message, *arguments, **options)  # type: ignore[arg-type]

    copy_context().run(code)


def test_p01_a_line_has_level_time_logger_and_attempt() -> None:
    execution = attempt(5, attempts=2)

    inside(execution, "disk %s is full", "C")

    [line] = execution.take_logs()
    assert (line.job_id, line.attempt, line.level, line.message) == (5, 2, "WARNING", "disk C is full")
    assert line.logger == "tests.runtime.log_capture"
    assert line.at > 1_700_000_000_000_000


def test_p01_an_exception_is_kept_with_its_line() -> None:
    execution = attempt()

    try:
        raise ValueError("boom")  # noqa: TRY301
    except ValueError:
        inside(execution, "it broke", exc_info=True)

    [line] = execution.take_logs()
    assert line.exception is not None
    assert line.exception.endswith("ValueError: boom")


def test_two_engines_of_a_process_take_a_line_once() -> None:
    execution, second = attempt(), JobLogHandler.attach()

    inside(execution, "once")
    second.detach()
    inside(execution, "again")

    assert [line.message for line in execution.take_logs()] == ["once", "again"]


def test_a_line_outside_of_a_job_belongs_to_nobody() -> None:
    execution = attempt()

    log.warning("nobody's")

    assert execution.take_logs() == []


def test_levels_stay_as_the_app_has_set_them() -> None:
    execution = attempt()

    def code() -> None:
        running.set(execution)
        log.debug("too quiet")

    copy_context().run(code)

    assert execution.take_logs() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_line_that_cannot_be_formatted_is_kept_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    execution = attempt()
    record = logging.LogRecord("x", logging.INFO, "", 0, "%d of %d", ("one",), None)

    execution.log(record)

    [line] = execution.take_logs()
    assert "could not be formatted" in line.message


def test_a_nul_character_is_stored_as_text() -> None:
    execution = attempt()

    inside(execution, "a\0b")

    assert execution.take_logs()[0].message == "a\\0b"


def test_p05_a_log_over_the_limit_ends_with_a_line_that_says_so() -> None:
    execution = attempt()

    for _ in range(LOG_LIMIT // 1000 + 10):
        inside(execution, "x" * 1000)

    lines = execution.take_logs()
    assert len(lines) == LOG_LIMIT // 1000 + 1
    assert lines[-1].message == "The log ends here: this attempt wrote more than 100,000 characters."


def test_lines_that_were_taken_are_not_taken_again() -> None:
    execution = attempt()

    inside(execution, "one")
    assert len(execution.take_logs()) == 1
    inside(execution, "two")

    assert [line.message for line in execution.take_logs()] == ["two"]


def test_p03_progress_is_taken_once_and_the_latest_value_wins() -> None:
    execution = attempt(owner=1)
    execution.report(0.2, "begun")
    execution.report(0.4, None)

    report = execution.take_progress(now=9)

    assert report is not None
    assert (report.progress, report.status, report.at) == (0.4, "begun", 9)
    assert execution.take_progress(now=10) is None
