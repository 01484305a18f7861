"""Nodes that are killed, suspended or told to stop while they work: others go on."""

from random import Random, randrange

import pytest

from tests.cluster.cluster import Cluster
from tests.faults.bench import Life
from tests.servers.process import is_alive

pytestmark = pytest.mark.soak


def kill_some(cluster: Cluster, nodes: list[Life], chance: Random, kills: int) -> None:
    """Kill nodes in the middle of something; after each a new one comes."""
    for number in range(kills):
        cluster.wait_until_busy(chance.randint(50, 500))
        nodes.pop(chance.randrange(len(nodes))).kill()
        nodes.append(cluster.node(f"new-{number}", seed=chance.randrange(10**6), each=5))


def test_f04_f06_nothing_is_lost_when_busy_nodes_are_killed_at_random(cluster: Cluster) -> None:
    seed = randrange(10**6)
    chance = Random(seed)
    nodes = cluster.nodes("a", "b", "c", seed=seed, each=8)

    kill_some(cluster, nodes, chance, kills=4)
    for node in nodes:
        cluster.until("enqueued", key=node.name)
        node.stop()
    cluster.heal()

    assert cluster.audit() == [], f"seed {seed}"


def test_f03_f04_a_dead_nodes_jobs_are_done_within_its_lease(cluster: Cluster) -> None:
    first, second = cluster.nodes("first", "second")
    cluster.enqueue("enqueuer", each=40, enqueuers=5, kinds=("slow_one",))
    cluster.wait_for("start", 20)

    first.kill()
    cluster.wait_for("end", 200)
    second.stop()
    cluster.heal()

    assert cluster.audit() == []


def test_f12_what_a_node_does_after_it_was_suspended_for_longer_than_its_lease_counts_for_nothing(
    cluster: Cluster,
) -> None:
    slow, other = cluster.nodes("slow", "other")
    cluster.enqueue("enqueuer", each=20, enqueuers=5, kinds=("slow_one",))
    cluster.wait_for("start", 5)

    slow.suspend()
    cluster.wait_for("end", 100)
    slow.resume(fenced=True)
    for node in (slow, other):
        node.stop()
    cluster.heal()

    evidence = cluster.evidence()
    again = {id for id, starts in evidence.starts.items() if len(starts) > 1}
    assert {evidence.jobs[id]["node"] for id in again} == {"other"}
    assert cluster.audit() == []


def test_f12_a_node_that_was_suspended_works_on_as_a_new_one(cluster: Cluster) -> None:
    (node,) = cluster.nodes("alone")
    node.suspend()
    cluster.wait_until_silent("alone")
    node.resume(fenced=True)

    cluster.enqueue("enqueuer", each=5, enqueuers=5, kinds=("plain",))
    cluster.wait_for("end", 25)
    node.stop()
    cluster.heal()

    assert cluster.audit() == []


def test_f13_a_node_that_is_told_to_stop_hands_back_what_does_not_end(cluster: Cluster) -> None:
    first, second = cluster.nodes("first", "second", grace=0.1)
    cluster.enqueue("enqueuer", each=4, enqueuers=5, kinds=("long_one",))
    cluster.wait_for("start", 20)

    first.stop()
    cluster.wait_for("end", 20)
    second.stop()
    cluster.heal()

    assert cluster.audit() == []
    assert {row["crashes"] for row in cluster.evidence().archived} == {0}


def test_f16_a_child_that_a_job_has_forked_keeps_nobody_from_its_dead_parents_jobs(cluster: Cluster) -> None:
    first, second = cluster.nodes("first", knows=("FaultFork",))[0], cluster.nodes("second")[0]
    second.suspend()
    cluster.enqueue("client", each=1, enqueuers=1, kinds=("forking",))
    child = cluster.until("child")

    first.kill()
    second.resume(fenced=True)
    cluster.wait_for("end", 1)
    assert is_alive(child.pid)
    cluster.open_gate()
    second.stop()
    cluster.heal()

    assert cluster.audit() == []
