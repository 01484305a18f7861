"""`kill -9` before and after every step by which months are dropped."""

from pathlib import Path

from tests.faults.audit import rows
from tests.faults.bench import Bench
from tests.faults.points import Kill
from tests.faults.workload import Plan

STEPS = ["queue: delete job_summary", "file: unlink jobs_month.db", "file: unlink jobs_month.db-wal"]


def test_f11_months_are_dropped_whatever_step_a_kill_hits(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for number in range(6):
        assert not bench.run(Plan(f"old {number}", seed=number, each=1, enqueuers=2, days=-90 - 31 * number))
    old = {entry.id for entry in bench.ledger.read() if entry.did == "promised"}
    kills = [Kill(step, when) for step in STEPS for when in ("before", "after")]

    for number, kill in enumerate(kills):
        plan = Plan(f"{number}", seed=number, each=1, enqueuers=2, retention=30, kill=kill)
        assert bench.run(plan), f"{kill} was not passed"
    bench.heal(retention=30)

    (month,) = tmp_path.glob("jobs_????-??.db*")
    left = {row["id"] for row in rows(bench.database, "select id from job_summary")}
    assert left == {row["id"] for row in rows(month, "select id from job")}
    assert not old & left
    dropped = ("is in no archive", "was not found")
    assert [wrong for wrong in bench.audit() if not any(words in wrong for words in dropped)] == []
    assert {entry.id for entry in bench.ledger.read() if entry.did == "promised"} - old <= left
