"""Everything in the memory of one process: the reference implementation of a storage, and what tests run on.

Each call does its work in one go, without giving way to another task in between, so it is atomic by itself. Calls that
write yield to the loop once before they begin, as a storage that has to wait for a disk would.

Reading order: `Line` (ids in an order), `Turns` (where waiting jobs stand, and who has which lane), `Month` (an
archive), `MemoryStorage`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import date
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any, TypeVar

from commandjobs.errors import ErrorCode, InvalidOption, StorageUnavailable, UnknownDependency
from commandjobs.model.carried import Carried, KeptLine, Tie, holds_key
from commandjobs.model.find import JobFilter
from commandjobs.model.job import JobError, LogLine
from commandjobs.model.moment import month_of, to_datetime, to_moment
from commandjobs.model.node import NodeRow
from commandjobs.model.row import JobRow, LogRow, ProgressRow, SummaryRow
from commandjobs.model.settle import (
    ATTEMPT_FAILED,
    EXPIRED,
    PARENT_FAILED,
    RELEASED_BY,
    Settlement,
    attempt_is_lost,
    can_expire,
    cancel_waiting,
    heed_cancellation,
    lane_hold,
    request_cancellation,
)
from commandjobs.model.state import Hold, JobState, hold_for
from commandjobs.model.stats import Tallies, merge_tallies
from commandjobs.storage.base import (
    NOT_HERE,
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
    in_the_way,
)

DEPENDENTS_AT_ONCE = 1_000
"""How many dependents one call releases or cancels; the others wait for `sweep`."""
DAY = 86_400_000_000
"""Microseconds."""
MARKED = (
    "state", "attempts", "callback_attempts", "started", "last_activity", "node", "suspect", "progress", "status"
)  # fmt: skip
"""Columns of a start mark."""
EXACT = (
    "command", "ref_id", "parent_id", "worker", "queue", "batch_id", "created_by", "user_id", "tenant_id", "error_code"
)  # fmt: skip
"""Columns that a filter compares as they are."""

K = TypeVar("K")
Lane = tuple[str, str]
"""("worker", name) or ("key", concurrency key)."""
Place = tuple[int, int]
"""Where a job stands in a line, the lowest first: its rank there, then its id."""


class Line:
    """Job ids by rank. Leaving costs nothing: an entry that no longer counts is dropped when it comes up."""

    def __init__(self) -> None:
        self._ranks: dict[int, int] = {}
        self._heap: list[Place] = []

    def __len__(self) -> int:
        return len(self._ranks)

    def add(self, id: int, rank: int) -> None:
        self._ranks[id] = rank
        heappush(self._heap, (rank, id))

    def discard(self, id: int) -> None:
        self._ranks.pop(id, None)
        if len(self._heap) > 2 * len(self._ranks) + 64:
            self._heap = [(rank, id) for id, rank in self._ranks.items()]
            heapify(self._heap)

    def first(self) -> Place | None:
        while self._heap and self._ranks.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0] if self._heap else None

    def first_of(self, fits: Callable[[int], bool]) -> Place | None:
        """The first that fits, passing over others, which stay."""
        passed: list[Place] = []
        while (found := self.first()) is not None and not fits(found[1]):
            passed.append(heappop(self._heap))
        for place in passed:
            heappush(self._heap, place)
        return found


class Turns:
    """Where the waiting jobs stand that nobody owns, and who has which lane."""

    def __init__(self, live: Mapping[int, JobRow]) -> None:
        self.due = Line()
        """Parked by TIME; ranked by `run_after`."""
        self.expiring = Line()
        """All that have never started; ranked by `expires`."""
        self.fresh: dict[int, None] = {}
        """Claimable since this write began."""
        self._live = live
        self._ready: dict[str, dict[str, Line]] = {}
        """Claimable, by queue and command; ranked by priority."""
        self._parked: dict[Lane, Line] = {}
        """Parked by LANE, in each lane they need; ranked by priority."""
        self._holders: dict[Lane, int] = {}
        self._stirred: set[Lane] = set()
        """Lanes with a vacancy or a newcomer in this write."""
        self._arrived: list[int] = []

    def enter(self, row: JobRow) -> None:
        """Let a waiting job stand where its `hold` says."""
        if row.expires is not None and can_expire(row):
            self.expiring.add(row.id, row.expires)
        if row.hold is Hold.TIME and row.run_after is not None:
            self.due.add(row.id, row.run_after)
        elif row.hold is Hold.LANE:
            self._park(row)
            self._arrived.append(row.id)
        elif row.hold is None:
            self._make_claimable(row)

    def leave(self, row: JobRow) -> None:
        """Take a job out, whether it waits or is owned; what it held is free."""
        self.due.discard(row.id)
        self.expiring.discard(row.id)
        self._withdraw(row)
        self._unpark(row)
        self._vacate(row)

    def own(self, row: JobRow, owner: int) -> None:
        """Give a claimable job to a node; it keeps its lanes."""
        self.expiring.discard(row.id)
        self._withdraw(row)
        row.owner = owner

    def seat(self, row: JobRow) -> None:
        """An owned row comes from another storage, with its lanes."""
        self._holders.update(dict.fromkeys(lanes_of(row), row.id))

    def calm(self) -> None:
        """At the end of taking in: everybody has the place that he had, and nobody is to be elected."""
        self._stirred.clear()
        self._arrived.clear()
        self.fresh.clear()

    def elect(self) -> None:
        """At the end of a write: give free lanes to the best, and let newcomers push in before worse ones."""
        self._fill()
        arrived = [row for id in self._arrived if (row := self._live.get(id)) is not None]
        self._arrived.clear()
        for row in sorted(arrived, key=turn):
            if row.hold is Hold.LANE:
                self._push_in(row)

    def queues(self) -> list[str]:
        """Queues with claimable jobs."""
        return list(self._ready)

    def commands(self) -> set[str]:
        """Commands of claimable jobs."""
        return {command for lines in self._ready.values() for command in lines}

    def best(self, queue: str, commands: frozenset[str], count: int) -> list[JobRow]:
        """The best claimable jobs of a queue, out of these commands; they are taken out of the line."""
        lines = self._ready[queue]
        heads = [(head, command) for command in commands & lines.keys() if (head := lines[command].first())]
        heapify(heads)
        taken: list[JobRow] = []
        while heads and len(taken) < count:
            (_, id), command = heappop(heads)
            taken.append(self._live[id])
            line = lines[command]
            self._withdraw(taken[-1])
            if head := line.first():
                heappush(heads, (head, command))
        return taken

    def _make_claimable(self, row: JobRow) -> None:
        row.hold = None
        self._unpark(row)
        self._holders.update(dict.fromkeys(lanes_of(row), row.id))
        queue, command = next_step(row)
        self._ready.setdefault(queue, {}).setdefault(command, Line()).add(row.id, -row.priority)
        self.fresh[row.id] = None

    def _withdraw(self, row: JobRow) -> None:
        """No longer claimable."""
        self.fresh.pop(row.id, None)
        queue, command = next_step(row)
        lines = self._ready.get(queue, {})
        _discard(lines, command, row.id)
        if not lines:
            self._ready.pop(queue, None)

    def _park(self, row: JobRow) -> None:
        row.hold = Hold.LANE
        for lane in lanes_of(row):
            self._parked.setdefault(lane, Line()).add(row.id, -row.priority)
            self._stirred.add(lane)

    def _unpark(self, row: JobRow) -> None:
        for lane in lanes_of(row):
            _discard(self._parked, lane, row.id)

    def _vacate(self, row: JobRow) -> None:
        for lane in lanes_of(row):
            if self._holders.get(lane) == row.id:
                del self._holders[lane]
                self._stirred.add(lane)

    def _fill(self) -> None:
        heads = [(head, lane) for lane in self._stirred if (head := self._head(lane))]
        self._stirred.clear()
        heapify(heads)
        while heads:
            (_, id), lane = heappop(heads)
            if self._lanes_are_free(id):
                self._make_claimable(self._live[id])
            elif head := self._head(lane):
                heappush(heads, (head, lane))

    def _head(self, lane: Lane) -> Place | None:
        """Who gets the lane: nobody as long as it is held."""
        if lane in self._holders or lane not in self._parked:
            return None
        return self._parked[lane].first_of(self._lanes_are_free)

    def _lanes_are_free(self, id: int) -> bool:
        return not any(lane in self._holders for lane in lanes_of(self._live[id]))

    def _push_in(self, row: JobRow) -> None:
        rivals = {self._holders[lane] for lane in lanes_of(row) if lane in self._holders}
        holders = [self._live[id] for id in rivals]
        if any(holder.owner is not None or turn(holder) < turn(row) for holder in holders):
            return
        for holder in holders:
            self._withdraw(holder)
            self._vacate(holder)
            self._park(holder)
        self._make_claimable(row)
        self._fill()


@dataclass(slots=True)
class Month:
    """An archive: the full rows of finished jobs created in one month, each with its earlier runs."""

    rows: dict[int, list[JobRow]] = field(default_factory=dict)
    newest_end: int = 0

    def add(self, row: JobRow) -> None:
        self.rows.setdefault(row.id, []).append(row)
        self.newest_end = max(self.newest_end, row.last_activity or 0)


@dataclass(slots=True)
class Ended:
    """A job that has ended, and those of its dependents that have not been told yet."""

    id: int
    state: JobState
    untold: deque[int]


class MemoryStorage:
    """A `Storage` whose jobs live as long as the process; several nodes may register, for tests of rescue."""

    capabilities = Capabilities(durable=False)

    def __init__(self) -> None:
        self._on_wake: Callable[[], None] | None = None
        self._on_ended: Callable[[Sequence[JobRow]], None] | None = None
        self._unheard: list[JobRow] = []
        self._executes = False
        # jobs; newest run of each, in the order of ids
        self._last_id = 0
        self._jobs: dict[int, JobRow] = {}
        self._live: dict[int, JobRow] = {}
        self._ids_by_ref: dict[str, int] = {}
        self._unique: dict[tuple[str, str], int] = {}
        self._turns = Turns(self._live)
        # parents that are unfinished, and who waits for them
        self._open_parents: dict[int, set[int]] = {}
        self._children: dict[int, dict[int, None]] = {}
        self._ended: deque[Ended] = deque()
        self._unswept: deque[Ended] = deque()
        self._cancelled_by_parent: dict[int, dict[int, None]] = {}
        # claims
        self._nodes: dict[int, NodeRow] = {}
        self._node = 0
        self._owned: dict[int, set[int]] = {}
        self._begun: set[int] = set()
        # history
        self._months: dict[date, Month] = {}
        self._logs: dict[int, list[LogLine]] = {}
        self._tallies: Tallies = {}
        # what came from other storages
        self._copying: Copying | None = None
        self._without_row: set[int] = set()
        """Of these jobs there is a summary only."""

    async def open(
        self,
        *,
        on_wake: Callable[[], None],
        on_ended: Callable[[Sequence[JobRow]], None] | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self._on_wake = on_wake
        self._on_ended = on_ended

    async def close(self) -> None:
        self._on_wake = self._on_ended = None

    # ── a job's life ───────────────────────────────────────────────────────────────────────────────────────────────

    async def insert(
        self, rows: Sequence[JobRow], *, now: int, claim: Claim | None = None, landed: Landed | None = None
    ) -> Any:
        await _yield_once()
        unknown = {id for row in rows for id in row.depends_on if id not in self._jobs}
        if unknown:
            raise UnknownDependency.of(unknown)
        inserted = [self._insert(row, now) for row in rows]
        self._hand_back(zip(rows, inserted, strict=True), claim, now)
        return inserted if landed is None else landed(rows, inserted)

    async def insert_within(
        self, rows: Sequence[JobRow], *, connection: Any, blocking: bool, now: int
    ) -> list[Inserted]:
        raise InvalidOption("connection: there is no database here whose transactions a job could be part of.")

    async def claim(self, room: Mapping[str, int], other: int, *, claim: Claim, now: int) -> list[JobRow]:
        await _yield_once()
        claimed: list[JobRow] = []
        for queue in self._turns.queues():
            if claim.serves(queue):
                claimed += self._turns.best(queue, claim.commands, room.get(queue, other))
        for row in claimed:
            self._own(row)
        return [_copied(row) for row in claimed]

    def mark_started(self, rows: Sequence[JobRow]) -> Awaitable[list[bool]]:
        marked: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        marked.set_result([self._mark(row) for row in rows])
        return marked

    async def settle(
        self, settlements: Sequence[Settlement], *, now: int, claim: Claim | None = None, tallies: Tallies | None = None
    ) -> Settled:
        await _yield_once()
        written = [self._settle(settlement, now) for settlement in settlements]
        merge_tallies(self._tallies, tallies or {})
        claimed, ready = self._conclude(claim, now)
        return Settled(written, claimed, ready)

    async def release(self, rows: Sequence[JobRow], *, now: int) -> None:
        await _yield_once()
        for row in rows:
            stored = self._live.get(row.id)
            if stored is not None and stored.owner is not None and stored.owner == row.owner:
                self._release(stored, now)
        self._conclude_and_wake(now)

    async def cancel(
        self, ids: Sequence[int], *, by: str | None, now: int, claim: Claim | None = None
    ) -> list[Cancelling]:
        del claim
        await _yield_once()
        answers = [self._request_cancellation(id, by, now) for id in ids]
        self._conclude_and_wake(now)
        return answers

    async def update(
        self, id: int, *, now: int, run_after: int | None = None, priority: int | None = None, queue: str | None = None
    ) -> bool:
        await _yield_once()
        row = self._live.get(id)
        if row is None or row.owner is not None or row.state is not JobState.QUEUED:
            return False
        self._turns.leave(row)
        row.run_after = row.run_after if run_after is None else run_after
        row.priority = row.priority if priority is None else priority
        row.queue = row.queue if queue is None else queue
        self._wait(row, now)
        self._conclude_and_wake(now)
        return True

    async def reinsert(self, rows: Sequence[JobRow], *, now: int, claim: Claim | None = None) -> list[Inserted | None]:
        await _yield_once()
        inserted = [self._take_back(row) for row in rows]
        written = [(row, result) for row, result in zip(rows, inserted, strict=True) if result is not None]
        for row, result in written:
            if result.conflict is None:
                self._place(row, now)
        self._hand_back(written, claim, now)
        return inserted

    async def promote_due(self, *, now: int, claim: Claim | None = None, limit: int = 1000) -> Promoted:
        await _yield_once()
        expired = [self._cancel(row, EXPIRED, now) for row in self._until(self._turns.expiring, now, limit)]
        woken = self._until(self._turns.due, now, limit)
        for row in woken:
            self._turns.leave(row)
            self._wait(row, now)
        claimed, ready = self._conclude(claim, now)
        self._wake(ready)
        moments = [place[0] for line in (self._turns.due, self._turns.expiring) if (place := line.first())]
        return Promoted(min(moments, default=None), len(woken), [_copied(row) for row in expired], claimed)

    async def rescue(self, *, now: int, limit: int = 1000) -> Rescued:
        """An owner is dead if its node says that it has stopped: all of them share this process."""
        await _yield_once()
        dead = [NOT_HERE, *(number for number, node in self._nodes.items() if node.stopped is not None)]
        left = [self._live[id] for number in dead for id in sorted(self._owned.get(number, ()))][:limit]
        started = [row for row in left if row.id in self._begun]
        claimed = [row for row in left if row.id not in self._begun]
        for row in claimed:
            row.suspect = True
            self._release(row, now)
        self._conclude_and_wake(now)
        return Rescued([_copied(row) for row in started], len(claimed))

    async def sweep(self, *, now: int, claim: Claim | None = None) -> Settled:
        await _yield_once()
        self._ended, self._unswept = self._unswept, self._ended
        told = self._tell_dependents(now)
        claimed, ready = self._conclude(claim, now)
        return Settled([True] * told, claimed, ready)

    async def report(self, rows: Sequence[ProgressRow]) -> None:
        await _yield_once()
        for row in rows:
            stored = self._live.get(row.job_id)
            if stored is not None and stored.owner == row.owner:
                stored.progress, stored.status = row.progress, row.status
                stored.last_activity, stored.overrunning = row.at, row.overrunning

    async def append_logs(self, rows: Sequence[LogRow]) -> None:
        await _yield_once()
        for row in rows:
            if row.job_id in self._jobs:
                lines = self._logs.setdefault(row.job_id, [])
                lines.append(_log_line(row, sequence=lines[-1].sequence + 1 if lines else 1))

    # ── looking ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def job(self, id: int | str) -> Found | None:
        row = self._jobs.get(self._ids_by_ref.get(id, 0) if isinstance(id, str) else id)
        if row is None or (isinstance(id, str) and _gave_its_keys_up(row)):
            return None
        return Found(SummaryRow.of(row), None if row.id in self._without_row else _copied(row))

    async def jobs(self, ids: Sequence[int]) -> list[Found]:
        return [found for id in ids if (found := await self.job(id)) is not None]

    async def runs(self, id: int) -> list[JobRow]:
        row = self._jobs.get(id)
        if row is None:
            return []
        month = self._months.get(month_of(row.created))
        archived = month.rows.get(id, []) if month is not None else []
        return [_copied(run) for run in (*archived, *([row] if id in self._live else []))]

    async def find(self, wanted: JobFilter, *, after: int | None, limit: int) -> list[SummaryRow]:
        newest_first = (row for row in reversed(self._jobs.values()) if after is None or row.id < after)
        return [SummaryRow.of(row) for row in islice((row for row in newest_first if _matches(row, wanted)), limit)]

    async def count(self, wanted: JobFilter, *, limit: int) -> int:
        return sum(1 for _ in islice((row for row in self._jobs.values() if _matches(row, wanted)), limit))

    async def logs(self, id: int, *, after: int, limit: int) -> list[LogLine]:
        return [line for line in self._logs.get(id, []) if line.sequence > after][:limit]

    async def finished(self, ids: Collection[int]) -> set[int]:
        return {id for id in ids if id in self._jobs and id not in self._live}

    async def cancelled_dependents(self, id: int) -> list[int]:
        return sorted(self._cancelled_by_parent.get(id, ()))

    async def lanes(self) -> list[LaneCount]:
        counts: dict[tuple[str, str | None], LaneCount] = {}
        for row in self._live.values():
            count = counts.setdefault((row.queue, row.worker), LaneCount(row.queue, row.worker, 0, 0, 0, None))
            if row.id in self._begun:
                count.running += 1
            else:
                count.waiting += 1
                if row.hold not in (Hold.TIME, Hold.PARENTS):
                    count.due += 1
                    since = max(row.created, row.run_after or 0)
                    count.oldest = since if count.oldest is None else min(count.oldest, since)
        return list(counts.values())

    async def pending_commands(self) -> set[str]:
        return self._turns.commands()

    async def tallies(self, *, since: int) -> Tallies:
        copies: Tallies = {}
        merge_tallies(copies, {key: tally for key, tally in self._tallies.items() if key.hour >= since})
        return copies

    async def months(self) -> list[MonthInfo]:
        return [MonthInfo(first, month.newest_end) for first, month in sorted(self._months.items())]

    async def drop_month(self, month: date) -> int:
        await _yield_once()
        dropped = self._months.pop(month, None) or Month()
        gone = [row for id, runs in dropped.rows.items() if id not in self._live for row in runs[-1:]]
        gone += [self._jobs[id] for id in sorted(self._without_row) if month_of(self._jobs[id].created) == month]
        self._without_row.difference_update(row.id for row in gone)
        for row in gone:
            del self._jobs[row.id]
            if self._ids_by_ref.get(row.ref_id) == row.id:
                del self._ids_by_ref[row.ref_id]
            self._logs.pop(row.id, None)
            self._cancelled_by_parent.pop(row.id, None)
            self._forgive_parents(row)
        return len(gone)

    # ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def register(self, node: NodeRow) -> None:
        self._node += 1
        node.number = self._node
        self._nodes[node.number] = copy(node)
        for number, known in list(self._nodes.items()):
            ended = known.heartbeat if known.stopped is None else known.stopped
            if ended < node.started - DAY and not self._owned.get(number):
                del self._nodes[number]

    async def heartbeat(self, node: NodeRow) -> None:
        self._nodes[node.number] = copy(node)

    async def nodes(self) -> list[NodeRow]:
        return [copy(node) for node in self._nodes.values()]

    async def owned(self) -> set[int]:
        """One process executes: nobody need ask."""
        return set()

    async def disown(self, ids: Collection[int]) -> None:
        """Nothing is lost here that was told."""

    async def time(self) -> int | None:
        return None

    @property
    def executes(self) -> bool:
        return self._executes

    async def try_execute(self) -> bool:
        if self._copying is not None:
            self._copying.check_done("This storage")
        self._executes = True
        return True

    async def resign(self) -> None:
        self._executes = False

    async def steer(self, action: str, arguments: dict[str, Any], *, timeout: float) -> Any:
        raise NobodyExecutes(action)

    async def intents(self) -> list[Intent]:
        return []

    async def answer(self, intent: Intent, answer: Any) -> None:
        """Nobody asks: there is no other process."""

    async def backup(self, directory: str) -> list[str]:
        raise InvalidOption(
            f"Jobs that are kept in memory cannot be copied to {directory!r}. Keep them in a file if they are to last."
        )

    async def check(self) -> list[str]:
        return []

    # ── moving to another storage ──────────────────────────────────────────────────────────────────────────────────

    async def hold_still(self) -> None:
        for node in self._nodes.values():
            if node.stopped is None and (node.executing or self._owned.get(node.number)):
                raise StorageUnavailable(f"Node {node.name} executes the jobs of this storage. Stop it first.")

    async def contents(self, *, month: date | None = None) -> Contents:
        jobs = sum(1 for row in self._jobs.values() if self._is_carried(row, month))
        return Contents(jobs=jobs, last_id=self._last_id, last_node=self._node)

    async def carry(self, *, after: int, limit: int, month: date | None = None) -> list[Carried]:
        following = (row for row in self._jobs.values() if row.id > after and self._is_carried(row, month))
        return [self._carried(row) for row in islice(following, limit)]

    async def copying(self) -> Copying | None:
        return self._copying

    async def begin_copy(self, copying: Copying) -> None:
        self._copying = copying
        self._last_id = max(self._last_id, copying.last_id)

    async def take_in(
        self, carried: Sequence[Carried], *, copying: Copying | None = None, tallies: Tallies | None = None
    ) -> int:
        await _yield_once()
        if copying is not None and (self._copying is None or self._copying.run != copying.run):
            raise StorageUnavailable("Another process goes on with this copy now, so this one has ended.")
        for job in carried:
            self._refuse_stranger(job)
        new = carried if copying is not None else [job for job in carried if job.row.id not in self._jobs]
        for job in new:
            self._forget(job.row.id)
            self._take_in(job)
        self._turns.calm()
        self._jobs = dict(sorted(self._jobs.items()))
        self._last_id = max([self._last_id, *(job.row.id for job in carried)])
        self._tallies |= tallies or {}
        self._copying = copying or self._copying
        return len(new)

    def _is_carried(self, row: JobRow, month: date | None) -> bool:
        return month is None or (row.id not in self._live and month_of(row.created) == month)

    def _carried(self, row: JobRow) -> Carried:
        runs = self._months.get(month_of(row.created), Month()).rows.get(row.id, [])
        waits_for = self._open_parents.get(row.id, set[int]())
        ties = [Tie(id, row.bound_attempt if id == row.depends_on[0] else None) for id in waits_for]
        refused_by = (id for id in set(row.depends_on) if row.id in self._cancelled_by_parent.get(id, ()))
        ties += [Tie(id, cancelled=True) for id in refused_by]
        newest = _copied(row)
        newest.owner = None if row.owner is None else NOT_HERE
        return Carried(
            row=newest,
            is_whole=row.id not in self._without_row,
            begun=row.id in self._begun,
            earlier=[_copied(run) for run in runs if run.run < row.run],
            ties=sorted(ties, key=lambda tie: tie.parent),
            log=[_kept(line) for line in self._logs.get(row.id, [])],
        )

    def _refuse_stranger(self, job: Carried) -> None:
        there = self._jobs.get(job.row.id)
        if there is not None and there.ref_id != job.row.ref_id:
            raise InvalidOption(in_the_way(there.id, there.ref_id))
        there = self._jobs.get(self._ids_by_ref.get(job.row.ref_id, 0)) if job.holds_ref else None
        if there is not None and there.id != job.row.id and not _gave_its_keys_up(there):
            raise InvalidOption(in_the_way(there.id, there.ref_id))

    def _forget(self, id: int) -> None:
        """Take a job away: it comes anew."""
        row = self._jobs.pop(id, None)
        if row is None:
            return
        if id in self._live:
            self._turns.leave(row)
            self._disown(row)
            self._free_key(row)
            del self._live[id]
        self._months.get(month_of(row.created), Month()).rows.pop(id, None)
        self._logs.pop(id, None)
        self._without_row.discard(id)
        self._forgive_parents(row)
        for parent in self._open_parents.pop(id, ()):
            self._children.get(parent, {}).pop(id, None)

    def _take_in(self, job: Carried) -> None:
        row = self._jobs[job.row.id] = _copied(job.row)
        if job.holds_ref:
            self._ids_by_ref[row.ref_id] = row.id
        for run in job.earlier:
            self._months.setdefault(month_of(run.created), Month()).add(_copied(run))
        for tie in job.ties:
            (self._cancelled_by_parent if tie.cancelled else self._children).setdefault(tie.parent, {})[row.id] = None
        self._logs[row.id] = [_log_line_of(line) for line in job.log]
        if not job.is_over:
            self._take_in_live(row, job)
        elif job.is_whole:
            self._months.setdefault(month_of(row.created), Month()).add(row)
        else:
            self._without_row.add(row.id)

    def _take_in_live(self, row: JobRow, job: Carried) -> None:
        self._live[row.id] = row
        if row.unique_key is not None and holds_key(row):
            self._unique[row.command, row.unique_key] = row.id
        if parents := {tie.parent for tie in job.ties if not tie.cancelled}:
            self._open_parents[row.id] = parents
        if row.owner is None:
            self._turns.enter(row)
            return
        self._turns.seat(row)
        self._owned.setdefault(row.owner, set()).add(row.id)
        if job.begun:
            self._begun.add(row.id)

    # ── inside one write ───────────────────────────────────────────────────────────────────────────────────────────

    def _insert(self, row: JobRow, now: int) -> Inserted:
        if (conflict := self._conflict(row)) is not None:
            return conflict
        self._last_id += 1
        row.id = self._last_id
        if row.parent_id is None and row.depends_on:
            row.parent_id = row.depends_on[0]
        self._enlist(row)
        self._place(row, now)
        return Inserted(row.id, row.ref_id)

    def _take_back(self, row: JobRow) -> Inserted | None:
        """Make a requeued job unfinished again, before anybody's parents are counted."""
        before = self._jobs.get(row.id)
        if before is None or not before.state.is_final or before.run != row.run - 1:
            return None
        if (conflict := self._conflict(row)) is not None:
            return conflict
        self._forgive_parents(row)
        self._enlist(row)
        return Inserted(row.id, row.ref_id)

    def _forgive_parents(self, row: JobRow) -> None:
        for parent in row.depends_on:
            self._cancelled_by_parent.get(parent, {}).pop(row.id, None)

    def _conflict(self, row: JobRow) -> Inserted | None:
        same_ref = self._jobs.get(self._ids_by_ref.get(row.ref_id, 0))
        if same_ref is not None and same_ref.id != row.id and not _gave_its_keys_up(same_ref):
            return Inserted(same_ref.id, row.ref_id, "ref_id")
        if row.unique_key is not None and (holder := self._unique.get((row.command, row.unique_key))) is not None:
            return Inserted(holder, self._jobs[holder].ref_id, "unique_key")
        return None

    def _enlist(self, row: JobRow) -> None:
        """Count the job among the unfinished; until the write has ended, the caller's row is the stored one."""
        self._jobs[row.id] = self._live[row.id] = row
        self._ids_by_ref[row.ref_id] = row.id
        if row.unique_key is not None:
            self._unique[row.command, row.unique_key] = row.id

    def _place(self, row: JobRow, now: int) -> None:
        """Let a new job wait, or end where a parent or its attempt has decided so already."""
        row.owner = None
        parents = [] if row.work_done else [self._jobs[id] for id in set(row.depends_on) if id in self._jobs]
        failed = [parent.id for parent in parents if _cancels(parent.state, row)]
        if row.bound_attempt is not None and _lost(row.bound_attempt, self._jobs[row.depends_on[0]]):
            self._end(row, ATTEMPT_FAILED, now)
        elif failed:
            self._cancelled_by_parent.setdefault(min(failed), {})[row.id] = None
            self._end(row, PARENT_FAILED, now)
        else:
            self._wait_for(row, {parent.id for parent in parents if parent.id in self._live})
            self._wait(row, now)

    def _wait_for(self, row: JobRow, parents: set[int]) -> None:
        row.parents_left = len(parents)
        if parents:
            self._open_parents[row.id] = parents
        for parent in parents:
            self._children.setdefault(parent, {})[row.id] = None

    def _wait(self, row: JobRow, now: int) -> None:
        row.hold = hold_for(
            parents_left=row.parents_left, run_after=row.run_after, now=now, has_lane=lane_hold(row) is not None
        )
        self._turns.enter(row)

    def _hand_back(self, inserted: Iterable[tuple[JobRow, Inserted]], claim: Claim | None, now: int) -> None:
        """End a write whose rows are the caller's: from here on the storage has its own."""
        written = {row.id: (row, result) for row, result in inserted if result.conflict is None}
        _, ready = self._conclude(claim, now, only=written)
        for row, result in written.values():
            result.claimed = row.owner is not None
            self._keep(_copied(row))
        self._wake(ready)

    def _keep(self, row: JobRow) -> None:
        self._jobs[row.id] = row
        if row.id in self._live:
            self._live[row.id] = row
        else:
            self._months[month_of(row.created)].rows[row.id][-1] = row

    def _mark(self, row: JobRow) -> bool:
        stored = self._live.get(row.id)
        if stored is None or stored.owner is None or stored.owner != row.owner:
            return False
        for column in MARKED:
            setattr(stored, column, getattr(row, column))
        self._begun.add(row.id)
        if row.unique_until == "start":
            self._free_key(row)
        return True

    def _settle(self, settlement: Settlement, now: int) -> bool:
        row, stored = settlement.row, self._live.get(settlement.row.id)
        if stored is None or stored.owner != settlement.owner:
            return False
        if not settlement.final and stored.cancel_requested is not None:
            row.cancel_requested, row.cancelled_by = stored.cancel_requested, stored.cancelled_by
        if not settlement.final:
            heed_cancellation(row, now=now)
        self._turns.leave(stored)
        self._disown(stored)
        if settlement.failed_attempt is not None:
            self._cancel_bound(stored.id, settlement.failed_attempt, now)
        self._store(_copied(row))
        return True

    def _store(self, row: JobRow) -> None:
        """Put what an attempt has made of a job in the place of what was."""
        row.owner = None
        if row.state.is_final:
            self._archive(row)
            return
        self._jobs[row.id] = self._live[row.id] = row
        if row.unique_until == "start" and row.started is not None:
            self._free_key(row)
        self._turns.enter(row)

    def _cancel_bound(self, parent: int, attempt: int, now: int) -> None:
        for id in list(self._children.get(parent, ())):
            row = self._live[id]
            if row.bound_attempt == attempt and row.depends_on[0] == parent:
                self._cancel(row, ATTEMPT_FAILED, now)

    def _cancel(self, row: JobRow, error: JobError, now: int) -> JobRow:
        self._turns.leave(row)
        return self._end(row, error, now)

    def _end(self, row: JobRow, error: JobError, now: int) -> JobRow:
        cancel_waiting(row, error, now=now)
        self._archive_unheard(row)
        return row

    def _archive_unheard(self, row: JobRow) -> None:
        """Archive a job that ends without a settlement, so that nobody has been told of it yet."""
        self._archive(row)
        self._unheard.append(row)

    def _archive(self, row: JobRow) -> None:
        self._live.pop(row.id, None)
        self._jobs[row.id] = row
        self._free_key(row)
        self._months.setdefault(month_of(row.created), Month()).add(row)
        for parent in self._open_parents.pop(row.id, ()):
            self._children.get(parent, {}).pop(row.id, None)
        children = self._children.pop(row.id, None)
        if children:
            self._ended.append(Ended(row.id, row.state, deque(children)))

    def _free_key(self, row: JobRow) -> None:
        if row.unique_key is not None and self._unique.get((row.command, row.unique_key)) == row.id:
            del self._unique[row.command, row.unique_key]

    def _tell_dependents(self, now: int) -> int:
        """Release or cancel those who waited for what has ended; how many, the rest is left to `sweep`."""
        told = 0
        while self._ended and told < DEPENDENTS_AT_ONCE:
            parent = self._ended[0]
            while parent.untold and told < DEPENDENTS_AT_ONCE:
                told += self._tell(parent.untold.popleft(), parent, now)
            if not parent.untold:
                self._ended.popleft()
        self._unswept.extend(self._ended)
        self._ended.clear()
        return told

    def _tell(self, id: int, parent: Ended, now: int) -> bool:
        waits_for = self._open_parents.get(id, set())
        if parent.id not in waits_for:
            return False
        row = self._live[id]
        if _cancels(parent.state, row):
            self._cancelled_by_parent.setdefault(parent.id, {})[id] = None
            self._cancel(row, PARENT_FAILED, now)
            return True
        waits_for.discard(parent.id)
        row.parents_left = len(waits_for)
        if not waits_for:
            del self._open_parents[id]
            self._turns.leave(row)
            self._wait(row, now)
            self._wake(row.hold is Hold.TIME)
        return True

    def _request_cancellation(self, id: int, by: str | None, now: int) -> Cancelling:
        row = self._live.get(id)
        if row is None:
            return Cancelling.FINISHED if id in self._jobs else Cancelling.UNKNOWN
        if row.owner is None:
            self._turns.leave(row)
        if request_cancellation(row, by=by, now=now) is None:
            return Cancelling.REQUESTED
        self._archive_unheard(row)
        return Cancelling.CANCELLED

    def _release(self, row: JobRow, now: int) -> None:
        if row.id in self._begun:
            return
        self._turns.leave(row)
        self._disown(row)
        if heed_cancellation(row, now=now):
            self._archive_unheard(row)
        else:
            self._wait(row, now)

    def _until(self, line: Line, now: int, limit: int) -> list[JobRow]:
        """The jobs whose moment in a line has come; they leave this line."""
        come: list[JobRow] = []
        while len(come) < limit and (place := line.first()) is not None and place[0] <= now:
            line.discard(place[1])
            come.append(self._live[place[1]])
        return come

    def _own(self, row: JobRow) -> None:
        self._turns.own(row, self._node)
        self._owned.setdefault(self._node, set()).add(row.id)

    def _disown(self, row: JobRow) -> None:
        if row.owner is not None:
            self._owned[row.owner].discard(row.id)
        row.owner = None
        self._begun.discard(row.id)

    def _conclude_and_wake(self, now: int) -> None:
        _, ready = self._conclude(None, now)
        self._wake(ready)

    def _conclude(
        self, claim: Claim | None, now: int, *, only: Container[int] | None = None
    ) -> tuple[list[JobRow], bool]:
        """End a write: dependents, lanes, claims.

        only: the jobs that may be claimed; what becomes of them, the caller knows.
        Returns what was claimed, and whether something else is claimable now.
        """
        self._tell_dependents(now)
        self._turns.elect()
        fresh = sorted((self._live[id] for id in self._turns.fresh), key=turn)
        self._turns.fresh.clear()
        claimed = [row for row in fresh if claim is not None and claim.fits(row) and (only is None or row.id in only)]
        for row in claimed:
            self._own(row)
        self._wake(bool(self._unswept))
        self._tell_ended()
        return [_copied(row) for row in claimed], any(
            row.owner is None and (only is None or row.id not in only) for row in fresh
        )

    def _tell_ended(self) -> None:
        unheard, self._unheard = self._unheard, []
        if unheard and self._on_ended is not None:
            self._on_ended([_copied(row) for row in unheard])

    def _wake(self, for_something: bool) -> None:
        if for_something and self._on_wake is not None:
            self._on_wake()


