"""What clients were promised, what is found in the files, and which promises that breaks."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

# ── promises, as a tape has them ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The enqueue has returned."""

    id: int
    ref_id: str
    request: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Who waited for the job was told of its end."""

    id: int
    run: int
    state: str
    result: str | None
    lines: int
    """So many lines it wrote into its log."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """The requeue has returned."""

    id: int
    run: int


@dataclass(frozen=True, slots=True)
class Changed:
    """A waiting job was given a priority."""

    id: int
    priority: int


@dataclass(frozen=True, slots=True)
class Begun:
    """The code of a job that is marked `rerun_after_crash=False` has begun."""

    id: int


@dataclass
class Promises:
    """All of them up to a moment."""

    enqueued: dict[int, Enqueued] = field(default_factory=dict)
    ended: dict[tuple[int, int], Ended] = field(default_factory=dict)
    """By id and run."""
    changed: dict[int, int] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    runs: dict[int, int] = field(default_factory=dict)
    """The highest run of a job that was promised."""

    @classmethod
    def of(cls, facts: Iterable[object]) -> "Promises":
        promises = cls()
        for fact in facts:
            match fact:
                case Enqueued(id):
                    promises.enqueued[id] = fact
                case Ended(id, run):
                    promises.ended[id, run] = fact
                case Requeued(id, run):
                    promises.runs[id] = run
                case Changed(id, priority):
                    promises.changed[id] = priority
                case Begun(id):
                    promises.begun.add(id)
                case _:
                    raise AssertionError(f"{fact!r} is no promise.")
        return promises

    @property
    def ids(self) -> set[int]:
        """Whose id a client has."""
        return {*self.enqueued, *(id for id, _ in self.ended)}


# ── what is found ───────────────────────────────────────────────────────────────────────────────────────────────────


class LiveJob(NamedTuple):
    """A row of the queue file."""

    ref_id: str
    request: str
    run: int
    state: str
    priority: int
    begun: int | None
    ended: int | None


class Summary(NamedTuple):
    """What the queue file keeps of a job that has ended."""

    ref_id: str
    run: int
    state: str


class ArchivedRun(NamedTuple):
    """A row of a month file."""

    request: str
    state: str
    result: str | None


@dataclass
class Found:
    """The files after a recovery, seen from outside."""

    live: dict[int, LiveJob] = field(default_factory=dict)
    summaries: dict[int, Summary] = field(default_factory=dict)
    archived: dict[tuple[int, int], ArchivedRun] = field(default_factory=dict)
    lines: Counter[int] = field(default_factory=Counter)
    """Of each job's log."""
    damaged: list[str] = field(default_factory=list)
    twice: list[tuple[int, int]] = field(default_factory=list)
    """Runs that are in two month files."""

    @classmethod
    def at(cls, folder: Path) -> "Found":
        found = cls()
        if (folder / "jobs.db").exists():
            found._read_queue(folder / "jobs.db")
        for month in sorted(folder.glob("jobs_*.db")):
            found._read_month(month)
        return found

    def _read_queue(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as file:
            self._check(file, path)
            live = "select id, ref_id, request_body, run, state, priority, begun, ended from job"
            self.live = {id: LiveJob(*columns) for id, *columns in file.execute(live)}
            over = "select id, ref_id, run, state from job_summary"
            self.summaries = {id: Summary(*columns) for id, *columns in file.execute(over)}

    def _read_month(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as file:
            self._check(file, path)
            for id, run, *columns in file.execute("select id, run, request_body, state, response_body from job"):
                if (id, run) in self.archived:
                    self.twice.append((id, run))
                self.archived[id, run] = ArchivedRun(*columns)
            self.lines.update(dict(file.execute("select job_id, count(*) from log group by job_id")))

    def _check(self, file: sqlite3.Connection, path: Path) -> None:
        answers: list[Any] = [answer for (answer,) in file.execute("pragma integrity_check")]
        self.damaged += [f"{path.name}: {answer}" for answer in answers if answer != "ok"]

    def run_of(self, id: int) -> int:
        """The run that the queue file has of a job; -1: it does not know the job."""
        job = self.live.get(id) or self.summaries.get(id)
        return -1 if job is None else job.run


# ── comparing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def misplaced(found: Found) -> Iterator[str]:
    """Sentences on jobs that are not in exactly one place, whatever was promised."""
    yield from found.damaged
    for id, run in found.twice:
        yield f"job {id}: run {run} is in two months"
    for id in found.live.keys() & found.summaries.keys():
        yield f"job {id}: is both live and over"
    for id, job in found.live.items():
        if job.ended:
            yield f"job {id}: has ended and was not moved"
        if (id, job.run) in found.archived:
            yield f"job {id}: run {job.run} is live and in its archive"
    for id, summary in found.summaries.items():
        archived = found.archived.get((id, summary.run))
        if archived is None or archived.state != summary.state:
            yield f"job {id}: its summary says {summary.state}, its archive {archived}"
    for id, run in found.archived:
        if run > found.run_of(id):
            yield f"job {id}: run {run} is in an archive, but the queue file does not know of it"


def broken(promises: Promises, found: Found) -> Iterator[str]:
    """Sentences on promises that were not kept."""
    for promised in promises.enqueued.values():
        yield from _enqueued(promised, found)
    for ended in promises.ended.values():
        archived = found.archived.get((ended.id, ended.run))
        if archived is None or (archived.state, archived.result) != (ended.state, ended.result):
            yield f"job {ended.id}: {ended} was told, and there is {archived}"
        if found.lines[ended.id] < ended.lines:
            yield f"job {ended.id}: {found.lines[ended.id]} of {ended.lines} log lines are there"
    for id, run in promises.runs.items():
        if found.run_of(id) < run:
            yield f"job {id}: its requeue is gone"
    for id, priority in promises.changed.items():
        job = found.live.get(id)
        if job is not None and job.priority != priority:
            yield f"job {id}: its priority is {job.priority}, not {priority}"
    for id in promises.begun & found.live.keys():
        if not found.live[id].begun:
            yield f"job {id}: has begun and would run again"


def _enqueued(promised: Enqueued, found: Found) -> Iterator[str]:
    job = found.live.get(promised.id) or found.summaries.get(promised.id)
    if job is None:
        yield f"job {promised.id}: is gone"
        return
    here = job if isinstance(job, LiveJob) else found.archived.get((promised.id, job.run))
    if job.ref_id != promised.ref_id or (here is not None and here.request != promised.request):
        yield f"job {promised.id}: has become another one"


def run_again(promises: Promises, found: Found, ran: Iterable[int]) -> Iterator[str]:
    """Sentences on jobs that have run although they were not to."""
    last = dict(sorted(promises.ended))
    for id in ran:
        if id in promises.begun:
            yield f"job {id}: has begun twice"
        if id in last and found.run_of(id) <= last[id]:
            yield f"job {id}: ran again after its end"
