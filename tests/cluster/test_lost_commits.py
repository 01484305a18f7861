"""Servers that forget their last commits: what anybody was told may be gone, and nothing is stuck or in pieces."""

from pathlib import Path

import pytest

from tests.cluster.audit import i7_nothing_is_left
from tests.cluster.cluster import Cluster
from tests.faults.audit import i5_archives_and_summaries_agree, i7_logs_are_short
from tests.faults.bench import Life
from tests.servers.postgres import PrivatePostgres
from tests.servers.proxy import Proxy
from tests.servers.run import Run

pytestmark = pytest.mark.soak

KINDS = ("plain", "sync", "on_worker", "with_key", "children", "retried")
CHECKS = (i5_archives_and_summaries_agree, i7_logs_are_short, i7_nothing_is_left)
"""What holds even then. An id that was forgotten is given again, so promises and starts tell nothing."""


def busy_cluster(folder: Path, url: str) -> tuple[Cluster, list[Life]]:
    """Two nodes, and a client, who is the last."""
    cluster = Cluster(folder, f"{url}?schema=jobs", lease=10.0, forgotten_after=2.0)
    nodes = cluster.nodes("a", "b")
    client = cluster.node("client", each=10**6, enqueuers=6, pace=0.01, execute=False, patient=True, kinds=KINDS)
    cluster.wait_for("end", 100)
    return cluster, [*nodes, client]


def go_on(cluster: Cluster, lives: list[Life]) -> list[str]:
    """More is enqueued, and everything that is there is done; what is wrong then."""
    *nodes, client = lives
    cluster.wait_for("end", 50, after=cluster.ledger.size)
    client.kill()
    cluster.wait_until_done()
    for node in nodes:
        node.stop()
    cluster.heal()
    evidence = cluster.evidence()
    evidence.entries = [entry for entry in evidence.entries if entry.did != "lost"]
    assert evidence.live == []
    return [sentence for check in CHECKS for sentence in check(evidence)]


def test_f20_a_server_without_synchronous_commits_may_lose_the_last_ones(
    tmp_path: Path, private_postgres: PrivatePostgres
) -> None:
    private_postgres.set(synchronous_commit="off", wal_writer_delay="'10s'")
    cluster, lives = busy_cluster(tmp_path, private_postgres.url)

    with cluster.outage("power"):
        private_postgres.kill()
        private_postgres.start()

    assert go_on(cluster, lives) == []


def test_f32_a_failover_to_a_replica_that_lacks_the_last_commits(
    tmp_path: Path, private_postgres: PrivatePostgres, servers: Run
) -> None:
    with Proxy(private_postgres.url) as proxy:
        cluster, lives = busy_cluster(tmp_path, proxy.url)
        with private_postgres.replica(servers) as replica:
            replica.stop()
            cluster.wait_for("end", 100, after=cluster.ledger.size)

            with cluster.outage("failover"):
                private_postgres.kill()
                replica.start()
                replica.promote()
                proxy.target = ("127.0.0.1", replica.port)
                proxy.cut()

            assert go_on(cluster, lives) == []
