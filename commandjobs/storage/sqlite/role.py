"""The executing process: how one becomes it, what it finds then, and how it stops being it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path

from commandjobs.errors import StorageCorrupt, StorageError, StorageUnavailable
from commandjobs.storage.sqlite.archive import Archiver
from commandjobs.storage.sqlite.locks import ProcessLocks
from commandjobs.storage.sqlite.months import Months
from commandjobs.storage.sqlite.mover import Mover
from commandjobs.storage.sqlite.process_end import ProcessEnd
from commandjobs.storage.sqlite.reader import Reader
from commandjobs.storage.sqlite.recovery import BEGIN_EXECUTING, END_EXECUTING, Found, reconcile, reconcile_copy
from commandjobs.storage.sqlite.wakeup import Wakeup
from commandjobs.storage.sqlite.writer import Writer


class Role:
    """Whether this process executes."""

    def __init__(
        self,
        path: Path,
        *,
        locks: ProcessLocks,
        writer: Writer,
        archiver: Archiver,
        months: Months,
        mover: Mover,
        reader: Reader,
        wakeup: Wakeup,
    ) -> None:
        self._path = path
        self._locks = locks
        self._writer = writer
        self._archiver = archiver
        self._months = months
        self._mover = mover
        self._reader = reader
        self._wakeup = wakeup
        self._one_at_a_time = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._executors_end = ProcessEnd()

    @property
    def executes(self) -> bool:
        """Whether this process is the executing one."""
        return self._locks.executes

    def require(self) -> None:
        """Only the executing process changes jobs that exist: it has them in memory."""
        if not self._locks.executes:
            pid = self._locks.executor_pid()
            who = "No process executes" if pid is None else f"Process {pid} executes"
            raise StorageUnavailable(f"{who} the jobs of {self._path}; this one may only enqueue, look and ask.")

    async def take(self, *, now: int, on_wake: Callable[[], None], moves: bool = False) -> bool:
        """Become the executing process if there is none, and finish what the last one left.

        on_wake: called when another process wants this one to look, and if another executes, when that one ends.
        moves: this one only carries jobs away or takes them in.
        """
        async with self._one_at_a_time:
            if self._locks.executes:
                await self._check_complete(moves=moves)
                return True
            if not self._locks.try_execute():
                self._executors_end.watch(self._locks.executor_pid(), on_wake)
                return False
            self._executors_end.close()
            await self._take_over(now, on_wake, moves=moves)
            return True

    async def _take_over(self, now: int, on_wake: Callable[[], None], *, moves: bool) -> None:
        try:
            await self._check_complete(moves=moves)
            found: Found = await self._writer.run(BEGIN_EXECUTING, None)
            self._wakeup.listen(asyncio.get_running_loop(), on_wake)
            if found is not Found.CLEAN:
                await self._archiver.call(date.min, self._months.tidy)
                await reconcile(self._writer, self._archiver, self._months, now=now)
                if found is Found.COPY:
                    await reconcile_copy(self._writer, self._archiver, self._months, now=now)
                self._looking = asyncio.create_task(self._look_for_damage())
        except BaseException:
            self._wakeup.mute()
            self._locks.release_execute()
            raise

    async def _check_complete(self, *, moves: bool) -> None:
        """Raise `StorageUnavailable` if jobs are still to be brought here, unless this is who brings them."""
        if not moves and (copying := await self._reader.copying()) is not None:
            copying.check_done(str(self._path))

    async def give_up(self) -> None:
        """Stop executing, when all moves are done and noted."""
        self._executors_end.close()
        if not self._locks.executes:
            return
        if self._looking is not None:
            self._looking.cancel()
        self._wakeup.mute()
        await self._mover.drain()
        with suppress(StorageError):  # then it counts as an unclean stop, and the next start looks
            if await self._archiver.settle_up():
                await self._writer.run(END_EXECUTING, None)
        self._locks.release_execute()

    async def _look_for_damage(self) -> None:
        """After an unclean stop. On a large file it takes a while, so it runs beside the work."""
        try:
            found = await self._reader.damage()
        except StorageCorrupt as error:
            found = str(error)
        except StorageUnavailable:
            return
        if found is not None:
            self._writer.damage = StorageCorrupt(
                f"{self._path} is damaged ({found}), so nothing more is written. Stop every process that uses it, keep "
                f"a copy, and restore it from a backup or by `sqlite3 {self._path} .recover`. Archives are other files."
            )
