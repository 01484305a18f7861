"""The thread that owns this process's only connection that writes the queue file.

(`InlineCommits` may use it on the loop's thread, within the write turn, while this thread has nothing to do.)

**The idea.** Operations of all tasks gather in a queue. The thread takes everything there, runs it in one transaction,
commits, and wakes the loop once for the whole batch. There is no timer and no delay: the next batch gathers while this
one is flushed, so a lone caller has its own commit and a thousand callers share one.

Within a transaction operations are sorted by rank and those of one kind run as one, many rows a statement. A kind that
fails is rolled back to its savepoint and run again caller by caller: a caller's bad row is its own.

Each transaction and checkpoint lies within the process's write turn (`locks`), so that processes never meet inside
SQLite: its busy handler starves, and before 3.51.3 a commit beside another's checkpoint could corrupt the file.
"""

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from queue import Empty
from typing import Any

from commandjobs.errors import StorageCorrupt, StorageError, StorageUnavailable
from commandjobs.handover import Inbox, LoopCalls
from commandjobs.model.row import JobRow
from commandjobs.storage.base import Landed
from commandjobs.storage.landing import answer_of
from commandjobs.storage.sqlite.arrivals import Arrivals
from commandjobs.storage.sqlite.change import Taking
from commandjobs.storage.sqlite.connection import identity, translated
from commandjobs.storage.sqlite.inline import Done, InlineCommits
from commandjobs.storage.sqlite.inserting import INSERT, Insertion
from commandjobs.storage.sqlite.locks import ProcessLocks
from commandjobs.storage.sqlite.operation import Answer, Kind, Operation
from commandjobs.storage.sqlite.pending import Pending
from commandjobs.storage.sqlite.wal import WriteAheadLog

MOST_ROWS, MOST_BYTES = 1000, 1_000_000
"""In one transaction, if it holds more than one operation."""
POLL = 0.25
"""Seconds between looks for commits of other processes."""
CHECKPOINT_AFTER = 1.0
"""Seconds of idleness."""
JOIN = 5.0
"""Seconds to wait for the thread at the end: it may hang behind a process that was stopped inside its turn."""
BUSY_LIMIT = 5.0
"""Seconds to wait for somebody who locks the file without taking turns, such as the sqlite3 shell."""
NORMAL = 1
"""The level of `pragma synchronous` at which a commit is not flushed."""

_log = logging.getLogger("commandjobs.storage")


