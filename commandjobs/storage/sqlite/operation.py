"""What is handed to the threads that write: operations, each of a kind that knows how to run many of them at once."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from commandjobs.storage.landing import answer_of

_log = logging.getLogger("commandjobs.storage")

Run = Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any]]
AtOnce = Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any] | None]


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of operation. `run` takes the payloads of many callers and returns a result for each, in order; a result
    that is an exception is raised at that caller. If `run` itself raises, it is called again for each payload alone.
    """

    name: str
    run: Run
    rank: int
    """Order within a transaction: inserts 0, start marks 1, progress 2, settling writes 3, all else 4."""
    rings: bool = False
    """The executing process is to look at what it writes."""
    flushed: bool = False
    """Durable in any case, also where the queue file is written with relaxed durability."""
    at_once: AtOnce | None = None
    """The same by one statement, which is a transaction of its own; it returns None if that cannot be done, and its
    results leave nothing to do afterwards. (Each statement takes 3 us or, after a pause, 15, and is a chance to lose
    the GIL to the loop.)"""


@dataclass(slots=True, eq=False)
class Operation:
    """One call of one caller, on its way to be committed."""

    kind: Kind
    payload: Any
    future: asyncio.Future[Any] | None
    """None: nobody waits for it."""
    rows: int = 1
    size: int = 0
    """Roughly how many bytes it writes."""
    after: Callable[[Any], Any] | None = None
    """Called with the result or error in the writing thread, after the commit; what it returns is the answer."""
    landed: Callable[[Any], Any] | None = None
    """Called on the loop's thread with the result, whether or not the caller still waits, but not with an error. What
    it returns is the answer."""
    taken: bool = False
    """A thread has begun with it: it can be withdrawn no more."""
    since: float = field(default_factory=monotonic)

    def followed_up(self, result: Any) -> "Answer":
        """After the commit: its answer, or what went wrong with that."""
        if self.after is not None and self.taken:
            try:
                return self, self.after(result)
            except Exception as error:  # what is committed is committed, and the thread must go on
                _log.exception("After %s", self.kind.name)
                return self, error
        return self, result

    @property
    def answer(self) -> asyncio.Future[Any]:
        """What its caller waits for."""
        assert self.future is not None
        return self.future

    @property
    def given_up(self) -> bool:
        """Its caller no longer waits for it."""
        return self.future is not None and self.future.done()

    @property
    def callers(self) -> int:
        """How many wait for it."""
        return 0 if self.future is None else 1

    def take(self) -> bool:
        """A thread begins with it; False: nobody waits for it any more, so it need not."""
        self.taken = self.taken or not self.given_up
        return self.taken

    def parts(self) -> "Sequence[Operation]":
        """What can fail without the others."""
        return (self,)

    def tell(self, result: Any) -> None:
        """Give its caller the result or error; on the loop's thread."""
        future = self.future
        if future is None:
            return
        if self.landed is not None and self.taken and not isinstance(result, BaseException):
            result = answer_of(self.landed, result)
        if future.done():
            return
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)

    def refuse(self, error: Exception) -> None:
        """Nobody has begun with it in time: let its caller go."""
        if not self.taken and not self.given_up:
            self.answer.set_exception(error)


Answer = tuple[Operation, Any]
"""An operation, and its result or error."""
