"""Where attempts run: a pool of tasks for async commands, long-lived threads for sync ones, lanes for named workers.

The task pool has at most one runner that *draws* jobs. A runner that suspends inside a job's code hands the drawing
over to the next, so the pool grows with the jobs that really wait and never beyond, and a thousand no-op jobs run in
one task. A task per job costs 5 µs more; a task and a limiter per job 40 µs (measured).
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from time import perf_counter
from typing import Any

from commandjobs.handover import LoopCalls
from commandjobs.model.outcome import Outcome
from commandjobs.runtime.execution import Execution

log = logging.getLogger("commandjobs")

TURN = 0.001
"""Seconds of work after which a runner lets the loop turn: the app's own requests share it. By time, not by count: 64
real jobs between two turns made the loop lag by 50 ms (measured)."""


class TaskPool:
    """Runs async attempts in long-lived tasks."""

    def __init__(
        self,
        *,
        draw: Callable[[], Execution | None],
        perform: Callable[[Execution], Coroutine[Any, Any, Outcome]],
        waits: Callable[[Execution], None],
        context: Context,
    ) -> None:
        """draw: the next attempt that may run now, already counted as running; None: there is none.
        waits: called when an attempt waits for something for the first time; one that ends before never does.
        """
        self._draw = draw
        self._perform = perform
        self._waits = waits
        self._context = context
        self._idle: list[asyncio.Future[None]] = []
        self._runners: set[asyncio.Task[None]] = set()
        self._drawing = False
        self._closed = False

    def poke(self) -> None:
        """There may be something to draw: see that somebody does."""
        if self._drawing or self._closed:
            return
        self._drawing = True
        while self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._spawn()

    def close(self) -> None:
        """Draw no more; idle runners end, busy ones end with their attempt."""
        self._closed = True
        for waiter in self._idle:
            if not waiter.done():
                waiter.cancel()

    def _spawn(self) -> None:
        task = asyncio.get_running_loop().create_task(
            self._run(), name="commandjobs runner", context=self._context.copy()
        )
        self._runners.add(task)
        task.add_done_callback(self._runners.discard)

    async def _run(self) -> None:
        """Draw and run attempts, one after the other, until told to end."""
        drawing, turn_ends = True, perf_counter() + TURN
        task = asyncio.current_task()
        while not self._closed:
            execution = self._draw() if drawing else None
            if execution is None:
                if drawing:
                    self._drawing = False
                await self._park()
                drawing, turn_ends = True, perf_counter() + TURN
                continue
            execution.task = task
            outcome = _first_step(self._perform(execution), execution.context)
            if isinstance(outcome, _Rest):
                self._waits(execution)
                self._hand_over()
                outcome = await outcome
                drawing = self._take_over()
            execution.task = None
            _end(execution, outcome)
            if execution.ended_by is not None or (task is not None and task.cancelling()):
                # A cancellation may still be on its way to this task, from the engine or from the job's own code: it
                # must not meet another job.
                self._retire(drawing=drawing)
                return
            if perf_counter() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = perf_counter() + TURN

    async def _park(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(waiter)
        await waiter

    def _take_over(self) -> bool:
        """Draw again after a suspension, unless another runner does by now."""
        if self._drawing:
            return False
        self._drawing = True
        return True

    def _retire(self, *, drawing: bool) -> None:
        if drawing:
            self._drawing = False
            asyncio.get_running_loop().call_soon(self.poke)

    def _hand_over(self) -> None:
        """The drawing runner has suspended inside a job: another one draws from now on."""
        self._drawing = False
        asyncio.get_running_loop().call_soon(self.poke, context=self._context)


def _first_step(coroutine: Coroutine[Any, Any, Outcome], context: Context) -> Outcome | _Rest:
    """Run an attempt until it ends or waits for the first time."""
    try:
        return _Rest(coroutine, context, context.run(coroutine.send, None))
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


class _Rest:
    """Drives an attempt's coroutine from its first wait on: inside the attempt's own context, in the runner's task."""

    __slots__ = ("_context", "_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, Outcome], context: Context, waits_for: Any) -> None:
        self._coroutine = coroutine
        self._context = context
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Outcome]:
        run: Callable[..., Any] = self._context.run
        send, throw = self._coroutine.send, self._coroutine.throw
        waits_for, self._waits_for = self._waits_for, None  # it may hold a large result
        while True:
            try:
                value = yield waits_for
            except GeneratorExit:
                self._coroutine.close()
                raise
            except BaseException as error:
                step: Callable[..., Any] = throw
                argument: Any = error
            else:
                step, argument = send, value
            try:
                waits_for = run(step, argument)
            except StopIteration as stop:
                ended: Outcome = stop.value
                return ended


