"""Commits on the loop's own thread, for callers who come one at a time.

**The idea.** To hand a small commit to the writing thread and wake the loop afterwards takes longer than the commit
itself: two CPUs have to come out of their sleep, with cold caches. So an insert that is alone at the end of the loop's
turn is committed there, and keeps the loop for the 0.2 ms that a flush takes. Where two come in one turn of the loop,
they go to the writing thread and share a commit.

**Never for long.** It is done only while nothing else could make the loop wait: the writing thread has nothing to do,
no other process has the write turn, and the disk has been prompt (`Pace`). Checkpoints are left to the thread.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from time import monotonic

from commandjobs.handover import Inbox
from commandjobs.storage.sqlite.locks import ProcessLocks
from commandjobs.storage.sqlite.operation import Answer, Operation
from commandjobs.storage.sqlite.pending import Pending
from commandjobs.storage.sqlite.wal import WriteAheadLog

MOST_BYTES = 10_000
"""Larger operations go to the thread."""
PROMPT, SLOW = 0.001, 0.003
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
    """Takes operations that may be alone, and commits those that still are when the loop's turn ends."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        locks: ProcessLocks,
        pending: Pending,
        queue: Inbox[Operation | None],
        log: WriteAheadLog,
        ring: Callable[[], None],
    ) -> None:
        """queue: where operations go that the writing thread is to commit.
        ring: called after a commit that the executing process is to look at.
        """
        self._connection = connection
        self._locks = locks
        self._pending = pending
        self._queue = queue
        self._log = log
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._alone: Operation | None = None
        self._scheduled = False
        self.pace = Pace()
        self.stopped = False
        """The writing thread alone commits from now on."""

    def take(self, operation: Operation) -> bool:
        """Take an operation that may be alone; False: it goes to the thread, and so does the one that was taken."""
        if self._alone is not None:
            self._hand_over()
            return False
        if operation.kind.at_once is None or operation.rows != 1 or operation.size > MOST_BYTES or self.stopped:
            return False
        if self._log.is_long or not (self._queue.empty() and self.pace.is_prompt(now=operation.since)):
            return False
        self._alone = operation
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._end_of_turn)
        return True

    def stop(self) -> None:
        """The writing thread alone commits from now on."""
        self.stopped = True
        self._hand_over()

    def _hand_over(self) -> None:
        operation, self._alone = self._alone, None
        if operation is not None:
            self._queue.put(operation)

    def _end_of_turn(self) -> None:
        self._scheduled = False
        operation = self._alone
        if operation is None or operation.given_up:
            self._alone = None
        elif self._queue.empty() and not self.stopped:
            answer = self._commit(operation)
            if answer is None:
                self._hand_over()
            else:
                self._alone = None
                self._pending.answer([answer])
                if operation.kind.rings:
                    self._loop.call_soon(self._ring)  # its caller goes on first
        else:
            self._hand_over()

    def _commit(self, operation: Operation) -> Answer | None:
        """None: another process writes, it takes more than one statement, or something is wrong."""
        begun, at_once, has_turn = monotonic(), operation.kind.at_once, False
        assert at_once is not None
        try:
            has_turn = self._locks.try_turn()
            results = at_once(self._connection, [operation.payload]) if has_turn else None
            if results is not None:
                self._log.note_commit(1)
        except sqlite3.Error:  # the thread takes one step after the other, and finds out what it is
            results = None
        finally:
            if has_turn:
                self._locks.end_turn()
        if results is None:
            return None
        now = monotonic()
        self.pace.note(now - begun, now=now)
        operation.taken = True
        return operation.followed_up(results[0])
