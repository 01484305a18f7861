"""The rows that the engine moves: a job with all its columns, in plain values.

Times are integers: microseconds since 1970, UTC. Texts that hold JSON say so. A row is made once, at enqueue or by a
claim, and changed in place by the one attempt that owns it; what is public is built from it in `views`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from commandjobs.model.state import Hold, JobState


@dataclass(kw_only=True)
class JobRow:
    """One job. `id` is 0 until the inserting transaction has assigned it.

    A row holds what differs from the defaults, which are those of the class: `vars(row)` are the columns in use. Of the
    60 columns a plain job uses nine; to set them all took 2.6 us a job, to ask which are in use another 1.9 us.
    """

    # what was asked for; never changes
    ref_id: str
    command: str
    created: int
    id: int = 0
    request_type: str = "CMD"
    request: str | None = None
    request_body: str | None = None
    worker: str | None = None
    queue: str = "default"
    priority: int = 0
    tags: tuple[str, ...] = ()
    batch_id: str | None = None
    callback: str | None = None
    callback_queue: str | None = None
    """Queue of the callback's command, once the job is Executed."""
    depends_on: tuple[int, ...] = ()
    depends_on_policy: str = "success"
    bound_attempt: int | None = None
    """The attempt of `depends_on` that enqueued this job (negative: a callback attempt); it runs only if that one
    succeeds."""
    parent_id: int | None = None
    run_after: int | None = None
    expires: int | None = None
    created_by: str | None = None
    user_id: str | None = None
    tenant_id: str | None = None
    retry_limit: int = 2
    timeout: float | None = 600.0
    """Seconds; None: no limit."""
    reply_to: str | None = None
    unique_key: str | None = None
    unique_until: str = "finish"
    concurrency_key: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    trace_id: str | None = None
    rerun_after_crash: bool = True

    fresh: bool = field(default=False, compare=False)
    """Its ref id was made for it just now, so nobody has it yet. Not stored."""

    # where it is
    run: int = 0
    """Raised by each requeue; the archive keeps one row per (id, run)."""
    state: JobState = JobState.QUEUED
    hold: Hold | None = None
    """What parks it while it waits; None: claimable, or claimed."""
    parents_left: int = 0
    lane: str | None = None
    """The named worker whose turn it needs now: its own, or once Executed its callback's."""
    lane_key: str | None = None
    """The concurrency key it needs now; None once Executed."""
    owner: int | None = None
    """Who has claimed it: the storage's number of a node's start; None: nobody."""
    suspect: bool = False
    """It was claimed when a process died: it runs only after its start mark is durable."""
    started: int | None = None
    completed: int | None = None
    notified: int | None = None
    last_activity: int | None = None
    attempts: int = 0
    attempts_returned: int = 0
    callback_attempts: int = 0
    callback_returned: int = 0
    crashes: int = 0
    duration_ms: int = 0
    progress: float | None = None
    status: str | None = None
    response: str | None = None
    response_body: str | None = None
    error: str | None = None
    """JSON of a `JobError`."""
    error_code: str | None = None
    error_message: str | None = None
    overrunning: int | None = None
    cancel_requested: int | None = None
    cancelled_by: str | None = None
    node: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    history: tuple[str, ...] = ()
    """JSON of each earlier `Attempt` of this run, oldest first; the last one is in the row itself."""
    work_done: bool = False
    """Its work has succeeded; only the callback may still run."""

    if not TYPE_CHECKING:  # type checkers see the dataclass's own, with its fields

        def __init__(self, **values: Any) -> None:
            vars(self).update(values)

    @classmethod
    def of(cls, values: dict[str, Any]) -> "JobRow":
        """The row of these columns, without a copy: the dictionary is the row's from now on. (As keywords they would be
        copied twice, 0.4 us a job.)
        """
        row = cls.__new__(cls)
        row.__dict__ = values
        return row

    def __copy__(self) -> "JobRow":
        return JobRow.of(vars(self).copy())

    @property
    def budget_used(self) -> int:
        """Attempts charged to the retry budget, a running one included."""
        return self.attempts - self.attempts_returned

    @property
    def callback_budget_used(self) -> int:
        """The same for the callback."""
        return self.callback_attempts - self.callback_returned


JobRow.args = JobRow.meta = MappingProxyType({})
"""A dataclass gives mappings no default of the class. They are never changed, only replaced."""


@dataclass(slots=True, kw_only=True)
class SummaryRow:
    """What is kept of every job in one place; a live job's is a view of its row."""

    id: int
    ref_id: str
    command: str
    state: JobState
    created: int
    started: int | None
    completed: int | None
    duration_ms: int
    attempts: int
    worker: str | None
    queue: str
    tags: tuple[str, ...]
    batch_id: str | None
    created_by: str | None
    user_id: str | None
    error_code: str | None
    error_message: str | None
    run: int

    @classmethod
    def of(cls, row: JobRow) -> "SummaryRow":
        """The summary of a job, from its full row."""
        return cls(**{field.name: getattr(row, field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of a job's log, before it has its sequence number (the storage gives the next one of the job)."""

    job_id: int
    created: int
    """When the job was created: its line lies in that month."""
    attempt: int
    at: int
    level: str
    logger: str
    message: str
    exception: str | None = None


@dataclass(frozen=True, slots=True)
class ProgressRow:
    """The newest progress, status and sign of life of a running job."""

    job_id: int
    owner: int
    progress: float | None
    status: str | None
    at: int
    overrunning: int | None = None
