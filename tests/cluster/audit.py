"""The audit of a cluster: the ledger against the database, which is read with a driver and nothing of the package."""

import re
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path

from tests.faults import audit as files
from tests.faults.audit import (
    Evidence,
    i1_ends_are_the_right_ones,
    i1_every_promise_has_one_end,
    i1_nothing_is_invented,
    i2_no_start_without_a_reason,
    i3_lanes_are_serial,
    i5_archives_and_summaries_agree,
    i6_the_backlog_drains,
    i7_logs_are_short,
)
from tests.faults.ledger import Entry
from tests.servers.sql import blocking, postgres_rows

LOST = re.compile(r"^([\d.]+) ERROR Node .* has lost its lease", re.MULTILINE)
CHECKS = (
    i1_every_promise_has_one_end, i1_nothing_is_invented, i1_ends_are_the_right_ones, i2_no_start_without_a_reason,
    i3_lanes_are_serial, i5_archives_and_summaries_agree, i6_the_backlog_drains,
    i7_logs_are_short,
)  # fmt: skip


def audit(url: str, folder: Path, entries: Sequence[Entry]) -> list[str]:
    """All that is wrong."""
    if url.startswith("sqlite:"):
        return files.audit(folder, entries)
    evidence = gather(url, folder, entries)
    return [f"{check.__name__}: {sentence}" for check in (*CHECKS, *OF_SERVERS) for sentence in check(evidence)]


def gather(url: str, folder: Path, entries: Sequence[Entry]) -> Evidence:
    """Read the database, and in the logs who has lost a lease."""
    evidence = Evidence(folder, [*entries, *fences(folder, entries)])
    live, finished, summaries, unfollowed = blocking(
        postgres_rows(
            url,
            "select * from job",
            "select *, tableoid::regclass::text as month from finished",
            "select * from job_summary",
            "select * from unfollowed",
        )
    )
    evidence.live, evidence.archived, evidence.left = live, finished, unfollowed
    evidence.summaries = {row["id"]: row for row in summaries}
    return evidence


def fences(folder: Path, entries: Sequence[Entry]) -> Iterator[Entry]:
    """Nodes that gave up what they had begun, since their lease was lost."""
    pids = {entry.key: entry.pid for entry in entries if entry.did == "ready"}
    for file in folder.glob("errors.*"):
        name = file.name.removeprefix("errors.")
        for moment in LOST.findall(file.read_text(encoding="utf-8")):
            if name in pids:
                yield Entry("fenced", pid=pids[name], at=float(moment))


def i3_workers_keep_their_order(evidence: Evidence) -> Iterator[str]:
    """A worker's job starts before those that were asked for when it was promised already.

    Of two that are enqueued at once on two nodes, the one with the lower id may be there later.
    """
    asked = {entry.key: entry.at for entry in evidence.did("asked")}
    promised = {entry.id: entry.at for entry in evidence.did("promised")}
    newest, seen = dict[str, Entry](), set[int]()
    for entry in evidence.did("start"):
        if entry.kind == "worker" and entry.id not in seen:
            seen.add(entry.id)
            newer = newest.get(entry.lane, entry)
            if promised.get(entry.id, inf) < asked[newer.key]:
                yield f"On {entry.lane}, job {entry.id} has started after job {newer.id}, which was asked for later."
            if asked[entry.key] >= asked[newer.key]:
                newest[entry.lane] = entry


def i7_nothing_is_left(evidence: Evidence) -> Iterator[str]:
    """What is only needed on the way is gone at the end."""
    for row in evidence.left:
        yield f"{row} is left over."


OF_SERVERS = (i3_workers_keep_their_order, i7_nothing_is_left)
