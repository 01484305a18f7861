"""The SQLite storage: one queue file, a month file for each month, and the threads that write them.

Reading order: `schema/0001_initial.sql` (what lies where), `queries.sql`, `operation`, `writer` and `inline` (how calls
share commits, or not), `change` (how one change spreads: `lanes`, `dependents`), then a job's life: `inserting`,
`claiming`, `settling`, `archive`, `moving`, `waiting`, `recovery`; `reader` and `find` look; `carrying` and `taking_in`
are for jobs that go to another storage or come from one; `locks`, `process_end` and
`wakeup` are between processes. This file hands calls to them, and says which process may make them.
"""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal

from commandjobs.errors import InvalidOption, StorageUnavailable
from commandjobs.handover import LoopCalls
from commandjobs.model.carried import Carried
from commandjobs.model.find import JobFilter
from commandjobs.model.job import LogLine
from commandjobs.model.moment import month_range
from commandjobs.model.node import NodeRow
from commandjobs.model.row import JobRow, LogRow, ProgressRow, SummaryRow
from commandjobs.model.settle import Settlement
from commandjobs.model.stats import Tallies
from commandjobs.storage.base import (
    Cancelling,
    Capabilities,
    Claim,
    Contents,
    Copying,
    Found,
    Inserted,
    Intent,
    Landed,
    LaneCount,
    MonthInfo,
    Promoted,
    Rescued,
    Settled,
)
from commandjobs.storage.sqlite.archive import Archiver
from commandjobs.storage.sqlite.backup import backup_files
from commandjobs.storage.sqlite.carrying import Carrier
from commandjobs.storage.sqlite.change import SQL, Taking
from commandjobs.storage.sqlite.claiming import (
    CLAIM,
    MARK_STARTED,
    RELEASE,
    REPORT,
    RESCUE,
    Claiming,
    Releasing,
    Rescuing,
    StartMark,
)
from commandjobs.storage.sqlite.connection import migrate, open_for_writing, translating
from commandjobs.storage.sqlite.dropping import DROP_SUMMARIES
from commandjobs.storage.sqlite.inserting import INSERT, REINSERT, Insertion, is_simple
from commandjobs.storage.sqlite.locks import ProcessLocks
from commandjobs.storage.sqlite.months import Months
from commandjobs.storage.sqlite.mover import Mover, size_of
from commandjobs.storage.sqlite.nodes import HEARTBEAT, REGISTER
from commandjobs.storage.sqlite.operation import Kind
from commandjobs.storage.sqlite.pending import DEADLINE, Pending
from commandjobs.storage.sqlite.reader import Reader
from commandjobs.storage.sqlite.role import Role
from commandjobs.storage.sqlite.settling import Settling
from commandjobs.storage.sqlite.steering import Steering
from commandjobs.storage.sqlite.taking_in import Piece, TakerIn
from commandjobs.storage.sqlite.waiting import CANCEL, PROMOTE, SWEEP, UPDATE, CancelCall, Update, Waking
from commandjobs.storage.sqlite.wakeup import Wakeup
from commandjobs.storage.sqlite.writer import Writer

WAL_SIZE = 16_000_000
"""Bytes. A commit into a log that need not grow takes 0.15 ms in place of 0.22."""
LARGE_WAL = 256_000_000
"""Bytes; it is reset at some 20 MB."""
OLDEST_SQLITE = (3, 35, 0)
DROPPED_AT_ONCE = 500


