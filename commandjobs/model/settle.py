"""What follows from an outcome: the one place where a job's state changes are decided.

`settle` takes the row an attempt ran with and what came of it, writes the new values into the row, and returns what the
storage must do beside: whether the job is over, which dependents are released, and whose attempt-bound jobs go.
"""

from collections.abc import Callable
from dataclasses import dataclass

from commandjobs.errors import ErrorCode
from commandjobs.model.job import Attempt, JobError
from commandjobs.model.moment import to_datetime
from commandjobs.model.outcome import Cancelled, Crashed, Failed, HandedBack, Outcome, Snoozed, Succeeded
from commandjobs.model.row import JobRow
from commandjobs.model.state import FINAL, TRANSITIONS, Hold, JobState

CRASH_LIMIT = 3
"""A job's third crash fails it, whatever its retry limit."""
HISTORY_LIMIT = 200
"""Attempts kept of one run; a job that snoozes for ever would grow its row without end."""

RELEASED_BY: dict[JobState, frozenset[str]] = {
    JobState.COMPLETED: frozenset({"success", "finished"}),
    JobState.FAILED: frozenset({"finished"}),
    JobState.CANCELLED: frozenset({"finished"}),
}
"""Which dependents, by their policy, the end of a job lets go on; the others are cancelled with `ParentFailed`."""

PARENT_FAILED = JobError(code=ErrorCode.PARENT_FAILED, message="Parent Job failed")
ATTEMPT_FAILED = JobError(
    code=ErrorCode.ATTEMPT_FAILED, message="The attempt that enqueued this job did not succeed, so it will not run."
)
EXPIRED = JobError(code=ErrorCode.EXPIRED, message="The job was not started by its `expires` time.")
CANCELLED = Cancelled().error


@dataclass(slots=True)
class Settlement:
    """A decided change of one claimed job, for the storage to write if the job is still `owner`'s."""

    row: JobRow
    owner: int | None
    """Who must still hold the job for this to be written; None: nobody may hold it."""
    failed_attempt: int | None = None
    """The attempt whose bound jobs are cancelled in the same write (see `JobRow.bound_attempt`)."""

    @property
    def final(self) -> bool:
        """Whether the job is over and leaves for the archive."""
        return self.row.state in FINAL


def begin(row: JobRow, *, now: int, node: str) -> None:
    """Write the start of the next attempt (work, or callback of an Executed job) into the row."""
    row.started = row.last_activity = now
    row.node = node
    if row.suspect or row.hold is not None:
        row.suspect, row.hold = False, None
    if row.state is JobState.EXECUTED:
        row.callback_attempts += 1
        return
    row.state = JobState.STARTED
    row.attempts += 1
    if row.progress is not None or row.status is not None:
        row.progress = row.status = None


def settle(
    row: JobRow,
    outcome: Outcome,
    *,
    now: int,
    backoff: Callable[[int], float],
    callback_lane: str | None = None,
    callback_queue: str | None = None,
    delivered: bool = False,
) -> Settlement:
    """Decide what an attempt's outcome makes of its job, and write it into the row.

    row: as the attempt ran with it, started and claimed.
    now: microseconds; the end of the attempt.
    backoff: seconds to wait before retry n, counted from 1.
    callback_lane, callback_queue: named worker and queue of the callback's command, if the job has a callback.
    delivered: whether the engine delivers the job's `reply_to`, so that a lost result is a failure.
    """
    owner, before = row.owner, row.state
    in_callback = before is JobState.EXECUTED
    if row.cancel_requested is not None and not isinstance(outcome, Cancelled):
        outcome = Cancelled()
    row.last_activity = now
    if row.overrunning is not None:
        row.overrunning = None
    if type(outcome) is Succeeded and not in_callback and row.callback is None and not row.history:
        row.duration_ms = _lasted(row, now)  # the row itself tells of its only attempt
    else:
        _record(row, outcome, now=now)
    match outcome:
        case Succeeded() if in_callback:
            row.notified = now
            _end(row, JobState.COMPLETED)
        case Succeeded():
            _work_done(row, outcome, now=now, delivered=delivered)
        case Failed():
            _failed(row, outcome, now=now, backoff=backoff)
        case Snoozed(delay):
            _give_back(row)
            _wait(row, until=now + int(delay * 1_000_000))
        case HandedBack():
            _give_back(row)
            _wait(row, until=None)
        case Cancelled(error):
            row.completed = row.completed or now
            _end(row, JobState.CANCELLED, error)
        case Crashed():
            _crashed(row, now=now)
    if row.state is JobState.EXECUTED and not in_callback:
        row.lane, row.lane_key, row.callback_queue = callback_lane, None, callback_queue or row.queue
        row.hold = Hold.LANE if callback_lane is not None else None
    if row.state not in TRANSITIONS[before]:
        raise AssertionError(f"Job {row.id} cannot go from {before} to {row.state}.")
    if row.state is JobState.COMPLETED or (row.state is JobState.EXECUTED and not in_callback):
        return Settlement(row, owner)
    return Settlement(row, owner, failed_attempt=-row.callback_attempts if in_callback else row.attempts)


