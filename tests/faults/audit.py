"""The audit: from the ledger and the files alone, was every promise kept? One function for each invariant.

It looks when everything was given the chance to finish: nothing may be left over. The files are read with sqlite3 and
nothing of the package, so that what is wrong there is not wrong here too.
"""

import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from json import loads
from math import inf
from pathlib import Path
from typing import Any

from tests.faults.ledger import Entry

DRAINED_WITHIN = 35.0
"""Seconds: a lease and five."""
LOG_LINES = 60
"""For one life of a process, however it ends."""

Row = dict[str, Any]


@dataclass
class Evidence:
    """What there is to look at."""

    folder: Path
    entries: Sequence[Entry]
    live: list[Row] = field(default_factory=list)
    archived: list[Row] = field(default_factory=list)
    """With `month`: the file it lies in."""
    summaries: dict[int, Row] = field(default_factory=dict)
    left: list[Row] = field(default_factory=list)
    """What is only needed on the way."""

    def did(self, *what: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.did in what]

    @cached_property
    def deaths(self) -> int:
        """How often a process was killed, or has lost what it had."""
        return len(self.did("killed", "fenced"))

    @cached_property
    def _lost(self) -> dict[int, float]:
        """Until when what a process has begun is lost."""
        fenced = {entry.pid: entry.at for entry in self.did("fenced")}
        return fenced | {entry.pid: inf for entry in self.did("killed")}

    def is_lost(self, entry: Entry) -> bool:
        """Whether somebody else had to do what was begun there."""
        return entry.at < self._lost.get(entry.pid, 0.0)

    @cached_property
    def jobs(self) -> dict[int, Row]:
        """The last run of every job that has ended."""
        newest: dict[int, Row] = {}
        for row in sorted(self.archived, key=lambda row: int(row["run"])):
            newest[row["id"]] = row
        return newest

    @cached_property
    def starts(self) -> dict[int, list[Entry]]:
        """Of each job's work, in their order."""
        found: dict[int, list[Entry]] = defaultdict(list)
        for entry in self.did("start"):
            found[entry.id].append(entry)
        return found


def audit(folder: Path, entries: Sequence[Entry]) -> list[str]:
    """All that is wrong."""
    evidence = gather(folder, entries)
    checks = (
        i1_every_promise_has_one_end, i1_nothing_is_invented, i1_ends_are_the_right_ones, i2_no_start_without_a_reason,
        i3_lanes_are_serial, i3_workers_keep_their_order, i5_archives_and_summaries_agree, i5_files_are_whole,
        i6_the_backlog_drains, i7_nothing_grows, i7_logs_are_short,
    )  # fmt: skip
    return [f"{check.__name__}: {sentence}" for check in checks for sentence in check(evidence)]


def gather(folder: Path, entries: Sequence[Entry]) -> Evidence:
    """Read the files."""
    evidence = Evidence(folder, entries)
    evidence.live = rows(folder / "jobs.db", "select * from job")
    evidence.summaries = {row["id"]: row for row in rows(folder / "jobs.db", "select * from job_summary")}
    for month in months(folder):
        evidence.archived += [{**row, "month": month.name} for row in rows(month, "select * from job")]
    return evidence


def months(folder: Path) -> list[Path]:
    return sorted(folder.glob("jobs_????-??.db"))


def rows(file: Path, sql: str) -> list[Row]:
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql)]


def key_of(row: Row) -> str:
    """Whose errand it was; a requeue takes the request along."""
    return str(loads(row["request_body"])["key"])


# ── I1 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def i1_every_promise_has_one_end(evidence: Evidence) -> Iterator[str]:
    """Every acknowledged enqueue has reached exactly one terminal state."""
    for entry in evidence.did("promised"):
        row = evidence.jobs.get(entry.id)
        if row is None:
            yield f"Job {entry.id} ({entry.key}) was promised, and is in no archive."
        elif key_of(row) != entry.key:
            yield f"Job {entry.id} was promised to {entry.key}, and is {key_of(row)}."
        elif row["state"] not in ("Completed", "Failed", "Cancelled"):
            yield f"Job {entry.id} ({entry.key}) lies in an archive as {row['state']}."
    for entry in evidence.did("shared"):
        if entry.id not in evidence.jobs:
            yield f"Job {entry.id} was shared with {entry.key}, and is in no archive."
    for row in evidence.live:
        yield f"Job {row['id']} ({key_of(row)}) is still {row['state']} (hold {row['hold']}, owner {row['owner']})."
    for (id, run), times in Counter((row["id"], row["run"]) for row in evidence.archived).items():
        if times > 1:
            yield f"Run {run} of job {id} is archived {times} times."


