"""From outcomes to settled jobs: decide (`model.settle`), write in bulk, then tell those who wait.

Outcomes of one turn of the loop are written together; while two writes are under way the next batch gathers. An outcome
that cannot be written now is kept and tried again until it is: the work was done, so it is never thrown away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from random import Random
from typing import TYPE_CHECKING, TypeVar

from commandjobs.clock import Clock
from commandjobs.errors import StorageError
from commandjobs.model.outcome import Cancelled, Failed, HandedBack, Outcome, Snoozed, Succeeded
from commandjobs.model.retry import RetryPolicy, delay_before
from commandjobs.model.row import JobRow, LogRow
from commandjobs.model.settle import Settlement, cancel_unstarted, settle
from commandjobs.model.state import Hold, JobState
from commandjobs.runtime.execution import Execution
from commandjobs.storage.base import Settled

if TYPE_CHECKING:
    from commandjobs.model.stats import Tallies
    from commandjobs.runtime.commands import Commands
    from commandjobs.runtime.dispatcher import Dispatcher
    from commandjobs.runtime.hooks import Hooks
    from commandjobs.runtime.statistics import Statistics
    from commandjobs.runtime.waiters import Waiters
    from commandjobs.storage.base import Storage

log = logging.getLogger("commandjobs")
T = TypeVar("T")

WRITES_AT_ONCE = 2
"""One settles in the queue while the next goes to the archive."""


class Completer:
    """Settles what attempts have led to."""

    def __init__(
        self,
        *,
        commands: Commands,
        storage: Storage,
        dispatcher: Dispatcher,
        statistics: Statistics,
        waiters: Waiters,
        hooks: Hooks,
        clock: Clock,
        random: Random,
        context: Context,
    ) -> None:
        """random: for the jitter of retries."""
        self._commands = commands
        self._storage = storage
        self._dispatcher = dispatcher
        self._statistics = statistics
        self._waiters = waiters
        self._hooks = hooks
        self._clock = clock
        self._random = random
        self._context = context
        self._batch: list[Settlement] = []
        self._logs: list[LogRow] = []
        self._writes: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self.unsettled = 0
        self._writing: set[int] = set()
        self.trouble: str | None = None
        """Why outcomes cannot be written now; None: all is well."""

    def finish(self, execution: Execution, outcome: Outcome) -> None:
        """Decide what the outcome makes of the job, and have it written."""
        row, now = execution.row, self._clock.now()
        phase_command, lane = execution.definition.name, row.lane
        if execution.unwritten is not None or isinstance(outcome, Failed):
            self._close_log(execution, outcome)
        settlement = self._settlement(execution, outcome, now)
        self._count(execution, outcome, phase_command, lane, now)
        self._batch.append(settlement)
        self.unsettled += 1
        self._writing.add(row.id)
        self._schedule()

    def _settlement(self, execution: Execution, outcome: Outcome, now: int) -> Settlement:
        row = execution.row
        if execution.begun is None and isinstance(outcome, Cancelled):
            return cancel_unstarted(row, outcome.error, now=now)
        if row.callback is None or row.work_done:
            return settle(row, outcome, now=now, backoff=lambda retry: self._backoff(execution, retry))
        lane, queue = self._callback_of(row)
        return settle(
            row,
            outcome,
            now=now,
            backoff=lambda retry: self._backoff(execution, retry),
            callback_lane=lane,
            callback_queue=queue,
        )

    def is_writing(self, id: int) -> bool:
        """Whether a job has ended here, and the storage has not said yet that it knows."""
        return id in self._writing

    def ended_elsewhere(self, row: JobRow) -> None:
        """A job has ended without an attempt here: expired, or cancelled by the storage."""
        self._tell(row)

    async def flush(self) -> None:
        """Wait until everything is written."""
        while self._batch or self._writes:
            self._schedule()
            if self._writes:
                await asyncio.wait(self._writes, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(0)

    def rouse_waiters(self) -> None:
        """This process does not execute any more: those who wait here must look elsewhere."""
        self._waiters.rouse()

    def close(self) -> None:
        """The engine is left: nobody waits here any more."""
        self._waiters.close()

    async def write_logs(self, lines: list[LogRow]) -> None:
        """Write what running jobs have logged so far."""
        await self._until_written(lambda: self._storage.append_logs(lines))

    async def write_counts(self) -> None:
        """Write counts that no settling write will take along: those of runs that are stored nowhere."""
        if self._storage.executes and not self.unsettled:
            tallies = self._statistics.take()
            if tallies is not None:
                await self._until_written(
                    lambda: self._storage.settle([], now=self._clock.now(), claim=None, tallies=tallies)
                )

    def _schedule(self) -> None:
        if not self._scheduled and len(self._writes) < WRITES_AT_ONCE:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._write_batch)

    def _write_batch(self) -> None:
        self._scheduled = False
        batch, self._batch = self._batch, []
        logs, self._logs = self._logs, []
        if not batch:
            return
        task = asyncio.get_running_loop().create_task(self._write(batch, logs), context=self._context)
        self._writes.add(task)
        task.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writes.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("Settling failed in a way that was not foreseen.", exc_info=task.exception())
        if self._batch:
            self._schedule()
        self._dispatcher.poke()

    async def _write(self, batch: list[Settlement], logs: list[LogRow]) -> None:
        if logs:
            await self._until_written(lambda: self._storage.append_logs(logs))
        tallies = self._statistics.take()
        settled = await self._settle(batch, tallies)
        self.unsettled -= len(batch)
        self._writing.difference_update([settlement.row.id for settlement in batch])
        self._dispatcher.settled(batch)
        for settlement, written in zip(batch, settled.written, strict=True):
            if not written:
                log.warning(
                    "Job %d was taken from this node while it ran; what it did here does not count.", settlement.row.id
                )
            elif settlement.final:
                self._tell(settlement.row)
            elif settlement.row.hold is None:
                self._dispatcher.fetcher.look()
            elif settlement.row.hold is Hold.TIME:
                # Not before it is written: a short delay can be over by then, and who looks earlier finds nothing.
                self._dispatcher.fetcher.due_at(settlement.row.run_after)
        self._dispatcher.offer(settled.claimed)
        if settled.ready:
            self._dispatcher.fetcher.look()

    async def _settle(self, batch: list[Settlement], tallies: Tallies | None) -> Settled:
        """Write a batch; if something in it cannot be written at all, each alone: one job is no other's loss."""
        try:
            return await self._until_written(
                lambda: self._storage.settle(
                    batch, now=self._clock.now(), claim=self._dispatcher.fetcher.claim, tallies=tallies
                )
            )
        except Exception:
            if len(batch) == 1:
                log.exception("The outcome of job %d cannot be written; it stays Started.", batch[0].row.id)
                return Settled([False])
        parts = [await self._settle([one], None) for one in batch]
        return Settled(
            written=[written for part in parts for written in part.written],
            claimed=[row for part in parts for row in part.claimed],
            ready=any(part.ready for part in parts),
        )

    async def _until_written(self, write: Callable[[], Awaitable[T]]) -> T:
        """Try a write until it succeeds: an outcome is never thrown away."""
        delay = 0.05
        while True:
            try:
                done = await write()
            except StorageError as error:
                if self.trouble is None:
                    log.error("Outcomes cannot be written now and are kept in memory: %s", error)  # noqa: TRY400
                self.trouble = str(error)
                await asyncio.sleep(delay * (1 + self._random.random()))
                delay = min(2.0, delay * 2)
            else:
                self.trouble = None
                return done

    def _tell(self, row: JobRow) -> None:
        self._dispatcher.forget(row.id)
        self._waiters.notify(row)
        self._hooks.finished(row)

    def _callback_of(self, row: JobRow) -> tuple[str | None, str | None]:
        """Named worker and queue of the callback's command; none if this process does not know it."""
        definition = self._commands.find(row.callback or "")
        return (None, None) if definition is None else (definition.worker, definition.queue)

    def _backoff(self, execution: Execution, retry: int) -> float:
        policy = execution.definition.retry or RetryPolicy()
        return delay_before(policy, retry, self._random.random)

    def _close_log(self, execution: Execution, outcome: Outcome) -> None:
        """The log of an attempt ends with its error."""
        if isinstance(outcome, Failed) and execution.begun is not None:
            execution.log_failure(outcome, self._clock.now())
        self._logs.extend(execution.take_logs())

    def _count(self, execution: Execution, outcome: Outcome, command: str, lane: str | None, now: int) -> None:
        if execution.begun is None:
            return
        if isinstance(outcome, (HandedBack, Snoozed)):
            self._statistics.given_back(lane)
            return
        row = execution.row
        if isinstance(outcome, Succeeded) and row.state is not JobState.FAILED:
            name = "Completed"
        elif row.state in (JobState.FAILED, JobState.CANCELLED):
            name = row.state.value
        else:
            name = "Retried"
        took = (self._clock.monotonic() - execution.begun) * 1000
        self._statistics.ended(row, command=command, outcome=name, duration_ms=took, now=now, lane=lane)
