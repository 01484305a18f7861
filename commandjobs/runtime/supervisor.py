"""The tasks that keep an engine going: start, take over, drain, stop.

Background parts run in tasks owned here. One that fails is logged and tried again; it never stops the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import TYPE_CHECKING

from commandjobs.clock import Clock, StorageClock, sleep_until_set
from commandjobs.errors import StorageError
from commandjobs.model.node import NodeRow
from commandjobs.model.row import JobRow
from commandjobs.model.stats import HOUR

if TYPE_CHECKING:
    from commandjobs.runtime.commands import Commands
    from commandjobs.runtime.completer import Completer
    from commandjobs.runtime.dispatcher import Dispatcher
    from commandjobs.runtime.execution import Execution
    from commandjobs.runtime.hooks import Hooks
    from commandjobs.runtime.rescuer import Rescuer
    from commandjobs.runtime.retention import Retention
    from commandjobs.runtime.statistics import Statistics
    from commandjobs.runtime.steering import Steering
    from commandjobs.runtime.transient import TransientRuns
    from commandjobs.storage.base import Storage

log = logging.getLogger("commandjobs")

STANDBY_POLL = 0.05
"""Seconds between tries to become the executing process."""
FLUSH = 1.0
"""Seconds that a log line or progress may stay unwritten."""
HEARTBEAT = 10.0
RESCUE = 2.0
"""Seconds between looks for what dead nodes have left."""
FORGOTTEN = 12.0
"""Seconds between looks for jobs that this node does not know to be its own: longer than a claim takes."""
COME_BACK = 0.5
"""Seconds between attempts to be a node again."""
SWEEP = 2.0
MAINTENANCE = 3600.0
HAND_OVER_AFTER = 5.0
"""Seconds of idling among jobs this process does not know, after which one that does may execute."""
USUAL_SINCE = 30 * 24 * HOUR
"""How far back the usual durations of jobs are looked up."""
LAST_WRITE = 5.0
"""Seconds for the last outcomes to be written."""
LAST_WAIT = 0.9
"""Seconds for cancelled code to end after the grace."""


class Supervisor:
    """Starts and stops everything else."""

    def __init__(
        self,
        *,
        storage: Storage,
        commands: Commands,
        dispatcher: Dispatcher,
        completer: Completer,
        rescuer: Rescuer,
        retention: Retention,
        steering: Steering,
        transient: TransientRuns,
        statistics: Statistics,
        hooks: Hooks,
        clock: Clock,
        node: NodeRow,
        execute: bool,
        grace: float,
        context: Context,
    ) -> None:
        """execute: whether this process runs jobs. grace: seconds that running jobs have when it stops."""
        self._storage = storage
        self._commands = commands
        self._dispatcher = dispatcher
        self._completer = completer
        self._rescuer = rescuer
        self._retention = retention
        self._steering = steering
        self._transient = transient
        self._statistics = statistics
        self._hooks = hooks
        self._clock = clock
        self._node = node
        self._execute = execute
        self._grace = grace
        self._context = context
        self._tasks: list[asyncio.Task[None]] = []
        self._woken = asyncio.Event()
        self._role_may_be_free = asyncio.Event()
        self._unrescued = False
        """This process executes since another one died, and has not yet seen to all that one has left."""
        self._stopping = asyncio.Event()
        self._lost = asyncio.Event()
        """This node has lost its lease."""
        self._fetching: asyncio.Task[None] | None = None

    # ── start ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Open the storage and begin; when this returns, jobs run (or this process stands by)."""
        await self._storage.open(on_wake=self._wake, on_ended=self._ended, on_lost=self._lost.set)
        await self._set_clock()
        self._node.started = self._node.heartbeat = self._clock.now()
        await self._storage.register(self._node)
        if self._execute and await self._storage.try_execute():
            await self._rescuer.rescue()
            await self._take_over()
        elif self._execute:
            self._node.standby = True
        many = self._storage.capabilities.many_nodes
        if many:
            self._spawn(self._come_back, "lease")
        if self._execute and many:
            self._spawn(self._rescue_now_and_then, "rescue")
            self._spawn(self._give_away_forgotten, "forgotten")
        elif self._execute:
            self._spawn(self._standby, "standby")
        if self._execute:
            self._spawn(self._maintain, "maintenance")
            self._spawn(self._sweep, "sweep")
        self._spawn(self._flush_now_and_then, "flush")
        self._spawn(self._beat, "heartbeat")
        self._spawn(self._serve_intents, "intents")

    async def _take_over(self) -> None:
        """This process executes from now on."""
        self._node.executing, self._node.standby = True, False
        self._dispatcher.fetcher.active = True
        self._spawn(self._dispatcher.fetcher.run, "fetcher")
        self._fetching = self._tasks[-1]
        self._dispatcher.fetcher.look()
        self._woken.set()  # whoever executed before may have left questions unanswered
        await self._storage.heartbeat(self._node)
        self._statistics.load(await self._storage.tallies(since=self._clock.now() - USUAL_SINCE))

    async def _standby(self) -> None:
        """Take over as soon as nobody executes; hand over if another process could do more."""
        while not self._stopping.is_set():
            if self._dispatcher.active and not self._unrescued:
                await self._clock_sleep(HAND_OVER_AFTER)
                await self._hand_over_if_useless()
                continue
            if not self._unrescued:
                await sleep_until_set(self._role_may_be_free, STANDBY_POLL, self._clock)
            async with self._steering.role:  # until all is rescued: what a dead process owns cannot be steered
                if not self._unrescued and not self._stopping.is_set() and await self._storage.try_execute():
                    if self._stopping.is_set():
                        await self._storage.resign()
                        return
                    log.info("Node %s executes from now on.", self._node.name)
                    self._unrescued = True
                    await self._take_over()
                if self._unrescued:
                    await self._rescue()

    async def _rescue(self) -> None:
        """See to what a dead process has left, beside the first jobs: thousands may have been claimed there."""
        await self._rescuer.rescue()
        self._unrescued = False
        self._dispatcher.fetcher.look()
        self._woken.set()  # somebody may have asked meanwhile

    async def _rescue_now_and_then(self) -> None:
        """See to what dead nodes have left, for as long as this one lives: there is no leader."""
        while not self._stopping.is_set():
            await self._clock_sleep(RESCUE)
            if self._dispatcher.active and await self._rescuer.rescue():
                self._dispatcher.fetcher.look()

    async def _give_away_forgotten(self) -> None:
        """See to jobs that this node owns and knows nothing of: a database that has lost its last commits, in a crash
        or a failover, says so of those whose ends were among them, and nobody else would ever touch them.
        """
        before = set[int]()
        while not self._stopping.is_set():
            await self._clock_sleep(FORGOTTEN)
            unknown = {id for id in await self._storage.owned() if not self._knows(id)}
            forgotten, before = unknown & before, unknown  # what was claimed a moment ago may be on its way here
            if forgotten:
                log.error(
                    "Node %s owns %d jobs that it knows nothing of (such as %d): the database has lost what it was "
                    "told. They are done again.",
                    self._node.name,
                    len(forgotten),
                    min(forgotten),
                )
                await self._storage.disown(forgotten)
                await self._rescuer.rescue()

    def _knows(self, id: int) -> bool:
        return self._dispatcher.owned(id) is not None or self._completer.is_writing(id)

    async def _come_back(self) -> None:
        """The lease is lost, so others do this node's jobs again: end them here, and go on as a new node."""
        while True:
            await self._lost.wait()
            self._lost.clear()
            executes = self._dispatcher.active
            log.error(
                "Node %s has lost its lease; the %d jobs that it runs are ended, and what they lead to does not count.",
                self._node.name,
                len(self._dispatcher.running),
            )
            self._dispatcher.drain()
            self._dispatcher.end_all()
            self._completer.rouse_waiters()
            await self._register_again()
            if executes and not self._stopping.is_set():
                self._dispatcher.fetcher.active = True
                self._wake()

    async def _register_again(self) -> None:
        while True:
            try:
                await self._set_clock()
                self._node.started = self._node.heartbeat = self._clock.now()
                await self._storage.register(self._node)
            except StorageError as error:
                log.warning("Node %s cannot be registered again now (%s); trying again.", self._node.name, error)
                await self._clock_sleep(COME_BACK)
            else:
                return

    async def _set_clock(self) -> None:
        """Go by the storage's time where many machines share it, unless the time was given from outside."""
        if isinstance(self._clock, StorageClock):
            moment = await self._storage.time()
            if moment is not None:
                self._clock.set(moment)

    async def _hand_over_if_useless(self) -> None:
        if self._is_useful():
            return
        waiting = await self._storage.pending_commands()
        if not waiting or waiting & self._commands.names():
            return
        for node in await self._storage.nodes():
            if self._is_useful():
                return
            if node.id != self._node.id and node.standby and node.stopped is None and waiting & set(node.commands):
                log.info("Node %s hands over to %s, which knows the waiting commands.", self._node.name, node.name)
                await self._resign()
                await self._clock_sleep(HAND_OVER_AFTER)
                return

    def _is_useful(self) -> bool:
        """Whether this process runs something, or is about to; one that does not execute has nothing to hand over."""
        return bool(self._dispatcher.running or self._dispatcher.waiting or not self._dispatcher.active)

    async def _resign(self) -> None:
        await self._storage.release(self._dispatcher.drain(), now=self._clock.now())
        self._completer.rouse_waiters()
        if self._fetching is not None:
            self._fetching.cancel()
        await self._completer.flush()
        await self._storage.resign()
        self._node.executing, self._node.standby = False, True
        await self._storage.heartbeat(self._node)

    async def until_idle(self) -> None:
        """Wait until nothing runs here and nothing could: no claimable job of a known command is left."""
        while True:
            await self._completer.flush()
            if not self._completer.unsettled and await self._nothing_to_do():
                return
            await sleep_until_set(self._dispatcher.ended, 0.02, self._clock)

    async def _nothing_to_do(self) -> bool:
        if self._dispatcher.active:
            return self._dispatcher.is_idle and not self._unrescued
        waiting = await self._storage.pending_commands()
        lanes = await self._storage.lanes()
        if waiting & self._commands.names() or any(lane.running for lane in lanes):
            return False
        # With nothing left to claim, what is due has been claimed by another process, which is about to start it.
        return bool(waiting) or not any(lane.due for lane in lanes)

    # ── stop ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def stop(self) -> None:
        """Stop claiming, let what runs end, hand back the rest, write everything, close."""
        self._stopping.set()
        await self._give_back(self._dispatcher.drain())
        self._completer.rouse_waiters()
        if self._dispatcher.running:
            running = len(self._dispatcher.running)
            log.info("Node %s stops; %d jobs have %g s to end.", self._node.name, running, self._grace)
        await self._until_idle(self._grace)
        if self._busy:
            self._dispatcher.end_all()
            self._transient.end_all()
            await self._until_idle(LAST_WAIT)
        await self._finish_writing()
        await self._give_back(self._dispatcher.drain())
        left = list(self._dispatcher.running.values())
        self._cancel_tasks()
        self._dispatcher.close()
        self._completer.close()
        for run in self._transient.live:
            log.error("A run of %s has not ended although it was told to.", run.command)
        if left:
            self._leave_behind(left)
            return
        await self._close()

    async def abort(self) -> None:
        """Undo a start that has failed."""
        self._stopping.set()
        self._cancel_tasks()
        self._dispatcher.close()
        await self._storage.close()

    async def _until_idle(self, seconds: float) -> None:
        deadline = self._clock.monotonic() + seconds
        while self._busy:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return
            await sleep_until_set(self._dispatcher.ended, min(left, 0.5), self._clock)

    @property
    def _busy(self) -> bool:
        return bool(self._dispatcher.running or self._transient.live)

    async def _give_back(self, rows: list[JobRow]) -> None:
        if rows and self._storage.executes:
            try:
                await self._storage.release(rows, now=self._clock.now())
            except StorageError as error:
                log.warning("%d waiting jobs were not handed back (%s); the next start does it.", len(rows), error)

    async def _finish_writing(self) -> None:
        """Write everything; a storage that takes nothing any more cannot hold up the end of the process."""
        try:
            async with asyncio.timeout(LAST_WRITE):
                await self._steering.flush()
                await self._completer.flush()
                await self._flush()
        except (TimeoutError, StorageError):
            log.exception(
                "%d outcomes could not be written; their jobs run again at the next start.", self._completer.unsettled
            )
        await self._hooks.flush()

    def _leave_behind(self, left: list[Execution]) -> None:
        """Code that has not ended keeps its job: the storage stays open, and the executor's lock held, until it
        does.
        """
        for execution in left:
            log.error(
                "Job %d (%s) was told to end and has not; it stays Started until its code or this process ends.",
                execution.row.id,
                execution.row.command,
            )
        task = asyncio.get_running_loop().create_task(self._close_when_ended(), context=self._context)
        self._tasks = [task]

    async def _close_when_ended(self) -> None:
        while self._dispatcher.running:
            await sleep_until_set(self._dispatcher.ended, None, self._clock)
        await self._completer.flush()
        await self._close()

    async def _close(self) -> None:
        self._node.stopped, self._node.executing, self._node.standby = self._clock.now(), False, False
        try:
            await self._storage.heartbeat(self._node)
            if self._storage.executes:
                await self._storage.resign()
        except StorageError as error:
            log.warning("The end of node %s was not written: %s", self._node.name, error)
        await self._storage.close()

    # ── background parts ────────────────────────────────────────────────────────────────────────────────────────────

    def _wake(self) -> None:
        """Another process has changed something, or the one that executed has ended."""
        self._dispatcher.fetcher.look_around()  # first: a job may be waiting to start
        self._woken.set()
        self._role_may_be_free.set()

    def _ended(self, rows: Sequence[JobRow]) -> None:
        for row in rows:
            self._completer.ended_elsewhere(row)

    async def _serve_intents(self) -> None:
        while True:
            await sleep_until_set(self._woken, None, self._clock)
            if not self._dispatcher.active or self._unrescued:
                continue
            for intent in await self._storage.intents():
                await self._steering.serve(intent)

    async def _flush_now_and_then(self) -> None:
        while True:
            await self._clock_sleep(FLUSH)
            await self._flush()

    async def _flush(self) -> None:
        """Write what running jobs have logged and reported."""
        executions = list(self._dispatcher.running.values())
        lines = [line for execution in executions for line in execution.take_logs()]
        if lines:
            await self._completer.write_logs(lines)
        await self._completer.write_counts()
        now = self._clock.now()
        reports = [report for report in (one.take_progress(now) for one in executions) if report is not None]
        if reports:
            await self._storage.report(reports)

    async def _beat(self) -> None:
        while True:  # the first is its registration
            await self._clock_sleep(HEARTBEAT)
            await self._set_clock()
            self._woken.set()  # a hint that a job is to be ended may have got lost
            self._node.heartbeat = self._clock.now()
            self._node.running = len(self._dispatcher.running)
            self._node.commands = tuple(sorted(self._commands.names()))
            await self._storage.heartbeat(self._node)

    async def _maintain(self) -> None:
        while True:
            if self._dispatcher.active:
                await self._retention.run()
            await self._clock_sleep(MAINTENANCE if self._dispatcher.active else SWEEP)

    async def _sweep(self) -> None:
        while True:
            if self._dispatcher.active:
                await self._sweep_all()
            await self._clock_sleep(SWEEP)

    async def _sweep_all(self) -> None:
        while True:
            swept = await self._storage.sweep(now=self._clock.now(), claim=self._dispatcher.fetcher.claim)
            self._dispatcher.offer(swept.claimed)
            if swept.ready:
                self._dispatcher.fetcher.look()
            if not swept.written:
                return

    def _spawn(self, part: Callable[[], Awaitable[None]], name: str) -> None:
        loop, work = asyncio.get_running_loop(), self._keep_going(part, name)
        self._tasks.append(loop.create_task(work, name=f"commandjobs {name}", context=self._context))

    async def _keep_going(self, part: Callable[[], Awaitable[None]], name: str) -> None:
        while True:
            try:
                await part()
            except StorageError as error:
                log.warning("commandjobs %s: %s", name, error)
            except Exception:
                log.exception("commandjobs %s failed and starts again.", name)
            else:
                return
            await self._clock_sleep(1.0)

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _clock_sleep(self, seconds: float) -> None:
        await sleep_until_set(asyncio.Event(), seconds, self._clock)
