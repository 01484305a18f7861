"""Which job runs next here: jobs this node owns wait in memory, per queue, and are drawn when there is room.

A job enqueued in this process comes straight from its insert (`offer`), others from the `Fetcher`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any

from commandjobs.clock import Clock
from commandjobs.errors import CommandJobsError
from commandjobs.model.outcome import Cancelled, Outcome
from commandjobs.model.row import JobRow
from commandjobs.model.settle import EXPIRED, Settlement, begin, can_expire, has_expired, must_run_apart
from commandjobs.model.state import JobState
from commandjobs.runtime.commands import Commands
from commandjobs.runtime.deadlines import Deadlines
from commandjobs.runtime.execution import EndedBy, Execution
from commandjobs.runtime.executor import Executor, ended_outcome, needs_durable_start, needs_loop, outcome_of
from commandjobs.runtime.fetcher import Fetcher
from commandjobs.runtime.memory_queue import Line, MemoryQueue, MemoryQueues, queue_of
from commandjobs.runtime.start_marks import StartMarks
from commandjobs.runtime.worker import LocalLanes, TaskPool, ThreadPool, lanes_of
from commandjobs.storage.base import JobStore

if TYPE_CHECKING:
    from commandjobs.definition import CommandDefinition
    from commandjobs.jobs import BackgroundJobs
    from commandjobs.runtime.completer import Completer
    from commandjobs.runtime.statistics import Statistics

log = logging.getLogger("commandjobs")

UNSETTLED_LIMIT = 5_000
"""Outcomes that may wait to be written before no more jobs are started."""


class Dispatcher:
    """Owns what this node may run."""

    def __init__(
        self,
        *,
        jobs: BackgroundJobs,
        commands: Commands,
        storage: JobStore,
        executor: Executor,
        statistics: Statistics,
        clock: Clock,
        node_name: str,
        concurrency: int,
        queues: Mapping[str, int] | None,
        threads: int,
        shared: bool,
        context: Context,
    ) -> None:
        """concurrency: jobs at once per queue; queues: the only queues to serve, with their own concurrency.
        shared: other nodes work on the same queues.
        """
        self._jobs = jobs
        self._commands = commands
        self._executor = executor
        self._statistics = statistics
        self._clock = clock
        self._node_name = node_name
        self._context = context
        self._queues = MemoryQueues(concurrency=concurrency, served=queues, shared=shared)
        self.fetcher = Fetcher(
            storage=storage,
            commands=commands,
            queues=self._queues,
            clock=clock,
            offer=self.offer,
            expire=self._expire_unstarted,
        )
        self._waiting: dict[int, JobRow] = {}
        self._granted: dict[int, tuple[str, ...]] = {}
        self.running: dict[int, Execution] = {}
        self.lanes = LocalLanes()
        self.deadlines = Deadlines(clock=clock, expire=self._expire)
        self._tasks = TaskPool(draw=self._draw, perform=executor.perform, waits=self._watch, context=context)
        self._threads = ThreadPool(
            threads=threads,
            perform=executor.perform_sync,
            begin=self._begin_in_thread,
        )
        self._threads.started = self._thread_started
        self._submitted = 0
        self._crashed_before: dict[int, int] = {}
        """Job that runs here and was started in crashes → how many; until its outcome is on disk."""
        self._kept_apart: deque[JobRow] = deque()
        self._cancelled_early: dict[int, tuple[int, str | None]] = {}
        self.marks = StartMarks(storage, in_background=self._in_background)
        self._some_expire = False
        self._preparing: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()
        """Set when an attempt has ended."""
        self.completer: Completer

    # ── what is taken in ────────────────────────────────────────────────────────────────────────────────────────────

    def offer(self, rows: Iterable[JobRow]) -> None:
        """Take rows this node owns; they run as soon as there is room."""
        lines: dict[Line, list[JobRow]] = {}
        cancelled = self._cancelled_early
        for row in rows:
            if cancelled and row.id in cancelled:
                row.cancel_requested, row.cancelled_by = self._cancelled_early.pop(row.id)
                self._finish_unstarted(row, Cancelled())
                continue
            self._waiting[row.id] = row
            if row.expires is not None and can_expire(row):
                self._some_expire = True
                self.fetcher.due_at(row.expires)
            line = self._line(row)
            if line is not None:
                arrived = lines.get(line)
                if arrived is None:
                    lines[line] = [row]
                else:
                    arrived.append(row)
        for line, arrived in lines.items():
            line.add(arrived)
        self.poke()

    @property
    def active(self) -> bool:
        """Whether this process executes."""
        return self.fetcher.active

    def poke(self) -> None:
        """There may be something to start."""
        if self.active:
            self._feed_threads()
            self._tasks.poke()

    # ── steering ────────────────────────────────────────────────────────────────────────────────────────────────────

    def is_waiting(self, id: int) -> bool:
        """Whether the job is owned here and has not started."""
        return id in self._waiting

    def owned(self, id: int) -> JobRow | None:
        """The row of a job that waits or runs here; None: it does neither."""
        execution = self.running.get(id)
        return execution.row if execution is not None else self._waiting.get(id)

    def withdraw(self, id: int) -> JobRow | None:
        """Take a job out of the memory queue before it starts; None: it does not wait here."""
        row = self._waiting.pop(id, None)
        self._free_granted(id)
        return row if row is not None else self._withdraw_from_threads(id)

    def _withdraw_from_threads(self, id: int) -> JobRow | None:
        execution = self.running.get(id)
        if execution is None or execution.definition.kind == "async" or execution.begun is not None:
            return None
        if not execution.take_ticket():
            return None
        self._free(execution)
        self._let_others_in(id)
        return execution.row

    def cancel(self, id: int, *, by: str | None, now: int) -> bool:
        """Cancel a job that waits or runs here; False: it does neither."""
        row = self.withdraw(id)
        if row is not None:
            row.cancel_requested, row.cancelled_by = now, by
            self._finish_unstarted(row, Cancelled())
            return True
        execution = self.running.get(id)
        if execution is None:
            return False
        execution.row.cancel_requested, execution.row.cancelled_by = now, by
        self._end(execution, EndedBy.CANCEL)
        return True

    def cancel_on_arrival(self, id: int, *, by: str | None, now: int) -> bool:
        """Cancel a job that this node owns, says the storage; False: it is not here yet, and will be when it comes."""
        if self.cancel(id, by=by, now=now):
            return True
        self._cancelled_early[id] = (now, by)
        return False

    def _end(self, execution: Execution, why: EndedBy) -> None:
        execution.end(why)
        if execution.transient:
            return
        if execution.definition.kind == "sync" and execution.take_ticket():
            self._end_before_its_thread(execution, why)
        elif why is not EndedBy.SHUTDOWN:
            execution.mark_overrunning(self._clock.now())
            if execution.definition.kind == "sync" and not execution.lanes:
                self._threads.replace(execution)

    def _end_before_its_thread(self, execution: Execution, why: EndedBy) -> None:
        """A sync attempt whose code has not begun; if it was prepared it counts, since its start is marked."""
        if execution.begun is None:
            self._free(execution)
            self._let_others_in(execution.row.id)
            self._end_unbegun(execution, why)
        else:
            self._done(execution, ended_outcome(why, execution))

    def _end_unbegun(self, execution: Execution, why: EndedBy) -> None:
        """A sync attempt that still waited for its thread."""
        if why is EndedBy.CANCEL:
            self._finish_unstarted(execution.row, Cancelled())
        else:
            self._waiting[execution.row.id] = execution.row

    def forget(self, id: int) -> None:
        """The job has ended: nobody needs to cancel it when it comes."""
        self._cancelled_early.pop(id, None)

    def _expire_unstarted(self, now: int) -> None:
        """End those owned here that were not started by their `expires`; the storage watches over the others."""
        if not self._some_expire:
            return
        for_threads = [one.row for one in self.running.values() if one.begun is None]
        rows = [row for row in (*self._waiting.values(), *for_threads) if can_expire(row)]
        self._some_expire = bool(rows)
        for row in rows:
            if not has_expired(row, now=now):
                self.fetcher.due_at(row.expires)
            elif self.withdraw(row.id) is not None:
                self._finish_unstarted(row, Cancelled(EXPIRED))

    # ── drawing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _draw(self) -> Execution | None:
        """The next async attempt that may run now, begun."""
        if not self.fetcher.active or self.completer.unsettled > UNSETTLED_LIMIT:
            return None
        in_turn = self._queues.in_turn
        for _ in range(len(in_turn)):
            state = in_turn[0]
            execution = self._next(state, state.lines["async"])
            if len(in_turn) > 1:
                in_turn.rotate(-1)
            if execution is not None:
                self._begin(execution)
                return execution
        return None

    def _feed_threads(self) -> None:
        """Give sync attempts to the threads: as many as there are, and some ahead, so that none waits for the loop."""
        for state in self._queues.in_turn:
            while state.lines["sync"].rows and self._threads_have_room():
                execution = self._next(state, state.lines["sync"], limited=state.limits_sync)
                if execution is None:
                    break
                self._submitted += 1
                if needs_loop(execution):
                    self._prepare_then_submit(execution)
                else:
                    self._threads.submit(execution)

    def _threads_have_room(self) -> bool:
        return self._submitted < self._threads.threads * 5 and self.completer.unsettled <= UNSETTLED_LIMIT

    def _next(self, state: MemoryQueue, line: Line, *, limited: bool = True) -> Execution | None:
        """Draw from one line: counted as running, its lanes taken."""
        rows, waiting = line.rows, self._waiting
        while rows and (state.running < state.limit or not limited):
            row = rows.pop()
            if waiting.get(row.id) is not row:
                continue  # withdrawn; if it has come back since, changed perhaps, that row has a place of its own
            del waiting[row.id]
            if row.cancel_requested is not None:
                self._finish_unstarted(row, Cancelled())
                self._free_granted(row.id)
                continue
            if row.expires is not None and has_expired(row, now=self._clock.now()):
                self._finish_unstarted(row, Cancelled(EXPIRED))
                self._free_granted(row.id)
                continue
            execution = self._take(row, state)
            if execution is not None:
                break
        else:
            execution = None
        if state.backlog is not None:
            self.fetcher.drawn(state)
        return execution

    def _take(self, row: JobRow, state: MemoryQueue) -> Execution | None:
        """Make an attempt of a row if it need not wait for its lanes, or for another job that may kill the process."""
        lanes = () if row.lane is None and row.lane_key is None else lanes_of(row.lane, row.lane_key)
        if row.id in self.running:  # its lease was lost meanwhile: what runs here still is no longer of any account
            self._waiting[row.id] = row
            self._kept_apart.append(row)
            return None
        if row.crashes and any(must_run_apart(row.crashes, others) for others in self._crashed_before.values()):
            self._waiting[row.id] = row
            self._kept_apart.append(row)
            return None
        if lanes and not self._has_lanes(row, lanes):
            self._waiting[row.id] = row
            return None
        definition = self._definition(row)
        execution = Execution(row, definition, jobs=self._jobs, context=self._context.copy(), done=self._done)
        if lanes:
            execution.lanes = lanes
        if definition.kind == "async" or state.limits_sync:
            state.running += 1
            execution.counted_in = state
        self.running[row.id] = execution
        if row.crashes:
            self._crashed_before[row.id] = row.crashes
        return execution

    def _has_lanes(self, row: JobRow, lanes: tuple[str, ...]) -> bool:
        given = self._granted.pop(row.id, None) is not None
        return given or self.lanes.take(lanes, lambda: self._grant(row, lanes))

    def _grant(self, row: JobRow, lanes: tuple[str, ...]) -> bool:
        """The lanes that a row waits for are its own from now on; False: it does not wait any more."""
        if self._waiting.get(row.id) is not row:
            return False
        self._granted[row.id] = lanes
        self._again(row)
        return True

    def _free_granted(self, id: int) -> None:
        """A row that had got its lanes will not start."""
        lanes = self._granted.pop(id, None)
        if lanes is not None:
            self.lanes.release(lanes)

    def _again(self, row: JobRow) -> None:
        """A row that had to wait may try again."""
        if self._waiting.get(row.id) is row:
            if (line := self._line(row)) is not None:
                line.add([row])
            asyncio.get_running_loop().call_soon(self.poke)

    def _begin(self, execution: Execution) -> None:
        """The attempt starts now."""
        row = execution.row
        durable = needs_durable_start(row)
        begin(row, now=self._clock.now(), node=self._node_name)
        execution.begun = self._clock.monotonic()
        if durable:
            execution.durable_start = True
        if row.lane is not None:
            self._statistics.started(row.lane, row)

    def _watch(self, execution: Execution) -> None:
        """The attempt goes on beside the loop: note that it has begun, and when it has to end. (One that ends in its
        first step needs neither: it would be over before either is looked at.)
        """
        timeout = execution.row.timeout
        if timeout is not None and execution.begun is not None:
            self.deadlines.watch(execution, execution.begun, timeout)
        if not execution.durable_start:
            self.marks.note(execution)

    # ── threads ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _prepare_then_submit(self, execution: Execution) -> None:
        self._begin(execution)
        self._watch(execution)
        # In a context of its own: the thread may enter the attempt's before this task's last step has left it.
        work, context = self._prepare_sync(execution), execution.context.copy()
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._preparing.add(task)
        task.add_done_callback(self._preparing.discard)

    async def _prepare_sync(self, execution: Execution) -> None:
        execution.task = asyncio.current_task()
        try:
            await self._executor.prepare_sync(execution)
        except BaseException as error:
            if execution.take_ticket():
                self._done(execution, outcome_of(execution, error))
            return
        finally:
            execution.task = None
        if execution.outcome is None:
            self._threads.submit(execution)
        else:
            await self._executor.close_sync(execution)

    def _begin_in_thread(self, execution: Execution) -> bool:
        """Called in the thread: begin, unless the attempt was ended while it waited for the thread."""
        if execution.begun is None and has_expired(execution.row, now=self._clock.now()):
            return False  # the loop takes the ticket of an expired one, and ends it
        if not execution.take_ticket():
            return False
        if execution.begun is None:
            begin(execution.row, now=self._clock.now(), node=self._node_name)
            execution.begun = self._clock.monotonic()
            execution.began_in_thread = True
        return True

    def _thread_started(self, execution: Execution) -> None:
        """Back on the loop: what `_begin` does beside the row."""
        row = execution.row
        if execution.outcome is not None or not execution.began_in_thread:
            return
        if row.lane is not None:
            self._statistics.started(row.lane, row)
        self._watch(execution)

    # ── ends ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _done(self, execution: Execution, outcome: Outcome) -> None:
        """An attempt's code has ended: free its place, settle it."""
        if execution.ended_by is not None and not isinstance(outcome, Cancelled):
            outcome = ended_outcome(execution.ended_by, execution)
        execution.outcome = outcome
        if execution.container is None:
            self._finish(execution, outcome)
        else:
            self._in_background(self._close_then_finish(execution, outcome))

    async def _close_then_finish(self, execution: Execution, outcome: Outcome) -> None:
        """What a sync attempt was given is closed on the loop, before the job counts as ended."""
        await self._executor.close_sync(execution)
        self._finish(execution, outcome)

    def _finish(self, execution: Execution, outcome: Outcome) -> None:
        self._free(execution)
        self.completer.finish(execution, outcome)
        self.poke()

    def _free(self, execution: Execution) -> None:
        """Its place is free: in its queue, its threads, its lanes."""
        self.ended.set()
        self.running.pop(execution.row.id, None)
        if self._kept_apart:
            self._let_kept_try_again()
        if execution.counted_in is not None:
            execution.counted_in.running -= 1
        if execution.definition.kind == "sync":
            self._submitted -= 1
        if execution.lanes:
            self.lanes.release(execution.lanes)

    def settled(self, settlements: Iterable[Settlement]) -> None:
        """These outcomes are on disk. Jobs are kept apart until then: the next may kill the process, and the end of
        this one must not be lost with it.
        """
        if self._crashed_before:
            for settlement in settlements:
                self._let_others_in(settlement.row.id)

    def _let_others_in(self, id: int) -> None:
        if self._crashed_before.pop(id, None) is not None:
            self._let_kept_try_again()

    def _let_kept_try_again(self) -> None:
        kept, self._kept_apart = self._kept_apart, deque()
        for row in kept:
            self._again(row)

    def _expire(self, execution: Execution) -> None:
        """Its timeout is over."""
        self._end(execution, EndedBy.TIMEOUT)

    def _finish_unstarted(self, row: JobRow, outcome: Outcome) -> None:
        execution = Execution(row, self._definition(row), jobs=self._jobs, context=self._context, done=self._done)
        execution.outcome = outcome
        self.completer.finish(execution, outcome)

    # ── stopping ────────────────────────────────────────────────────────────────────────────────────────────────────

    def drain(self) -> list[JobRow]:
        """Start nothing any more; returns the rows that were owned and never started."""
        self.fetcher.active = False
        for execution in list(self.running.values()):
            if execution.begun is None:
                self._end(execution, EndedBy.SHUTDOWN)
        rows = list(self._waiting.values())
        self._waiting.clear()
        for id in list(self._granted):
            self._free_granted(id)
        for state in self._queues:
            state.clear()
        return rows

    def end_all(self) -> None:
        """End what runs, for a hand-back."""
        for execution in list(self.running.values()):
            self._end(execution, EndedBy.SHUTDOWN)

    def overrunning(self) -> list[Execution]:
        """Attempts that were ended and whose code goes on."""
        return [one for one in self.running.values() if one.ended_by is not None]

    def close(self) -> None:
        """Let tasks and threads go."""
        self._tasks.close()
        self._threads.close()
        self.deadlines.close()

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs or waits here, and nothing more could be claimed now."""
        return not self.running and not self._waiting and self.fetcher.is_idle

    # ── small parts ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def waiting(self) -> int:
        """Jobs owned here that do not run yet."""
        return len(self._waiting)

    def _line(self, row: JobRow) -> Line | None:
        """Where the row waits; None: it cannot run here."""
        state = self._queues.of(queue_of(row))
        try:
            return None if state is None else state.lines[self._definition(row).kind]
        except CommandJobsError:
            log.exception("Job %d (%s) is left alone until this process ends.", row.id, row.command)
            return None

    def _definition(self, row: JobRow) -> CommandDefinition:
        name = row.callback if row.state is JobState.EXECUTED and row.callback else row.command
        return self._commands.definition(name)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=self._context)
        self._preparing.add(task)
        task.add_done_callback(self._preparing.discard)
