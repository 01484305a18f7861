"""Keeps the memory queues of this node filled with stored jobs that may run here.

Jobs are claimed in pages while a memory queue is below half its window, so that it stays bounded however many jobs are
stored. Stored jobs are never overtaken: a new job is taken straight from its insert only if nothing stored in its queue
would come before it (`admits`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from commandjobs.clock import Clock, sleep_until_set
from commandjobs.errors import StorageError
from commandjobs.model.row import JobRow
from commandjobs.runtime.memory_queue import WINDOW, MemoryQueue, MemoryQueues, queue_of
from commandjobs.storage.base import Claim, JobStore

if TYPE_CHECKING:
    from commandjobs.runtime.commands import Commands

log = logging.getLogger("commandjobs")

FIRST = 16
"""Jobs per queue in the first claim of a process that begins to execute, and twice as many in each that follows: what
is claimed after a crash is read for long and starts by a commit, which would wait behind a claim of thousands."""
LOOK_AGAIN = 5.0
"""Seconds after which due times are compared again, since the wall clock can step."""


class Fetcher:
    """Claims what there is room for, and promotes what is due."""

    def __init__(
        self,
        *,
        storage: JobStore,
        commands: Commands,
        queues: MemoryQueues,
        clock: Clock,
        offer: Callable[[Iterable[JobRow]], None],
        expire: Callable[[int], None],
    ) -> None:
        """offer: takes rows that this node owns. expire: ends those among them that were not started in time."""
        self._storage = storage
        self._commands = commands
        self._queues = queues
        self._clock = clock
        self._offer = offer
        self._expire = expire
        self._event = asyncio.Event()
        self._look = True
        self._looking = False
        self._next_due: int | None = None
        self._due = True
        self._most = FIRST
        """Jobs per queue that are claimed at once."""
        self._claim: Claim | None = None
        self.fetching = asyncio.Lock()
        """Held while jobs are claimed: who holds it finds every job that this node owns in its memory."""
        self.active = False
        """Whether this process executes."""

    @property
    def claim(self) -> Claim | None:
        """What this node may own now; None while it does not execute."""
        if not self.active:
            return None
        commands = self._commands.names()
        if self._claim is None or self._claim.commands is not commands:
            self._claim = Claim(commands, self._queues.served)
        return self._claim

    def admits(self, queue: str, priority: int, count: int = 1) -> Claim | None:
        """The claim for an insert into this queue; None: it must wait for its turn behind what is stored."""
        if not self.active or (state := self._queues.of(queue)) is None:
            return None
        if state.room >= count and (state.backlog is None or priority > state.backlog):
            return self.claim
        state.refused += 1
        state.backlog = priority if state.backlog is None else max(priority, state.backlog)
        return None

    def look(self) -> None:
        """Something may be claimable in the storage."""
        self._look = True
        if self.active:
            self._event.set()

    def look_around(self) -> None:
        """Anything may have changed in the storage: also what waits there for its time."""
        self._due = True
        self.look()

    def due_at(self, moment: int | None) -> None:
        """A job waits in the storage for this moment."""
        if moment is not None and (self._next_due is None or moment < self._next_due):
            self._next_due = moment
            self._event.set()

    def drawn(self, queue: MemoryQueue) -> None:
        """A job was drawn from this queue: more is claimed when it is low."""
        queue.drawn()
        if queue.backlog is not None and queue.is_low:
            self._event.set()

    @property
    def is_idle(self) -> bool:
        """Whether nothing more could be claimed now."""
        if self._looking or self._look or self._due:
            return False
        is_due = self._next_due is not None and self._next_due <= self._clock.now()
        return not is_due and all(queue.backlog is None for queue in self._queues)

    async def run(self) -> None:
        """Claim what there is room for and promote what is due, for ever.

        Claim first: what can be claimed may just have been enqueued, and each look for what is due takes a while.
        """
        self._most = FIRST
        while True:
            self._looking = True
            try:
                async with self.fetching:
                    await self._fill()
                    await self._promote()
            except StorageError as error:
                log.warning("Jobs cannot be fetched now (%s); trying again.", error)
                self._look = self._due = True
                await sleep_until_set(self._event, 0.5, self._clock)
                continue
            self._looking = False
            if not self._look:
                await sleep_until_set(self._event, self._seconds_to_due(), self._clock)

    async def _promote(self) -> None:
        now = self._clock.now()
        if not self._due and (self._next_due is None or self._next_due > now):
            return
        self._due, self._next_due = False, None
        self._expire(now)
        promoted = await self._storage.promote_due(now=now, claim=self.claim)
        self.due_at(promoted.next_at)
        self._offer(promoted.claimed)
        if promoted.promoted or promoted.expired:
            self._look = self._look or promoted.promoted > len(promoted.claimed)

    async def _fill(self) -> None:
        claim = self.claim
        if claim is None:
            self._look = False
            return
        asked_all, self._look = self._look, False
        now = self._clock.monotonic()
        for queue in self._queues:
            queue.look_ahead(now)
        most, self._most = self._most, min(WINDOW, 2 * self._most)
        room = {queue.name: min(queue.room, most) for queue in self._queues if asked_all or queue.is_low}
        other = most if asked_all and self._queues.served is None else 0
        room = {name: count for name, count in room.items() if count}
        if not room and not other:
            return
        refused = {queue.name: queue.refused for queue in self._queues if queue.name in room}
        excluded = {queue.name: 0 for queue in self._queues if queue.name not in room}
        rows = await self._storage.claim({**excluded, **room}, other, claim=claim, now=self._clock.now())
        self._note_backlog(rows, room, other, refused)
        self._offer(rows)
        if any(queue.is_low for queue in self._queues):
            self._event.set()

    def _note_backlog(
        self, rows: list[JobRow], room: Mapping[str, int], other: int, refused: Mapping[str, int]
    ) -> None:
        """What a claim tells of the jobs that are stored and not here."""
        got: dict[str, list[JobRow]] = {}
        for row in rows:
            got.setdefault(queue_of(row), []).append(row)
        for name in {*room, *got}:
            queue = self._queues.of(name)
            if queue is None:
                continue
            mine = got.get(name, [])
            if len(mine) >= room.get(name, other):
                queue.backlog = min(row.priority for row in mine)
            elif refused.get(name, queue.refused) == queue.refused:
                queue.backlog = None
            else:
                self._look = True

    def _seconds_to_due(self) -> float | None:
        if self._next_due is None:
            return None
        return min(LOOK_AGAIN, max(0.0, (self._next_due - self._clock.now()) / 1_000_000))
