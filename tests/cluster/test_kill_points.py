"""`kill -9` before and after every statement that a load of all kinds of jobs sends to the server."""

from collections.abc import Callable

import pytest

from tests.cluster.cluster import Cluster
from tests.faults.points import Kill
from tests.faults.workload import KINDS, Plan

GROUPS = 4
"""So many schemas: each meets one kill after the other, and is healed and audited at the end."""
IN_A_NEW_SCHEMA = ("server: create", "server: insert migration")
EXPECTED = {
    "server: begin", "server: commit", "server: insert job", "server: update job", "server: delete job",
    "server: insert node", "server: select", "ledger: asked", "ledger: promised",
    "ledger: start", "ledger: end", "ledger: reply", "ledger: replied",
}  # fmt: skip
"""The steps that matter most: if one of them is not passed any more, `points.py` has fallen behind the package."""


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory, make_schema_url: Callable[[], str]) -> dict[str, int]:
    """Every point that a load passes, and how often."""
    cluster = Cluster(tmp_path_factory.mktemp("whole"), make_schema_url())
    assert not cluster.run(Plan("whole", each=1, enqueuers=len(KINDS)))
    assert cluster.audit() == []
    return cluster.passed("whole")


@pytest.mark.parametrize("group", range(GROUPS))
def test_f01_f08_f11_nothing_is_lost_whatever_statement_a_kill_hits(
    cluster: Cluster, passed: dict[str, int], group: int
) -> None:
    assert passed.keys() >= EXPECTED
    every = [Kill(point, "before") for point in sorted(passed)]
    every += [Kill(point, "after", 1 + count // 2) for point, count in sorted(passed.items())]

    every.sort(key=lambda kill: kill.point not in IN_A_NEW_SCHEMA)

    hit = [
        cluster.run(Plan(f"{number}", number, each=1, enqueuers=len(KINDS), kill=kill))
        for number, kill in enumerate(every[group::GROUPS])
    ]
    cluster.heal()

    assert cluster.audit() == [], [str(kill) for kill in every[group::GROUPS]]
    assert sum(hit) >= len(hit) // 2  # a step in the middle is not always reached a second time
