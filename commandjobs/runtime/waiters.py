"""Those who wait for the end of a job: woken by the settling write in this process, by polling for other processes'
jobs.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Generator
from contextlib import contextmanager

from commandjobs.errors import StorageError, StorageUnavailable
from commandjobs.model.row import JobRow

POLL, LONGEST_POLL = 0.02, 0.1
"""Seconds between looks for jobs that another process may run; more when nothing ends."""

Watch = asyncio.Future[JobRow | None]


class Waiters:
    """One future per waiting call, by job id."""

    def __init__(self, *, finished: Callable[[Collection[int]], Awaitable[set[int]]]) -> None:
        """finished: which of these jobs have ended, from the storage."""
        self._finished = finished
        self._watches: dict[int, list[Watch]] = {}
        self._polled: Counter[int] = Counter()
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    @contextmanager
    def watch(self, id: int) -> Generator[Watch]:
        """From here on, the end of the job in this process sets the future, to the final row if that is at hand."""
        if self._closed:
            raise _left()
        future: Watch = asyncio.get_running_loop().create_future()
        self._watches.setdefault(id, []).append(future)
        try:
            yield future
        finally:
            watches = self._watches[id]
            watches.remove(future)
            if not watches:
                del self._watches[id]

    async def wait(self, id: int, watch: Watch, *, elsewhere: bool) -> JobRow | None:
        """Wait for the end. elsewhere: another process may run the job, so look into the storage too."""
        if not elsewhere:
            return await watch
        self._polled[id] += 1
        if self._poller is None:
            self._poller = asyncio.get_running_loop().create_task(self._poll())
        try:
            return await watch
        finally:
            self._polled[id] -= 1
            if not self._polled[id]:
                del self._polled[id]

    async def _poll(self) -> None:
        """Look for the ends of all polled jobs at once: a thousand who wait cost one query a round.

        Who waits has just looked, so a job that ends soon, and in this process, costs none.
        """
        pause, waited = POLL, 0
        try:
            while self._polled:
                await asyncio.sleep(pause)
                ended = await self._finished(list(self._polled)) if self._polled else set[int]()
                for id in ended:
                    self._set(id, None)
                pause = POLL if ended or len(self._polled) > waited else min(LONGEST_POLL, pause * 1.25)
                waited = len(self._polled)
        except StorageError as error:
            for id in list(self._polled):
                self._set(id, error)
        finally:
            self._poller = None

    def rouse(self) -> None:
        """Jobs will end without this process hearing of it: all who wait look again, into the storage."""
        for futures in self._watches.values():
            for future in futures:
                if not future.done():
                    future.set_result(None)

    def close(self) -> None:
        """The engine is left: whoever still waits gets `StorageUnavailable`."""
        self._closed = True
        if self._poller is not None:
            self._poller.cancel()
        for futures in self._watches.values():
            for future in futures:
                if not future.done():
                    future.set_exception(_left())

    def notify(self, row: JobRow) -> None:
        """The job has ended here."""
        if row.id in self._watches:
            self._set(row.id, row)

    def _set(self, id: int, end: JobRow | StorageError | None) -> None:
        for future in self._watches.get(id, ()):
            if future.done():
                continue
            if isinstance(end, StorageError):
                future.set_exception(end)
            else:
                future.set_result(end)


def _left() -> StorageUnavailable:
    return StorageUnavailable(
        "The engine was left while this call waited for a job, which goes on at its next start or in another process."
    )
