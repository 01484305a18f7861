"""From the engine's rows to the public records: built at the edge of the API only."""

import json
from datetime import datetime
from urllib.parse import urlsplit

from commandjobs.model.job import Attempt, Job, JobError, JobSummary
from commandjobs.model.moment import to_datetime
from commandjobs.model.row import JobRow, SummaryRow
from commandjobs.model.state import Hold, JobState

_OUTCOME_OF = {
    JobState.COMPLETED: "Succeeded",
    JobState.EXECUTED: "Succeeded",
    JobState.FAILED: "Failed",
    JobState.CANCELLED: "Cancelled",
}


def to_job(row: JobRow, *, now: int, node: str | None = None, usual_ms: float | None = None, known: bool = True) -> Job:
    """The full public record of a row.

    node: name of the node that runs it, if the row does not know.
    usual_ms: how long such a job usually takes; the estimate of a running job that reports no progress itself.
    known: whether the command that is to run next is known here.
    """
    return Job(
        id=row.id,
        ref_id=row.ref_id,
        parent_id=row.parent_id,
        request_type="API" if row.request_type == "API" else "CMD",
        command=row.command,
        request=row.request,
        request_body=row.request_body,
        response=row.response,
        response_body=row.response_body,
        state=row.state,
        worker=row.worker,
        queue=row.queue,
        priority=row.priority,
        tags=list(row.tags),
        batch_id=row.batch_id,
        callback=row.callback,
        depends_on=list(row.depends_on),
        depends_on_batch=None,
        depends_on_policy=row.depends_on_policy,
        run_after=_at(row.run_after),
        expires=_at(row.expires),
        created=to_datetime(row.created),
        created_by=row.created_by,
        started=_at(row.started),
        completed=_at(row.completed),
        notified=_at(row.notified),
        last_activity=to_datetime(row.last_activity or row.created),
        user_id=row.user_id,
        tenant_id=row.tenant_id,
        retry_limit=row.retry_limit,
        attempts=row.attempts,
        attempts_returned=row.attempts_returned,
        callback_attempts=row.callback_attempts,
        crashes=row.crashes,
        timeout=row.timeout,
        duration_ms=row.duration_ms,
        progress=progress_of(row, now=now, usual_ms=usual_ms),
        status=row.status,
        reply_to=mask_reply_to(row.reply_to),
        unique_key=row.unique_key,
        concurrency_key=row.concurrency_key,
        error=JobError.model_validate_json(row.error) if row.error else None,
        error_code=row.error_code,
        wait_reason=wait_reason(row, now=now, known=known),
        overrunning=_at(row.overrunning),
        cancel_requested=_at(row.cancel_requested),
        node=row.node or node,
        args=dict(row.args),
        meta=dict(row.meta),
        trace_id=row.trace_id,
    )


def to_summary(row: SummaryRow) -> JobSummary:
    """The public summary of a job."""
    return JobSummary(
        id=row.id,
        ref_id=row.ref_id,
        command=row.command,
        state=row.state,
        created=to_datetime(row.created),
        started=_at(row.started),
        completed=_at(row.completed),
        duration_ms=row.duration_ms,
        attempts=row.attempts,
        worker=row.worker,
        queue=row.queue,
        tags=list(row.tags),
        batch_id=row.batch_id,
        created_by=row.created_by,
        user_id=row.user_id,
        error_code=row.error_code,
        error_message=row.error_message,
    )


def attempts_of(row: JobRow) -> list[Attempt]:
    """The ended attempts of one run of a job, oldest first; a job that succeeded at once keeps its only one in its
    row.
    """
    if row.history:
        return [Attempt.model_validate(json.loads(entry)) for entry in row.history]
    if row.started is None or row.state not in _OUTCOME_OF:
        return []
    only = Attempt(
        number=row.attempts,
        phase="work",
        node=row.node or "",
        started=to_datetime(row.started),
        duration_ms=row.duration_ms,
        outcome=_OUTCOME_OF[row.state],
        error=JobError.model_validate_json(row.error) if row.error else None,
    )
    return [only]


def progress_of(row: JobRow, *, now: int, usual_ms: float | None) -> float | None:
    """Reported progress; else, while it runs, elapsed time over the usual duration, two decimals, below 1."""
    if row.progress is not None or row.state is not JobState.STARTED or row.started is None or not usual_ms:
        return row.progress
    return min(0.99, round(max(0, now - row.started) / 1000 / usual_ms, 2))


def wait_reason(row: JobRow, *, now: int, known: bool = True) -> str | None:
    """Why a waiting job does not run yet, in one sentence; None for a job that runs or has ended."""
    if row.state.is_final or row.state is JobState.STARTED:
        return None
    if row.hold is Hold.PARENTS or (row.hold is Hold.ADMISSION and row.depends_on):
        jobs = "job" if len(row.depends_on) == 1 else "jobs"
        return f"Waits for {jobs} {', '.join(map(str, row.depends_on))}"
    if row.hold is Hold.TIME and row.run_after is not None and row.run_after > now:
        what = "Retrying" if row.attempts else "Scheduled"
        return f"{what} at {to_datetime(row.run_after):%Y-%m-%d %H:%M:%S} UTC"
    if row.hold is Hold.LANE:
        busy = f"worker {row.lane!r}" if row.lane is not None else f"concurrency key {row.lane_key!r}"
        return f"Waits for {busy}, which runs one job at a time"
    callback = row.state is JobState.EXECUTED
    if row.owner is None and not known:
        return f"Waits for a node that knows its {'callback ' + str(row.callback) if callback else 'command'}"
    return f"Its callback {row.callback} waits for a free place" if callback else "Waits for a free place"


def mask_reply_to(reply_to: str | None) -> str | None:
    """Where a job reports to, without anything secret: `***@host`."""
    if reply_to is None:
        return None
    address = reply_to.rpartition(" ")[2]
    try:
        host = urlsplit(address if "://" in address else f"//{address}").hostname
    except ValueError:
        host = "?"
    return f"***@{host or '?'}"


def _at(moment: int | None) -> datetime | None:
    return None if moment is None else to_datetime(moment)
