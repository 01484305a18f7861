"""One attempt of one job while it runs: its row, its command, why it was ended, its unwritten log and progress."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextvars import Context
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from commandjobs.model.row import JobRow, LogRow, ProgressRow

if TYPE_CHECKING:
    from commandjobs.definition import CommandDefinition
    from commandjobs.jobs import BackgroundJobs
    from commandjobs.model.job import JobResult
    from commandjobs.model.outcome import Failed, Outcome
    from commandjobs.runtime.memory_queue import MemoryQueue
    from commandjobs.runtime.services import ServiceContainer

LOG_LIMIT = 100_000
"""Characters of log kept per attempt."""
_FORMATTER = logging.Formatter()


class EndedBy(StrEnum):
    """Why an attempt was ended from outside."""

    CANCEL = "the job was cancelled"
    TIMEOUT = "it ran out of time"
    SHUTDOWN = "its process is stopping"


class Execution:
    """One attempt. It is made when the job is drawn and gone when its outcome is settled."""

    # What most attempts never change is given by the class: setting all of it took 1.5 us an attempt.
    ended_by: EndedBy | None = None
    begun: float | None = None
    durable_start = False
    marked = False
    began_in_thread = False
    in_thread = False
    caller: Execution | None = None
    container: ServiceContainer | None = None
    counted_in: MemoryQueue | None = None
    """The queue whose limit it counts for."""
    task: asyncio.Task[Any] | None = None
    thread_lost = False
    outcome: Outcome | None = None
    result: Any = None
    parent: JobResult | None = None
    lanes: tuple[str, ...] = ()
    unwritten: deque[LogRow] | None = None
    logged = 0
    log_truncated = False
    _progress = False

    def __init__(
        self,
        row: JobRow,
        definition: CommandDefinition,
        *,
        jobs: BackgroundJobs,
        context: Context,
        done: Callable[[Execution, Outcome], None],
        transient: bool = False,
        request: Any = None,
    ) -> None:
        """Prepare to run `definition`'s command for `row`; `done` is called on the loop's thread with the outcome."""
        self.row = row
        self.definition = definition
        self.jobs = jobs
        self.context = context
        self.done = done
        self.transient = transient
        self.request = request
        self.owner = row.owner
        self.user: Any = row.user_id
        self._ticket = [True]

    def take_ticket(self) -> bool:
        """Whoever gets the ticket decides what becomes of an attempt that waits for a thread: the thread begins it, or
        the loop withdraws it. `list.pop` is atomic, so exactly one of them does.
        """
        try:
            return self._ticket.pop()
        except IndexError:
            return False

    def end(self, why: EndedBy) -> None:
        """End the attempt from outside: async code is cancelled, sync code can ask. The first reason counts, but a
        cancellation outranks the others.
        """
        if self.ended_by is None or why is EndedBy.CANCEL:
            self.ended_by = why
        if self.task is not None:
            self.task.cancel()

    def log(self, record: logging.LogRecord) -> None:
        """Take a line into the job's log; from any thread."""
        if self.log_truncated:
            return
        message, exception = _texts(record)
        self.logged += len(message) + len(exception or "")
        if self.logged > LOG_LIMIT:
            self.log_truncated = True
            message, exception = f"The log ends here: this attempt wrote more than {LOG_LIMIT:,} characters.", None
        if self.unwritten is None:
            self.unwritten = deque()
        row = self.row
        self.unwritten.append(
            LogRow(
                job_id=row.id,
                created=row.created,
                attempt=row.callback_attempts if row.work_done else row.attempts,
                at=int(record.created * 1_000_000),
                level=record.levelname,
                logger=record.name,
                message=message,
                exception=exception,
            )
        )

    def log_failure(self, outcome: Failed, now: int) -> None:
        """The last line of a failed attempt's log: its error, whatever the limit."""
        row = self.row
        if self.unwritten is None:
            self.unwritten = deque()
        self.unwritten.append(
            LogRow(
                job_id=row.id,
                created=row.created,
                attempt=row.callback_attempts if row.work_done else row.attempts,
                at=now,
                level="ERROR",
                logger=row.command,
                message=f"{outcome.error.code}: {outcome.error.message}",
                exception=outcome.error.stack_trace,
            )
        )

    def report(self, progress: float | None, status: str | None) -> None:
        """Keep the newest progress and status; written within a second."""
        if progress is not None:
            self.row.progress = float(progress)
        if status is not None:
            self.row.status = status
        self._progress = True

    def take_logs(self) -> list[LogRow]:
        """The lines nobody has written yet."""
        taken: list[LogRow] = []
        while self.unwritten:
            taken.append(self.unwritten.popleft())
        return taken

    def take_progress(self, now: int) -> ProgressRow | None:
        """What was reported since the last time."""
        row = self.row
        if not self._progress or self.owner is None:
            return None
        self._progress = False
        return ProgressRow(
            job_id=row.id,
            owner=self.owner,
            progress=row.progress,
            status=row.status,
            at=now,
            overrunning=row.overrunning,
        )

    def mark_overrunning(self, now: int) -> None:
        """Its code goes on though its attempt was ended."""
        if self.row.overrunning is None:
            self.row.overrunning = now
            self._progress = True


def _texts(record: logging.LogRecord) -> tuple[str, str | None]:
    try:
        message = record.getMessage()
    except Exception as error:
        message = f"{record.msg!r} (this log line could not be formatted: {error!r})"
    exception = _FORMATTER.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else None
    return message.replace("\0", "\\0"), exception
