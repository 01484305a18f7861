"""Every state change of a job, decided without a loop and without a storage."""

from itertools import product
from typing import Any

import pytest

from commandjobs.errors import ErrorCode
from commandjobs.model.job import Attempt, JobError
from commandjobs.model.outcome import Cancelled, Crashed, Failed, HandedBack, Outcome, Snoozed, Succeeded
from commandjobs.model.row import JobRow
from commandjobs.model.settle import (
    ATTEMPT_FAILED,
    CRASH_LIMIT,
    HISTORY_LIMIT,
    PARENT_FAILED,
    RELEASED_BY,
    Settlement,
    attempt_is_lost,
    begin,
    bound_attempt,
    can_expire,
    cancel_waiting,
    heed_cancellation,
    lane_hold,
    request_cancellation,
    requeue,
    settle,
)
from commandjobs.model.state import TRANSITIONS, Hold, JobState

SECOND = 1_000_000
NOW = 1_000 * SECOND
OWNER = 7
BOOM = Failed(JobError(code="ValueError", message="boom"))
FATAL = Failed(JobError(code="Fail", message="no use"), retryable=False)

Q, S, X, C, F, N = JobState  # Queued, Started, eXecuted, Completed, Failed, caNcelled


def queued(**columns: Any) -> JobRow:
    columns = {"id": 1, "ref_id": "r", "command": "Work", "created": NOW, **columns}
    return JobRow(**columns)


def started(**columns: Any) -> JobRow:
    """A job whose first attempt at its work runs."""
    row = queued(owner=OWNER, **columns)
    begin(row, now=NOW, node="here")
    return row


def calling_back(**columns: Any) -> JobRow:
    """A job whose work is done, and whose callback runs for the first time."""
    row = queued(owner=OWNER, state=X, work_done=True, callback="Notify", attempts=1, completed=NOW, **columns)
    begin(row, now=NOW, node="here")
    return row


def end(row: JobRow, outcome: Outcome, *, now: int = NOW + SECOND, **options: Any) -> Settlement:
    return settle(row, outcome, now=now, backoff=lambda retry: 10.0 * retry, **options)


# ── the table: what an outcome makes of a job ───────────────────────────────────────────────────────────────────────

WORK = [  # outcome, columns of the job, where it goes, its error code, attempts given back, crashes
    (Succeeded("1"), {}, C, None, 0, 0),
    (Succeeded("1"), {"callback": "Notify"}, X, None, 0, 0),
    (Succeeded(dropped=2_000_000), {}, C, None, 0, 0),
    (Succeeded(dropped=2_000_000), {"callback": "Notify"}, F, "ResultTooLarge", 0, 0),
    (BOOM, {"retry_limit": 1}, Q, "ValueError", 0, 0),
    (BOOM, {"retry_limit": 0}, F, "ValueError", 0, 0),
    (FATAL, {"retry_limit": 9}, F, "Fail", 0, 0),
    (Snoozed(5.0), {"retry_limit": 0}, Q, None, 1, 0),
    (HandedBack(), {"retry_limit": 0}, Q, None, 1, 0),
    (Cancelled(), {"retry_limit": 9}, N, "Cancelled", 0, 0),
    (Crashed("here"), {"retry_limit": 0}, Q, None, 1, 1),
    (Crashed("here"), {"crashes": CRASH_LIMIT - 2}, Q, None, 1, CRASH_LIMIT - 1),
    (Crashed("here"), {"crashes": CRASH_LIMIT - 1, "retry_limit": 9}, F, "WorkerCrashed", 1, CRASH_LIMIT),
    (Crashed("here"), {"rerun_after_crash": False}, F, "WorkerCrashed", 1, 1),
]


@pytest.mark.parametrize(("outcome", "columns", "state", "code", "returned", "crashes"), WORK)
def test_outcome_of_the_work_decides_where_the_job_goes(
    outcome: Outcome, columns: dict[str, Any], state: JobState, code: str | None, returned: int, crashes: int
) -> None:
    row = started(**columns)

    settlement = end(row, outcome)

    assert (row.state, row.error_code) == (state, code)
    assert (row.attempts, row.attempts_returned, row.crashes) == (1, returned, crashes)
    assert settlement.owner == OWNER
    assert settlement.final == state.is_final
    assert row.owner is None


