"""The public records of a job. They are built at the edge of the API; the engine itself moves `row.JobRow`s."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PrivateAttr

from commandjobs.errors import ArchiveMissing, CommandJobsError
from commandjobs.model.state import JobState


class Record(BaseModel):
    """Base of all public records: values that nobody changes."""

    model_config = ConfigDict(frozen=True)


class FieldError(Record):
    """One field that a request got wrong."""

    field: str
    code: str
    message: str


class JobError(Record):
    """Why a job, or one attempt of it, did not succeed.

    `code` is one of `ErrorCode` where the engine gave it, else the exception's class name.
    """

    code: str
    message: str
    stack_trace: str | None = None
    errors: list[FieldError] = []


class LogLine(Record):
    """One line of a job's log; `sequence` counts from 1 through all attempts of the job."""

    sequence: int
    at: datetime
    level: str
    logger: str
    message: str
    exception: str | None = None
    attempt: int


class Attempt(Record):
    """One execution of a job's work or of its callback."""

    number: int
    phase: Literal["work", "callback"]
    node: str
    started: datetime
    duration_ms: int
    outcome: str
    error: JobError | None = None


class Job(Record):
    """The full record of a job; times are aware UTC datetimes."""

    id: int
    ref_id: str
    parent_id: int | None
    request_type: Literal["CMD", "API"]
    command: str
    """Command name, or the request type's name for an API."""
    request: str | None
    """Request type name."""
    request_body: str | None
    """JSON; secret fields are masked in views only."""
    response: str | None
    """Result type name."""
    response_body: str | None
    state: JobState
    worker: str | None
    queue: str
    priority: int
    tags: list[str]
    batch_id: str | None
    callback: str | None
    depends_on: list[int]
    depends_on_batch: str | None
    depends_on_policy: str
    run_after: datetime | None
    expires: datetime | None
    created: datetime
    created_by: str | None
    started: datetime | None
    """Start of the last attempt."""
    completed: datetime | None
    """End of the work."""
    notified: datetime | None
    """End of the callback."""
    last_activity: datetime | None
    user_id: str | None
    tenant_id: str | None
    retry_limit: int
    attempts: int
    """Attempts started; only grows."""
    attempts_returned: int
    """Attempts not charged to the retry budget: Snooze, shutdown, crash, and all before a requeue."""
    callback_attempts: int
    crashes: int
    timeout: float | None
    """Seconds; None: no limit."""
    duration_ms: int
    progress: float | None
    """0 to 1: what the job reported, else an estimate from its usual duration while it runs."""
    status: str | None
    reply_to: str | None
    """Masked as `***@host`."""
    unique_key: str | None
    concurrency_key: str | None
    error: JobError | None
    error_code: str | None
    wait_reason: str | None
    """Why it is not running yet."""
    overrunning: datetime | None
    """Its attempt was ended at this time, its code still runs."""
    cancel_requested: datetime | None
    node: str | None
    args: dict[str, str]
    meta: dict[str, str]
    trace_id: str | None


class JobSummary(Record):
    """What is kept of every job in one place, whether it waits, runs or lies in an archive."""

    id: int
    ref_id: str
    command: str
    state: JobState
    created: datetime
    started: datetime | None
    completed: datetime | None
    duration_ms: int
    attempts: int
    worker: str | None
    queue: str
    tags: list[str]
    batch_id: str | None
    created_by: str | None
    user_id: str | None
    error_code: str | None
    error_message: str | None


class JobResult(Record):
    """Where a job is: its summary, and its full record in at most one of three places (none: its month was dropped)."""

    summary: JobSummary
    queued: Job | None = None
    completed: Job | None = None
    failed: Job | None = None
    """Failed or cancelled."""
    _rebuild: Callable[[Literal["request", "response"]], Any] | None = PrivateAttr(default=None)

    @property
    def job(self) -> Job:
        """The full record. Raises `ArchiveMissing`, naming the month, when the job's archive was dropped or moved."""
        found = self.queued or self.completed or self.failed
        if found is None:
            raise ArchiveMissing(
                f"Job {self.summary.id} finished, and the archive of its month {self.summary.created:%Y-%m} is not "
                "there: it was dropped by retention or moved away. Put the month's file back to read it again."
            )
        return found

    def request(self) -> Any:
        """The typed request, rebuilt from its JSON; None for a command without a request."""
        return self._rebuilt("request")

    def response(self) -> Any:
        """The typed result, rebuilt from its JSON; None when there is none."""
        return self._rebuilt("response")

    def _rebuilt(self, part: Literal["request", "response"]) -> Any:
        if self._rebuild is None:
            raise CommandJobsError(
                "This JobResult was not read through BackgroundJobs, so its types are unknown. Read the job again with "
                "jobs.get_job(id)."
            )
        _ = self.job
        return self._rebuild(part)


class JobPage(Record):
    """One page of `find_jobs`, newest first."""

    jobs: list[JobSummary]
    next: str | None
    """Pass it as `after=` for the next page; None: this was the last."""
    total: int
    """Exact up to 10,000."""
    total_is_exact: bool


class BulkResult(Record):
    """What a bulk operation did: the ids it changed, and a sentence for each id it could not."""

    ids: list[int]
    errors: dict[int, str]
