"""The queues of this node: the jobs that wait in memory in their order, and how much runs."""

from bisect import insort
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Literal

from commandjobs.model.row import JobRow
from commandjobs.model.state import JobState

WINDOW = 2_000
"""Jobs per queue that wait in memory; claims of a thousand keep a drain fed."""
FEW_AHEAD = 10
"""The same at first where other nodes could run them: as long as nobody knows how long they take."""
AHEAD = 0.25
"""Seconds of work that wait in memory where other nodes could do it."""

Kind = Literal["async", "sync"]


class Line:
    """Waiting jobs, best first: by priority, then in the order in which they were stored.

    A sorted list, not a heap: claims come in order, so most jobs are appended or merged in one go, and drawing the
    best takes 0.05 us, where a heap of two thousand takes 1.3.
    """

    def __init__(self) -> None:
        self.rows: list[JobRow] = []
        """The best is the last: `rows.pop()` draws it."""

    def add(self, rows: list[JobRow]) -> None:
        """Let jobs stand in line."""
        if len(rows) == 1:
            last = self.rows[0] if self.rows else None
            if last is None or _rank(rows[0]) <= _rank(last):  # new jobs: to find that place by halves took 2 us
                self.rows.insert(0, rows[0])
            else:
                insort(self.rows, rows[0], key=_rank)
        else:
            self.rows += rows
            self.rows.sort(key=_rank)


def _rank(row: JobRow) -> tuple[int, int]:
    return row.priority, -row.id


class MemoryQueue:
    """The state of one queue."""

    __slots__ = ("_drawn", "_looked", "ahead", "backlog", "limit", "limits_sync", "lines", "name", "refused", "running")

    def __init__(self, name: str, limit: int, *, limits_sync: bool, shared: bool = False) -> None:
        """limit: jobs at once; limits_sync: sync ones too, which else are limited by the threads alone.
        shared: other nodes could run its jobs too, so no more are taken in than run here soon.
        """
        self.name = name
        self.limit = limit
        self.limits_sync = limits_sync
        self.ahead: int | None = FEW_AHEAD if shared else None
        """Jobs that may wait here beside those that begin at once; None: as many as there is memory for."""
        self._drawn = 0
        self._looked = 0.0
        self.running = 0
        self.lines: dict[Kind, Line] = {"async": Line(), "sync": Line()}
        self.backlog: int | None = None
        """The highest priority that may be stored and not here; None: all claimable jobs of the queue are here."""
        self.refused = 0
        """Counts inserts that were not taken, so that a claim under way does not declare the backlog empty."""

    @property
    def waiting(self) -> int:
        """Jobs in memory that do not run yet."""
        return len(self.lines["async"].rows) + len(self.lines["sync"].rows)

    @property
    def window(self) -> int:
        """Jobs that may wait in memory now."""
        return WINDOW if self.ahead is None else min(WINDOW, max(0, self.limit - self.running) + self.ahead)

    @property
    def is_low(self) -> bool:
        """Whether it is time to claim more of what is stored."""
        return self.backlog is not None and self.waiting * 2 <= self.window

    @property
    def room(self) -> int:
        """How many more may wait here."""
        return max(0, self.window - self.waiting)

    def drawn(self) -> None:
        """A job was drawn."""
        self._drawn += 1

    def look_ahead(self, now: float) -> None:
        """Judge by what was drawn since the last time how many jobs may wait here. now: seconds."""
        passed = now - self._looked
        if self.ahead is not None and passed > 0:
            wanted = int(self._drawn / passed * AHEAD)
            # Soon more when it goes well, but slowly less: a pause of the queue says nothing of its jobs.
            self.ahead = max(FEW_AHEAD, min(WINDOW, wanted), self.ahead // 2 if self._drawn else self.ahead)
            self._drawn, self._looked = 0, now

    def clear(self) -> None:
        """Nobody waits any more."""
        for line in self.lines.values():
            line.rows.clear()


class MemoryQueues:
    """All of them: each is there as soon as a job of it is."""

    def __init__(self, *, concurrency: int, served: Mapping[str, int] | None, shared: bool = False) -> None:
        """concurrency: jobs at once per queue; served: the only queues of this node, with their own concurrency.
        shared: other nodes could run their jobs too.
        """
        self._concurrency = concurrency
        self._shared = shared
        self._limits = served
        self._by_name: dict[str, MemoryQueue] = {}
        self.served = None if served is None else frozenset(served)
        self.in_turn: deque[MemoryQueue] = deque()
        """The one to draw from next comes first."""
        for name in served or ():
            self.of(name)

    def of(self, name: str) -> MemoryQueue | None:
        """The queue of this name; None: it is not served here."""
        queue = self._by_name.get(name)
        if queue is None:
            if self._limits is not None and name not in self._limits:
                return None
            limit = self._concurrency if self._limits is None else self._limits[name]
            queue = self._by_name[name] = MemoryQueue(
                name, limit, limits_sync=self._limits is not None, shared=self._shared
            )
            self.in_turn.append(queue)
        return queue

    def __iter__(self) -> Iterator[MemoryQueue]:
        return iter(self._by_name.values())


def queue_of(row: JobRow) -> str:
    """The queue that a row counts for now: its callback's once it is Executed."""
    if row.callback_queue is not None and row.state is JobState.EXECUTED:
        return row.callback_queue
    return row.queue
