"""Calls of all tasks gather while the last transaction is under way, and go out together: group commit on the loop.

There is no timer and no delay: a lone caller has its own commit, a thousand callers share one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Generic, TypeVar

from commandjobs.storage.landing import answer_of

P = TypeVar("P")

MOST_ROWS = 2_000
"""In one transaction, if it holds more than one call."""
MOST_WAITING = 10_000
"""Rows; whoever comes after them waits for room before his call exists."""


@dataclass(slots=True, eq=False)
class Gathered(Generic[P]):
    """One call of one caller."""

    payload: P
    rows: int
    landed: Callable[[Any], Any] | None
    """Called with the result, whether or not the caller still waits; what it returns is the answer."""
    answer: asyncio.Future[Any]
    since: float = field(default_factory=monotonic)

    def succeed(self, result: Any) -> None:
        """Give the answer."""
        if self.landed is not None:
            result = answer_of(self.landed, result)
        if isinstance(result, BaseException):
            self.fail(result)
        elif not self.answer.done():
            self.answer.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Raise at the caller."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Gathering(Generic[P]):
    """One stream of calls that share commits, in their order."""

    def __init__(self, flush: Callable[[Sequence[Gathered[P]]], Awaitable[None]]) -> None:
        """flush: writes calls together, and answers each; what it raises all its callers get."""
        self._flush = flush
        self._waiting: deque[Gathered[P]] = deque()
        self._rows = 0
        self._flushing: asyncio.Task[None] | None = None
        self._room: deque[asyncio.Future[None]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether a caller has to wait for `room`."""
        return self._rows >= MOST_WAITING

    async def room(self) -> None:
        """Wait until there is room. A caller that gives up here leaves nothing behind."""
        while self.is_full:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._room.append(turn)
            await turn

    def put(self, payload: P, *, rows: int = 1, landed: Callable[[Any], Any] | None = None) -> asyncio.Future[Any]:
        """Take a call in; its answer comes once it is durable."""
        loop = asyncio.get_running_loop()
        call = Gathered(payload, rows, landed, loop.create_future())
        self._waiting.append(call)
        self._rows += rows
        if self._flushing is None:
            self._flushing = loop.create_task(self._flush_all())
        return call.answer

    async def drained(self) -> None:
        """Wait until everything is written."""
        while self._flushing is not None:
            await asyncio.wait([self._flushing])

    async def _flush_all(self) -> None:
        try:
            while self._waiting:
                calls = self._take()
                try:
                    await self._flush(calls)
                except Exception as error:
                    for call in calls:
                        call.fail(error)
                self._rows -= sum(call.rows for call in calls)
                while self._room and not self.is_full:
                    turn = self._room.popleft()
                    if not turn.done():
                        turn.set_result(None)
        finally:
            self._flushing = None

    def _take(self) -> list[Gathered[P]]:
        calls, rows = [self._waiting.popleft()], 0
        rows = calls[0].rows
        while self._waiting and rows + self._waiting[0].rows <= MOST_ROWS:
            calls.append(self._waiting.popleft())
            rows += calls[-1].rows
        return calls
