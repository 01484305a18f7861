"""Jobs that come one by one, from many callers, and go to the writing thread together.

One operation gathers them until the thread takes it, so that a job costs an entry in a list, not an operation of its
own with all that is done for each: with fifty callers that was a third of the CPU of an enqueue.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from commandjobs.model.row import JobRow
from commandjobs.storage.base import Inserted, Landed
from commandjobs.storage.landing import answer_of
from commandjobs.storage.sqlite.change import Taking
from commandjobs.storage.sqlite.inserting import INSERT, Insertion, insert_simple, insert_simple_at_once
from commandjobs.storage.sqlite.operation import Kind, Operation

MOST_ROWS, MOST_BYTES = 1000, 1_000_000
GATHERED_FOR = 50_000
"""Microseconds that one operation gathers while the thread does not come for it: its deadline is that of the first."""

Arrival = tuple[Sequence[JobRow], Taking | None, asyncio.Future[Any], Landed | None]
"""One caller's row, who may own it, what the caller waits for, and who is told of it. (A named tuple takes 0.3 us.)"""


class Arrivals(Operation):
    """The jobs that have come since the thread last took some. Entries are added by the loop's thread alone."""

    __slots__ = ("_closing", "_entries", "_kept", "_loop", "_now")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, now: int) -> None:
        super().__init__(ARRIVE, self, None, rows=0)
        self._loop = loop
        self._now = now
        self._entries: list[Arrival] = []
        self._kept: Sequence[Arrival] = ()
        self._closing = threading.Lock()

    def add(
        self, rows: Sequence[JobRow], now: int, taking: Taking | None, landed: Landed | None, *, size: int
    ) -> asyncio.Future[Any] | None:
        """What the caller waits for; None: this operation takes no more."""
        if self.rows >= MOST_ROWS or self.size >= MOST_BYTES or now - self._now > GATHERED_FOR:
            return None
        future = self._loop.create_future()
        with self._closing:
            if self.taken:
                return None
            self._entries.append((rows, taking, future, landed))
        self.rows += 1
        self.size += size
        return future

    @property
    def kept(self) -> Sequence[Arrival]:
        """What is to be written, in the order in which it came."""
        return self._kept

    @property
    def given_up(self) -> bool:
        """No caller waits any more."""
        return all(future.done() for _, _, future, _ in self._entries)

    @property
    def callers(self) -> int:
        """How many came, though some may have given up."""
        return self.rows

    def take(self) -> bool:
        """The thread begins with it: nothing is added from here on, and who has given up is left out."""
        with self._closing:
            self.taken = True
        self._kept = [entry for entry in self._entries if not entry[2].done()]
        return bool(self._kept)

    def parts(self) -> Sequence[Operation]:
        """Each job as an operation of its own."""
        return [
            Operation(
                INSERT,
                Insertion(rows, self._now, taking),
                future,
                landed=None if landed is None else partial(landed, rows),
                taken=True,
            )
            for rows, taking, future, landed in self._entries
        ]

    def tell(self, result: Any) -> None:
        """Give each caller what became of his job."""
        if isinstance(result, BaseException):
            self._fail(result)
            return
        for (rows, _, future, landed), one in zip(self._kept, result or (), strict=True):
            answer = [one] if landed is None else answer_of(landed, rows, [one])
            if future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def refuse(self, error: Exception) -> None:
        """The thread does not come for it in time: let all go."""
        with self._closing:
            if not self.taken:
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """It may not even have been taken: whoever has come until now is told, and nobody is added any more."""
        self.taken = True
        for _, _, future, _ in self._entries:
            if not future.done():
                future.set_exception(error)


def arrive(connection: sqlite3.Connection, arrivals: Sequence[Arrivals]) -> list[list[Inserted]]:
    """Write what has come."""
    return [insert_simple(connection, _rows(one)) for one in arrivals]


def arrive_at_once(connection: sqlite3.Connection, arrivals: Sequence[Arrivals]) -> list[list[Inserted]] | None:
    """The same by one statement."""
    if len(arrivals) != 1:
        return None
    inserted = insert_simple_at_once(connection, _rows(arrivals[0]))
    return None if inserted is None else [inserted]


def _rows(arrivals: Arrivals) -> list[JobRow]:
    rows: list[JobRow] = []
    for (row,), taking, _, _ in arrivals.kept:
        row.owner = None if taking is None or not taking.claim.fits(row) else taking.owner
        rows.append(row)
    return rows


ARRIVE = Kind("insert", arrive, 0, rings=True, at_once=arrive_at_once)
