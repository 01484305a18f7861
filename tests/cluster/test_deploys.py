"""Nodes come and go under load, and old code runs beside new code."""

from tests.cluster.cluster import Cluster
from tests.faults.ledger import Entry

ALL = ("plain", "sync", "on_worker", "with_key", "with_callback", "children", "retried", "snoozed", "many", "parent")


def test_z07_rolling_restarts_under_load_lose_cancel_and_double_nothing(cluster: Cluster) -> None:
    client = cluster.node("client", each=10**6, enqueuers=5, pace=0.02, execute=False, kinds=ALL)
    nodes = cluster.nodes("a-0", "b-0", "c-0")

    for version in (1, 2):
        for number, name in enumerate("abc"):
            cluster.wait_for("end", 20, after=cluster.ledger.size)
            new = cluster.nodes(f"{name}-{version}")
            nodes[number].stop()
            nodes[number : number + 1] = new
    client.kill()
    cluster.wait_until_done()
    for node in nodes:
        node.stop()
    cluster.heal()

    assert cluster.audit() == []
    assert {row["crashes"] for row in cluster.evidence().archived} == {0}


def test_z07_a_restart_in_the_middle_of_long_jobs_hands_them_to_the_other_node(cluster: Cluster) -> None:
    first, second = cluster.nodes("first", "second", grace=0.1)
    cluster.enqueue("client", each=4, enqueuers=5, kinds=("held_one",))
    cluster.wait_for("start", 20)

    first.stop()
    cluster.wait_for("start", 20 + cluster.ledger.count("cut"))
    cluster.open_gate()
    cluster.wait_for("end", 20)
    second.stop()
    cluster.heal()

    assert cluster.audit() == []
    assert {(row["crashes"], row["state"]) for row in cluster.evidence().archived} == {(0, "Completed")}
    assert {row["attempts"] - row["attempts_returned"] for row in cluster.evidence().archived} == {1}


def test_f54_a_node_runs_only_the_commands_that_it_knows(cluster: Cluster) -> None:
    (old,) = cluster.nodes("old", knows=("FaultSync",))
    cluster.enqueue("client", each=10, enqueuers=4, kinds=("sync", "plain"))
    cluster.eventually(
        lambda: still_waiting(cluster) == {"FaultAsync"} or None, "Not everything that is known was done"
    )
    (new,) = cluster.nodes("new")
    cluster.wait_until_done()

    for node in (old, new):
        node.stop()
    cluster.heal()

    assert cluster.audit() == []
    assert {row["command"] for row in cluster.evidence().jobs.values()} == {"FaultSync", "FaultAsync"}
    assert commands_run_by(cluster, old.pid) == {"FaultSync"}


def still_waiting(cluster: Cluster) -> set[str]:
    return {row["command"] for row in cluster.evidence().live}


def commands_run_by(cluster: Cluster, pid: int) -> set[str]:
    jobs = cluster.evidence().jobs
    started: list[Entry] = [entry for entry in cluster.ledger.read() if entry.did == "start" and entry.pid == pid]
    return {jobs[entry.id]["command"] for entry in started}
