import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from commandjobs import errors
from commandjobs.errors import (
    CommandJobsError,
    DuplicateCommand,
    InvalidOption,
    InvalidRequest,
    JobFailed,
    Snooze,
    UnknownCommand,
)
from commandjobs.model.job import Job, JobError

TREE = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, CommandJobsError)]


def a_job() -> Job:
    known = {"id": 7, "command": "Ship", "created": datetime.now(UTC)}
    return Job.model_construct(**known)  # type: ignore[arg-type]  # the other fields do not matter


@pytest.mark.parametrize("error", [error for error in TREE if not error.__name__.startswith("_")])
def test_every_error_is_drawn_in_the_tree_and_says_what_it_means(error: type[CommandJobsError]) -> None:
    assert errors.__doc__
    assert f" {error.__name__} " in f" {errors.__doc__} ".replace("\n", " ")
    assert error.__doc__


def test_failed_job_names_job_and_reason() -> None:
    error = JobFailed(a_job(), JobError(code="Timeout", message="over 5 s"))

    assert str(error) == "Job 7 (Ship) failed with Timeout: over 5 s"
    assert (error.job.id, error.error.code) == (7, "Timeout")


@pytest.mark.parametrize(
    "error",
    [
        DuplicateCommand("a", "here", "there"),
        UnknownCommand("a", ["b"]),
        InvalidRequest("wrong", [("n", "missing", "Field required")]),
        InvalidOption("queue must be a str"),
        Snooze(timedelta(seconds=2)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_pass_between_processes(error: Any) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_values_that_cannot_be_are_value_errors() -> None:
    assert issubclass(InvalidOption, ValueError)
    assert issubclass(InvalidRequest, ValueError)


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_snooze_needs_a_delay(delay: Any) -> None:
    with pytest.raises(InvalidOption, match="Snooze needs a delay"):
        Snooze(delay)


def test_snooze_delay_is_in_seconds() -> None:
    assert Snooze(timedelta(minutes=1)).delay == Snooze(60).delay == 60.0
