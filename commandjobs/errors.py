"""Everything that commandjobs raises.

CommandJobsError
├── DuplicateCommand        two classes, one name
├── InvalidCommand          a class that cannot be a command
├── UnknownCommand          no command of that name
├── UnknownApi              no API for that request type
├── InvalidOption           (ValueError) an option that cannot be
├── InvalidRequest          (ValueError) a request that would not come back as it was sent
├── InvalidResult           (ValueError) a result that would not come back as it was returned
├── InvalidSchedule         (ValueError) a cron expression or interval that cannot be
├── DuplicateRefId          a job with that ref id exists
├── UnknownDependency       a parent that is not there, or a cycle
├── DuplicateUniqueKey      another unfinished job holds the key
├── MissingService          a command asks for what nobody provides
├── JobNotFound             (LookupError) no such job
├── ArchiveMissing          (LookupError) the job's month was dropped or moved away
├── ResultNotStored         the result was over the limit
├── JobNotFailed            only failed and cancelled jobs can be requeued
├── JobFailed               the awaited job failed: `.job`, `.error`
├── JobCancelled            the awaited job was cancelled
├── JobTimeout              a transient run was over its timeout
├── UserNotFound            the `users` loader knows no such user
├── NoCurrentJob            (RuntimeError) asked for the current job outside a job
├── RecursionLimit          jobs that enqueue jobs, too deep or too many
├── BatchClosed             the batch takes no more jobs
├── WouldDeadlock           (RuntimeError) a wait that could never end
└── StorageError            the database did not do it
    ├── StorageUnavailable  away or locked for longer than the deadline
    ├── StorageFull         no space left
    └── StorageCorrupt      a damaged file

Raised by handlers, to say what shall happen: `Snooze` (again later) and `Fail` (no retries).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from commandjobs.model.job import Job, JobError


class CommandJobsError(Exception):
    """Base of all errors of this library."""


class DuplicateCommand(CommandJobsError):
    """Two classes claim one name.

    name: the stored name, or alias.
    first, second: where the registered and the refused class are defined.
    """

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(name, first, second)
        self.name = name
        self.first = first
        self.second = second

    def __str__(self) -> str:
        return (
            f"Command {self.name!r} is already registered by {self.first}; {self.second} cannot have the same name. "
            "Rename one of the two classes, or give the first one another stored name with @command(name=...)."
        )


class InvalidCommand(CommandJobsError):
    """A class that cannot be a command, such as one whose `run` does not fit its base.

    Raised when the class is defined; what cannot be known then, at start or first enqueue.
    """


class UnknownCommand(CommandJobsError):
    """No command is registered under that name.

    name: what was asked for.
    known: names that would have been right; the closest one is suggested.
    """

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        self.name = name
        self.known = tuple(known)
        super().__init__(name, self.known)

    def __str__(self) -> str:
        close = get_close_matches(self.name, self.known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else " Is the module that defines it imported?"
        return f"No command is registered as {self.name!r}.{hint}"


class UnknownApi(CommandJobsError):
    """No API takes that request type."""


class InvalidOption(CommandJobsError, ValueError):
    """An option that does not exist, or has a value it cannot have; the message names it."""


class _InvalidValue(CommandJobsError, ValueError):
    """A value that cannot be stored exactly, or a stored one that cannot be read back.

    errors: one (field, code, message) for each field that is wrong; field is a path such as "items.0.price", or "" for
        the value as a whole.
    """

    def __init__(self, message: str, errors: Sequence[tuple[str, str, str]] = ()) -> None:
        super().__init__(message, tuple(errors))
        self.errors: list[tuple[str, str, str]] = list(errors)

    def __str__(self) -> str:
        return str(self.args[0])


class InvalidRequest(_InvalidValue):
    """A request of the wrong type, too large, or one that JSON would not give back as it was; names the field."""


class InvalidResult(_InvalidValue):
    """A command returned something of the wrong type, or what JSON would not give back as it was; names the field."""


class InvalidSchedule(CommandJobsError, ValueError):
    """A cron expression or interval that cannot be; names the field and the task."""


class DuplicateRefId(CommandJobsError):
    """A job with this ref id exists already."""


class UnknownDependency(CommandJobsError):
    """`depends_on` names a job or batch that does not exist, or closes a circle."""

    @classmethod
    def of(cls, ids: Iterable[int]) -> UnknownDependency:
        """The error for jobs that do not exist."""
        named = ", ".join(map(str, sorted(ids)))
        return cls(
            f"depends_on names jobs that do not exist: {named}. Enqueue the parents first, and pass what that returns. "
            "(With a month that is dropped its jobs are gone.)"
        )


class DuplicateUniqueKey(CommandJobsError):
    """The job cannot be requeued: another unfinished job holds its `unique_key`."""


class MissingService(CommandJobsError):
    """A command's `__init__` asks for a service that is not registered; names command, parameter and type."""


