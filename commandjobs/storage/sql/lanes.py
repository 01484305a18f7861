"""Whose turn it is: named workers and concurrency keys run one job at a time.

A lane's *holder* is the one job in it that is owned or claimable. Everyone else who could run waits with `hold = LANE`
until the lane elects it, in the transaction that frees the lane. A holder that nobody owns yet gives way to somebody
better who has just arrived.

**Locks.** Who elects has locked his lanes, in the order of their numbers (a lane's name is hashed to one of a few
hundred), after all the rows that he changes himself. What he elects or unseats he locks without waiting: somebody who
has such a row changes it just now, and will look at its lanes himself as soon as he gets them. A lane that comes up
late, the other one of a candidate, is locked without waiting too; if that fails, the whole transaction is done again
and begins with this lane.

The election itself is done in memory, so that a hundred lanes cost no more statements than one.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any
from zlib import crc32

from commandjobs.model.row import JobRow
from commandjobs.model.state import Hold, JobState
from commandjobs.storage.sql.change import Change, Lane, turn
from commandjobs.storage.sql.driver import LanesWanted
from commandjobs.storage.sql.rows import STATES

LOCKS = 256
"""Numbers that lanes are locked by."""
LOOKED_AT = 8
"""Candidates of a lane that are read at first: all others are looked at only if none of them can go."""

Place = tuple[int, int]


@dataclass(slots=True, eq=False)
class Candidate:
    """A live job in a lane, by what matters for its turn and for its claim."""

    id: int
    owner: int | None
    priority: int
    lane: str | None
    lane_key: str | None
    state: JobState
    command: str
    queue: str
    callback: str | None
    callback_queue: str | None

    @property
    def turn(self) -> Place:
        """The order in which jobs get what they wait for."""
        return -self.priority, self.id

    @property
    def lanes(self) -> list[Lane]:
        """The lanes that it needs."""
        lanes: list[Lane] = []
        if self.lane is not None:
            lanes.append(("worker", self.lane))
        if self.lane_key is not None:
            lanes.append(("key", self.lane_key))
        return lanes

    @property
    def step(self) -> tuple[str, str]:
        """Queue and command of what is to run next."""
        if self.state is JobState.EXECUTED:
            return self.callback_queue or self.queue, self.callback or self.command
        return self.queue, self.command


@dataclass(slots=True)
class Line:
    """Who waits for a lane, best first, as far as was read."""

    jobs: list[Candidate]
    is_all: bool


@dataclass(slots=True)
class Election:
    """The lanes that one change looks at."""

    change: Change
    locked: set[int] = field(default_factory=set)
    jobs: dict[int, Candidate] = field(default_factory=dict)
    holders: dict[Lane, Candidate | None] = field(default_factory=dict)
    lines: dict[Lane, Line] = field(default_factory=dict)
    busy: set[int] = field(default_factory=set)
    """Jobs that somebody else is changing."""
    seated: dict[int, Candidate] = field(default_factory=dict)
    """Elected here, and not written yet."""

    # ── what is known ───────────────────────────────────────────────────────────────────────────────────────────────

    async def begin(self, lanes: Collection[Lane]) -> None:
        """Lock lanes, waiting for them, and read them."""
        numbers = {number_of(lane) for lane in lanes} - self.locked
        if numbers:
            await self.change.connection.run(self.change.dialect.sql["lock_lanes"], numbers=sorted(numbers))
            self.locked |= numbers
        await self._read(lanes)

    async def know(self, lanes: Iterable[Lane]) -> None:
        """Lock and read lanes that come up late."""
        unknown = [lane for lane in lanes if lane not in self.holders]
        if not unknown:
            return
        numbers = {number_of(lane) for lane in unknown} - self.locked
        if numbers and not await self.change.dialect.try_lock_lanes(self.change.connection, numbers):
            raise LanesWanted(numbers | self.locked)  # all in one order, or two such tries would lock each other
        self.locked |= numbers
        await self._read(unknown)

    async def _read(self, lanes: Collection[Lane], most: int = LOOKED_AT) -> None:
        workers = [name for kind, name in lanes if kind == "worker"]
        keys = [name for kind, name in lanes if kind == "key"]
        dialect, connection = self.change.dialect, self.change.connection
        waiting = await dialect.waiting(connection, workers, keys, most=most)
        found: dict[Lane, list[Candidate]] = {lane: [] for lane in lanes}
        for kind, *columns in waiting:
            job = self._job(columns)
            found["worker" if kind == "worker" else "key", job.lane if kind == "worker" else job.lane_key].append(job)  # type: ignore[index]
        for lane, jobs in found.items():
            self.lines[lane] = Line(sorted(jobs, key=_turn), is_all=len(jobs) < most)
        self.holders |= {lane: None for lane in lanes if lane not in self.holders}
        for holder in await dialect.holders(connection, workers, keys):
            job = self._job(holder)
            for lane in job.lanes:
                if lane in found:
                    self.holders[lane] = job

    def _job(self, columns: Sequence[Any]) -> Candidate:
        job = Candidate(*columns)
        job.state = STATES[job.state]
        return self.jobs.setdefault(job.id, job)

    # ── who goes ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def fill(self, lanes: Iterable[Lane]) -> None:
        """Give free lanes to the best."""
        heads = [(*head.turn, lane) for lane in lanes if (head := await self._head(lane))]
        heapify(heads)
        while heads:
            *place, lane = heappop(heads)
            head = await self._head(lane)
            if head is not None and [*head.turn] == place:
                self._seat(head)
            elif head is not None:
                heappush(heads, (*head.turn, lane))

    async def push_in(self, row: JobRow) -> None:
        """Let a newcomer push in before a worse job that nobody owns yet."""
        newcomer = self.jobs.get(row.id) or self._of(row)
        if newcomer.id in self.seated or newcomer.id in self.busy:
            return
        await self.know(newcomer.lanes)
        rivals = {job.id: job for lane in newcomer.lanes if (job := self.holders[lane]) is not None}
        if any(job.owner is not None or job.turn < newcomer.turn for job in rivals.values()):
            return
        freed = {lane for job in rivals.values() for lane in job.lanes}
        await self.know(freed)
        if not await self._unseat(rivals):
            return
        self._seat(newcomer)
        await self.fill(sorted(freed))

    async def _head(self, lane: Lane) -> Candidate | None:
        """Who gets the lane, if it is free: the best of those whose other lane is free too."""
        if self.holders[lane] is not None:
            return None
        most = LOOKED_AT
        while True:
            line = self.lines[lane]
            for job in line.jobs:
                if job.id in self.seated or job.id in self.busy:
                    continue
                await self.know(job.lanes)
                if all(self.holders[other] is None for other in job.lanes):
                    return job
            if line.is_all:
                return None
            most *= 8
            await self._read([lane], most)

    def _seat(self, job: Candidate) -> None:
        self.seated[job.id] = job
        for lane in job.lanes:
            self.holders[lane] = job

    async def _unseat(self, rivals: dict[int, Candidate]) -> bool:
        """Put worse holders back into their lines; False: one of them is being claimed just now."""
        stored = [id for id in rivals if id not in self.seated]
        got = await self.change.dialect.unseat(self.change.connection, stored) if stored else set[int]()
        for id, job in rivals.items():
            if id in self.seated:
                del self.seated[id]
            elif id not in got:
                job.owner = 0  # somebody's, in a moment
                continue
            for lane in job.lanes:
                self.holders[lane] = None
                line = self.lines.get(lane)
                if line is not None and job not in line.jobs:
                    line.jobs.append(job)
                    line.jobs.sort(key=_turn)
            if (row := self.change.rows.get(id)) is not None:
                row.hold = Hold.LANE
        if len(got) == len(stored):
            return True
        await self.fill(sorted({lane for id in rivals.keys() & got for lane in rivals[id].lanes if lane in self.lines}))
        return False

    def _of(self, row: JobRow) -> Candidate:
        job = Candidate(
            row.id, row.owner, row.priority, row.lane, row.lane_key, row.state, row.command, row.queue, row.callback,
            row.callback_queue,
        )  # fmt: skip
        return self.jobs.setdefault(row.id, job)

    # ── what is written ─────────────────────────────────────────────────────────────────────────────────────────────

    async def write(self) -> list[Candidate]:
        """Write who was elected; those whom somebody else is changing give their places to the next."""
        written: list[Candidate] = []
        while self.seated:
            seats = sorted(self.seated.values(), key=_turn)
            got = await self.change.dialect.seat(self.change.connection, [self._columns(job) for job in seats])
            self.seated.clear()
            written += [job for job in seats if job.id in got]
            lost = [job for job in seats if job.id not in got]
            for job in lost:
                self.busy.add(job.id)
                for lane in job.lanes:
                    self.holders[lane] = None
            await self.fill(sorted({lane for job in lost for lane in job.lanes}))
        return written

    def _columns(self, job: Candidate) -> dict[str, Any]:
        if self.takes(job):
            assert self.change.taking is not None
            return {"id": job.id, "owner": self.change.taking.owner, "token": self.change.taking.token}
        queue, command = job.step
        return {"id": job.id, "claim_queue": queue, "claim_command": command}

    def takes(self, job: Candidate) -> bool:
        """Whether the change owns a job that it elects."""
        taking = self.change.taking
        if taking is None or (self.change.only_own and job.id not in self.change.own):
            return False
        queue, command = job.step
        return command in taking.claim.commands and taking.claim.serves(queue)


async def elect(change: Change) -> None:
    """Give free lanes to the best, let newcomers push in, and then take what fits the claim."""
    lanes, change.lanes = change.lanes, set()
    election = Election(change, locked=set(change.locked))
    await election.begin(sorted(lanes))
    await election.fill(sorted(lanes))
    for newcomer in sorted(change.arrived.values(), key=turn):
        await election.push_in(newcomer)
    change.arrived.clear()
    written = await election.write()
    taken = [job.id for job in written if election.takes(job)]
    change.claimable = change.claimable or len(taken) < len(written)
    change.ready = change.ready or any(job.id not in change.own for job in written if job.id not in taken)
    await _note(change, [job.id for job in written], taken)


async def _note(change: Change, seated: Collection[int], taken: Collection[int]) -> None:
    """Let the rows in memory say what was written."""
    for id in seated:
        if id in change.rows:
            change.rows[id].hold = None
    if taken:
        assert change.taking is not None
        for row in await change.read(taken, lock=False):
            row.owner, row.hold = change.taking.owner, None
            change.claimed.append(row)


def number_of(lane: Lane) -> int:
    """The number that a lane is locked by."""
    kind, name = lane
    return crc32(f"{kind} {name}".encode()) % LOCKS


def _turn(job: Candidate) -> Place:
    return job.turn
