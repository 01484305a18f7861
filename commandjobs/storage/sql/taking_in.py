"""Jobs that come from another storage, stored as they are: a piece of a thousand or so in each transaction."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any, cast

from commandjobs.errors import InvalidOption, StorageUnavailable
from commandjobs.model.carried import Carried, Tie, holds_key
from commandjobs.model.row import JobRow
from commandjobs.model.stats import Tallies
from commandjobs.storage.base import NOT_HERE, Copying, in_the_way
from commandjobs.storage.sql.dialect import Dialect
from commandjobs.storage.sql.driver import Connection, Loading
from commandjobs.storage.sql.rows import (
    ENCODERS,
    FINISHED_COLUMNS,
    JOB_COLUMNS,
    SUMMARY_COLUMNS,
    claimable_as,
    document,
    plain_text,
)
from commandjobs.storage.sql.tallies import tally_rows

LIVE_COLUMNS = (*JOB_COLUMNS, "claim_queue", "claim_command", "begun", "held_key")
LOG_COLUMNS = ("job_id", "created", "sequence", "attempt", "at", "level", "logger", "message", "exception")
FREE_TEXTS = frozenset(
    {"request_body", "response_body", "status", "error", "error_message", "meta", "history", "args", "tags"}
)
"""Columns in which another database may hold what a server refuses."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One call of `take_in`."""

    carried: Sequence[Carried]
    copying: Copying | None
    tallies: Tallies | None


async def begin_copy(dialect: Dialect, connection: Connection, copying: Copying) -> None:
    """Note that a copy begins, or goes on."""
    await dialect.raise_last_id(connection, copying.last_id)
    await connection.run(dialect.sql["note_copying"], **asdict(copying))


async def take_in(dialect: Dialect, connection: Connection, piece: Piece) -> int:
    """Store jobs; returns how many were stored."""
    sql = dialect.sql
    if piece.copying is not None:
        await _check_turn(dialect, connection, piece.copying)
    await dialect.raise_last_id(connection, max((job.row.id for job in piece.carried), default=0))
    known = await _meet(dialect, connection, piece)
    jobs = piece.carried
    if piece.copying is None:
        jobs = [job for job in jobs if job.row.id not in known]
    elif known:
        await dialect.forget(connection, sorted(known))
    await _write(dialect, connection, jobs)
    if piece.tallies:
        await connection.run(sql["write_tallies"], rows=tally_rows(piece.tallies, NOT_HERE))
    if piece.copying is not None:
        await connection.run(sql["note_copying"], **asdict(piece.copying))
    return len(jobs)


async def _check_turn(dialect: Dialect, connection: Connection, copying: Copying) -> None:
    found = await connection.rows(dialect.sql["lock_copying"])
    if [run for (run,) in found] != [copying.run]:
        raise StorageUnavailable("Another process goes on with this copy now, so this one has ended.")
    for name, pid in await connection.rows(dialect.sql["workers"]):
        raise StorageUnavailable(f"Node {name} (process {pid}) executes where jobs are brought to. Stop it first.")


async def _meet(dialect: Dialect, connection: Connection, piece: Piece) -> set[int]:
    """Which of the jobs are here already. Raises `InvalidOption` if somebody else has their ids or ref ids."""
    coming = {job.row.id: job.row.ref_id for job in piece.carried}
    if not coming:
        return set()
    known = [(id, ref) for id, ref in await connection.rows(dialect.sql["refs_of"], ids=sorted(coming))]
    taken: list[tuple[int, str]] = []
    if piece.copying is None:  # else they come from where nobody has the same
        refs = [job.row.ref_id for job in piece.carried if job.holds_ref]
        taken = [(id, ref) for ref, id in await connection.rows(dialect.sql["taken_refs"], refs=refs)]
    for id, ref_id in (*known, *taken):
        if coming.get(id) != ref_id:
            raise InvalidOption(in_the_way(id, ref_id))
    return {id for id, _ in known}


async def _write(dialect: Dialect, connection: Connection, jobs: Sequence[Carried]) -> None:
    live = [_live(job) for job in jobs if not job.is_over]
    runs = [FINISHED.written(run) for job in jobs for run in job.finished]
    summaries = [SUMMARY.written(job.row) for job in jobs if job.is_over]
    lines = [line for job in jobs for line in _lines(job)]
    for table, columns, rows in (
        ("job", LIVE_COLUMNS, live),
        ("finished", FINISHED_COLUMNS, runs),
        ("job_summary", SUMMARY_COLUMNS, summaries),
        ("log", LOG_COLUMNS, lines),
    ):
        if rows:
            await cast(Loading, connection).load(table, columns, rows)
    await _tie(dialect, connection, jobs)


async def _tie(dialect: Dialect, connection: Connection, jobs: Sequence[Carried]) -> None:
    ties = [{"child_id": job.row.id, **_tie_columns(tie)} for job in jobs for tie in job.ties]
    if ties:
        parents = {tie.parent for job in jobs for tie in job.ties if not tie.cancelled}
        await connection.run(dialect.sql["note_dependents"], ids=sorted(parents))
        await connection.run(dialect.sql["depend"], rows=document(ties))


# ── columns ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Columns:
    """Which of a row's columns are written into a table."""

    names: Sequence[str]
    values: Callable[[JobRow], Sequence[Any]]
    documents: Sequence[tuple[int, Callable[[Any], str | None]]]
    """Where a collection is, and how it is written: NULL if it is empty."""
    texts: Sequence[int]
    """Where a text is that a server may refuse."""

    @classmethod
    def of(cls, names: Sequence[str]) -> "Columns":
        """The columns of these names."""
        documents = [(place, ENCODERS[name]) for place, name in enumerate(names) if name in ENCODERS]
        texts = [place for place, name in enumerate(names) if name in FREE_TEXTS]
        return cls(names, attrgetter(*names), documents, texts)

    def written(self, row: JobRow) -> list[Any]:
        """The values for the table."""
        columns = list(self.values(row))
        for place, encode in self.documents:
            columns[place] = encode(columns[place]) if columns[place] else None
        for place in self.texts:
            if columns[place]:
                columns[place] = plain_text(columns[place])
        return columns


LIVE, FINISHED, SUMMARY = map(Columns.of, (JOB_COLUMNS, FINISHED_COLUMNS, SUMMARY_COLUMNS))


def _live(job: Carried) -> list[Any]:
    held_key = job.row.unique_key if holds_key(job.row) else None
    return [*LIVE.written(job.row), *claimable_as(job.row), job.begun, held_key]


def _lines(job: Carried) -> list[list[Any]]:
    id, created = job.row.id, job.row.created
    return [
        [
            id, created, line.sequence, line.attempt, line.at, line.level, line.logger, plain_text(line.message),
            None if line.exception is None else plain_text(line.exception),
        ]
        for line in job.log
    ]  # fmt: skip


def _tie_columns(tie: Tie) -> dict[str, Any]:
    return {"parent_id": tie.parent, "bound_attempt": tie.bound_attempt, "cancelled": tie.cancelled}
