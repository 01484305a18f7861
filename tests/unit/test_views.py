"""From rows to the public records."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from commandjobs.model.job import JobError
from commandjobs.model.moment import to_moment
from commandjobs.model.outcome import Failed, Succeeded
from commandjobs.model.row import JobRow, SummaryRow
from commandjobs.model.settle import begin, settle
from commandjobs.model.state import Hold, JobState
from commandjobs.model.views import attempts_of, mask_reply_to, progress_of, to_job, to_summary, wait_reason

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOW = to_moment(AT)
SECOND = 1_000_000


def row(**columns: Any) -> JobRow:
    columns = {"id": 5, "ref_id": "ref", "command": "Work", "created": NOW, **columns}
    return JobRow(**columns)


def test_times_are_aware_utc_datetimes() -> None:
    job = to_job(row(run_after=NOW + SECOND, expires=NOW + 2 * SECOND), now=NOW)

    assert (job.created, job.run_after, job.expires) == (AT, AT + timedelta(seconds=1), AT + timedelta(seconds=2))
    assert job.created.tzinfo is UTC


def test_e05_a_new_job_was_last_active_when_it_was_created() -> None:
    job = to_job(row(), now=NOW)

    assert (job.state, job.attempts, job.last_activity) == (JobState.QUEUED, 0, AT)


def test_the_error_is_a_record_again() -> None:
    error = JobError(code="ValueError", message="boom", stack_trace="…")

    assert to_job(row(error=error.model_dump_json()), now=NOW).error == error


def test_the_summary_of_a_row_is_the_beginning_of_its_record() -> None:
    waiting = row(worker="w", tags=("a", "b"), batch_id="b1", user_id="7", created_by="ann", attempts=2)
    job, summary = to_job(waiting, now=NOW), to_summary(SummaryRow.of(waiting))

    assert summary.model_dump() == {
        name: value for name, value in job.model_dump().items() if name in type(summary).model_fields
    } | {"error_message": None}


WAITS = [
    ({"hold": Hold.PARENTS, "depends_on": (3,)}, "Waits for job 3"),
    ({"hold": Hold.PARENTS, "depends_on": (3, 4)}, "Waits for jobs 3, 4"),
    ({"hold": Hold.TIME, "run_after": NOW + SECOND}, "Scheduled at 2026-11-23 12:00:01 UTC"),
    ({"hold": Hold.TIME, "run_after": NOW + SECOND, "attempts": 1}, "Retrying at 2026-11-23 12:00:01 UTC"),
    ({"hold": Hold.LANE, "lane": "smtp"}, "Waits for worker 'smtp', which runs one job at a time"),
    ({"hold": Hold.LANE, "lane_key": "k"}, "Waits for concurrency key 'k', which runs one job at a time"),
    ({}, "Waits for a free place"),
    ({"owner": 1}, "Waits for a free place"),
    ({"state": JobState.EXECUTED, "callback": "Notify"}, "Its callback Notify waits for a free place"),
    ({"state": JobState.STARTED}, None),
    ({"state": JobState.COMPLETED}, None),
    ({"state": JobState.FAILED}, None),
]


@pytest.mark.parametrize(("columns", "reason"), WAITS)
def test_a_waiting_job_says_why(columns: dict[str, Any], reason: str | None) -> None:
    assert wait_reason(row(**columns), now=NOW) == reason


def test_a_job_of_a_command_that_is_not_known_here_says_so() -> None:
    executed = row(state=JobState.EXECUTED, callback="Notify")

    assert wait_reason(row(), now=NOW, known=False) == "Waits for a node that knows its command"
    assert wait_reason(executed, now=NOW, known=False) == "Waits for a node that knows its callback Notify"


@pytest.mark.parametrize(
    ("columns", "elapsed_ms", "usual_ms", "progress"),
    [
        ({}, 500, 2000.0, 0.25),
        ({}, 0, 2000.0, 0.0),
        ({}, 333, 1000.0, 0.33),
        ({}, 9999, 1000.0, 0.99),
        ({}, 500, None, None),
        ({"progress": 0.6}, 500, 2000.0, 0.6),
        ({"state": JobState.QUEUED}, 500, 2000.0, None),
        ({"state": JobState.COMPLETED, "progress": 1.0}, 500, 2000.0, 1.0),
    ],
)
def test_p06_progress_is_estimated_while_a_job_runs_and_says_nothing_itself(
    columns: dict[str, Any], elapsed_ms: int, usual_ms: float | None, progress: float | None
) -> None:
    running = row(**{"state": JobState.STARTED, "started": NOW, **columns})

    assert progress_of(running, now=NOW + elapsed_ms * 1000, usual_ms=usual_ms) == progress


@pytest.mark.parametrize(
    ("reply_to", "shown"),
    [
        (None, None),
        ("https://example.com/hook?key=secret", "***@example.com"),
        ("https://user:pass@example.com/hook", "***@example.com"),
        ("POST Bearer:secret https://example.com/hook", "***@example.com"),
        ("ann@example.com/x", "***@example.com"),
        ("Bearer:secret example.com/x", "***@example.com"),
        ("Bearer secret example.com?key=secret", "***@example.com"),
        ("https://[bad", "***@?"),
        ("", "***@?"),
    ],
)
def test_an_address_is_shown_without_its_secrets(reply_to: str | None, shown: str | None) -> None:
    assert mask_reply_to(reply_to) == shown


def test_the_only_attempt_of_a_job_that_succeeded_at_once_is_read_from_its_row() -> None:
    done = row(owner=1)
    begin(done, now=NOW, node="here")
    settle(done, Succeeded(), now=NOW + SECOND, backoff=lambda _: 0.0)

    [attempt] = attempts_of(done)

    assert (attempt.number, attempt.phase, attempt.node, attempt.outcome) == (1, "work", "here", "Succeeded")
    assert (attempt.started, attempt.duration_ms, attempt.error) == (AT, 1000, None)


def test_attempts_come_from_the_history_in_their_order() -> None:
    done = row(owner=1, retry_limit=1)
    for outcome in (Failed(JobError(code="ValueError", message="boom")), Succeeded()):
        begin(done, now=NOW, node="here")
        settle(done, outcome, now=NOW, backoff=lambda _: 0.0)

    assert [(attempt.number, attempt.outcome) for attempt in attempts_of(done)] == [(1, "Failed"), (2, "Succeeded")]


@pytest.mark.parametrize("columns", [{}, {"state": JobState.STARTED, "started": NOW}])
def test_a_job_without_an_ended_attempt_has_none(columns: dict[str, Any]) -> None:
    assert attempts_of(row(**columns)) == []
