"""Start marks: that an attempt has begun, on disk. After a crash they tell what ran from what only waited."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from commandjobs.errors import StorageError
from commandjobs.runtime.execution import EndedBy, Execution

if TYPE_CHECKING:
    from commandjobs.storage.base import JobStore

log = logging.getLogger("commandjobs")


class StartMarks:
    """Writes start marks behind the work: nobody waits for them, unless the job needs it."""

    def __init__(self, storage: JobStore, *, in_background: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        """in_background: runs a coroutine in a task of the engine's own."""
        self._storage = storage
        self._in_background = in_background
        self._unmarked: list[Execution] = []

    def note(self, execution: Execution) -> None:
        """Write the mark with the loop's next turn; a job that has ended by then needs none."""
        if not self._unmarked:
            asyncio.get_running_loop().call_soon(self.write)
        self._unmarked.append(execution)

    def write(self) -> None:
        """Write the marks of what runs, now, ahead of anything this process writes next."""
        unmarked, self._unmarked = self._unmarked, []
        running = [one for one in unmarked if one.outcome is None]
        if running:
            self._in_background(self._write(running))

    async def ensure(self, execution: Execution) -> None:
        """Have the mark of a running attempt on disk, before something that must not outlive it uncounted."""
        if not (execution.marked or execution.durable_start):
            await self._storage.mark_started([execution.row])
            execution.marked = True

    async def _write(self, executions: list[Execution]) -> None:
        try:
            written = await self._storage.mark_started([one.row for one in executions])
        except StorageError as error:
            log.warning("%d start marks were not written: %s", len(executions), error)
            return
        for execution, mine in zip(executions, written, strict=True):
            execution.marked = mine
            if not mine and execution.outcome is None:
                log.warning("Job %d is not this node's any more; its attempt is ended.", execution.row.id)
                execution.end(EndedBy.SHUTDOWN)