def i1_nothing_is_invented(evidence: Evidence) -> Iterator[str]:
    """Every job was asked for, and no call has led to two."""
    asked = {entry.key for entry in evidence.did("asked")}
    made = Counter(key_of(row) for row in evidence.jobs.values())
    bound = Counter(entry.key for entry in evidence.did("asked") if entry.kind == "bound")
    for key, times in made.items():
        if key not in asked:
            yield f"Nobody has asked for {key}."
        elif times > max(1, bound[key]):
            yield f"{key} was asked for once, and there are {times} jobs of it."
    batches = Counter(key.rpartition(".")[0] for key in made if ".many." in key)
    for batch, jobs in batches.items():
        if jobs != 5:
            yield f"The call {batch} was to enqueue 5 jobs or none, and has enqueued {jobs}."


def i1_ends_are_the_right_ones(evidence: Evidence) -> Iterator[str]:
    """The state is the one that the job's code and its parents' ends lead to."""
    requeued = {entry.key for entry in evidence.did("requeued")}
    cancelled = {entry.key for entry in evidence.did("cancelled")}
    kinds = {entry.key: entry.kind for entry in evidence.did("asked")}
    replied = Counter(entry.id for entry in evidence.did("replied"))
    for id, row in evidence.jobs.items():
        key, state, code = key_of(row), row["state"], row["error_code"]
        kind, started = kinds.get(key, ""), bool(evidence.starts.get(id))
        if state == "Completed" and not started:
            yield f"Job {id} ({key}) is Completed and never started."
        if state == "Completed" and row["response_body"] != f'"{key}"':
            yield f"Job {id} ({key}) is Completed, and its result is {row['response_body']!r}."
        if kind == "callback" and state == "Completed" and not replied[id]:
            yield f"Job {id} ({key}) is Completed without its callback."
        if code == "WorkerCrashed":
            yield from _condemned_rightly(evidence, id, row, kind)
        elif (wrong := _wrong_end(evidence, row, kind, key in requeued, key in cancelled)) is not None:
            yield f"Job {id} ({key}) is {state} ({code}), {wrong}."


def _condemned_rightly(evidence: Evidence, id: int, row: Row, kind: str) -> Iterator[str]:
    limit = 1 if kind == "once" else 3
    if row["crashes"] != limit or evidence.deaths < limit:
        yield (
            f"Job {id} ({key_of(row)}) has failed as crashed after {row['crashes']} crashes; "
            f"{evidence.deaths} processes were killed."
        )


def _wrong_end(evidence: Evidence, row: Row, kind: str, requeued: bool, cancelled: bool) -> str | None:
    state, code = row["state"], row["error_code"]
    started = bool(evidence.starts.get(row["id"]))
    if code == "ParentFailed":
        if started:
            return "and has started"
        ends = [evidence.jobs[parent]["state"] for parent in loads(row["depends_on"]) if parent in evidence.jobs]
        # A parent that was requeued since may have succeeded in the end.
        again = any(run["id"] in loads(row["depends_on"]) and run["state"] != "Completed" for run in evidence.archived)
        return None if again or set(ends) != {"Completed"} else "and all its parents are Completed"
    if code == "AttemptFailed":
        return "and has started" if started else None if kind == "bound" else "and belonged to no attempt"
    if kind == "later":
        return None if state == "Cancelled" and not started else "and was to be cancelled unstarted"
    if kind == "failing" and not requeued and state == "Failed":
        return None
    if kind == "parent" and state != "Completed":
        return "and its second attempt should have succeeded"
    return None if state == "Completed" else "and nothing says why"


# ── I2 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def i2_no_start_without_a_reason(evidence: Evidence) -> Iterator[str]:
    """Work and callbacks start again only after a failure, a snooze, or the death of their process."""
    ways = [(evidence.starts, "start"), (_by_id(evidence.did("reply")), "callback")]
    over = {(entry.id, entry.attempt, entry.pid) for entry in evidence.did("fail", "snooze", "cut")}
    for starts, what in ways:
        for id, entries in starts.items():
            for entry in entries[:-1]:
                if not evidence.is_lost(entry) and (id, entry.attempt, entry.pid) not in over:
                    yield f"Job {id} ({entry.key}) had another {what} after that in process {entry.pid}, which lives."
    for id, entries in evidence.starts.items():
        if entries[0].kind == "once" and len(entries) > 1:
            yield f"Job {id} ({entries[0].key}) must not run again after a crash, and has {len(entries)} starts."
    yield from _one_attempts_jobs_have_run(evidence)


def _by_id(entries: Sequence[Entry]) -> dict[int, list[Entry]]:
    found: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        found[entry.id].append(entry)
    return found


