"""The job that this code runs in, and what only running code may do.

One `ContextVar` holds the running execution; the executor alone sets it, in the fresh context of each attempt, so
nothing of an enqueuer's request leaks into a job and nothing of a job leaks out.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from commandjobs import checks
from commandjobs.errors import InvalidOption, JobCancelled, NoCurrentJob
from commandjobs.model.moment import to_datetime

if TYPE_CHECKING:
    from commandjobs.jobs import BackgroundJobs
    from commandjobs.model.job import JobResult
    from commandjobs.model.row import JobRow


class Running(Protocol):
    """What `CurrentJob` needs of an execution."""

    row: JobRow
    transient: bool
    parent: JobResult | None
    user: Any

    @property
    def ended_by(self) -> str | None:
        """Why the attempt was ended from outside, if it was."""
        ...

    @property
    def jobs(self) -> BackgroundJobs:
        """The engine."""
        ...

    def log(self, record: logging.LogRecord) -> None:
        """Append to the job's own log."""
        ...

    def report(self, progress: float | None, status: str | None) -> None:
        """Keep progress and status."""
        ...


running: ContextVar[Running] = ContextVar("commandjobs.running")


def current_job() -> CurrentJob:
    """The job this code runs in. Raises `NoCurrentJob` outside of one.

    It works in async and sync commands, in tasks and in threads that inherit the context (`asyncio.to_thread`).
    """
    try:
        return CurrentJob(running.get())
    except LookupError:
        raise NoCurrentJob(
            "No job runs here: current_job() works inside a command's run(), and in what it awaits or calls."
        ) from None


def current_user() -> Any:
    """The user the job runs as: what the engine's `users` loader gave for its `user_id` (without a loader: the id
    itself); None for a job without a user. Raises `NoCurrentJob` outside of a job.
    """
    current_job()
    return running.get().user


def current_jobs() -> BackgroundJobs:
    """The engine that runs this job. Raises `NoCurrentJob` outside of one."""
    current_job()
    return running.get().jobs


class CurrentJob:
    """The job this code runs in. Usable from async and sync code."""

    __slots__ = ("_running",)

    def __init__(self, of: Running) -> None:
        """Look at a running execution; `current_job()` does this."""
        self._running = of

    @property
    def id(self) -> int:
        """The job's id. Raises `NoCurrentJob` in a transient run, which is not stored."""
        return self._stored().id

    @property
    def ref_id(self) -> str:
        """The job's ref id. Raises `NoCurrentJob` in a transient run."""
        return self._stored().ref_id

    @property
    def command(self) -> str:
        """Stored name of the job's command (not of its callback, while that runs)."""
        return self._running.row.command

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1; of the callback's own attempt while that runs."""
        row = self._running.row
        return row.callback_attempts if row.work_done else row.attempts

    @property
    def worker(self) -> str | None:
        """The named worker it runs on."""
        return self._running.row.worker

    @property
    def queue(self) -> str:
        """Its queue."""
        return self._running.row.queue

    @property
    def tags(self) -> Sequence[str]:
        """Its tags."""
        return self._running.row.tags

    @property
    def batch_id(self) -> str | None:
        """The batch label it was enqueued with."""
        return self._running.row.batch_id

    @property
    def parent_id(self) -> int | None:
        """The first job it depended on, or the `parent_id` it was enqueued with."""
        return self._running.row.parent_id

    @property
    def user_id(self) -> str | None:
        """Id of the user it runs as."""
        return self._running.row.user_id

    @property
    def tenant_id(self) -> str | None:
        """The tenant it was enqueued for."""
        return self._running.row.tenant_id

    @property
    def created_by(self) -> str | None:
        """Who enqueued it."""
        return self._running.row.created_by

    @property
    def created(self) -> datetime:
        """When it was enqueued; aware, UTC."""
        return to_datetime(self._running.row.created)

    @property
    def args(self) -> Mapping[str, str]:
        """The `args` it was enqueued with."""
        return self._running.row.args

    @property
    def reply_to(self) -> str | None:
        """The address it was enqueued with, in clear: the job needs it to answer."""
        return self._running.row.reply_to

    @property
    def parent(self) -> JobResult | None:
        """The first job it depended on, finished; None without one, or when its month was dropped."""
        return self._running.parent

    async def parents(self) -> list[JobResult]:
        """All jobs it depended on, in the order given; those whose month was dropped are left out."""
        return await self._running.jobs.get_jobs(self._running.row.depends_on)

    def parents_sync(self) -> list[JobResult]:
        """`parents()` for sync commands: blocks the calling thread, never the loop's."""
        return self._running.jobs.sync.get_jobs(self._running.row.depends_on)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger named after the command: writes to standard logging and, from DEBUG up, to the job's own log.

        Lines below the standard logger's level go to the job's log only. So `log.debug("…")` is, in most apps, a line
        that is stored and printed nowhere; `note` is such a line at any level.
        """
        return JobLogger(self._running)

    def note(self, message: str, *, level: int = logging.INFO) -> None:
        """Write a line to the job's stored log only, not to standard logging."""
        self._running.log(logging.LogRecord(self.command, level, "", 0, message, None, None))

    def update_status(self, progress: float | None = None, status: str | None = None) -> None:
        """Tell how far the job is; the latest values win, and are stored within a second.

        progress: 0 to 1; None keeps what was reported. status: a short text; None keeps it.
        Raises `InvalidOption` for a progress outside 0 to 1, or a status that no database can hold.
        """
        if progress is not None and not (_is_number(progress) and 0 <= progress <= 1):
            raise InvalidOption(f"update_status takes a progress from 0 to 1, got {progress!r}.")
        self._running.report(progress, None if status is None else checks.a_text("status", status))

    def raise_if_cancelled(self) -> None:
        """Raise `JobCancelled` if the job was cancelled, ran out of time, or must stop with its process.

        Async code is cancelled by itself; a sync command calls this where it can stop.
        """
        why = self._running.ended_by
        if why is not None:
            raise JobCancelled(f"The attempt was ended: {why}.")

    @property
    def cancelled(self) -> bool:
        """Whether the attempt was ended from outside; see `raise_if_cancelled`."""
        return self._running.ended_by is not None

    def _stored(self) -> JobRow:
        if self._running.transient:
            raise NoCurrentJob("This run is not stored (run_command), so it has no id. Enqueue the command to get one.")
        return self._running.row


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class JobLogger(logging.LoggerAdapter[logging.Logger]):
    """Standard logging and the job's own log; the latter takes everything from DEBUG up."""

    def __init__(self, of: Running) -> None:
        """Log for a running execution."""
        super().__init__(logging.getLogger(of.row.command), {})
        self._running = of

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  the standard library's name
        """True from DEBUG up: the job's own log takes it even if standard logging does not."""
        return level >= logging.DEBUG

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Log to both; through standard logging alone where that captures for the job anyway."""
        if self.logger.isEnabledFor(level):
            super().log(level, msg, *args, **kwargs)
            return
        info = kwargs.get("exc_info")
        if info is True:
            info = sys.exc_info()
        elif isinstance(info, BaseException):
            info = (type(info), info, info.__traceback__)
        self._running.log(logging.LogRecord(self.logger.name, level, "", 0, msg, args, info or None))

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Leave message and keywords as they are."""
        return msg, kwargs
