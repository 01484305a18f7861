"""Operations that nobody has answered yet: room for more of them, courtesy towards the threads, and an end to waiting.

**Courtesy.** A thread that waits for the GIL asks for it only after a whole undisturbed switch interval (5 ms). A loop
that is busy in shorter turns lets go of it at each poll, which restarts that wait: the writing thread can starve for
seconds (37 s for one commit were measured). So while the oldest operation is older than 2 ms, a timer puts the loop's
thread to sleep for a moment each millisecond. When commits are prompt the timer finds nothing and stops.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from commandjobs.errors import StorageUnavailable
from commandjobs.storage.sqlite.operation import Operation

TICK = 0.001
PROMPT = 0.002
SHORT_NAP, LONG_NAP = 0.0001, 0.002
MOST_OPERATIONS, MOST_BYTES = 10_000, 16_000_000
DEADLINE = 10.0
"""Seconds that a caller waits for its operation to be begun."""


class Pending:
    """All unanswered operations of one storage. Belongs to the loop's thread."""

    def __init__(self, *, deadline: float = DEADLINE, blame: Callable[[], str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._blame = blame
        self._in_order: deque[Operation] = deque()
        self._count = self._bytes = 0
        self._waiting_for_room: deque[asyncio.Future[None]] = deque()
        self._ticking = False

    @property
    def waited_for(self) -> bool:
        """Whether any caller still waits."""
        return any(not operation.given_up for operation in self._in_order)

    @property
    def is_empty(self) -> bool:
        """Everything is answered."""
        return self._count == 0

    @property
    def is_full(self) -> bool:
        """No more operations may be queued."""
        return self._count >= MOST_OPERATIONS or self._bytes >= MOST_BYTES

    async def room(self) -> None:
        """Wait until another operation may be queued. A caller that gives up here leaves nothing behind."""
        while self.is_full:
            turn: asyncio.Future[None] = self._loop.create_future()
            self._waiting_for_room.append(turn)
            await turn

    def add(self, operation: Operation) -> None:
        """Keep an operation until it is answered."""
        self._in_order.append(operation)
        self.more(operation.size)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(PROMPT, self._tick)

    def more(self, size: int) -> None:
        """One more caller waits, for something of this size."""
        self._count += 1
        self._bytes += size

    def answer(self, answers: Sequence[tuple[Operation, Any]]) -> None:
        """Tell the callers. (One call for a whole batch: waking the loop costs as much as a small commit.)"""
        for operation, result in answers:
            if operation.callers:
                self._count -= operation.callers
                self._bytes -= operation.size
                operation.tell(result)
        if self._waiting_for_room:
            self._let_in()

    def _let_in(self) -> None:
        free = MOST_OPERATIONS - self._count
        while self._waiting_for_room and free > 0 and self._bytes < MOST_BYTES:
            turn = self._waiting_for_room.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    def _tick(self) -> None:
        while self._in_order and self._in_order[0].given_up:
            self._in_order.popleft()
        if not self._in_order:
            self._ticking = False
            return
        age = time.monotonic() - self._in_order[0].since
        if age > self._deadline:
            self._give_up()
        if age < PROMPT:
            self._loop.call_later(PROMPT - age, self._tick)
            return
        time.sleep(min(LONG_NAP, SHORT_NAP * (1 + self._count / 100)))
        self._loop.call_later(TICK, self._tick)

    def _give_up(self) -> None:
        """Withdraw what no thread has begun. (It is skipped when its turn comes, since its future is done.)"""
        too_old = time.monotonic() - self._deadline
        for operation in self._in_order:
            if operation.since > too_old:
                break
            operation.refuse(StorageUnavailable(self._blame()))