def _one_attempts_jobs_have_run(evidence: Evidence) -> Iterator[str]:
    """Of the jobs that a parent's attempts have enqueued, those of one attempt run."""
    run: dict[str, list[str]] = defaultdict(list)
    for entries in evidence.starts.values():
        if entries[0].kind == "bound":
            family, _, _ = entries[0].key.partition(".bound.")
            run[family].append(entries[0].key)
    for family, keys in run.items():
        if len(set(keys)) != len(keys) or len({key.split(".")[-2] for key in keys}) > 1:
            yield f"Jobs of several attempts of {family} have run: {sorted(keys)}."


# ── I3 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def i3_lanes_are_serial(evidence: Evidence) -> Iterator[str]:
    """A worker, a key, a unique key: one at a time, unless the process of the first is dead."""
    holders: dict[str, Entry] = {}
    for entry in evidence.did("start", "end", "fail", "snooze", "cut"):
        if not entry.lane:
            continue
        holder = holders.get(entry.lane)
        if entry.did != "start":
            if holder is not None and (holder.id, holder.pid) == (entry.id, entry.pid):
                del holders[entry.lane]
        else:
            if holder is not None and not evidence.is_lost(holder):
                yield f"On {entry.lane}, job {entry.id} has started while job {holder.id} ran in process {holder.pid}."
            holders[entry.lane] = entry


def i3_workers_keep_their_order(evidence: Evidence) -> Iterator[str]:
    """Jobs of a worker with equal priority start in the order of their ids."""
    last: dict[str, int] = {}
    seen: set[int] = set()
    for entry in evidence.did("start"):
        if entry.kind == "worker" and entry.id not in seen:
            seen.add(entry.id)
            if entry.id < last.get(entry.lane, 0):
                yield f"On {entry.lane}, job {entry.id} has started after job {last[entry.lane]}."
            last[entry.lane] = entry.id


# ── I5, I6, I7 ─────────────────────────────────────────────────────────────────────────────────────────────────────


def i5_archives_and_summaries_agree(evidence: Evidence) -> Iterator[str]:
    """They tell the same, and everything is found by id and ref id."""
    for id, row in evidence.jobs.items():
        summary = evidence.summaries.get(id)
        if summary is None:
            yield f"Job {id} lies in {row['month']} and has no summary."
            continue
        for column in ("ref_id", "command", "state", "attempts", "run", "error_code", "created"):
            if summary[column] != row[column]:
                yield f"Of job {id}, {column} is {row[column]!r} in {row['month']}, and not {summary[column]!r}."
    for id in evidence.summaries.keys() - evidence.jobs.keys():
        yield f"Job {id} has a summary and lies in no archive."
    for entry in evidence.did("lost"):
        yield f"Job {entry.id} was not found by {'ref id ' + entry.key if entry.key else 'id'}."


def i5_files_are_whole(evidence: Evidence) -> Iterator[str]:
    """No file is damaged."""
    for file in (evidence.folder / "jobs.db", *months(evidence.folder)):
        for row in rows(file, "pragma integrity_check"):
            if row != {"integrity_check": "ok"}:
                yield f"{file.name} is damaged: {row}."


def i6_the_backlog_drains(evidence: Evidence) -> Iterator[str]:
    """After healing, what was left is done within a stated time."""
    drained = evidence.did("drained")
    if not drained:
        yield "Nobody has done what was left."
    for entry in drained:
        if float(entry.key) > DRAINED_WITHIN:
            yield f"It took {entry.key} s to do what was left."


def i7_nothing_grows(evidence: Evidence) -> Iterator[str]:
    """What is only needed on the way is gone at the end."""
    queue = evidence.folder / "jobs.db"
    left = {
        "unfollowed": "select * from unfollowed",
        "steering": "select * from steering where answered is null",
        "dependency": "select * from dependency where cancelled is null",
        "meta": "select * from meta where name = 'clean' and value <> 1",
        "node": "select * from node where stopped is null and executing",
    }
    for table, sql in left.items():
        if table != "node" and (found := rows(queue, sql)):
            yield f"{len(found)} rows are left in {table}: {found[0]}."
    for month in months(evidence.folder):
        if found := rows(month, "select * from unconfirmed"):
            yield f"{len(found)} notes are left in {month.name}: {found[0]}."
    expected = re.compile(r"jobs(_\d{4}-\d{2})?\.db|jobs\.db\.lock|ledger|errors\..*|passed\..*")
    for file in evidence.folder.iterdir():
        if not expected.fullmatch(file.name):
            yield f"{file.name} is left over."


def i7_logs_are_short(evidence: Evidence) -> Iterator[str]:
    """A life, and each outage in it, is told in few lines, and in sentences."""
    for file in evidence.folder.glob("errors.*"):
        lines = file.read_text(encoding="utf-8").splitlines()
        if len(lines) > LOG_LINES * (1 + len(evidence.did("outage"))) or any("Traceback" in line for line in lines):
            yield f"{file.name} has {len(lines)} lines: {lines[:12]}."
