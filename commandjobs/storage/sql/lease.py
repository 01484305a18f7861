"""A node's sign of life: from a thread of its own over a connection of its own, so that neither a blocked loop nor busy
connections make it look dead.

The database's clock alone decides who is dead. This side only watches how long ago it could last say that it lives, and
gives up before others may take its work.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from commandjobs.storage.sql.dialect import Dialect
from commandjobs.storage.sql.driver import Driver, TryAgain

_log = logging.getLogger("commandjobs.storage")

BEATS = 3
"""Signs of life within one lease."""
GIVEN_UP_AT = 5 / 6
"""Of a lease: after so much of it without a sign of life its node ends its work, before others begin it anew."""


class Lease:
    """Renews one node's lease until it is closed or lost."""

    def __init__(
        self,
        driver: Driver,
        dialect: Dialect,
        *,
        number: int,
        seconds: float,
        lost: Callable[[], None],
    ) -> None:
        """driver: of its own. seconds: how long a silent node lives. lost: called in the loop of whoever made this."""
        self._driver = driver
        self._dialect = dialect
        self._number = number
        self._seconds = seconds
        self._lost = lost
        self._owner_loop = asyncio.get_running_loop()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"commandjobs lease {number}", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Say no more that the node lives."""
        self._closed.set()
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with suppress(RuntimeError):  # its loop has ended by itself
                loop.call_soon_threadsafe(stop.set)
        await asyncio.to_thread(self._thread.join, self._seconds)

    # ── everything below runs in the thread ─────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        asyncio.run(self._keep())

    async def _keep(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            if await self._renew_until_lost():
                _log.error(
                    "Node %d has lost its lease of %g s at %s: what it runs is ended, and others do it again.",
                    self._number,
                    self._seconds,
                    self._driver.place,
                )
                with suppress(RuntimeError):  # the loop of the engine has been closed
                    self._owner_loop.call_soon_threadsafe(self._tell)
        finally:
            await self._driver.close()

    def _tell(self) -> None:
        if not self._closed.is_set():
            self._lost()

    async def _renew_until_lost(self) -> bool:
        """False: it was closed."""
        renewed = _now()
        while not self._closed.is_set():
            begun = _now()
            try:
                async with asyncio.timeout(self._seconds / BEATS), self._driver.statement() as connection:
                    if not await self._dialect.renew_lease(connection, self._number):
                        return True
                renewed = begun
            except (TryAgain, TimeoutError) as error:
                _log.warning("Node %d could not renew its lease: %s", self._number, str(error) or "no answer in time")
            if _now() - renewed > self._seconds * GIVEN_UP_AT:
                return True
            pause = self._seconds / BEATS if renewed == begun else self._seconds / BEATS / 5
            await self._sleep(min(pause, max(0.01, renewed + self._seconds * GIVEN_UP_AT - _now())))
        return False

    async def _sleep(self, seconds: float) -> None:
        assert self._stop is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()


def _now() -> float:
    """Seconds that also pass while the machine sleeps, where the system counts them."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)