CALLBACK = [  # outcome, columns, where the job goes, its error code, callback attempts given back
    (Succeeded(), {}, C, None, 0),
    (BOOM, {"retry_limit": 1}, X, "ValueError", 0),
    (BOOM, {"retry_limit": 0}, F, "CallbackFailed", 0),
    (FATAL, {"retry_limit": 9}, F, "CallbackFailed", 0),
    (Snoozed(5.0), {"retry_limit": 0}, X, None, 1),
    (HandedBack(), {"retry_limit": 0}, X, None, 1),
    (Cancelled(), {}, N, "Cancelled", 0),
    (Crashed("here"), {"retry_limit": 0}, X, None, 1),
    (Crashed("here"), {"crashes": CRASH_LIMIT - 1}, F, "WorkerCrashed", 1),
]


@pytest.mark.parametrize(("outcome", "columns", "state", "code", "returned"), CALLBACK)
def test_d23_outcome_of_the_callback_never_sends_the_job_back_to_its_work(
    outcome: Outcome, columns: dict[str, Any], state: JobState, code: str | None, returned: int
) -> None:
    row = calling_back(response_body='"kept"', **columns)

    end(row, outcome)

    assert (row.state, row.error_code) == (state, code)
    assert (row.attempts, row.callback_attempts, row.callback_returned) == (1, 1, returned)
    assert row.response_body == '"kept"'


@pytest.mark.parametrize("outcome", [outcome for outcome, *_ in WORK])
@pytest.mark.parametrize("begun", [started, calling_back])
def test_r13_whatever_comes_out_of_a_job_that_was_to_be_cancelled_it_ends_cancelled(
    begun: Any, outcome: Outcome
) -> None:
    row = begun(cancel_requested=NOW, retry_limit=9)

    settlement = end(row, outcome)

    assert (row.state, row.error_code, settlement.final) == (N, "Cancelled", True)


def test_every_settlement_is_a_transition_of_the_table() -> None:
    outcomes = [outcome for outcome, *_ in WORK]
    budgets, crashes, cancels = (0, 9), range(CRASH_LIMIT), (None, NOW)

    for begun, outcome, limit, crashed, cancel in product((started, calling_back), outcomes, budgets, crashes, cancels):
        row = begun(retry_limit=limit, crashes=crashed, cancel_requested=cancel)
        before = row.state
        end(row, outcome)
        assert row.state in TRANSITIONS[before]
        assert row.owner is None


# ── budgets ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("limit", [0, 1, 2, 5])
def test_r02_a_job_that_always_fails_is_tried_once_more_than_its_retry_limit(limit: int) -> None:
    row = started(retry_limit=limit)

    while not end(row, BOOM).final:
        begin(row, now=NOW, node="here")

    assert (row.state, row.attempts) == (F, limit + 1)


@pytest.mark.parametrize("outcome", [Snoozed(1.0), HandedBack()])
def test_attempts_that_were_given_back_do_not_use_the_budget(outcome: Outcome) -> None:
    row = started(retry_limit=1)
    for _ in range(5):
        end(row, outcome)
        begin(row, now=NOW, node="here")

    end(row, BOOM)

    assert (row.state, row.attempts, row.budget_used) == (Q, 6, 1)


def test_crashes_have_a_limit_of_their_own() -> None:
    row = started(retry_limit=0)

    for _ in range(CRASH_LIMIT - 1):
        assert not end(row, Crashed("here")).final
        assert row.suspect
        begin(row, now=NOW, node="here")
    end(row, Crashed("here"))

    assert (row.state, row.error_code, row.crashes) == (F, ErrorCode.WORKER_CRASHED, CRASH_LIMIT)
    assert "3 processes died" in (row.error_message or "")


