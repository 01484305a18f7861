"""A clock that stands still until a test moves it."""

import asyncio
import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count

from commandjobs.clock import Timer
from commandjobs.model.moment import to_datetime, to_moment

ROUNDING = 1e-7
"""Seconds by which sums of floats may miss a whole microsecond."""


class FakeClock:
    """Pass it as `BackgroundJobs(clock=…)`; `await clock.advance(60)` lets a minute pass in no time.

    Timeouts, retries, dates and the engine's own rounds follow it. Code that sleeps by itself does not.
    """

    def __init__(self, at: datetime = datetime(2026, 1, 15, 12, tzinfo=UTC)) -> None:
        """at: what time it is; aware."""
        self._origin = to_moment(at)
        self._monotonic = 0.0
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._order = count()

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        return self._origin + round(self._monotonic * 1_000_000)

    @property
    def at(self) -> datetime:
        """The time as an aware datetime."""
        return to_datetime(self.now())

    def monotonic(self) -> float:
        """Seconds that never step."""
        return self._monotonic

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call back when the clock has been moved that far."""
        timer = FakeTimer(callback)
        if delay <= 0:
            asyncio.get_running_loop().call_soon(timer.fire)
            return timer
        heapq.heappush(self._timers, (self._monotonic + delay, next(self._order), timer))
        return timer

    async def advance(self, by: float | timedelta) -> None:
        """Let time pass: timers go off in their order, and what they start gets its turns on the loop."""
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        end = self._monotonic + seconds
        await self._settle()
        while self._timers and self._timers[0][0] <= end + ROUNDING:
            due, _, timer = heapq.heappop(self._timers)
            self._monotonic = max(due, self._monotonic)
            timer.fire()
            await self._settle()
        self._monotonic = max(end, self._monotonic)
        await self._settle()

    def step(self, by: timedelta) -> None:
        """Set the wall clock forward or back, as an administrator would; timers do not notice."""
        self._origin += by // timedelta(microseconds=1)

    async def _settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


class FakeTimer:
    """A call that is due when its clock says so."""

    def __init__(self, callback: Callable[[], object]) -> None:
        """Take what to call."""
        self._callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Do not call."""
        self._callback = None

    def fire(self) -> None:
        """Call, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()
