"""Finished jobs on their way: to the archiver, then to the writer, then the archiver hears that it is done."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from commandjobs.handover import LoopCalls
from commandjobs.model.row import JobRow
from commandjobs.storage.base import Settled
from commandjobs.storage.sqlite.archive import Archiver, Errand
from commandjobs.storage.sqlite.change import Effect
from commandjobs.storage.sqlite.moving import FINISH_MOVES, READ_ENDED, Move
from commandjobs.storage.sqlite.operation import Operation
from commandjobs.storage.sqlite.pending import Pending
from commandjobs.storage.sqlite.settling import SETTLE, Settling
from commandjobs.storage.sqlite.writer import Writer

AT_ONCE = 500
PATIENCE = 0.001
"""Seconds between looks whether the moves under way are done."""


class Mover:
    """Brings finished jobs from the queue file to their month files."""

    def __init__(
        self,
        *,
        writer: Writer,
        archiver: Archiver,
        pending: Pending,
        calls: LoopCalls,
        wake: Callable[[], None],
        ended: Callable[[Sequence[JobRow]], None],
        executes: Callable[[], bool],
    ) -> None:
        """wake: called on the loop's thread when a change has brought something that its answer does not tell.
        ended: called there with jobs that have ended by a change without a settlement of their own.
        """
        self._writer = writer
        self._archiver = archiver
        self._pending = pending
        self._wake = wake
        self._ended = ended
        self._executes = executes
        self._calls = calls
        self._behind = 0
        self._counting = threading.Lock()

    def settle(self, call: Settling) -> Awaitable[Settled]:
        """Write settlements: those that are final to their archives first."""
        final = [settlement.row for settlement in call.settlements if settlement.final]
        operation = self._writer.operation(SETTLE, call, rows=len(call.settlements), size=size_of(final))
        operation.taken = True  # what has happened is written, whether or not its caller still waits
        operation.after = partial(self.after, told=call)
        if final:
            self._archiver.put(Errand(partial(self._settled, operation, call), settled=final, size=operation.size))
        else:
            self._writer.put(operation)
        return operation.answer

    def _settled(self, operation: Operation, call: Settling, errand: Errand) -> None:
        call.archived = errand.error is None
        operation.after = partial(self.after, errand=errand, told=call)
        self._writer.put(operation)

    def after(self, effect: Any, errand: Errand | None = None, told: Settling | None = None) -> Any:
        """After an operation, in the writing thread: `effect` is its result or error; returns its caller's answer.

        told: its caller knows these.
        """
        if not isinstance(effect, Effect):
            return effect
        if errand is not None:
            self._archiver.confirm(errand.receipts)
        if effect.orphans:
            self._archiver.put(Errand(_nothing, forgotten=effect.orphans))
        if effect.ended and self._executes():
            self._move_behind(effect.ended)
        if effect.ended:
            self._tell_of(effect.ended, told)
        if effect.wake:
            self._calls.call(self._wake)
        return effect.answer

    def _tell_of(self, ended: Sequence[JobRow], told: Settling | None) -> None:
        known = {settlement.row.id for settlement in told.settlements} if told is not None else set[int]()
        unheard = [row for row in ended if row.id not in known]
        if unheard:
            self._calls.call(self._ended, unheard)

    def _move_behind(self, rows: Sequence[JobRow]) -> None:
        """Move rows that are marked as ended, with nobody waiting. What fails is left to `sweep`."""
        self._count(1)
        self._archiver.put(Errand(partial(self._archived_behind, rows), moved=rows, size=size_of(rows)))

    def _archived_behind(self, rows: Sequence[JobRow], errand: Errand) -> None:
        if errand.error is not None:
            self._count(-1)
            return
        after = partial(self._moved_behind, errand)
        self._writer.put(
            Operation(FINISH_MOVES, Move(rows, rows[0].last_activity or 0), None, len(rows), 0, after, taken=True)
        )

    def _moved_behind(self, errand: Errand, effect: Any) -> None:
        self.after(effect, errand)
        self._count(-1)

    async def move_ended(self, *, now: int) -> int:
        """Move a piece of what is marked and nobody is moving; returns how many went: 0 also if an archive is away."""
        await self.drain()
        rows: list[JobRow] = await self._writer.run(READ_ENDED, AT_ONCE)
        if not rows:
            return 0
        operation = self._writer.operation(FINISH_MOVES, Move(rows, now), rows=len(rows), size=size_of(rows))
        operation.taken = True
        self._archiver.put(Errand(partial(self._archived, operation), moved=rows, size=operation.size))
        moved: int = await operation.answer
        return moved

    def _archived(self, operation: Operation, errand: Errand) -> None:
        if errand.error is None:
            operation.after = partial(self.after, errand=errand)
            self._writer.put(operation)
        else:
            self._calls.call(self._pending.answer, [(operation, 0)])

    async def drain(self) -> None:
        """Wait for the moves that nobody waits for."""
        while self._behind:  # noqa: ASYNC110  counted in two other threads; an event would cost each move a wake-up
            await asyncio.sleep(PATIENCE)

    def _count(self, more: int) -> None:
        with self._counting:
            self._behind += more


def size_of(rows: Sequence[JobRow]) -> int:
    """Roughly how many bytes rows take."""
    size = 500 * len(rows)
    for row in rows:
        size += len(row.request_body or "") + len(row.response_body or "")
    return size


def _nothing(errand: Errand) -> None:
    """Nobody waits for it."""
