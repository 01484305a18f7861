"""The cluster of the tests itself, on SQLite, where one process of several executes."""

from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, f"sqlite:///{tmp_path / 'jobs.db'}")


def test_jobs_of_several_nodes_are_promised_and_done(cluster: Cluster) -> None:
    nodes = cluster.nodes("a", "b", bulk=300)

    cluster.wait_for("end", 600)
    for node in nodes:
        node.stop()
    cluster.heal()

    assert cluster.audit() == []
    assert {entry.key for entry in cluster.ledger.read() if entry.did == "ready"} >= {"a", "b"}


def test_a_node_is_killed_and_another_goes_on(cluster: Cluster) -> None:
    first, second = cluster.nodes("first", "second", each=2, enqueuers=4)
    cluster.wait_for("start", 1)

    first.kill()
    cluster.until("enqueued", key="second")
    second.stop()
    cluster.heal()

    assert cluster.audit() == []
    assert cluster.ledger.count("killed") == 1


def test_a_suspended_node_does_nothing_until_it_is_resumed(cluster: Cluster) -> None:
    (node,) = cluster.nodes("a", each=100, enqueuers=2, pace=0.01)
    node.suspend()
    so_far = cluster.ledger.size

    with pytest.raises(AssertionError, match="No end"):
        cluster.until("end", after=so_far, within=0.3)
    node.resume()
    cluster.until("end", after=so_far)

    node.kill()


def test_a_node_knows_the_commands_that_it_was_given(cluster: Cluster) -> None:
    (node,) = cluster.nodes("a", knows=("FaultSync",), bulk=1, each=1, enqueuers=3, kinds=("sync",))

    cluster.wait_for("end", 3)
    node.stop()

    assert {entry.key for entry in cluster.ledger.read() if entry.did == "end"} == {"a.0.0", "a.1.0", "a.2.0"}