def turn(row: JobRow) -> Place:
    """The order in which jobs get what they wait for."""
    return -row.priority, row.id


def lanes_of(row: JobRow) -> list[Lane]:
    """The lanes that the job needs for its next step."""
    return [(kind, name) for kind, name in (("worker", row.lane), ("key", row.lane_key)) if name is not None]


def next_step(row: JobRow) -> tuple[str, str]:
    """Queue and command of what is to run next: the job's work, or once Executed its callback."""
    if row.state is JobState.EXECUTED:
        return row.callback_queue or row.queue, row.callback or ""
    return row.queue, row.command


def _yield_once() -> Awaitable[None]:
    return asyncio.sleep(0)


def _copied(row: JobRow) -> JobRow:
    copied = copy(row)
    copied.args, copied.meta = dict(row.args), dict(row.meta)
    return copied


def _gave_its_keys_up(row: JobRow) -> bool:
    """Its attempt did not succeed, and the next one may use the same keys."""
    return row.state is JobState.CANCELLED and row.error_code == ErrorCode.ATTEMPT_FAILED


def _cancels(parent: JobState, row: JobRow) -> bool:
    return parent.is_final and row.depends_on_policy not in RELEASED_BY[parent]


def _lost(attempt: int, parent: JobRow) -> bool:
    return attempt_is_lost(
        attempt,
        state=parent.state,
        owner=parent.owner,
        attempts=parent.attempts,
        callback_attempts=parent.callback_attempts,
    )


