"""`SqlStorage`: a `Storage` on a server, for many nodes on one queue. A database adds a driver, a dialect, its schema,
and what it can do to tell other nodes.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from copy import copy
from datetime import date
from functools import partial
from itertools import count
from secrets import token_hex
from typing import Any, TypeVar

from commandjobs.errors import InvalidOption, StorageError, StorageUnavailable
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
    NobodyExecutes,
    Promoted,
    Rescued,
    Settled,
)
from commandjobs.storage.queries import Statement
from commandjobs.storage.sql import claiming, inserting, settling, taking_in, waiting
from commandjobs.storage.sql.carrying import Carrier
from commandjobs.storage.sql.change import Change, Taking
from commandjobs.storage.sql.claiming import StartMark, reports
from commandjobs.storage.sql.claims import Claiming
from commandjobs.storage.sql.dialect import Dialect
from commandjobs.storage.sql.driver import Connection, Driver
from commandjobs.storage.sql.find import where
from commandjobs.storage.sql.gathering import Gathered, Gathering
from commandjobs.storage.sql.inserting import Insertion
from commandjobs.storage.sql.joining import Joiner
from commandjobs.storage.sql.lease import Lease
from commandjobs.storage.sql.logs import log_lines
from commandjobs.storage.sql.nodes import DAY, is_gone, machine, node_columns, to_node
from commandjobs.storage.sql.polling import Poller
from commandjobs.storage.sql.reader import Reader
from commandjobs.storage.sql.rows import to_copying, to_row, to_summary
from commandjobs.storage.sql.settling import Settling
from commandjobs.storage.sql.taking_in import Piece
from commandjobs.storage.sql.tallies import TallyBook, tally_rows
from commandjobs.storage.sql.transactions import DEADLINE, Transactions, Try
from commandjobs.storage.sql.watching import CommitWatch

T = TypeVar("T")

LEASE = 30.0
DROPPED_AT_ONCE = 500
TAKING_IN = 60.0
"""Seconds in which a piece of jobs from another storage must be written."""

_log = logging.getLogger("commandjobs.storage")


class SqlStorage:
    """A `Storage` over named statements and a driver."""

    capabilities: Capabilities = Capabilities(many_nodes=True)

    def __init__(self, driver: Driver, dialect: Dialect, *, lease: float = LEASE, deadline: float = DEADLINE) -> None:
        """lease: seconds after which a silent node is dead. deadline: seconds for a call."""
        self._driver = driver
        self._dialect = dialect
        self._lease_seconds = lease
        self._deadline = deadline
        self._is_open = False
        self._executes = False
        self._node = 0
        self._columns: dict[str, Any] = {}

    # ── beginning and end ───────────────────────────────────────────────────────────────────────────────────────────

    async def open(
        self,
        *,
        on_wake: Callable[[], None],
        on_ended: Callable[[Sequence[JobRow]], None] | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        """Connect, and bring the schema up to date."""
        self._on_wake, self._on_ended, self._on_lost = on_wake, on_ended, on_lost
        self._transactions = Transactions(self._driver, deadline=self._deadline)
        self._transactions.make_month = self._make_month
        self._reader = Reader(self._dialect, self._transactions)
        self._simple = Gathering[Insertion](self._write_simple)
        self._others = Gathering[Insertion](self._write_others)
        self._changes = Gathering[Sequence[StartMark] | Settling](self._write_changes)
        self._under_way = set[asyncio.Task[Any]]()
        self._tokens = count(time.time_ns() // 1000)
        self._tallies = TallyBook()
        self._lease: Lease | None = None
        self._served = set[int]()
        self._last_claim: Claim | None = None
        self._loop = asyncio.get_running_loop()
        self._joiner = Joiner(
            self._dialect, databases=self.databases, place=self._driver.place, seen=self._seen, meaning=self.meaning
        )
        self._commits = CommitWatch(visible=self._visible, tell=self._tell)
        self._poller = Poller(stirred=self._stirred, wake=self._wake, pace=self.pace)
        await self._prepare()
        if self.capabilities.transactional_enqueue:
            await self._joiner.locate()
        self._is_open = True

    async def close(self) -> None:
        """Write what is under way, and close."""
        if not self._is_open:
            return
        self._is_open = False
        self._executes = False
        await self._poller.stop()
        await self._commits.stop()
        for stream in (self._simple, self._others, self._changes):
            await stream.drained()
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=self._deadline)
        if self._lease is not None:
            await self._lease.close()
        await self._end()
        await self._driver.close()

    async def _prepare(self) -> None:
        """Whatever a database does before its first call."""

    async def _end(self) -> None:
        """Whatever a database does after its last."""

    def pace(self) -> tuple[float, float]:
        """Seconds between looks for what other nodes have left: the shortest, and the longest when nothing happens."""
        return 0.02, 0.25

    databases: frozenset[str] = frozenset()
    """What SQLAlchemy and Django call this kind of database."""

    def meaning(self, error: Exception, kind: str) -> Exception:
        """What an error on a connection of a caller's means. kind: what the connection is.

        `Taken` is tried again, `InvalidOption` and `StorageError` are raised; anything else is the caller's as it is.
        """
        return error

    def ring(self) -> None:
        """Tell other nodes that there is something to do, if that can be done."""

    # ── who executes ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def executes(self) -> bool:
        """Whether this node may own jobs now."""
        return self._executes

    async def try_execute(self) -> bool:
        """Every node may, once all jobs are here."""
        copying = await self.copying()
        if copying is not None:
            copying.check_done(self._driver.place)
        self._executes = True
        self._poller.start()
        return True

    async def resign(self) -> None:
        """Own no more jobs."""
        self._executes = False
        await self._poller.stop()

    async def steer(self, action: str, arguments: dict[str, Any], *, timeout: float) -> Any:
        """Every process changes jobs itself."""
        raise NobodyExecutes(action)

    async def intents(self) -> list[Intent]:
        """Jobs of this node that another one wants to end: one intent for each who asked."""
        wanted: dict[str | None, list[int]] = {}
        for id, by in await self._cancellations():
            wanted.setdefault(by, []).append(id)
        return [Intent(0, "cancel", {"ids": ids, "by": by}) for by, ids in wanted.items()]

    async def answer(self, intent: Intent, answer: Any) -> None:
        """It is seen to: its jobs end as soon as they can."""
        self._served.update(intent.arguments["ids"])

    async def _cancellations(self) -> list[tuple[int, str | None]]:
        found = await self._reader.rows("cancellations", owner=self._node)
        self._served &= {id for id, _ in found}
        return [(id, by) for id, by in found if id not in self._served]

    # ── a job's life ────────────────────────────────────────────────────────────────────────────────────────────────

    def insert(
        self, rows: Sequence[JobRow], *, now: int, claim: Claim | None = None, landed: Landed | None = None
    ) -> Awaitable[Any]:
        """Store new jobs."""
        self._check_open()
        call = Insertion(rows, now, self._taking(claim))
        if not rows:
            return _done([] if landed is None else landed(rows, []))
        if call.is_simple:
            stream = self._simple
        elif call.goes_singly:
            return self._spawn(self._insert_singly(call, landed))
        else:
            stream = self._others
        if stream.is_full:
            return self._insert_later(stream, call, landed)
        return stream.put(call, rows=len(rows), landed=_told(call, landed))

    async def _insert_later(self, stream: Gathering[Insertion], call: Insertion, landed: Landed | None) -> Any:
        await stream.room()
        return await stream.put(call, rows=len(call.rows), landed=_told(call, landed))

    async def _insert_singly(self, call: Insertion, landed: Landed | None) -> Any:
        async def insert(change: Change, this: Try) -> list[Inserted]:
            if this.unknown and (before := await inserting.stored_before(change, call)) is not None:
                return before
            return await inserting.insert(change, call)

        inserted = await self._change(insert, call.now, call.taking, only_own=True, for_names=True)
        return inserted if landed is None else landed(call.rows, inserted)

    async def insert_within(
        self, rows: Sequence[JobRow], *, connection: Any, blocking: bool, now: int
    ) -> list[Inserted]:
        """Store new jobs in a transaction of the caller's."""
        self._check_open()
        inserted = await self._joiner.join(connection, rows, blocking=blocking, now=now)
        new = [answer.id for answer in inserted if answer.conflict is None]
        if new:
            self._loop.call_soon_threadsafe(self._commits.expect, max(new))  # all are there with any of them
        return inserted

    async def claim(self, room: Mapping[str, int], other: int, *, claim: Claim, now: int) -> list[JobRow]:
        """Own claimable jobs."""
        self._last_claim = claim
        call = Claiming(dict(room), other, claim, self._node, next(self._tokens), now)

        async def own(connection: Connection, this: Try) -> list[JobRow]:
            if this.unknown and (rows := await self._claimed_by(connection, call.owner, call.token)):
                return rows
            return await self._dialect.claim(connection, call)

        return await self._spawn(self._transactions.write(own, alone=self._dialect.claims_alone))

    def mark_started(self, rows: Sequence[JobRow]) -> Awaitable[list[bool]]:
        """Write start marks, behind if nobody awaits it."""
        self._check_open()
        marked = self._changes.put([StartMark.of(row) for row in rows], rows=len(rows))
        marked.add_done_callback(_heard)
        return marked

    async def settle(
        self, settlements: Sequence[Settlement], *, now: int, claim: Claim | None = None, tallies: Tallies | None = None
    ) -> Settled:
        """Write what attempts have led to."""
        self._check_open()
        if not settlements and not tallies:
            return Settled([])
        call = Settling(settlements, now, self._taking(claim), tallies)
        settled: Settled = await self._changes.put(call, rows=len(settlements))
        return settled

    async def release(self, rows: Sequence[JobRow], *, now: int) -> None:
        """Hand back claims that were never started."""
        owners = {row.id: row.owner for row in rows}
        if owners:
            await self._spawn(self._change(lambda change, _: claiming.release(change, owners), now))

    async def cancel(
        self, ids: Sequence[int], *, by: str | None, now: int, claim: Claim | None = None
    ) -> list[Cancelling]:
        """Cancel waiting jobs."""
        if not ids:
            return []
        answers = await self._spawn(self._change(lambda change, _: waiting.cancel(change, ids, by), now))
        if Cancelling.REQUESTED in answers:
            self.ring()
        return answers

    async def update(
        self, id: int, *, now: int, run_after: int | None = None, priority: int | None = None, queue: str | None = None
    ) -> bool:
        """Change a waiting job."""

        async def update(change: Change, _: Try) -> bool:
            return await waiting.update(change, id, run_after=run_after, priority=priority, queue=queue)

        return await self._spawn(self._change(update, now))

    async def reinsert(self, rows: Sequence[JobRow], *, now: int, claim: Claim | None = None) -> list[Inserted | None]:
        """Store requeued jobs."""
        if not rows:
            return []
        call = Insertion(rows, now, self._taking(claim))

        async def reinsert(change: Change, _: Try) -> list[Inserted | None]:
            return await inserting.reinsert(change, call)

        return await self._spawn(self._change(reinsert, now, call.taking, only_own=True))

    async def promote_due(self, *, now: int, claim: Claim | None = None, limit: int = 1000) -> Promoted:
        """Wake and expire."""
        taking = self._taking(claim)
        return await self._spawn(self._change(lambda change, _: waiting.promote_due(change, limit), now, taking))

    async def rescue(self, *, now: int, limit: int = 1000) -> Rescued:
        """Look for what dead nodes owned."""
        await self._bury_neighbours()
        return await self._spawn(self._change(lambda change, _: claiming.rescue(change, limit), now))

    async def sweep(self, *, now: int, claim: Claim | None = None) -> Settled:
        """Go on with dependents."""
        taking = self._taking(claim)
        return await self._spawn(self._change(lambda change, _: waiting.sweep(change), now, taking, told=True))

    async def report(self, rows: Sequence[ProgressRow]) -> None:
        """Keep the newest progress."""
        if rows:
            await self._run_alone("report", rows=reports(rows))

    async def append_logs(self, rows: Sequence[LogRow]) -> None:
        """Append to the jobs' logs."""
        if rows:
            await self._run_alone("append_logs", rows=log_lines(rows))

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
        conditions, parameters = where(wanted, after, self._dialect.bodies)
        found = await self._reader.run(self._dialect.find(conditions), **parameters, limit=limit)
        return [to_summary(columns) for columns in found]

    async def count(self, wanted: JobFilter, *, limit: int) -> int:
        """How many match."""
        conditions, parameters = where(wanted, None, self._dialect.bodies)
        [(number,)] = await self._reader.run(self._dialect.count(conditions), **parameters, limit=limit)
        return int(number)

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
        """Archive months in which something lies."""
        months = await self._months()
        ranges = [month_range(month) for month in months]
        found = await self._reader.rows(
            "newest_ends",
            numbers=list(range(len(months))),
            firsts=[first for first, _ in ranges],
            followings=[following for _, following in ranges],
        )
        ends = {number: newest for number, newest in found if newest is not None}
        return [MonthInfo(month, ends[number]) for number, month in enumerate(months) if number in ends]

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def register(self, node: NodeRow) -> None:
        """Store a new node; its number is this process's from now on, and its lease is kept."""
        columns = {
            **node_columns(node),
            "machine": machine(),
            "lease": round(self._lease_seconds * 1_000_000),
        }

        async def register(connection: Connection, _: Try) -> int:
            number = await self._dialect.add_node(connection, columns)
            if self._node and self._lease is None:  # it was lost
                await connection.run(self._dialect.sql["bury_nodes"], numbers=[self._node])
            await connection.run(self._dialect.sql["forget_nodes"], before=node.started - DAY)
            return number

        number = await self._spawn(self._transactions.write(register))
        if self._lease is not None:
            await self._lease.close()
        node.number = self._node = number
        self._columns = columns
        self._tallies = TallyBook()
        self._lease = Lease(
            self._driver.another(), self._dialect, number=number, seconds=self._lease_seconds, lost=self._lose_lease
        )

    async def heartbeat(self, node: NodeRow) -> None:
        """Store the node's present values."""
        values = node_columns(node)
        await self._run_alone("keep_node", **values, number=node.number)

    async def nodes(self) -> list[NodeRow]:
        """All nodes known."""
        return [to_node(columns) for columns in await self._reader.rows("nodes")]

    async def owned(self) -> set[int]:
        """Jobs that this node owns."""
        return {id for (id,) in await self._reader.rows("owned", owner=self._node)}

    async def disown(self, ids: Collection[int]) -> None:
        """Give jobs to a node that is dead from the start."""
        columns = {**self._columns, "id": token_hex(16), "name": f"{self._columns['name']} (forgotten)"}

        async def give_away(connection: Connection, _: Try) -> None:
            grave = await self._dialect.add_node(connection, columns)
            await connection.run(self._dialect.sql["bury_nodes"], numbers=[grave])
            await connection.run(self._dialect.sql["disown"], ids=list(ids), owner=self._node, grave=grave)

        await self._spawn(self._transactions.write(give_away))

    async def time(self) -> int | None:
        """The database's time."""

        async def read(connection: Connection) -> int:
            asked = time.monotonic_ns()
            [(moment,)] = await connection.rows(self._dialect.sql["clock"])
            return int(moment) + (time.monotonic_ns() - asked) // 2000

        return await self._transactions.look(read)

    def _lose_lease(self) -> None:
        """This node is dead to the others: whatever it still owns is not its own any more."""
        self._lease = None
        if self._on_lost is not None and self._is_open:
            self._on_lost()

    async def _bury_neighbours(self) -> None:
        """Processes of this machine that are gone need not be waited for."""
        here = machine()
        if here is None:
            return
        others = await self._reader.rows("neighbours", machine=here, number=self._node)
        gone = [number for number, pid in others if is_gone(pid)]
        if gone:
            await self._run_alone("bury_nodes", numbers=gone)

    # ── moving to another storage ───────────────────────────────────────────────────────────────────────────────────

    async def hold_still(self) -> None:
        """Nobody executes now. (Whoever begins to is seen when the copy ends, or is refused where it goes to.)"""
        for name, pid in await self._reader.rows("workers"):
            raise StorageUnavailable(
                f"Node {name} (process {pid}) executes the jobs of {self._driver.place}. Stop it first. If it is gone, "
                f"its lease ends within {self._lease_seconds:g} s."
            )

    async def contents(self, *, month: date | None = None) -> Contents:
        """What there is."""
        return await Carrier(self._reader).contents(month)

    async def carry(self, *, after: int, limit: int, month: date | None = None) -> list[Carried]:
        """The next jobs."""
        return await Carrier(self._reader).carry(after, limit, month)

    async def copying(self) -> Copying | None:
        """The copy that is being made here, or was."""
        found = await self._reader.rows("copying")
        return to_copying(found[0]) if found else None

    async def begin_copy(self, copying: Copying) -> None:
        """Note that a copy begins."""

        async def begin(connection: Connection, _: Try) -> None:
            await taking_in.begin_copy(self._dialect, connection, copying)

        await self._spawn(self._transactions.write(begin))

    async def take_in(
        self, carried: Sequence[Carried], *, copying: Copying | None = None, tallies: Tallies | None = None
    ) -> int:
        """Store jobs as they are."""
        piece = Piece(carried, copying, tallies)

        async def write(connection: Connection, _: Try) -> int:
            return await taking_in.take_in(self._dialect, connection, piece)

        return await self._spawn(self._transactions.write(write, deadline=time.monotonic() + TAKING_IN))

    # ── care ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def drop_month(self, month: date) -> int:
        """Delete a month: summaries first, so that a process that dies in between leaves one that is dropped again."""
        first, following = month_range(month)
        dropped = after = 0
        while True:
            found = await self._reader.rows(
                "summaries_of_month", first=first, following=following, after=after, most=DROPPED_AT_ONCE
            )
            if not found:
                break
            ids = [id for (id,) in found]
            await self._spawn(self._transactions.write(lambda connection, _, ids=ids: self._forget(connection, ids)))  # type: ignore[misc]
            dropped, after = dropped + len(ids), ids[-1]
        await self._drop_tables(month)
        return dropped

    async def _forget(self, connection: Connection, ids: list[int]) -> None:
        await connection.run(self._dialect.sql["drop_dependencies"], ids=ids)
        await connection.run(self._dialect.sql["drop_summaries"], ids=ids)

    async def _months(self) -> list[date]:
        """The months that the archive has room for."""
        raise NotImplementedError

    async def _make_month(self, month: date) -> None:
        """Make room for a month in the archive."""
        raise NotImplementedError

    async def _drop_tables(self, month: date) -> None:
        """Take a month out of the archive."""
        raise NotImplementedError

    async def backup(self, directory: str) -> list[str]:
        """A server's database is saved by its own tools."""
        raise InvalidOption(
            f"{self._driver.place} is not copied to {directory!r}: save it with the tools of its server, as you save "
            "your other databases."
        )

    async def check(self) -> list[str]:
        """What is wrong now."""
        return []

    # ── shared commits ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _write_simple(self, calls: Sequence[Gathered[Insertion]]) -> None:
        """Rows that wait for nothing but their claim: all calls by one statement."""
        rows: list[JobRow] = []
        for call in calls:
            insertion = call.payload
            rows += insertion.rows
            for row in insertion.rows:
                row.id, row.owner = 0, None
                if insertion.taking is not None and insertion.taking.claim.fits(row):
                    row.owner = insertion.taking.owner
        taking = calls[0].payload.taking
        token = taking.token if taking is not None else None

        async def insert(connection: Connection, this: Try) -> list[int]:
            if this.unknown:  # either all of them are there, or none
                refs = [row.ref_id for row in rows]
                found = {ref: id for ref, id in await connection.rows(self._dialect.sql["taken_refs"], refs=refs)}  # noqa: C416
                if found:
                    return [found[ref] for ref in refs]
            return await self._dialect.insert_simple(connection, rows, token=token)

        try:
            alone, deadline = self._dialect.inserts_alone(rows), calls[0].since + self._deadline
            ids = await self._transactions.write(insert, alone=alone, deadline=deadline)
        except StorageError:
            raise
        except Exception:
            if len(calls) == 1:
                raise
            for call in calls:
                await self._alone(self._write_simple, call)
            return
        for row, id in zip(rows, ids, strict=True):
            row.id = id
        for call in calls:
            call.succeed([Inserted(row.id, row.ref_id, None, row.owner is not None) for row in call.payload.rows])
        if any(row.owner is None for row in rows):
            self.ring()

    async def _write_others(self, calls: Sequence[Gathered[Insertion]]) -> None:
        """Rows that need more than a claim, and have no names that others may hold: all calls in one transaction."""
        insertions = [call.payload for call in calls]
        whole = Insertion(
            [row for insertion in insertions for row in insertion.rows],
            max(insertion.now for insertion in insertions),
            insertions[0].taking,
        )
        if any(insertion.taking is None for insertion in insertions) and whole.taking is not None:
            for call in calls:  # with and without a claim: not together
                await self._alone(self._write_others, call)
            return
        if whole.taking is None and any(insertion.taking is not None for insertion in insertions):
            for call in calls:
                await self._alone(self._write_others, call)
            return

        async def insert(change: Change, this: Try) -> list[Inserted]:
            if this.unknown and (before := await inserting.stored_before(change, whole)) is not None:
                return before
            return await inserting.insert(change, whole)

        try:
            inserted = await self._change(insert, whole.now, whole.taking, only_own=True)
        except StorageError:
            raise
        except Exception:
            if len(calls) == 1:
                raise
            for call in calls:
                await self._alone(self._write_others, call)
            return
        answers = iter(inserted)
        for call in calls:
            call.succeed([next(answers) for _ in call.payload.rows])

    async def _alone(self, write: Callable[[Sequence[Gathered[T]]], Awaitable[None]], call: Gathered[T]) -> None:
        """One call by itself: what is wrong with it is no other's trouble."""
        try:
            await write([call])
        except Exception as error:
            call.fail(error)

    async def _write_changes(self, calls: Sequence[Gathered[Sequence[StartMark] | Settling]]) -> None:
        """Start marks first: they are of jobs that run. What has ended by now needs none."""
        marks: list[tuple[Gathered[Any], Sequence[StartMark]]] = []
        settlings: list[tuple[Gathered[Any], Settling]] = []
        for call in calls:
            if isinstance(call.payload, Settling):
                settlings.append((call, call.payload))
            else:
                marks.append((call, call.payload))
        if marks:
            try:
                await self._write_marks(marks)
            except Exception as error:
                for call, _ in marks:
                    call.fail(error)
        for call, settling_call in settlings:
            try:
                call.succeed(await self._settle(settling_call))
            except Exception as error:
                call.fail(error)

    async def _write_marks(self, calls: Sequence[tuple[Gathered[Any], Sequence[StartMark]]]) -> None:
        wanted = [mark.columns for _, marks in calls for mark in marks if mark.is_wanted]

        async def mark(connection: Connection, _: Try) -> set[int]:
            return await self._dialect.mark_started(connection, wanted)

        written = await self._transactions.write(mark, alone=True) if wanted else set[int]()
        for call, marks in calls:
            call.succeed([mark.is_wanted and mark.columns["id"] in written for mark in marks])

    async def _settle(self, call: Settling) -> Settled:
        book, node = self._tallies, self._node
        counted = book.with_more(call.tallies) if call.tallies else None

        async def settle(change: Change, this: Try) -> Settled:
            settled = await settling.settle(change, call, again=this.unknown)
            if counted:
                await change.connection.run(self._dialect.sql["write_tallies"], rows=tally_rows(counted, node))
            return settled

        settled = await self._change(settle, call.now, call.taking, told=True)
        if counted:
            book.note(counted)
        return settled

    # ── within ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _change(
        self,
        work: Callable[[Change, Try], Awaitable[T]],
        now: int,
        taking: Taking | None = None,
        *,
        only_own: bool = False,
        told: bool = False,
        for_names: bool = False,
    ) -> T:
        """One change in one transaction, and what follows from it here. told: its answer says what became claimable."""

        async def transact(connection: Connection, this: Try) -> tuple[Change, T]:
            change = Change(self._dialect, connection, now, taking, only_own=only_own, locked=this.lanes)
            if this.lanes:
                await connection.run(self._dialect.sql["lock_lanes"], numbers=sorted(this.lanes))
            answer = await work(change, this)
            if this.unknown and taking is not None and not only_own:
                change.claimed[:] = await self._claimed_by(connection, taking.owner, taking.token)
            return change, answer

        change, answer = await self._transactions.write(transact, for_names=for_names)
        if change.ended and self._on_ended is not None:
            self._on_ended([copy(row) for row in change.ended])
        if change.unswept or change.timed or (change.ready and not told):
            self._wake()
        if change.claimable or change.unswept:
            self.ring()
        return answer

    async def _claimed_by(self, connection: Connection, owner: int, token: int) -> list[JobRow]:
        found = await connection.rows(self._dialect.sql["claimed_by"], owner=owner, token=token)
        return [to_row(columns) for columns in found]

    async def _run_alone(self, name: str, /, **parameters: Any) -> None:
        await self._run_statement(self._dialect.sql[name], **parameters)

    async def _run_statement(self, statement: Statement, /, **parameters: Any) -> None:
        async def run(connection: Connection, _: Try) -> None:
            await connection.run(statement, **parameters)

        await self._spawn(self._transactions.write(run, alone=True))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Future[T]":
        """Do it to its end, also if the caller gives up: what is half-way must not stay there."""
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended_work)
        return asyncio.shield(task)

    def _ended_work(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may be gone

    async def _seen(self, name: str, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """What a connection of our own sees, also for callers in other threads."""
        if running_loop() is self._loop:
            return await self._reader.rows(name, **parameters)
        return asyncio.run_coroutine_threadsafe(self._reader.rows(name, **parameters), self._loop).result()

    async def _visible(self, ids: list[int]) -> set[int]:
        return {id for (id,) in await self._reader.rows("known_among", ids=ids)}

    def _tell(self) -> None:
        """Transactions of callers have committed."""
        self._wake()
        self.ring()

    async def _stirred(self) -> bool:
        """Whether there is anything for this node: due, left to sweep, to be ended, or claimable and known here."""
        [(stirred,)] = await self._reader.rows("stirred")
        if stirred or await self._cancellations():
            return True
        claim = self._last_claim
        kinds = await self._reader.kinds() if claim is not None else ()
        return claim is not None and any(command in claim.commands and claim.serves(queue) for queue, command in kinds)

    def _taking(self, claim: Claim | None) -> Taking | None:
        if claim is None or not self._node or not self._executes:
            return None
        return Taking(claim, self._node, next(self._tokens))

    def _wake(self) -> None:
        if self._is_open:
            self._on_wake()

    def _check_open(self) -> None:
        if not self._is_open:
            raise StorageUnavailable(f"The queue at {self._driver.place} was closed.")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _done(answer: T) -> T:
    return answer


def _told(call: Insertion, landed: Landed | None) -> Callable[[Any], Any] | None:
    return None if landed is None else partial(landed, call.rows)


def _heard(future: "asyncio.Future[Any]") -> None:
    """Whoever asked for a start mark need not listen to its error."""
    if not future.cancelled():
        future.exception()
