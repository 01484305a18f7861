"""Time as the engine sees it. It comes in from outside, so that a test can move it."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Make sure it does not happen."""
        ...


class Clock(Protocol):
    """What the engine asks of a clock."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call back on the loop's thread after `delay` seconds."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds that never step."""
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call back through the running loop."""
        return asyncio.get_running_loop().call_later(max(0.0, delay), callback)


class StorageClock(SystemClock):
    """The machine's own time until it is set to that of a storage, which many machines share; from then on nobody who
    steps the machine's clock steps this one.
    """

    def __init__(self) -> None:
        """Not set yet."""
        self._moment: int | None = None
        self._set_at = 0

    def set(self, moment: int) -> None:
        """It is this moment now."""
        self._moment, self._set_at = moment, time.monotonic_ns()

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        if self._moment is None:
            return time.time_ns() // 1000
        return self._moment + (time.monotonic_ns() - self._set_at) // 1000


async def sleep_until_set(event: asyncio.Event, delay: float | None, clock: Clock) -> None:
    """Sleep until the event is set or `delay` seconds have passed (None: no limit); the event is clear afterwards."""
    timer = None if delay is None else clock.call_later(delay, event.set)
    try:
        await event.wait()
    finally:
        if timer is not None:
            timer.cancel()
        event.clear()
