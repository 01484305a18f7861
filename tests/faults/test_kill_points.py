"""`kill -9` before and after every named step that a load of all kinds of jobs passes."""

from pathlib import Path

import pytest

from tests.faults.bench import Bench
from tests.faults.points import Kill
from tests.faults.workload import KINDS, Plan

GROUPS = 6
"""So many databases: each meets one kill after the other, and is healed and audited at the end."""
ONLY_IN_A_NEW_FOLDER = ("lock file: create", "queue: create the schema", "month: create the schema")
EXPECTED = {
    *ONLY_IN_A_NEW_FOLDER, "queue: begin", "queue: insert job", "queue: commit of insert job",
    "queue: update job", "queue: insert job_summary", "queue: delete job", "queue: insert dependency",
    "queue: insert meta", "queue: wal_checkpoint", "month: open", "month: begin", "month: insert job",
    "month: insert unconfirmed", "month: insert log", "month: commit of delete job", "month: delete unconfirmed",
    "hand-over: to the archiver", "hand-over: to the writer", "hand-over: after a commit",
    "hand-over: answer the callers", "hand-over: confirm to the archiver", "ledger: asked", "ledger: start",
    "ledger: end", "ledger: promised", "ledger: reply", "ledger: replied",
}  # fmt: skip
"""The steps that matter most: if one of them is not passed any more, `points.py` has fallen behind the package."""


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> list[list[Kill]]:
    """Every point that a load passes, once before its first passing, once after one in the middle; in groups."""
    bench = Bench(tmp_path_factory.mktemp("whole"))
    assert not bench.run(Plan("whole", each=1, enqueuers=len(KINDS)))
    assert bench.audit() == []
    passed = bench.passed("whole")
    assert passed.keys() >= EXPECTED
    every = [Kill(point, "before") for point in sorted(passed)]
    every += [Kill(point, "after", 1 + count // 2) for point, count in sorted(passed.items())]
    every.sort(key=lambda kill: kill.point not in ONLY_IN_A_NEW_FOLDER)
    return [every[group::GROUPS] for group in range(GROUPS)]


@pytest.mark.parametrize("group", range(GROUPS))
def test_f01_f11_nothing_is_lost_whatever_step_a_kill_hits(tmp_path: Path, kills: list[list[Kill]], group: int) -> None:
    bench = Bench(tmp_path)

    hit = [
        bench.run(Plan(f"{number}", number, each=1, enqueuers=len(KINDS), kill=kill))
        for number, kill in enumerate(kills[group])
    ]
    bench.heal()

    assert bench.audit() == [], [str(kill) for kill in kills[group]]
    assert sum(hit) >= len(hit) // 2  # a step in the middle is not always reached a second time
