"""Named workers and concurrency keys over many nodes: one at a time, workers in order, freed by crashes."""

from random import Random, randrange

import pytest

from tests.cluster.cluster import Cluster

pytestmark = pytest.mark.soak

LANES = ("on_worker", "with_key", "unique")


def test_x11_lanes_hold_one_job_at_a_time_over_four_nodes(cluster: Cluster) -> None:
    nodes = cluster.nodes("a", "b", "c", "d", each=30, enqueuers=4, kinds=LANES)

    for name in "abcd":
        cluster.until("enqueued", key=name)
    for node in nodes:
        node.stop()
    cluster.heal()

    assert cluster.audit() == []
    assert len({entry.pid for entry in cluster.ledger.read() if entry.did == "start" and entry.lane == "worker w0"}) > 1


def test_x11_a_backlog_of_one_client_is_done_in_its_order_whoever_runs_it(cluster: Cluster) -> None:
    cluster.enqueue("client", each=100, enqueuers=1, kinds=("on_worker",))
    nodes = cluster.nodes("a", "b", "c")

    cluster.wait_for("end", 100)
    for node in nodes:
        node.stop()

    starts = [entry for entry in cluster.ledger.read() if entry.did == "start"]
    for lane in {entry.lane for entry in starts}:
        ids = [entry.id for entry in starts if entry.lane == lane]
        assert ids == sorted(set(ids)), lane
    cluster.heal()
    assert cluster.audit() == []


def test_f04_lanes_are_freed_by_kills_and_stay_serial(cluster: Cluster) -> None:
    seed = randrange(10**6)
    chance = Random(seed)
    nodes = cluster.nodes("a", "b", "c", "d")
    cluster.enqueue("client", seed=seed, each=60, enqueuers=5, kinds=LANES)

    for _ in range(3):
        cluster.wait_for("end", chance.randint(5, 40), after=cluster.ledger.size)
        nodes.pop(chance.randrange(len(nodes))).kill()
    cluster.wait_until_done()
    nodes[0].stop()
    cluster.heal()

    assert cluster.audit() == [], f"seed {seed}"