def _kept(line: LogLine) -> KeptLine:
    return KeptLine(
        line.sequence, line.attempt, to_moment(line.at), line.level, line.logger, line.message, line.exception
    )


def _log_line_of(line: KeptLine) -> LogLine:
    return LogLine(
        sequence=line.sequence,
        at=to_datetime(line.at),
        level=line.level,
        logger=line.logger,
        message=line.message,
        exception=line.exception,
        attempt=line.attempt,
    )


def _log_line(row: LogRow, sequence: int) -> LogLine:
    return LogLine(
        sequence=sequence,
        at=to_datetime(row.at),
        level=row.level,
        logger=row.logger,
        message=row.message,
        exception=row.exception,
        attempt=row.attempt,
    )


def _matches(row: JobRow, wanted: JobFilter) -> bool:
    return (
        all(value is None or getattr(row, column) == value for column, value in _exact(wanted))
        and (not wanted.states or row.state in wanted.states)
        and (not wanted.ids or row.id in wanted.ids)
        and (wanted.tag is None or wanted.tag in row.tags)
        and wanted.args.items() <= row.args.items()
        and (wanted.since is None or row.created >= wanted.since)
        and (wanted.until is None or row.created < wanted.until)
        and (wanted.text is None or _mentions(row, wanted.text.casefold()))
    )


def _exact(wanted: JobFilter) -> list[tuple[str, Any]]:
    return [(column, getattr(wanted, column)) for column in EXACT]


def _mentions(row: JobRow, text: str) -> bool:
    return any(
        text in part.casefold() for part in (row.ref_id, row.command, *row.tags, row.worker, row.error_message) if part
    )


def _discard(lines: dict[K, Line], key: K, id: int) -> None:
    line = lines.get(key)
    if line is not None:
        line.discard(id)
        if not line:
            del lines[key]
