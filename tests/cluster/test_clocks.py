"""Machines whose clocks are an hour off: leases and dates go by the database's time."""

import time
from datetime import timedelta

import pytest

from commandjobs import BackgroundJobs
from tests.cluster.cluster import Cluster
from tests.faults.commands import Errand, FaultAsync


def test_f46_nodes_whose_clocks_are_an_hour_off_run_everything_once(cluster: Cluster) -> None:
    nodes = [cluster.node(name, hours=hours, each=3) for name, hours in (("late", -1), ("right", 0), ("early", 1))]

    for node in nodes:
        cluster.until("enqueued", key=node.name)
    for node in nodes:
        node.stop()
    cluster.heal()

    assert cluster.audit() == []


def test_f46_a_killed_nodes_jobs_are_rescued_by_one_whose_clock_is_wrong(cluster: Cluster) -> None:
    late = cluster.nodes("late", hours=-1)[0]
    cluster.enqueue("client", each=4, enqueuers=5, kinds=("held_one",))
    cluster.wait_for("start", 20)
    early = cluster.nodes("early", hours=1)[0]

    late.kill()
    cluster.wait_for("start", 40)
    cluster.open_gate()
    cluster.wait_for("end", 20)
    early.stop()
    cluster.heal()

    assert cluster.audit() == []


def test_f46_a_node_whose_clock_is_early_takes_nothing_from_one_that_lives(cluster: Cluster) -> None:
    right = cluster.nodes("right")[0]
    cluster.enqueue("client", each=4, enqueuers=5, kinds=("held_one",))
    cluster.wait_for("start", 20)
    early = cluster.nodes("early", hours=1)[0]
    cluster.enqueue("another", each=3, enqueuers=3, kinds=("plain",))
    cluster.wait_for("end", 9)

    cluster.open_gate()
    cluster.wait_for("end", 29)
    for node in (right, early):
        node.stop()
    cluster.heal()

    assert cluster.audit() == []
    assert cluster.ledger.count("start") == 29


@pytest.mark.parametrize("hours", [-1, 1])
async def test_f46_a_date_is_one_by_the_databases_clock(cluster: Cluster, hours: int) -> None:
    node = cluster.nodes("wrong", hours=hours)[0]
    async with BackgroundJobs(cluster.url, execute=False) as jobs:
        asked = time.time()
        ref = await jobs.enqueue_command(FaultAsync, Errand(key="due", kind="plain"), run_after=timedelta(seconds=1))
        await ref.wait(60)

    (start,) = [entry for entry in cluster.ledger.read() if entry.did == "start"]
    assert start.at - asked >= 1.0
    node.stop()