def test_callback_has_as_many_attempts_as_the_work() -> None:
    row = calling_back(retry_limit=2)

    while not end(row, BOOM).final:
        begin(row, now=NOW, node="here")

    assert (row.state, row.error_code, row.callback_attempts, row.attempts) == (F, "CallbackFailed", 3, 1)


# ── when, and in which lane, it goes on ─────────────────────────────────────────────────────────────────────────────


def test_r03_a_retry_waits_for_its_backoff() -> None:
    row = started(retry_limit=5)
    end(row, BOOM, now=NOW)
    assert (row.hold, row.run_after) == (Hold.TIME, NOW + 10 * SECOND)

    begin(row, now=NOW, node="here")
    end(row, BOOM, now=NOW)

    assert row.run_after == NOW + 20 * SECOND


def test_a_snooze_waits_as_long_as_it_asks_for() -> None:
    row = started()

    end(row, Snoozed(2.5), now=NOW)

    assert (row.hold, row.run_after) == (Hold.TIME, NOW + 2_500_000)


@pytest.mark.parametrize(("lane", "key", "hold"), [(None, None, None), ("w", None, Hold.LANE), (None, "k", Hold.LANE)])
def test_a_job_handed_back_waits_for_its_lane_only(lane: str | None, key: str | None, hold: Hold | None) -> None:
    row = started(lane=lane, lane_key=key)

    end(row, HandedBack())

    assert (row.hold, row.run_after) == (hold, None)
    assert lane_hold(row) == hold


def test_an_executed_job_leaves_its_lanes_for_those_of_its_callback() -> None:
    row = started(worker="w", lane="w", lane_key="k", queue="heavy", callback="Notify")

    end(row, Succeeded("1"), callback_lane="mail", callback_queue="light")

    assert (row.lane, row.lane_key, row.hold) == ("mail", None, Hold.LANE)
    assert (row.queue, row.callback_queue, row.worker) == ("heavy", "light", "w")


def test_a_callback_without_queue_and_worker_stays_in_the_queue_of_the_job() -> None:
    row = started(worker="w", lane="w", queue="heavy", callback="Notify")

    end(row, Succeeded("1"))

    assert (row.lane, row.callback_queue, row.hold) == (None, "heavy", None)


# ── what is written beside the state ────────────────────────────────────────────────────────────────────────────────


def test_begin_counts_the_attempt_and_forgets_the_progress_of_the_one_before() -> None:
    row = queued(progress=0.7, status="nearly", suspect=True, hold=Hold.LANE)

    begin(row, now=NOW, node="here")

    assert (row.state, row.attempts, row.started, row.node) == (S, 1, NOW, "here")
    assert (row.progress, row.status, row.suspect, row.hold) == (None, None, False, None)


def test_begin_of_a_callback_counts_in_its_own_column_and_keeps_the_state() -> None:
    row = calling_back(progress=1.0)

    assert (row.state, row.attempts, row.callback_attempts, row.progress) == (X, 1, 1, 1.0)


def test_p03_a_job_whose_work_is_done_has_full_progress() -> None:
    row = started()
    row.progress = 0.3

    end(row, Succeeded('"x"'))

    assert (row.progress, row.response_body, row.completed, row.duration_ms) == (1.0, '"x"', NOW + SECOND, 1000)


def test_x17_a_result_over_the_limit_is_dropped_and_the_job_says_so() -> None:
    row = started()

    end(row, Succeeded(dropped=2_000_000))

    assert row.response_body is None
    assert row.meta == {"result": "dropped: 2,000,000 characters are over the limit"}


def test_x17_a_result_over_the_limit_that_would_be_delivered_fails_the_job() -> None:
    row = started(reply_to="https://example.com")

    end(row, Succeeded(dropped=2_000_000), delivered=True)

    assert (row.state, row.error_code) == (F, ErrorCode.RESULT_TOO_LARGE)
    assert "reply_to" in (row.error_message or "")


