"""Transactions of callers end when the callers want it, and tell nobody. A look now and then finds those that have
committed, so that nodes hear of their jobs sooner than they would look by themselves.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from heapq import heappop, heappush
from time import monotonic

_log = logging.getLogger("commandjobs.storage")

FIRST_LOOK = 0.002
"""Seconds."""
OF_AGE = 0.25
"""The next look at a transaction comes when so much of its age has passed again."""
LONGEST_PAUSE = 0.25
GIVEN_UP_AFTER = 10.0
"""Seconds: it was rolled back, or its jobs are found as those of any other process are."""


class CommitWatch:
    """Looks out for jobs that are not to be seen yet."""

    def __init__(self, *, visible: Callable[[list[int]], Awaitable[Collection[int]]], tell: Callable[[], None]) -> None:
        """visible: which of these jobs are there for all to see. tell: some have come."""
        self._visible = visible
        self._tell = tell
        self._looks: list[tuple[float, int, float]] = []
        """When to look, for which job, and since when it is looked for."""
        self._task: asyncio.Task[None] | None = None

    def expect(self, id: int) -> None:
        """A job was written in a transaction that is still open. On the loop's thread."""
        now = monotonic()
        heappush(self._looks, (now + FIRST_LOOK, id, now))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="commandjobs commits")

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        self._looks.clear()
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        try:
            while self._looks:
                await asyncio.sleep(max(FIRST_LOOK, self._looks[0][0] - monotonic()))
                await self._look()
        finally:
            self._task = None

    async def _look(self) -> None:
        now, due = monotonic(), dict[int, float]()
        while self._looks and self._looks[0][0] <= now + FIRST_LOOK:
            _, id, since = heappop(self._looks)
            due[id] = since
        try:
            there = await self._visible(sorted(due))
        except Exception as error:  # whatever it is: their jobs are found all the same, only later
            _log.info("A look for committed transactions failed: %s", error)
            there = ()
        if there:
            self._tell()
        now = monotonic()
        for id in due.keys() - set(there):
            age = now - due[id]
            if age < GIVEN_UP_AFTER:
                heappush(self._looks, (now + min(LONGEST_PAUSE, max(FIRST_LOOK, age * OF_AGE)), id, due[id]))
