"""Commits on the loop's own thread, for callers who come one at a time.

**The idea.** To hand a small commit to the writing thread and wake the loop afterwards takes longer than the commit
itself: two CPUs have to come out of their sleep, with cold caches. So where inserts have come one at a time, the next
is committed at once, and keeps the loop for the 0.2 ms that a flush takes. Where two come in one turn of the loop, or
while another is under way, they go to the writing thread and share a commit.

**Never for long.** It is done only while nothing else could make the loop wait: the writing thread has nothing to do,
no other process has the write turn, and the disk has been prompt (`Pace`). Checkpoints are left to the thread.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any

from commandjobs.storage.sqlite.locks import ProcessLocks
from commandjobs.storage.sqlite.operation import AtOnce, Kind
from commandjobs.storage.sqlite.pending import Pending
from commandjobs.storage.sqlite.wal import WriteAheadLog

LONE = 3
"""Inserts that have to come one at a time before the next is taken to be alone."""

MOST_BYTES = 10_000
"""Larger operations go to the thread."""
PROMPT, SLOW = 0.0015, 0.003
"""Seconds: commits take less than `PROMPT` on average; after one that takes longer than `SLOW` the thread is used."""
PAUSE = 20
"""Times as long as the slow commit took: stalls of the disk keep the loop from its work 5 % of the time at most."""


class Pace:
    """Whether the disk is prompt enough for the loop to wait for it."""

    def __init__(self) -> None:
        """Nothing is known of the disk: it has to show first how prompt it is."""
        self._average = 2 * PROMPT
        self._paused_until = 0.0

    def note(self, took: float, *, now: float) -> None:
        """A small commit took so many seconds."""
        self._average += (min(took, SLOW) - self._average) / 8
        if took > SLOW:
            self._paused_until = now + PAUSE * took

    def note_elsewhere(self, took: float) -> None:
        """The same of a commit in the thread: a slow one says nothing, since it may have waited for the GIL."""
        if took < PROMPT:
            self._average += (took - self._average) / 8

    def is_prompt(self, *, now: float) -> bool:
        """Whether the next commit may be expected to take no longer than `PROMPT`."""
        return self._average < PROMPT and now >= self._paused_until


class InlineCommits:
    """Commits what seems to be alone, right when it is asked for."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        locks: ProcessLocks,
        pending: Pending,
        log: WriteAheadLog,
        ring: Callable[[], None],
    ) -> None:
        """pending: what the writing thread has not answered yet.
        ring: called after a commit that the executing process is to look at.
        """
        self._connection = connection
        self._locks = locks
        self._pending = pending
        self._log = log
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._came_alone = 0
        self._turn_is_used = False
        self.pace = Pace()
        self.stopped = False
        """The writing thread alone commits from now on."""

    def try_commit(self, kind: Kind, payload: Any, *, rows: int, size: int) -> Any:
        """The result, durable; None: it is for the thread to write."""
        if self._turn_is_used or not self._pending.is_empty:
            self._came_alone = 0
            return None
        if kind.at_once is None or rows != 1 or size > MOST_BYTES:
            return None
        self._came_alone += 1
        begun = monotonic()
        if self.stopped or self._came_alone < LONE or self._log.is_long or not self.pace.is_prompt(now=begun):
            return None
        result = self._commit(kind.at_once, payload)
        if result is not None:
            now = monotonic()
            self.pace.note(now - begun, now=now)
        return result

    def note_company(self) -> None:
        """Somebody came while the thread was at work: he was not alone."""
        self._came_alone = 0

    def end_turn(self, kind: Kind) -> None:
        """What was committed is told of: what comes in the same turn of the loop goes to the thread."""
        self._turn_is_used = True
        self._loop.call_soon(self._next_turn, kind.rings)

    def _next_turn(self, rings: bool) -> None:
        self._turn_is_used = False
        if rings:
            self._ring()

    def _commit(self, at_once: AtOnce, payload: Any) -> Any:
        """None: another process writes, it takes more than one statement, or something is wrong."""
        if not self._locks.try_turn():
            return None
        try:
            results = at_once(self._connection, [payload])
            self._log.note_commit(1)
        except sqlite3.Error:  # the thread takes one step after the other, and finds out what it is
            results = None
        finally:
            self._locks.end_turn()
        return None if results is None else results[0]


class Done:
    """To be awaited: a result that is there already. The other tasks have a turn first, as with any other wait."""

    __slots__ = ("_result",)

    def __init__(self, result: Any) -> None:
        self._result = result

    def __await__(self) -> Generator[None, None, Any]:
        yield
        return self._result