def test_success_wipes_the_error_of_the_attempt_before() -> None:
    row = started(retry_limit=5)
    end(row, BOOM)
    begin(row, now=NOW, node="here")

    end(row, Succeeded())

    assert (row.error, row.error_code, row.error_message) == (None, None, None)


def test_the_end_of_the_work_and_of_the_callback_are_two_times() -> None:
    row = started(callback="Notify")
    end(row, Succeeded("1"), now=NOW + SECOND)
    begin(row, now=NOW + 2 * SECOND, node="here")

    end(row, Succeeded(), now=NOW + 3 * SECOND)

    assert (row.completed, row.notified, row.duration_ms) == (NOW + SECOND, NOW + 3 * SECOND, 1000)


def test_r05_every_attempt_is_kept_with_its_node_start_duration_and_error() -> None:
    row = started(retry_limit=5)
    end(row, BOOM)
    begin(row, now=NOW + 2 * SECOND, node="there")
    end(row, Succeeded(), now=NOW + 5 * SECOND)

    first, second = [Attempt.model_validate_json(entry) for entry in row.history]

    assert (first.number, first.node, first.outcome, first.duration_ms) == (1, "here", "Failed", 1000)
    assert first.error == BOOM.error
    assert (second.number, second.node, second.outcome, second.duration_ms) == (2, "there", "Succeeded", 3000)


def test_a_job_that_succeeds_at_once_writes_no_history() -> None:
    row = started()

    end(row, Succeeded())

    assert row.history == ()


def test_history_of_a_job_that_snoozes_for_ever_is_bounded() -> None:
    row = started()

    for _ in range(HISTORY_LIMIT + 50):
        end(row, Snoozed(0.0))
        begin(row, now=NOW, node="here")

    assert len(row.history) == HISTORY_LIMIT
    assert Attempt.model_validate_json(row.history[-1]).number == HISTORY_LIMIT + 50


# ── attempt-bound jobs ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("outcome", "columns", "lost"),
    [
        (Succeeded(), {}, None),
        (Succeeded("1"), {"callback": "Notify"}, None),
        (Succeeded(dropped=2_000_000), {"callback": "Notify"}, 1),
        (BOOM, {"retry_limit": 5}, 1),
        (BOOM, {"retry_limit": 0}, 1),
        (Snoozed(1.0), {}, 1),
        (HandedBack(), {}, 1),
        (Cancelled(), {}, 1),
        (Crashed("here"), {}, 1),
    ],
)
def test_d30_jobs_of_an_attempt_go_with_it_unless_it_succeeds(
    outcome: Outcome, columns: dict[str, Any], lost: int | None
) -> None:
    assert end(started(**columns), outcome).failed_attempt == lost


def test_d30_attempts_of_a_callback_are_numbered_apart() -> None:
    row = calling_back(retry_limit=5)

    assert bound_attempt(row) == -1
    assert end(row, BOOM).failed_attempt == -1
    begin(row, now=NOW, node="here")
    assert end(row, Succeeded()).failed_attempt is None


@pytest.mark.parametrize(
    ("number", "state", "owner", "attempts", "callback_attempts", "lost"),
    [
        (1, S, OWNER, 1, 0, False),
        (1, Q, OWNER, 0, 0, False),  # its start mark is still unwritten
        (2, Q, OWNER, 1, 0, False),
        (1, S, OWNER, 2, 0, True),
        (1, Q, None, 1, 0, True),
        (1, C, None, 1, 0, False),
        (1, C, None, 2, 0, True),
        (1, X, None, 1, 0, False),
        (1, X, OWNER, 2, 1, True),
        (-1, X, OWNER, 1, 1, False),
        (-1, X, OWNER, 1, 0, False),
        (-1, X, None, 1, 1, True),
        (-1, C, None, 1, 1, False),
        (-1, C, None, 1, 2, True),
        (1, F, None, 1, 0, True),
        (1, N, None, 1, 0, True),
    ],
)
def test_d30_an_attempt_is_lost_when_it_has_ended_without_success(
    number: int, state: JobState, owner: int | None, attempts: int, callback_attempts: int, lost: bool
) -> None:
    found = attempt_is_lost(number, state=state, owner=owner, attempts=attempts, callback_attempts=callback_attempts)

    assert found is lost


