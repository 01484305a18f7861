"""One caller's change, as it spreads within its transaction: from a job to its lanes and dependents, and on."""

import sqlite3
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal

from commandjobs.model.job import JobError
from commandjobs.model.row import JobRow
from commandjobs.model.settle import cancel_waiting, lane_hold
from commandjobs.model.state import FINAL, Hold, JobState, hold_for
from commandjobs.storage.base import Claim
from commandjobs.storage.queries import load_queries
from commandjobs.storage.sqlite.rows import ENCODERS, ids_json, next_step, to_row

SQL = load_queries("commandjobs.storage.sqlite")

Lane = tuple[Literal["worker", "key"], str]

DEPENDENTS_AT_ONCE = 1000
"""Followed in the transaction that ends their parent; more are left to `sweep`."""


@dataclass(slots=True)
class Taking:
    """By whom jobs that become runnable are owned at once."""

    claim: Claim
    owner: int


@dataclass(slots=True)
class Effect:
    """What one operation has done: its caller's answer, and what is to be done after the commit."""

    answer: Any
    ended: Sequence[JobRow] = ()
    """Marked as over: to be moved to their archives."""
    wake: bool = False
    """Something became claimable, or is left to `sweep`, that the answer does not tell."""
    orphans: Sequence[JobRow] = ()
    """Archived, but the job was somebody else's: nobody may believe the archive."""


@dataclass(slots=True)
class Change:
    """What has been done, and what is still to be looked at: `conclude` does that."""

    connection: sqlite3.Connection
    now: int
    taking: Taking | None = None
    own: dict[int, JobRow] = field(default_factory=dict)
    """New rows, which the caller has in its hands: they are changed in place."""
    only_own: bool = False
    """The caller can be told of these rows only, so no others are taken."""
    finished: deque[tuple[int, JobState]] = field(default_factory=deque)
    """Jobs that have ended, and how: their dependents are to be followed."""
    lanes: set[Lane] = field(default_factory=set)
    """Lanes that were freed, or that somebody new waits for."""
    arrived: dict[tuple[Lane, ...], JobRow] = field(default_factory=dict)
    """Who has come to wait for these lanes: the best of them, as the others can do no better."""
    seated: dict[int, JobRow] = field(default_factory=dict)
    """Elected by their lanes, but somebody better may still come in this very change."""
    claimed: list[JobRow] = field(default_factory=list)
    ended: list[JobRow] = field(default_factory=list)
    """Marked as over; to be moved to their archives after the commit."""
    ready: bool = False
    """Something became claimable that the caller does not hear of otherwise."""
    timed: bool = False
    """A dependent was let go that now waits for its time, which nobody else looks out for."""
    unswept: bool = False
    budget: int = DEPENDENTS_AT_ONCE

    def read(self, ids: Sequence[int]) -> list[JobRow]:
        """Live rows by id; those that are gone are left out."""
        unknown = [id for id in ids if id not in self.own]
        return [*(self.own[id] for id in ids if id in self.own), *read_jobs(self.connection, unknown)]

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
        """Decide what a row without unfinished parents waits for now. The caller writes it."""
        row.hold = hold_for(parents_left=0, run_after=row.run_after, now=self.now, has_lane=lane_hold(row) is not None)
        if row.hold is None:
            self.take(row)
        elif row.hold is Hold.LANE:
            self.line_up(row)
        elif row.id not in self.own:
            self.timed = True

    def take(self, row: JobRow) -> None:
        """A row that waits for nothing: own it at once, or leave it to be claimed. The caller writes it."""
        taking, own = self.taking, row.id in self.own
        if taking is not None and (own or not self.only_own) and taking.claim.fits(row):
            row.owner = taking.owner
            self.claimed.append(row)
        elif not own:
            self.ready = True

    def cancel(self, rows: Sequence[JobRow], error: JobError) -> None:
        """End waiting rows."""
        self.end([cancel_waiting(row, error, now=self.now).row for row in rows if self._leaves(row)])

    def end(self, rows: Sequence[JobRow]) -> None:
        """Mark rows that are over now."""
        rewrite(self.connection, rows)
        self.ended += rows
        self.finished += [(row.id, row.state) for row in rows]

    def effect(self, answer: object, *, told: bool = False) -> Effect:
        """What comes of it. told: the answer says whether something became claimable."""
        wake = self.unswept or self.timed or (self.ready and not told)
        return Effect(answer, self.ended, wake=wake)

    def _leaves(self, row: JobRow) -> bool:
        self.contest(row)
        self.seated.pop(row.id, None)
        return True


def lanes_of(row: JobRow) -> tuple[Lane, ...]:
    """The lanes that the row needs for its next step."""
    names: tuple[tuple[Literal["worker", "key"], str | None], ...] = (("worker", row.lane), ("key", row.lane_key))
    return tuple((kind, name) for kind, name in names if name is not None)


def turn(row: JobRow) -> tuple[int, int]:
    """The order in which jobs get what they wait for."""
    return -row.priority, row.id


def read_jobs(connection: sqlite3.Connection, ids: Sequence[int]) -> list[JobRow]:
    """Whole rows of the queue file, by id."""
    return [to_row(columns) for columns in connection.execute(SQL["read_jobs"], (ids_json(ids),))] if ids else []


def place(connection: sqlite3.Connection, rows: Iterable[JobRow]) -> None:
    """Write who owns rows, what parks them, and where they can be claimed."""
    connection.executemany(
        SQL["place"], [(row.owner, row.hold, row.parents_left, row.suspect, *claimable_as(row), row.id) for row in rows]
    )


def rewrite(connection: sqlite3.Connection, rows: Iterable[JobRow]) -> None:
    """Write everything that can change of a row. One that is over is marked so, and holds nothing any more."""
    connection.executemany(SQL["rewrite"], [_rewritten(row) for row in rows])


def claimable_as(row: JobRow) -> tuple[str | None, str | None]:
    """The claim columns: queue and command of the next step, if the row only waits to be claimed."""
    if row.owner is not None or row.hold is not None or row.state in FINAL:
        return None, None
    return next_step(row)


REWRITTEN = (
    "owner", "state", "hold", "parents_left", "lane", "lane_key", "suspect", "attempts", "attempts_returned",
    "callback_attempts", "callback_returned", "crashes", "started", "completed", "notified", "last_activity",
    "duration_ms", "progress", "status", "response", "response_body", "error", "error_code", "error_message",
    "overrunning", "cancel_requested", "cancelled_by", "node", "meta", "history", "work_done", "callback_queue",
    "run_after", "priority", "queue",
)  # fmt: skip
"""The order of the parameters of `rewrite`; claim columns, `ended` and the id follow."""
_values = attrgetter(*REWRITTEN)
_encoders = [(REWRITTEN.index(name), encode) for name, encode in ENCODERS.items() if name in REWRITTEN]


def _rewritten(row: JobRow) -> tuple[object, ...]:
    values = list(_values(row))
    for index, encode in _encoders:
        values[index] = encode(values[index])
    ended = 1 if row.state in FINAL else None
    return (*values, *claimable_as(row), ended, ended, row.started is not None, row.id)
