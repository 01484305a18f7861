"""Looking now and then whether other nodes have left something to do: the net behind every hint, and all there is where
no hint can be sent.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random

from commandjobs.errors import StorageError

_log = logging.getLogger("commandjobs.storage")


class Poller:
    """Calls `wake` when there is something to do; ever more seldom while nothing changes."""

    def __init__(
        self,
        *,
        stirred: Callable[[], Awaitable[bool]],
        wake: Callable[[], None],
        pace: Callable[[], tuple[float, float]],
    ) -> None:
        """stirred: whether there is anything to do. pace: the shortest and the longest time between looks, now."""
        self._stirred = stirred
        self._wake = wake
        self._pace = pace
        self._random = Random()  # noqa: S311  so that nodes which started together do not look together
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="commandjobs poll")

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        pause, before = self._pace()[0], False
        while True:
            await asyncio.sleep(pause * (0.75 + self._random.random() / 2))
            try:
                stirred = await self._stirred()
            except StorageError as error:
                _log.info("A look for work failed: %s", error)
                stirred = False
            if stirred:
                self._wake()
            shortest, longest = self._pace()
            # What stays there may be what this node has no room for, and it takes that by itself when it has.
            pause = shortest if stirred and not before else min(longest, pause * 1.5)
            before = stirred