class SqliteStorage:
    """A `Storage` in files. One process executes at a time; others enqueue, look, steer and stand by."""

    capabilities = Capabilities(single_executor=True, backup=True)

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["full", "relaxed"] = "full",
        wal_size: int = WAL_SIZE,
        deadline: float = DEADLINE,
    ) -> None:
        """path: the queue file; month files and lock file lie beside it. Its folder is created if need be.
        durability: "relaxed" may lose the last enqueues and starts at a power cut (not when a process dies): 2x for
            a lone enqueuer. What ends jobs is always flushed.
        wal_size: bytes to which the write-ahead log is grown in the first idle moments.
        deadline: seconds that a call waits for its turn to write.
        """
        self._path = Path(path)
        self._durability = durability
        self._wal_size = wal_size
        self._deadline = deadline
        self._months = Months(self._path)
        self._number = 0
        self._is_open = False

    # ── beginning and end ───────────────────────────────────────────────────────────────────────────────────────────

    async def open(
        self,
        *,
        on_wake: Callable[[], None],
        on_ended: Callable[[Sequence[JobRow]], None] | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        """Open or create the queue file."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            needed = ".".join(map(str, OLDEST_SQLITE))
            raise StorageUnavailable(
                f"This Python has SQLite {sqlite3.sqlite_version}; commandjobs needs {needed} or newer."
            )
        self._loop = asyncio.get_running_loop()
        self._on_wake, self._on_ended = on_wake, on_ended
        self._locks, connection = await asyncio.to_thread(self._open_file)
        self._reader = Reader(self._path, self._months)
        self._wakeup = Wakeup(str(self._path))
        self._calls = LoopCalls()
        self._pending = Pending(deadline=self._deadline, blame=self._blame)
        self._writer = Writer(
            connection,
            path=self._path,
            locks=self._locks,
            pending=self._pending,
            calls=self._calls,
            on_change=self._wake,
            ring=self._ring,
            wal_size=self._wal_size,
        )
        self._archiver = Archiver(self._months, name=self._path.name, calls=self._calls)
        self._wire()
        self._writer.start()
        self._archiver.start()
        self._is_open = True

    def _wire(self) -> None:
        self._mover = Mover(
            writer=self._writer,
            archiver=self._archiver,
            pending=self._pending,
            calls=self._calls,
            wake=self._wake,
            ended=self._ended,
            executes=lambda: self._locks.executes,
        )
        self._role = Role(
            self._path,
            locks=self._locks,
            writer=self._writer,
            archiver=self._archiver,
            months=self._months,
            mover=self._mover,
            reader=self._reader,
            wakeup=self._wakeup,
        )
        self._carrier = Carrier(self._reader, self._months)
        self._taker_in = TakerIn(writer=self._writer, archiver=self._archiver, months=self._months)
        self._steering = Steering(self._path, locks=self._locks, writer=self._writer, reader=self._reader)

    def _open_file(self) -> tuple[ProcessLocks, sqlite3.Connection]:
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        locks = ProcessLocks(str(self._path))
        try:
            with locks.write_turn(), translating(self._path):
                connection = open_for_writing(
                    self._path, synchronous="FULL" if self._durability == "full" else "NORMAL", autocheckpoint=0
                )
                try:
                    migrate(connection, self._path, "schema")
                except BaseException:
                    connection.close()
                    raise
        except BaseException:
            locks.close()
            raise
        return locks, connection

    async def close(self) -> None:
        """Write what is under way, and close."""
        if not self._is_open:
            return
        self._is_open = False
        while self._pending.waited_for:  # noqa: ASYNC110  at the end of a life, a millisecond does not matter
            await asyncio.sleep(0.001)
        await self._role.give_up()
        self._wakeup.close()
        await self._reader.close()  # first: the last to close a file tidies its log away, and a reader cannot
        await self._archiver.close()
        await self._writer.close()
        self._calls.close()
        self._locks.close()

    # ── who executes ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def executes(self) -> bool:
        """Whether this storage is the one that may change jobs."""
        return self._role.executes

    async def try_execute(self) -> bool:
        """Become the executing process, and finish what the last one left."""
        return await self._role.take(now=_now(), on_wake=self._wake)

    async def resign(self) -> None:
        """Stop executing."""
        await self._role.give_up()

    # ── a job's life ────────────────────────────────────────────────────────────────────────────────────────────────

    def insert(
        self, rows: Sequence[JobRow], *, now: int, claim: Claim | None = None, landed: Landed | None = None
    ) -> Awaitable[Any]:
        """Store new jobs; only the executing process has some of them claimed."""
        taking = None if claim is None else self._taking(claim)
        if len(rows) == 1 and is_simple(rows[0]):
            return self._writer.arrive(rows, now=now, taking=taking, landed=landed)
        call, size = Insertion(rows, now, taking), size_of(rows)
        told = None if landed is None else partial(landed, rows)
        return self._writer.run(INSERT, call, rows=len(rows), size=size, after=self._mover.after, landed=told)

    async def insert_within(
        self, rows: Sequence[JobRow], *, connection: Any, blocking: bool, now: int
    ) -> list[Inserted]:
        """One connection writes to the file, so no job can be part of anybody else's transaction."""
        raise InvalidOption(
            "connection: an SQLite queue is written by a connection of its own. Enqueue after the commit."
        )

    async def claim(self, room: Mapping[str, int], other: int, *, claim: Claim, now: int) -> list[JobRow]:
        """Own claimable jobs."""
        self._role.require()
        rows: list[JobRow] = await self._writer.run(CLAIM, Claiming(room, other, claim, self._number, now))
        return rows

    def mark_started(self, rows: Sequence[JobRow]) -> Awaitable[list[bool]]:
        """Write start marks, behind if nobody awaits it."""
        self._role.require()
        marked = self._writer.submit(MARK_STARTED, [StartMark.of(row) for row in rows], rows=len(rows))
        marked.add_done_callback(_heard)
        return marked

    async def settle(
        self, settlements: Sequence[Settlement], *, now: int, claim: Claim | None = None, tallies: Tallies | None = None
    ) -> Settled:
        """Write what attempts have led to; finished jobs go to their archives first."""
        self._role.require()
        await self._pending.room()
        return await self._mover.settle(Settling(settlements, now, self._taking(claim), tallies))

    async def release(self, rows: Sequence[JobRow], *, now: int) -> None:
        """Hand back claims that were never started."""
        self._role.require()
        await self._run(RELEASE, Releasing({row.id: row.owner for row in rows}, now), rows=len(rows))

    async def cancel(
        self,
        ids: Sequence[int],
        *,
        by: str | None,
        now: int,
        claim: Claim | None = None,
    ) -> list[Cancelling]:
        """Cancel waiting jobs."""
        self._role.require()
        answers: list[Cancelling] = await self._run(CANCEL, CancelCall(ids, by, now), rows=len(ids))
        return answers

    async def update(
        self, id: int, *, now: int, run_after: int | None = None, priority: int | None = None, queue: str | None = None
    ) -> bool:
        """Change a waiting job."""
        self._role.require()
        changed: bool = await self._run(UPDATE, Update(id, now, run_after, priority, queue))
        return changed

    async def reinsert(self, rows: Sequence[JobRow], *, now: int, claim: Claim | None = None) -> list[Inserted | None]:
        """Store requeued jobs; one that has ended but was not moved yet is moved first."""
        self._role.require()
        await self._mover.move_ended(now=now)
        call = Insertion(rows, now, self._taking(claim))
        inserted: list[Inserted | None] = await self._run(REINSERT, call, rows=len(rows), size=size_of(rows))
        return inserted

    async def promote_due(self, *, now: int, claim: Claim | None = None, limit: int = 1000) -> Promoted:
        """Wake and expire."""
        self._role.require()
        promoted: Promoted = await self._run(PROMOTE, Waking(now, self._taking(claim), limit))
        return promoted

    async def rescue(self, *, now: int, limit: int = 1000) -> Rescued:
        """Look for what dead processes owned: every owner but this one is dead, since this one has the lock."""
        self._role.require()
        rescued: Rescued = await self._run(RESCUE, Rescuing(self._number, now, limit))
        return rescued

    async def sweep(self, *, now: int, claim: Claim | None = None) -> Settled:
        """Go on with dependents, and with moves to archives that were away."""
        self._role.require()
        settled: Settled = await self._run(SWEEP, Waking(now, self._taking(claim)))
        settled.written += [True] * await self._mover.move_ended(now=now)
        return settled

    async def report(self, rows: Sequence[ProgressRow]) -> None:
        """Keep the newest progress."""
        await self._writer.run(REPORT, rows, rows=len(rows))

    async def append_logs(self, rows: Sequence[LogRow]) -> None:
        """Append to the month file of each job."""
        if rows:
            await self._archiver.append_logs(rows)

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def job(self, id: int | str) -> Found | None:
        """A job by id or ref id."""
        return await self._reader.job(id)

    async def jobs(self, ids: Sequence[int]) -> list[Found]:
        """Several jobs."""
        return await self._reader.jobs(ids)

    async def runs(self, id: int) -> list[JobRow]:
        """All runs of a job."""
        return await self._reader.runs(id)

    async def find(self, wanted: JobFilter, *, after: int | None, limit: int) -> list[SummaryRow]:
        """Matching jobs."""
        return await self._reader.find(wanted, after=after, limit=limit)

    async def count(self, wanted: JobFilter, *, limit: int) -> int:
        """How many match."""
        return await self._reader.count(wanted, limit=limit)

    async def logs(self, id: int, *, after: int, limit: int) -> list[LogLine]:
        """Lines of a job's log."""
        return await self._reader.logs(id, after=after, limit=limit)

    async def finished(self, ids: Collection[int]) -> set[int]:
        """Which have ended."""
        return await self._reader.finished(ids)

    async def cancelled_dependents(self, id: int) -> list[int]:
        """Who was cancelled because of it."""
        return await self._reader.cancelled_dependents(id)

    async def lanes(self) -> list[LaneCount]:
        """Live jobs by queue and worker."""
        return await self._reader.lanes()

    async def pending_commands(self) -> set[str]:
        """Commands of claimable jobs."""
        return await self._reader.pending_commands()

    async def tallies(self, *, since: int) -> Tallies:
        """Roll-ups."""
        return await self._reader.tallies(since=since)

    async def months(self) -> list[MonthInfo]:
        """Month files; what is on its way there counts."""
        await self._mover.drain()
        return await self._reader.months()

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def register(self, node: NodeRow) -> None:
        """Store a new node; its number is this process's from now on."""
        node.number = self._number = await self._writer.run(REGISTER, node)

    async def heartbeat(self, node: NodeRow) -> None:
        """Store the node's present values."""
        await self._writer.run(HEARTBEAT, node)

    async def nodes(self) -> list[NodeRow]:
        """All nodes known. One that was killed while it executed could not say so; its lock does."""
        nodes = await self._reader.nodes()
        if not self._locks.executor_present():
            for node in nodes:
                if node.executing:
                    node.executing, node.stopped = False, node.heartbeat
        return nodes

    async def owned(self) -> set[int]:
        """One process executes: nobody need ask."""
        return set()

    async def disown(self, ids: Collection[int]) -> None:
        """Nothing is lost here that was told."""

    async def time(self) -> int | None:
        """All processes are on one machine."""
        return None

    async def steer(self, action: str, arguments: dict[str, Any], *, timeout: float) -> Any:
        """Ask the executing process, and wait for its answer."""
        return await self._steering.steer(action, arguments, patience=timeout)

    async def intents(self) -> list[Intent]:
        """What others ask of this process."""
        return await self._reader.intents()

    async def answer(self, intent: Intent, answer: Any) -> None:
        """Answer an intent."""
        await self._steering.answer(intent, answer)

    # ── moving to another storage ───────────────────────────────────────────────────────────────────────────────────

    async def hold_still(self) -> None:
        """Become the executing process, and execute nothing."""
        if not await self._role.take(now=_now(), on_wake=self._wake, moves=True):
            pid = self._locks.executor_pid()
            who = "A process" if pid is None else f"Process {pid}"
            raise StorageUnavailable(f"{who} executes the jobs of {self._path}. Stop it first.")

    async def contents(self, *, month: date | None = None) -> Contents:
        """What there is."""
        return await self._carrier.contents(month)

    async def carry(self, *, after: int, limit: int, month: date | None = None) -> list[Carried]:
        """The next jobs."""
        return await self._carrier.carry(after, limit, month)

    async def copying(self) -> Copying | None:
        """The copy that is being made here, or was."""
        return await self._reader.copying()

    async def begin_copy(self, copying: Copying) -> None:
        """Note that a copy begins."""
        self._role.require()
        await self._taker_in.begin(copying)

    async def take_in(
        self, carried: Sequence[Carried], *, copying: Copying | None = None, tallies: Tallies | None = None
    ) -> int:
        """Store jobs as they are."""
        self._role.require()
        return await self._taker_in.take_in(Piece(carried, copying, tallies))

    # ── care ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def drop_month(self, month: date) -> int:
        """Delete a month: summaries first, so that a kill in between leaves a file that is dropped again."""
        self._role.require()
        await self._mover.drain()
        first, following = month_range(month)
        dropped = after = 0
        while ids := await self._reader.summaries_of_month(first, following, after=after, most=DROPPED_AT_ONCE):
            dropped += await self._writer.run(DROP_SUMMARIES, ids, rows=len(ids))
            after = ids[-1]
        await self._reader.archives.forget(month)
        await self._archiver.call(month, lambda: self._delete_file(month))
        return dropped

    def _delete_file(self, month: date) -> None:
        self._archiver.forget(month)
        self._months.delete(month)

    async def backup(self, directory: str) -> list[str]:
        """Copy all files, beside the work."""
        stop = threading.Event()
        try:
            return await asyncio.to_thread(
                backup_files, str(self._path), self._month_paths, directory, stop, note=SQL["mark_copy"]
            )
        finally:
            stop.set()

    def _month_paths(self) -> list[str]:
        return [str(self._months.path(month)) for month in self._months.existing()]

    async def check(self) -> list[str]:
        """What is wrong with the files now."""
        wrong = [] if self._writer.damage is None else [str(self._writer.damage)]
        wrong += [str(error) for error in list(self._archiver.trouble.values())]
        wrong += [
            f"{file} is a damaged archive that was put aside; its month was begun anew. Recover it with "
            f"`sqlite3 {file} .recover`, or delete it if its jobs are not needed."
            for file in self._months.quarantined()
        ]
        log = self._path.with_name(self._path.name + "-wal")
        with suppress(OSError):
            if log.stat().st_size > LARGE_WAL:
                wrong.append(
                    f"{log} has {log.stat().st_size:,} bytes: something has been reading {self._path} for long, so "
                    "that its log cannot begin anew. Look for a backup or a shell with an open transaction."
                )
        if not self._locks.intact():
            wrong.append(
                f"{self._path}.lock was deleted or replaced: processes that start now do not see this one. Restart all."
            )
        return wrong

    # ── within ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self, kind: Kind, payload: Any, *, rows: int = 1, size: int = 0) -> Awaitable[Any]:
        return self._writer.run(kind, payload, rows=rows, size=size, after=self._mover.after)

    def _ring(self) -> None:
        if not self._locks.executes:
            self._wakeup.send()

    def _taking(self, claim: Claim | None) -> Taking | None:
        return Taking(claim, self._number) if claim is not None and self._number and self._locks.executes else None

    def _wake(self) -> None:
        if self._is_open:
            self._on_wake()

    def _ended(self, rows: Sequence[JobRow]) -> None:
        if self._on_ended is not None:
            self._on_ended(rows)

    def _blame(self) -> str:
        pid = self._locks.writer_pid()
        who = "Its disk is slow" if pid is None else f"Process {pid} has not let go of it"
        return f"{self._path} could not be written for {self._deadline:g} s. {who}."


def _now() -> int:
    return time.time_ns() // 1000


def _heard(future: "asyncio.Future[Any]") -> None:
    """Whoever asked for a start mark need not listen to its error."""
    if not future.cancelled():
        future.exception()