class Writer:
    """Runs operations on the queue file."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        path: Path,
        locks: ProcessLocks,
        pending: Pending,
        calls: LoopCalls,
        on_change: Callable[[], None],
        ring: Callable[[], None],
        wal_size: int,
    ) -> None:
        """on_change: called on the loop's thread when another process has committed something.
        ring: called in the writing thread after a commit that the executing process is to look at.
        wal_size: bytes to which the write-ahead log grows in the first idle moments.
        """
        self._connection = connection
        connection.execute("pragma busy_timeout = 0")  # `_begin` waits in shorter steps, the loop not at all
        self._path = path
        self._locks = locks
        self._pending = pending
        self._on_change = on_change
        self._ring = ring
        self._log = WriteAheadLog(connection, path=path, size=wal_size)
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._calls = calls
        self._queue = Inbox[Operation | None]()
        self._inline = InlineCommits(connection, locks=locks, pending=pending, log=self._log, ring=ring)
        self._thread = threading.Thread(target=self._work, name=f"{path.name} writer", daemon=True)
        self._arrivals: Arrivals | None = None
        """What jobs that come now are added to."""
        self._stopping = False
        self._damage: StorageCorrupt | None = None
        self._relaxed = connection.execute("pragma synchronous").fetchone() == (NORMAL,)
        self._identity = identity(path)
        self._version = self._data_version()
        self._looked = time.monotonic()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def damage(self) -> StorageCorrupt | None:
        """What was found wrong with the file: the answer to every later operation."""
        return self._damage

    @damage.setter
    def damage(self, error: StorageCorrupt | None) -> None:
        self._inline.stopped = True
        self._damage = error

    def run(
        self,
        kind: Kind,
        payload: Any,
        *,
        rows: int = 1,
        size: int = 0,
        after: Callable[[Any], Any] | None = None,
        landed: Callable[[Any], Any] | None = None,
    ) -> Awaitable[Any]:
        """Run one operation; its result comes once it is durable.

        after, landed: see `Operation`.
        """
        result = self._inline.try_commit(kind, payload, rows=rows, size=size)
        if result is not None:
            if landed is not None:
                result = answer_of(landed, result)
            self._inline.end_turn(kind)  # afterwards, so that what has landed starts before anybody is rung
            return Done(result)
        if self._pending.is_full:
            again = partial(self.run, kind, payload, rows=rows, size=size, after=after, landed=landed)
            return self._when_there_is_room(again)
        operation = self.operation(kind, payload, rows=rows, size=size, after=after)
        operation.landed = landed
        self._queue.put(operation)
        return operation.answer

    async def _when_there_is_room(self, run: Callable[[], Awaitable[Any]]) -> Any:
        await self._pending.room()
        return await run()

    def arrive(
        self, rows: Sequence[JobRow], *, now: int, taking: Taking | None, landed: Landed | None
    ) -> Awaitable[Any]:
        """Store one simple job."""
        body = rows[0].request_body
        size = 500 if body is None else 500 + len(body)
        if self._pending.is_empty:
            result = self._inline.try_commit(INSERT, Insertion(rows, now, taking), rows=1, size=size)
            if result is not None:
                answer = result if landed is None else answer_of(landed, rows, result)
                self._inline.end_turn(INSERT)
                return Done(answer)
        else:
            self._inline.note_company()
        if self._pending.is_full:
            return self._when_there_is_room(partial(self.arrive, rows, now=now, taking=taking, landed=landed))
        arrivals = self._arrivals
        if arrivals is not None:
            future = arrivals.add(rows, now, taking, landed, size=size)
            if future is not None:
                self._pending.more(size)
                return future
        return self._arrive_first(rows, now=now, taking=taking, landed=landed, size=size)

    def _arrive_first(
        self, rows: Sequence[JobRow], *, now: int, taking: Taking | None, landed: Landed | None, size: int
    ) -> Awaitable[Any]:
        self._check_open()
        self._arrivals = arrivals = Arrivals(self._loop, now=now)
        future = arrivals.add(rows, now, taking, landed, size=size)
        assert future is not None
        self._pending.add(arrivals)
        self._queue.put(arrivals)
        return future

    def submit(
        self, kind: Kind, payload: Any, *, rows: int = 1, size: int = 0, after: Callable[[Any], Any] | None = None
    ) -> asyncio.Future[Any]:
        """Queue one operation now, without waiting for room."""
        operation = self.operation(kind, payload, rows=rows, size=size, after=after)
        self._queue.put(operation)
        return operation.answer

    def operation(
        self, kind: Kind, payload: Any, *, rows: int = 1, size: int = 0, after: Callable[[Any], Any] | None = None
    ) -> Operation:
        """An operation that another thread will `put` when its part is done."""
        self._check_open()
        self._arrivals = None  # what arrives from here on comes after this
        operation = Operation(kind, payload, self._loop.create_future(), rows, size, after)
        self._pending.add(operation)
        return operation

    def _check_open(self) -> None:
        if self._stopping or self._pid != os.getpid():
            self._locks.file()  # raises in a forked child, where no thread would ever write it
            raise StorageUnavailable(f"The queue {self._path} was closed.")

    def put(self, operation: Operation) -> None:
        """Queue an operation; from any thread."""
        self._queue.put(operation)

    async def close(self) -> None:
        """Write what is queued, leave the file tidy, and end the thread."""
        if not self._stopping:
            self._stopping = True
            self._arrivals = None
            self._inline.stopped = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join, JOIN)
        if not self._thread.is_alive():
            self._queue.close()

    # ── everything below runs in the thread ─────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        running = True
        while running:
            first = self._wait()
            running = first is not None and self._write(first)
        self._refuse_the_rest()
        self._tidy()
        self._connection.close()

    def _refuse_the_rest(self) -> None:
        closed = StorageUnavailable(f"The queue {self._path} was closed.")
        while not self._queue.empty():
            operation = self._queue.get_nowait()
            if operation is not None:
                self._tell([(operation, closed)])

    def _wait(self) -> Operation | None:
        idle_since = time.monotonic()
        while True:
            try:
                return self._queue.get(timeout=POLL)
            except Empty:
                self._idle(time.monotonic() - idle_since)

    def _write(self, first: Operation) -> bool:
        """One transaction, and its callers told; False: it was the last one."""
        batch, running = [first], True
        try:
            with self._locks.write_turn():
                running = self._gather(batch)
                answers = self._commit(batch)
                self._look()
                self._log.note_commit(sum(operation.rows for operation in batch))
        except BaseException as error:
            answers = self._fail(batch, error)
        self._tell(
            answers
        )  # after the turn: the next call of a lone caller finds it free, and is committed on the loop
        if any(operation.kind.rings for operation in batch):
            self._ring()
        if self._log.is_long:
            with suppress(sqlite3.Error, StorageError):
                self._locks_turn(self._log.checkpoint)
        return running

    def _tell(self, answers: Sequence[Answer]) -> None:
        self._calls.call(self._pending.answer, [operation.followed_up(result) for operation, result in answers])

    def _gather(self, batch: list[Operation]) -> bool:
        rows, size = batch[0].rows, batch[0].size
        while rows < MOST_ROWS and size < MOST_BYTES and not self._queue.empty():
            operation = self._queue.get_nowait()
            if operation is None:
                return False
            batch.append(operation)
            rows += operation.rows
            size += operation.size
        return True

    def _commit(self, batch: Sequence[Operation]) -> list[Answer]:
        if self.damage is not None:
            return [(operation, self.damage) for operation in batch]
        wanted: list[Operation] = []
        answers: list[Answer] = []
        for operation in batch:
            if operation.take():
                wanted.append(operation)
            else:
                answers.append((operation, None))
        if wanted:
            if self._relaxed and any(operation.kind.flushed for operation in wanted):
                answers += self._flushed(wanted)
            else:
                answers += self._run_wanted(wanted)
        return answers

    def _flushed(self, operations: list[Operation]) -> list[Answer]:
        """With relaxed durability: what an archive is to agree with is on disk, and so is all that came before it."""
        self._connection.execute("pragma synchronous = full")
        try:
            return self._run_wanted(operations)
        finally:
            self._connection.execute("pragma synchronous = normal")

    def _run_wanted(self, operations: list[Operation]) -> list[Answer]:
        kind = operations[0].kind
        if any(operation.kind is not kind for operation in operations):
            return self._transact(self._run_all, operations)
        begun = time.monotonic()
        answers = self._run_at_once(kind, operations) or self._run_one_kind(kind, operations)
        if kind.at_once is not None and len(operations) == operations[0].rows == 1:
            self._inline.pace.note_elsewhere(time.monotonic() - begun)
        return answers

    def _begin(self) -> None:
        deadline = time.monotonic() + BUSY_LIMIT
        while True:
            try:
                self._connection.execute("begin immediate")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.001)

    def _run_at_once(self, kind: Kind, operations: list[Operation]) -> list[Answer] | None:
        """By one statement; None: that could not be done, and nothing was."""
        if kind.at_once is None:
            return None
        try:
            results = kind.at_once(self._connection, [operation.payload for operation in operations])
        except sqlite3.Error:  # what is wrong is found out, and for whom, by taking one step after the other
            return None
        return None if results is None else list(zip(operations, results, strict=True))

    def _run_one_kind(self, kind: Kind, operations: list[Operation]) -> list[Answer]:
        """One kind alone needs no savepoint: the transaction is its own."""
        try:
            return self._transact(lambda run: self._run(kind, run), operations)
        except Exception as error:
            parts = _parts(operations)
            if len(parts) == 1:
                return [(operations[0], self._face(error))]
        return self._transact(self._run_all, parts)

    def _transact(self, run: Callable[[list[Operation]], list[Answer]], operations: list[Operation]) -> list[Answer]:
        self._begin()
        try:
            answers = run(operations)
            self._connection.execute("commit")
        except BaseException:
            with suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
            raise
        return answers

    def _run(self, kind: Kind, operations: list[Operation]) -> list[Answer]:
        results = kind.run(self._connection, [operation.payload for operation in operations])
        return list(zip(operations, results, strict=True))

    def _run_all(self, operations: list[Operation]) -> list[Answer]:
        answers: list[Answer] = []
        for kind, same in groupby(sorted(operations, key=_rank), key=_kind):
            answers += self._run_together(kind, list(same))
        return answers

    def _run_together(self, kind: Kind, operations: list[Operation]) -> list[Answer]:
        self._connection.execute("savepoint kind")
        try:
            answers = self._run(kind, operations)
        except Exception as error:
            if not self._connection.in_transaction:  # SQLite has rolled everything back, as on a full disk
                raise
            self._connection.execute("rollback to kind")
            self._connection.execute("release kind")
            parts = _parts(operations)
            if len(parts) == 1:
                return [(operations[0], self._face(error))]
            return [answer for part in parts for answer in self._run_together(part.kind, [part])]
        self._connection.execute("release kind")
        return answers

    def _fail(self, batch: Sequence[Operation], error: BaseException) -> list[Answer]:
        return [(operation, self._face(error)) for operation in batch]

    def _face(self, error: BaseException) -> BaseException:
        """The error for a caller. Into a file that is damaged nothing more is written."""
        face = translated(error, self._path)
        if isinstance(face, StorageCorrupt):
            self.damage = self.damage or face
        return face

    # ── idle moments ────────────────────────────────────────────────────────────────────────────────────────────────

    def _idle(self, idle: float) -> None:
        """The connection is used within the write turn only, here too: the loop's thread uses it as well."""
        with suppress(sqlite3.Error, StorageError, OSError):
            self._locks_turn(self._look)
            while self._log.is_small and self._queue.empty():
                self._locks_turn(self._log.grow)
            if idle >= CHECKPOINT_AFTER and not self._log.is_empty:
                self._locks_turn(self._log.checkpoint)
                self._locks_turn(self._log.shrink)

    def _look(self) -> None:
        """Has another process committed? (`data_version` of this connection does not count its own commits.)"""
        now = time.monotonic()
        if now - self._looked < POLL * 0.9:
            return
        self._looked = now
        with suppress(sqlite3.Error, OSError):  # whoever looks has committed: his callers must not hear of this
            if self._damage is None and identity(self._path) != self._identity:
                self.damage = StorageCorrupt(
                    f"{self._path} was deleted or replaced while it was in use, so nothing more is written. Stop every "
                    "process that uses it, put the file in place (or remove what is left beside it), and start again."
                )
            version = self._data_version()
            if version != self._version:
                self._version = version
                self._calls.call(self._on_change)

    def _data_version(self) -> int:
        version: int = self._connection.execute("pragma data_version").fetchone()[0]
        return version

    def _locks_turn(self, work: Callable[[], Any]) -> None:
        with self._locks.write_turn():
            work()

    def _tidy(self) -> None:
        with suppress(sqlite3.Error, StorageError):
            self._locks_turn(lambda: self._log.checkpoint("truncate"))


_rank = attrgetter("kind.rank")
_kind = attrgetter("kind")


def _parts(operations: Sequence[Operation]) -> list[Operation]:
    return [part for operation in operations for part in operation.parts()]
