"""One change, as it spreads within its transaction: from a job to its dependents and lanes, and on.

Rows are read once and changed in memory; what has changed is written in bulk by `write`, so that a change costs a few
statements however many jobs it touches.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from commandjobs.model.job import JobError
from commandjobs.model.row import JobRow
from commandjobs.model.settle import cancel_waiting, lane_hold
from commandjobs.model.state import FINAL, Hold, JobState, hold_for
from commandjobs.storage.base import Claim
from commandjobs.storage.sql.dialect import Dialect
from commandjobs.storage.sql.driver import Connection

Lane = tuple[Literal["worker", "key"], str]

DEPENDENTS_AT_ONCE = 1000
"""Followed in the transaction that ends their parent; more are left to `sweep`."""


@dataclass(frozen=True, slots=True)
class Taking:
    """By whom jobs that become runnable are owned at once."""

    claim: Claim
    owner: int
    token: int
    """The number of this call among those of its owner."""


@dataclass(slots=True)
class Change:
    """What has been done, and what is still to be looked at: `dependents.conclude` does that."""

    dialect: Dialect
    connection: Connection
    now: int
    taking: Taking | None = None
    own: set[int] = field(default_factory=set)
    """New rows, which the caller has in its hands: they are changed in place."""
    only_own: bool = False
    """The caller can be told of these rows only, so no others are taken."""
    rows: dict[int, JobRow] = field(default_factory=dict)
    """Everything that was read, as it is by now."""
    finished: dict[int, JobState] = field(default_factory=dict)
    """Jobs that have ended, and how: their dependents are to be followed."""
    lanes: set[Lane] = field(default_factory=set)
    """Lanes that were freed, or that somebody new waits for."""
    arrived: dict[tuple[Lane, ...], JobRow] = field(default_factory=dict)
    """Who has come to wait for these lanes: the best of them, as the others can do no better."""
    claimed: list[JobRow] = field(default_factory=list)
    ended: list[JobRow] = field(default_factory=list)
    """Jobs that have ended without a settlement of their own."""
    ready: bool = False
    """Something became claimable that the caller does not hear of otherwise."""
    timed: bool = False
    """A dependent was let go that now waits for its time, which nobody else looks out for."""
    unswept: bool = False
    claimable: bool = False
    """Something was left for whoever claims it first: other nodes are to be told."""
    budget: int = DEPENDENTS_AT_ONCE
    locked: frozenset[int] = frozenset()
    """Lanes that this transaction has begun with, since an earlier try did not get them."""
    _finishing: dict[int, JobRow] = field(default_factory=dict)
    _rewritten: dict[int, JobRow] = field(default_factory=dict)
    _placed: dict[int, JobRow] = field(default_factory=dict)

    async def look(self, name: str, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """The rows of a named statement."""
        return await self.connection.rows(self.dialect.sql[name], **parameters)

    async def read(self, ids: Collection[int], *, lock: bool = True) -> list[JobRow]:
        """Live rows by id; those that are gone are left out. lock: nobody else changes them until the commit."""
        unknown = {id for id in ids if id not in self.rows}
        for row in await self.dialect.read(self.connection, unknown, lock=lock):
            self.rows[row.id] = row
        return [self.rows[id] for id in ids if id in self.rows]

    # ── what becomes of a row ───────────────────────────────────────────────────────────────────────────────────────

    def contest(self, row: JobRow) -> None:
        """The lanes of this row are to be looked at."""
        self.lanes.update(lanes_of(row))

    def line_up(self, row: JobRow) -> None:
        """The row has come to wait for its lanes."""
        lanes = lanes_of(row)
        best = self.arrived.setdefault(lanes, row)
        if turn(row) < turn(best):
            self.arrived[lanes] = row
        self.lanes.update(lanes)

    def let_go(self, row: JobRow) -> None:
        """Decide what a row without unfinished parents waits for now. The caller has it written."""
        row.hold = hold_for(parents_left=0, run_after=row.run_after, now=self.now, has_lane=lane_hold(row) is not None)
        if row.hold is None:
            self.take(row)
        elif row.hold is Hold.LANE:
            self.line_up(row)
        elif row.id not in self.own:
            self.timed = True

    def let_go_new(self, row: JobRow) -> None:
        """The same for a row that has no id yet; it lines up when it has one."""
        row.hold = hold_for(parents_left=0, run_after=row.run_after, now=self.now, has_lane=lane_hold(row) is not None)
        if row.hold is not None:
            return
        if self.taking is not None and self.taking.claim.fits(row):
            row.owner = self.taking.owner
        else:
            self.claimable = True

    def take(self, row: JobRow) -> None:
        """A row that waits for nothing: own it at once, or leave it to be claimed. The caller has it written."""
        if self.takes(row):
            assert self.taking is not None
            row.owner = self.taking.owner
            self.claimed.append(row)
            return
        self.claimable = True
        if row.id not in self.own:
            self.ready = True

    def takes(self, row: JobRow) -> bool:
        """Whether the caller may own the row, and can be told of it."""
        may = self.taking is not None and (not self.only_own or row.id in self.own)
        return may and self.taking is not None and self.taking.claim.fits(row)

    def cancel(self, rows: Iterable[JobRow], error: JobError) -> None:
        """End waiting rows."""
        for row in rows:
            self.contest(row)
            self.end([cancel_waiting(row, error, now=self.now).row])

    def end(self, rows: Sequence[JobRow]) -> None:
        """These rows are over now, and nobody but the storage knows."""
        self.finish(rows)
        self.ended += rows

    # ── what is written ─────────────────────────────────────────────────────────────────────────────────────────────

    def finish(self, rows: Iterable[JobRow], *, childless: Collection[int] = ()) -> None:
        """Rows leave for the archive. childless: those that nobody waits for."""
        for row in rows:
            self._finishing[row.id] = self.rows[row.id] = row
            self._placed.pop(row.id, None)
            self._rewritten.pop(row.id, None)
            if row.id not in childless:
                self.finished[row.id] = row.state

    def rewrite(self, row: JobRow) -> None:
        """Everything of the row may have changed."""
        self._rewritten[row.id] = self.rows[row.id] = row
        self._placed.pop(row.id, None)

    def place(self, row: JobRow) -> None:
        """What the row waits for has changed, or who owns it."""
        if row.id not in self._rewritten:
            self._placed[row.id] = row

    async def write(self) -> None:
        """Write what has gathered."""
        finishing, self._finishing = self._finishing, {}
        rewritten, self._rewritten = self._rewritten, {}
        placed, self._placed = self._placed, {}
        if finishing:
            await self.dialect.finish(self.connection, finishing.values())
        if rewritten:
            await self.dialect.rewrite(self.connection, rewritten.values())
            owned = [row for row in rewritten.values() if row.owner is not None]
            placed |= {row.id: row for row in owned}  # with the token of the claim
        if placed:
            await self.dialect.place(self.connection, placed.values(), token=self.token)

    @property
    def token(self) -> int | None:
        """The number of the claim under which rows are taken."""
        return None if self.taking is None else self.taking.token


def lanes_of(row: JobRow) -> tuple[Lane, ...]:
    """The lanes that the row needs for its next step."""
    names: tuple[tuple[Literal["worker", "key"], str | None], ...] = (("worker", row.lane), ("key", row.lane_key))
    return tuple((kind, name) for kind, name in names if name is not None)


def turn(row: JobRow) -> tuple[int, int]:
    """The order in which jobs get what they wait for."""
    return -row.priority, row.id


def is_waiting(row: JobRow) -> bool:
    """Whether the row is live and nobody owns it."""
    return row.state not in FINAL and row.owner is None