def must_run_apart(crashes: int, others: int) -> bool:
    """Whether two jobs that were started in so many crashes must not run at once.

    The next crash would fail one of them for good, and the other may be the one that causes it. One counted crash is
    enough for that: its first may be missing, if it killed the process before its start mark was on disk.
    """
    return min(crashes, others) > 0 and max(crashes, others) >= CRASH_LIMIT - 1


def bound_attempt(row: JobRow) -> int:
    """The number by which jobs are bound to the attempt that runs now: positive for work, negative for a callback."""
    return -row.callback_attempts if row.state is JobState.EXECUTED else row.attempts


def lane_hold(row: JobRow) -> Hold | None:
    """The hold of a job that waits for nothing but its turn: its lane elects it, if it has one."""
    return Hold.LANE if row.lane is not None or row.lane_key is not None else None


def cancel_waiting(row: JobRow, error: JobError, *, now: int) -> Settlement:
    """End a job that nobody has claimed: cancelled by request, expired, or because of a parent or an attempt."""
    row.completed = row.completed or now
    row.last_activity = now
    _end(row, JobState.CANCELLED, error)
    return Settlement(row=row, owner=None)


def cancel_unstarted(row: JobRow, error: JobError, *, now: int) -> Settlement:
    """The same for a job whose owner has not started it: no attempt is recorded."""
    owner = row.owner
    settlement = cancel_waiting(row, error, now=now)
    settlement.owner = owner
    return settlement


def request_cancellation(row: JobRow, *, by: str | None, now: int) -> Settlement | None:
    """Somebody wants the job cancelled: it ends now if nobody has claimed it; else the wish is noted for its owner."""
    if row.cancel_requested is None:
        row.cancel_requested, row.cancelled_by = now, by
    return cancel_waiting(row, CANCELLED, now=now) if row.owner is None else None


def heed_cancellation(row: JobRow, *, now: int) -> bool:
    """End a job that comes back to wait although its cancellation was asked for meanwhile; whether that was so."""
    if row.cancel_requested is None:
        return False
    cancel_waiting(row, CANCELLED, now=now)
    return True


def can_expire(row: JobRow) -> bool:
    """Whether the job ends if its `expires` passes while it waits: one that was started once is unaffected."""
    return row.expires is not None and row.attempts == 0 and row.state is JobState.QUEUED


def has_expired(row: JobRow, *, now: int) -> bool:
    """Whether it is too late to start the job."""
    return row.expires is not None and row.expires <= now and can_expire(row)


def attempt_is_lost(number: int, *, state: JobState, owner: int | None, attempts: int, callback_attempts: int) -> bool:
    """Whether the attempt that a new job is bound to (`JobRow.bound_attempt`) has already ended without success.

    The other values are those of the job that made this attempt, as stored: its start mark may still be unwritten.
    """
    counted = attempts if number > 0 else callback_attempts
    if state is JobState.COMPLETED or (state is JobState.EXECUTED and number > 0):
        return abs(number) != counted
    return state.is_final or owner is None or counted > abs(number)


def requeue(row: JobRow) -> JobRow:
    """Bring a failed or cancelled job back: same id, next run, full budget; its old row stays in the archive as
    history.
    """
    back_to = JobState.EXECUTED if row.work_done else JobState.QUEUED
    if not row.state.is_final or back_to not in TRANSITIONS[row.state]:
        raise AssertionError(f"Job {row.id} cannot go from {row.state} to {back_to}.")
    row.state = back_to
    row.run += 1
    row.attempts_returned, row.callback_returned = row.attempts, row.callback_attempts
    row.crashes = row.parents_left = 0
    row.hold = row.owner = row.run_after = row.expires = row.bound_attempt = None
    row.started = row.notified = row.last_activity = row.overrunning = None
    row.cancel_requested = row.cancelled_by = row.node = None
    row.error = row.error_code = row.error_message = None
    row.progress = row.status = None
    row.suspect, row.history = False, ()
    if back_to is JobState.QUEUED:
        row.completed = row.response = row.response_body = None
        row.duration_ms = 0
        row.lane, row.lane_key, row.callback_queue = row.worker, row.concurrency_key, None
    return row


