"""Servers that forget their last commits: what callers were told is not there, and nothing else is wrong."""

from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.faults.bench import Life
from tests.servers.postgres import PrivatePostgres
from tests.servers.proxy import Proxy
from tests.servers.run import Run

KINDS = ("plain", "sync", "on_worker", "with_key", "children", "retried")
FORGOTTEN = "was promised, and is in no archive"


def go_on(cluster: Cluster, client: Life, nodes: list[Life]) -> list[str]:
    """Everything that is there is done; what is wrong then, but for what was forgotten."""
    cluster.wait_for("end", 50, after=cluster.ledger.size)
    client.kill()
    cluster.wait_until_done()
    for node in nodes:
        node.stop()
    cluster.heal()
    return [sentence for sentence in cluster.audit() if FORGOTTEN not in sentence]


def test_f20_a_server_without_synchronous_commits_loses_the_last_ones_and_nothing_is_stuck(
    tmp_path: Path, private_postgres: PrivatePostgres
) -> None:
    private_postgres.set(synchronous_commit="off", wal_writer_delay="'10s'")
    cluster = Cluster(tmp_path, f"{private_postgres.url}?schema=jobs", lease=10.0, forgotten_after=2.0)
    nodes = cluster.nodes("a", "b")
    client = cluster.node("client", each=10**6, enqueuers=6, pace=0.01, execute=False, patient=True, kinds=KINDS)
    cluster.wait_for("end", 200)

    with cluster.outage("power"):
        private_postgres.kill()
        private_postgres.start()

    assert go_on(cluster, client, nodes) == []


def test_f32_after_a_failover_to_a_replica_that_lacks_the_last_commits_nothing_is_stuck(
    tmp_path: Path, private_postgres: PrivatePostgres, servers: Run
) -> None:
    with Proxy(private_postgres.url) as proxy:
        cluster = Cluster(tmp_path, f"{proxy.url}?schema=jobs", lease=10.0, forgotten_after=2.0)
        nodes = cluster.nodes("a", "b")
        client = cluster.node("client", each=10**6, enqueuers=6, pace=0.01, execute=False, patient=True, kinds=KINDS)
        cluster.wait_for("end", 100)
        replica = private_postgres.replica(servers)
        replica.stop()
        cluster.wait_for("end", 100, after=cluster.ledger.size)

        with cluster.outage("failover"):
            private_postgres.kill()
            replica.start()
            replica.promote()
            proxy.target = ("127.0.0.1", replica.port)
            proxy.cut()

        assert go_on(cluster, client, nodes) == []
        replica.remove()
