"""The audit itself: it is content with a good run, and says what is wrong with one that was tampered with."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults import audit
from tests.faults.audit import Evidence, gather
from tests.faults.bench import Bench
from tests.faults.ledger import Entry
from tests.faults.workload import Plan


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Entry]]:
    bench = Bench(tmp_path_factory.mktemp("good"))
    assert not bench.run(Plan("good", each=1))
    assert bench.audit() == []
    return bench.folder, bench.ledger.read()


def first(evidence: Evidence, did: str, kind: str = "plain") -> Entry:
    return next(entry for entry in evidence.entries if (entry.did, entry.kind) == (did, kind))


def again(evidence: Evidence, entry: Entry) -> None:
    """It happens once more, in the same process."""
    evidence.entries = [*evidence.entries, entry]


def lose_a_job(evidence: Evidence) -> None:
    evidence.archived.remove(next(row for row in evidence.archived if row["id"] == first(evidence, "promised").id))


def archive_twice(evidence: Evidence) -> None:
    evidence.archived.append({**evidence.archived[0], "month": "jobs_2020-01.db"})


def leave_one_live(evidence: Evidence) -> None:
    evidence.live.append({**evidence.archived[0], "hold": 1, "owner": None, "state": "Queued"})


def invent_a_job(evidence: Evidence) -> None:
    evidence.archived.append({**evidence.archived[0], "id": 10**6, "request_body": '{"key":"nobody"}'})


def store_a_call_twice(evidence: Evidence) -> None:
    evidence.archived.append({**evidence.archived[0], "id": 10**6})


def fail_for_no_reason(evidence: Evidence) -> None:
    row = next(row for row in evidence.archived if row["id"] == first(evidence, "promised").id)
    row.update(state="Failed", error_code="RuntimeError")


def condemn_too_early(evidence: Evidence) -> None:
    evidence.archived[0].update(state="Failed", error_code="WorkerCrashed", crashes=1)


def forget_a_callback(evidence: Evidence) -> None:
    evidence.entries = [entry for entry in evidence.entries if entry.did != "replied"]


def never_start(evidence: Evidence) -> None:
    id = first(evidence, "start").id
    evidence.entries = [entry for entry in evidence.entries if entry.did != "start" or entry.id != id]


def start_twice(evidence: Evidence) -> None:
    again(evidence, first(evidence, "start"))


def run_two_attempts_jobs(evidence: Evidence) -> None:
    entry = first(evidence, "start", "bound")
    again(evidence, replace(entry, id=10**6, key=entry.key.replace(".bound.2.", ".bound.1.")))


def overlap(evidence: Evidence) -> None:
    start = first(evidence, "start", "worker")
    at = list(evidence.entries).index(start)
    evidence.entries = [*evidence.entries[:at], start, replace(start, id=10**6), *evidence.entries[at + 1 :]]


def overtake(evidence: Evidence) -> None:
    again(evidence, replace(first(evidence, "start", "worker"), id=1))


def contradict(evidence: Evidence) -> None:
    evidence.summaries[evidence.archived[0]["id"]]["attempts"] += 1


def lose_a_summary(evidence: Evidence) -> None:
    del evidence.summaries[evidence.archived[0]["id"]]


def not_find(evidence: Evidence) -> None:
    again(evidence, Entry("lost", id=7))


def take_long(evidence: Evidence) -> None:
    again(evidence, Entry("drained", key="36.0"))


@pytest.mark.parametrize(
    ("tamper", "check", "says"),
    [
        (lose_a_job, audit.i1_every_promise_has_one_end, "is in no archive"),
        (archive_twice, audit.i1_every_promise_has_one_end, "is archived 2 times"),
        (leave_one_live, audit.i1_every_promise_has_one_end, "is still Queued"),
        (invent_a_job, audit.i1_nothing_is_invented, "Nobody has asked for nobody"),
        (store_a_call_twice, audit.i1_nothing_is_invented, "there are 2 jobs of it"),
        (fail_for_no_reason, audit.i1_ends_are_the_right_ones, "nothing says why"),
        (condemn_too_early, audit.i1_ends_are_the_right_ones, "after 1 crashes"),
        (forget_a_callback, audit.i1_ends_are_the_right_ones, "without its callback"),
        (never_start, audit.i1_ends_are_the_right_ones, "never started"),
        (start_twice, audit.i2_no_start_without_a_reason, "had another start"),
        (run_two_attempts_jobs, audit.i2_no_start_without_a_reason, "Jobs of several attempts"),
        (overlap, audit.i3_lanes_are_serial, "has started while job"),
        (overtake, audit.i3_workers_keep_their_order, "has started after job"),
        (contradict, audit.i5_archives_and_summaries_agree, "attempts is"),
        (lose_a_summary, audit.i5_archives_and_summaries_agree, "has no summary"),
        (not_find, audit.i5_archives_and_summaries_agree, "was not found"),
        (take_long, audit.i6_the_backlog_drains, "It took 36.0 s"),
    ],
)
def test_the_audit_finds_what_is_wrong(
    good: tuple[Path, list[Entry]],
    tamper: Callable[[Evidence], None],
    check: Callable[[Evidence], list[str]],
    says: str,
) -> None:
    evidence = gather(*good)
    assert list(check(evidence)) == []
    evidence = gather(*good)

    tamper(evidence)

    assert any(says in sentence for sentence in check(evidence))


def test_the_audit_sees_leftovers(good: tuple[Path, list[Entry]]) -> None:
    folder, entries = good
    stray = folder / "jobs_2026-01.db.corrupt-1"
    stray.touch()

    found = list(audit.i7_nothing_grows(gather(folder, entries)))

    stray.unlink()
    assert found == ["jobs_2026-01.db.corrupt-1 is left over."]