class JobNotFound(CommandJobsError, LookupError):
    """There is no such job."""


class ArchiveMissing(CommandJobsError, LookupError):
    """The job's full record is gone: its month was dropped by retention, or moved away."""


class ResultNotStored(CommandJobsError):
    """The job succeeded, but its result was over the limit and was not stored."""


class JobNotFailed(CommandJobsError):
    """Only failed and cancelled jobs can be requeued."""


class JobFailed(CommandJobsError):
    """The awaited job failed.

    job: its full record.
    error: code, message and stack trace of its last error.
    """

    def __init__(self, job: Job, error: JobError) -> None:
        super().__init__(job, error)
        self.job = job
        self.error = error

    def __str__(self) -> str:
        return f"Job {self.job.id} ({self.job.command}) failed with {self.error.code}: {self.error.message}"


class JobCancelled(CommandJobsError):
    """The awaited job was cancelled."""


class JobTimeout(CommandJobsError):
    """A transient run was over its timeout. (A stored job that was raises `JobFailed` with the code `Timeout`.)"""


class UserNotFound(CommandJobsError):
    """The `users` loader knows no user of the job's `user_id`."""


class NoCurrentJob(CommandJobsError, RuntimeError):
    """The current job was asked for by code that no job runs."""


class RecursionLimit(CommandJobsError):
    """Jobs that enqueue jobs reached the limit of depth or of children."""


class BatchClosed(CommandJobsError):
    """The batch was closed or cancelled and takes no more jobs."""


class WouldDeadlock(CommandJobsError, RuntimeError):
    """Refused because it would wait for ever; says what waits for what, and the way out."""


class StorageError(CommandJobsError):
    """The database did not do what was asked."""


class StorageUnavailable(StorageError):
    """The database was away, locked or read-only for longer than the deadline; nothing is half-written."""


class StorageFull(StorageError):
    """No space is left; work resumes when there is."""


class StorageCorrupt(StorageError):
    """A database file is damaged; names the file and says what to do."""


LONGEST_SNOOZE = 100 * 365.25 * 86_400
"""Seconds; a moment must lie in the years that databases and Python know."""


class Snooze(Exception):
    """Raised by a handler: run this job again later, without using an attempt.

    delay: seconds, or a timedelta; not negative.
    """

    def __init__(self, delay: float | timedelta) -> None:
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        if not 0 <= seconds <= LONGEST_SNOOZE:
            raise InvalidOption(f"Snooze needs a delay from 0 seconds to a hundred years, got {delay!r}.")
        super().__init__(delay)
        self.delay = seconds
        """Seconds."""


class Fail(Exception):
    """Raised by a handler: this job fails now, without retries. The message becomes the job's error message."""


class ErrorCode(StrEnum):
    """The codes that the engine itself gives; any other code is the exception's class name."""

    TIMEOUT = "Timeout"
    WORKER_CRASHED = "WorkerCrashed"
    CALLBACK_FAILED = "CallbackFailed"
    ATTEMPT_FAILED = "AttemptFailed"
    """The attempt that enqueued this job did not succeed."""
    PARENT_FAILED = "ParentFailed"
    EXPIRED = "JobExpired"
    CANCELLED = "Cancelled"
    USER_NOT_FOUND = "UserNotFound"
    INVALID_REQUEST = "InvalidRequest"
    RESULT_TOO_LARGE = "ResultTooLarge"