class ThreadPool:
    """Runs sync attempts in long-lived threads; their ends come back to the loop in one wake-up for many.

    `anyio.to_thread.run_sync` per job costs 90 to 130 µs, this 4 µs, less when busy (measured).
    """

    def __init__(
        self,
        *,
        threads: int,
        perform: Callable[[Execution], Outcome],
        begin: Callable[[Execution], bool],
    ) -> None:
        """For the running loop.

        threads: most threads at once, lost ones not counted. begin: called in the thread when the attempt starts;
        False: it was withdrawn.
        """
        self.threads = threads
        self._perform = perform
        self._begin = begin
        self._calls = LoopCalls()
        self._work: queue.SimpleQueue[Execution | None] = queue.SimpleQueue()
        self._alive = 0
        self._wanted = 0
        self._lock = threading.Lock()
        self.started: Callable[[Execution], None] = lambda _: None

    def submit(self, execution: Execution) -> None:
        """Run it as soon as a thread is free."""
        with self._lock:
            self._wanted += 1
        self._work.put(execution)
        self._grow()

    def replace(self, execution: Execution) -> None:
        """The thread of this attempt ignores its end: give its place to a new one."""
        with self._lock:
            if execution.thread_lost or not execution.in_thread:
                return
            execution.thread_lost = True
            self._alive -= 1
            self._wanted -= 1
        self._grow()

    def close(self) -> None:
        """Let the threads end after what they do now."""
        with self._lock:
            for _ in range(self._alive):
                self._work.put(None)
        self._calls.close()

    def _grow(self) -> None:
        # Attempts are counted from submit to end: a thread that has just taken one must not be taken for an idle one.
        with self._lock:
            grow = self._alive < min(self._wanted, self.threads)
            if grow:
                self._alive += 1
        if grow:
            threading.Thread(target=self._run, name="commandjobs thread", daemon=True).start()

    def _run(self) -> None:
        while (execution := self._work.get()) is not None:
            if self._begin(execution):
                execution.in_thread = True
                self._calls.call(self.started, execution)
                outcome = execution.context.run(self._perform, execution)
            else:
                outcome = None
            with self._lock:
                execution.in_thread = False
                if not execution.thread_lost:
                    self._wanted -= 1
            if outcome is not None:
                self._calls.call(_end, execution, outcome)
            if execution.thread_lost:
                return
        with self._lock:
            self._alive -= 1


def _end(execution: Execution, outcome: Outcome) -> None:
    """Tell of the end of an attempt. Whatever goes wrong with that, the pool goes on with the other jobs."""
    try:
        execution.done(execution, outcome)
    except Exception:
        log.exception("The end of job %d (%s) could not be handled.", execution.row.id, execution.row.command)


class LocalLanes:
    """Named workers and concurrency keys of this process: one attempt at a time each, in the order of asking.

    The storage keeps stored jobs of one lane apart; this also keeps transient runs apart from them and from each other.
    A lane that is freed is handed over to the first who waits for it: whoever comes between would overtake.
    """

    def __init__(self) -> None:
        """No lane is taken."""
        self._taken: set[str] = set()
        self._lines: dict[str, deque[_Turn]] = {}

    def take(self, lanes: tuple[str, ...], granted: Callable[[], bool]) -> bool:
        """Take all these lanes; False: one is busy, and `granted` will be called once they are the caller's.

        granted: returns False if the lanes are not wanted any more; they go to the next then.
        """
        if self._taken.isdisjoint(lanes):
            self._taken.update(lanes)
            return True
        turn = _Turn(lanes, granted)
        for lane in lanes:
            self._lines.setdefault(lane, deque()).append(turn)
        return False

    def release(self, lanes: tuple[str, ...]) -> None:
        """Free them, for the first of those that wait."""
        self._taken.difference_update(lanes)
        for lane in lanes:
            if lane in self._lines:
                self._hand_over(lane)

    def _hand_over(self, lane: str) -> None:
        line, passed = self._lines.pop(lane), list[_Turn]()
        while line and lane not in self._taken:
            turn = line.popleft()
            if turn.over:
                continue
            if not self._taken.isdisjoint(turn.lanes):
                passed.append(turn)
                continue
            turn.over = True
            self._taken.update(turn.lanes)
            if not turn.granted():
                self._taken.difference_update(turn.lanes)
        line.extendleft(reversed(passed))
        if line:
            self._lines[lane] = line


class _Turn:
    """Somebody who waits for lanes."""

    __slots__ = ("granted", "lanes", "over")

    def __init__(self, lanes: tuple[str, ...], granted: Callable[[], bool]) -> None:
        self.lanes = lanes
        self.granted = granted
        self.over = False


def lanes_of(worker: str | None, key: str | None) -> tuple[str, ...]:
    """The names of the lanes that a job needs, in the one order in which they are taken."""
    if worker is None and key is None:
        return ()
    return tuple(name for name in (worker and f"worker {worker}", key and f"key {key}") if name)
