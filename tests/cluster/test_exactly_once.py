"""Nodes that nobody kills: each job is run by one of them, once."""

import pytest

from tests.cluster.cluster import Cluster

JOBS = 10_000


@pytest.mark.parametrize("count", [2, 4, 8])
def test_l08_ten_thousand_jobs_run_once_each(cluster: Cluster, count: int) -> None:
    names = "abcdefgh"[:count]
    nodes = cluster.nodes(*names, bulk=JOBS // count)

    cluster.wait_for("end", JOBS)
    for node in nodes:
        node.stop()
    cluster.heal()

    assert cluster.audit() == []
    assert cluster.ledger.count("start") == JOBS
    assert {entry.pid for entry in cluster.ledger.read() if entry.did == "start"} == {node.pid for node in nodes}


def test_l08_jobs_of_all_kinds_on_three_nodes(cluster: Cluster) -> None:
    nodes = cluster.nodes("a", "b", "c", each=3)

    for name in "abc":
        cluster.until("enqueued", key=name)
    for node in nodes:
        node.stop()
    cluster.heal()

    assert cluster.audit() == []
