"""Where a job can be, how it gets from one state to the next, and why it waits.

Queued ──► Started ──► Completed
  │ ▲         │ ├────► Executed ──► Completed      a callback follows the work
  │ └─────────┘ │          │
  │   retry,    ├────► Failed ◄──┘                 the callback failed for good
  │   snooze    └────► Cancelled
  └──────────────────► Cancelled, Failed
                       Failed, Cancelled ──► Queued, Executed      only by an explicit requeue
"""

from enum import IntEnum, StrEnum


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "Queued"
    """Waits for its turn, a date, a parent, a retry or a busy lane."""
    STARTED = "Started"
    """Its code runs, or ran when its process died."""
    EXECUTED = "Executed"
    """The work is done, its callback is not."""
    COMPLETED = "Completed"
    """Done, callback included."""
    FAILED = "Failed"
    """Ended with an error and no attempt left."""
    CANCELLED = "Cancelled"
    """Ended by request, by its date, or because a job it depended on did not succeed."""

    @property
    def is_final(self) -> bool:
        """Whether the job has ended; only a requeue leaves such a state."""
        return self in FINAL


FINAL = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.QUEUED, JobState.STARTED, *FINAL, JobState.EXECUTED}),
    JobState.STARTED: frozenset({JobState.QUEUED, JobState.EXECUTED, *FINAL}),
    JobState.EXECUTED: frozenset({JobState.EXECUTED, *FINAL}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED, JobState.EXECUTED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED, JobState.EXECUTED}),
}
"""Every transition there is. Queued → Completed stands for a start whose mark was still unwritten when the job
ended."""


class Hold(IntEnum):
    """What parks a waiting job, so that it is not in the claim index."""

    PARENTS = 1
    """A job it depends on is unfinished."""
    TIME = 2
    """Its `run_after` is in the future."""
    LANE = 3
    """Its named worker or its concurrency key is taken by another job."""
    ADMISSION = 4
    """It came with its caller's own transaction, and what else it waits for is looked at when that has committed."""


def hold_for(*, parents_left: int, run_after: int | None, now: int, has_lane: bool) -> Hold | None:
    """What a waiting job must wait for first; None: it can be claimed.

    A job with a lane (named worker or concurrency key) is parked there until the lane elects it.
    """
    if parents_left:
        return Hold.PARENTS
    if run_after is not None and run_after > now:
        return Hold.TIME
    return Hold.LANE if has_lane else None