def _work_done(row: JobRow, outcome: Succeeded, *, now: int, delivered: bool) -> None:
    row.completed = now
    if outcome.dropped is not None and (row.callback is not None or delivered):
        error = JobError(
            code=ErrorCode.RESULT_TOO_LARGE,
            message=f"The result has {outcome.dropped:,} characters, more than can be stored, and the job's "
            f"{'callback' if row.callback else 'reply_to'} needs it. Return less, or a reference to where it lies.",
        )
        _end(row, JobState.FAILED, error)
        return
    if outcome.dropped is not None:
        row.meta = {**row.meta, "result": f"dropped: {outcome.dropped:,} characters are over the limit"}
    if outcome.body is not None or row.response_body is not None:
        row.response, row.response_body = outcome.type_name, outcome.body
    row.progress = 1.0
    if row.callback is None:
        _end(row, JobState.COMPLETED)
        return
    row.state, row.work_done, row.owner = JobState.EXECUTED, True, None


def _failed(row: JobRow, outcome: Failed, *, now: int, backoff: Callable[[int], float]) -> None:
    in_callback = row.state is JobState.EXECUTED
    used = row.callback_budget_used if in_callback else row.budget_used
    if outcome.retryable and used <= row.retry_limit:
        _note(row, outcome.error)
        _wait(row, until=now + int(backoff(used) * 1_000_000))
        return
    if in_callback:
        row.notified = now
        _end(row, JobState.FAILED, outcome.error.model_copy(update={"code": ErrorCode.CALLBACK_FAILED.value}))
        return
    row.completed = now
    _end(row, JobState.FAILED, outcome.error)


def _crashed(row: JobRow, *, now: int) -> None:
    _give_back(row)
    row.crashes += 1
    if row.rerun_after_crash and row.crashes < CRASH_LIMIT:
        row.suspect = True
        _wait(row, until=None)
        return
    if row.state is JobState.EXECUTED:
        row.notified = now
    else:
        row.completed = now
    _end(row, JobState.FAILED, _crash_error(row))


def _crash_error(row: JobRow) -> JobError:
    why = (
        f"{row.crashes} processes died while they ran this job"
        if row.rerun_after_crash
        else "The process that ran this job died, and the command is marked `rerun_after_crash=False`"
    )
    return JobError(code=ErrorCode.WORKER_CRASHED, message=f"{why}. Look at the log of node {row.node}.")


def _give_back(row: JobRow) -> None:
    if row.state is JobState.EXECUTED:
        row.callback_returned += 1
    else:
        row.attempts_returned += 1


def _wait(row: JobRow, *, until: int | None) -> None:
    """Back to waiting, in the phase it was in; `until`: not before this time."""
    if row.state is JobState.STARTED:
        row.state = JobState.QUEUED
    row.owner = None
    row.run_after = until
    row.hold = Hold.TIME if until is not None else lane_hold(row)


def _end(row: JobRow, state: JobState, error: JobError | None = None) -> None:
    row.state = state
    row.owner = row.hold = None
    if error is not None:
        _note(row, error)
    elif row.error is not None:
        row.error = row.error_code = row.error_message = None


def _note(row: JobRow, error: JobError) -> None:
    row.error = error.model_dump_json()
    row.error_code = error.code
    row.error_message = error.message[:1000]


def _record(row: JobRow, outcome: Outcome, *, now: int) -> None:
    """Append the attempt to the history."""
    if row.started is None:
        return
    in_callback = row.state is JobState.EXECUTED
    if not in_callback:
        row.duration_ms = _lasted(row, now)
    attempt = Attempt(
        number=row.callback_attempts if in_callback else row.attempts,
        phase="callback" if in_callback else "work",
        node=row.node or "",
        started=to_datetime(row.started),
        duration_ms=_lasted(row, now),
        outcome=type(outcome).__name__,
        error=getattr(outcome, "error", None),
    )
    row.history = (*row.history, attempt.model_dump_json())[-HISTORY_LIMIT:]


def _lasted(row: JobRow, now: int) -> int:
    """Milliseconds; the wall clock can step back."""
    return 0 if row.started is None or row.started > now else (now - row.started) // 1000
