"""Timeouts of running attempts: one heap and one timer for all of them.

Nearly every job has a timeout and nearly none reaches it: a scope per job costs 4.6 µs, a heap entry 0.3 (measured).
"""

import heapq
from collections.abc import Callable
from itertools import count

from commandjobs.clock import Clock, Timer
from commandjobs.runtime.execution import Execution

FEW = 64
"""Entries among which nobody looks for those that have ended."""


class Deadlines:
    """Calls `expire` for attempts that run longer than their job's timeout."""

    def __init__(self, *, clock: Clock, expire: Callable[[Execution], None]) -> None:
        """expire: called once for each attempt still running at its deadline."""
        self._clock = clock
        self._expire = expire
        self._heap: list[tuple[float, int, Execution]] = []
        self._order = count()
        self._timer: Timer | None = None
        self._timer_at = float("inf")
        self._most = FEW

    def watch(self, execution: Execution, begun: float, seconds: float) -> None:
        """From `begun` (monotonic) this attempt has so many seconds."""
        deadline = begun + seconds
        heapq.heappush(self._heap, (deadline, next(self._order), execution))
        if deadline < self._timer_at:
            self._set_timer(deadline)
        if len(self._heap) > self._most:
            self._forget_ended()

    def close(self) -> None:
        """Expire nothing any more."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._clock.call_later(deadline - self._clock.monotonic(), self._look)

    def _look(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = self._clock.monotonic()
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].outcome is not None):
            execution = heapq.heappop(self._heap)[2]
            if execution.outcome is None:
                self._expire(execution)
        if self._heap:
            self._set_timer(self._heap[0][0])

    def _forget_ended(self) -> None:
        """Ended attempts are left in the heap, where they would keep their requests until their time: they are dropped
        whenever there may be more of them than of others.
        """
        alive = [entry for entry in self._heap if entry[2].outcome is None]
        heapq.heapify(alive)
        self._heap, self._most = alive, max(FEW, 2 * len(alive))