# ── without an attempt ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", [PARENT_FAILED, ATTEMPT_FAILED])
def test_a_waiting_job_is_cancelled_with_the_reason(error: JobError) -> None:
    row = queued(hold=Hold.PARENTS)

    settlement = cancel_waiting(row, error, now=NOW)

    assert (row.state, row.error_code, row.hold, row.completed) == (N, error.code, None, NOW)
    assert (settlement.owner, settlement.final) == (None, True)


def test_r12_cancelling_a_waiting_job_ends_it() -> None:
    row = queued()

    settlement = request_cancellation(row, by="ann", now=NOW)

    assert settlement is not None
    assert (row.state, row.error_code, row.cancelled_by) == (N, "Cancelled", "ann")


def test_r14_cancelling_a_claimed_job_leaves_a_wish_and_the_first_one_counts() -> None:
    row = queued(owner=OWNER)

    assert request_cancellation(row, by="ann", now=NOW) is None
    assert request_cancellation(row, by="bob", now=NOW + SECOND) is None

    assert (row.state, row.cancel_requested, row.cancelled_by) == (Q, NOW, "ann")


def test_a_cancelled_executed_job_keeps_its_result_and_the_time_of_its_work() -> None:
    row = queued(state=X, work_done=True, callback="Notify", completed=NOW, response_body='"kept"')

    request_cancellation(row, by=None, now=NOW + SECOND)

    assert (row.state, row.completed, row.response_body) == (N, NOW, '"kept"')


def test_a_job_that_comes_back_to_wait_heeds_a_cancellation_meanwhile() -> None:
    asked, not_asked = queued(cancel_requested=NOW), queued()

    assert heed_cancellation(asked, now=NOW)
    assert not heed_cancellation(not_asked, now=NOW)
    assert (asked.state, not_asked.state) == (N, Q)


@pytest.mark.parametrize(
    ("columns", "expires"),
    [
        ({"expires": NOW}, True),
        ({}, False),
        ({"expires": NOW, "attempts": 1}, False),
        ({"expires": NOW, "state": X}, False),
    ],
)
def test_e20_only_a_job_that_was_never_started_can_expire(columns: dict[str, Any], expires: bool) -> None:
    assert can_expire(queued(**columns)) is expires


def test_d09_dependents_are_released_by_their_policy() -> None:
    assert {C: {"success", "finished"}, F: {"finished"}, N: {"finished"}} == RELEASED_BY


# ── requeue ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_r19_requeue_gives_the_full_budget_back_and_clears_what_the_run_left() -> None:
    row = started(retry_limit=0, depends_on=(3,), worker="w", concurrency_key="k")
    end(row, BOOM)

    requeue(row)

    assert (row.state, row.run, row.attempts, row.budget_used, row.crashes) == (Q, 1, 1, 0, 0)
    assert (row.error, row.error_code, row.history, row.completed, row.started) == (None, None, (), None, None)
    assert (row.depends_on, row.lane, row.lane_key) == ((3,), "w", "k")


def test_r19_requeue_of_a_failed_callback_goes_back_to_executed_and_keeps_the_result() -> None:
    row = calling_back(retry_limit=0, response_body='"kept"')
    end(row, BOOM)

    requeue(row)

    assert (row.state, row.response_body, row.completed, row.callback_budget_used) == (X, '"kept"', NOW, 0)


@pytest.mark.parametrize("state", [Q, S, X, C])
def test_r19_only_failed_and_cancelled_jobs_are_requeued(state: JobState) -> None:
    with pytest.raises(AssertionError, match="cannot go from"):
        requeue(queued(state=state))


def test_a_cancelled_job_whose_expiry_has_passed_is_not_cancelled_by_it_again_after_a_requeue() -> None:
    row = queued(expires=NOW)
    cancel_waiting(row, PARENT_FAILED, now=NOW)

    requeue(row)

    assert row.expires is None
