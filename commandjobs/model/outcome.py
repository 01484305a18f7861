"""What one attempt of a job led to: values, made by the executor, read by `settle`."""

from dataclasses import dataclass, field

from commandjobs.model.job import JobError


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The code returned. `body` is None for no result, or when `dropped` says how many characters were too many."""

    body: str | None = None
    type_name: str | None = None
    """Name of the result's type, if there is a body."""
    dropped: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The code raised, ran out of time, or could not be run at all. `retryable`: another attempt may go better."""

    error: JobError
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The code asked to run again later, without using an attempt."""

    delay: float


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The engine is stopping: the job goes back without using an attempt."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job was cancelled; whatever came out of its code does not count."""

    error: JobError = field(default_factory=lambda: JobError(code="Cancelled", message="The job was cancelled."))


@dataclass(frozen=True, slots=True)
class Crashed:
    """The process that ran it died, or lost its lease."""

    node: str | None = None


Outcome = Succeeded | Failed | Snoozed | HandedBack | Cancelled | Crashed
