"""The database restarts, refuses, or cannot be reached, while nodes work and clients enqueue."""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from random import Random, randrange

import pytest

from tests.cluster.cluster import Cluster
from tests.faults.bench import Life
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import PrivatePostgres
from tests.servers.proxy import Proxy
from tests.servers.sql import ask_postgres, asyncpg, blocking, session

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("FAULTS_SECONDS", "6"))
"""Of a series of faults; the soak takes two minutes."""
KINDS = (
    "plain", "sync", "on_worker", "with_key", "unique", "with_callback", "children", "retried", "snoozed", "later",
    "named", "many",
)  # fmt: skip
"""Errands that do not enqueue anything in the middle of a job, where an outage would be the job's failure."""
LONG = 30.0
"""Seconds of a lease that is not to be lost, on a machine with a lot of other work."""


@pytest.fixture
def cluster(tmp_path: Path, private_postgres: PrivatePostgres) -> Cluster:
    """No node yet, on a server of its own."""
    return Cluster(tmp_path, f"{private_postgres.url}?schema=jobs", lease=LONG)


@pytest.fixture
def proxy(private_postgres: PrivatePostgres) -> Iterator[Proxy]:
    """A way to the server that can be disturbed."""
    with Proxy(private_postgres.url) as proxy:
        yield proxy


def clients(cluster: Cluster, **plan: object) -> Life:
    """Somebody who enqueues until he is killed, whatever happens."""
    return cluster.node("clients", each=10**6, enqueuers=6, pace=0.02, execute=False, patient=True, kinds=KINDS, **plan)


def end(cluster: Cluster, enqueuer: Life, nodes: list[Life]) -> None:
    """All goes on; then everybody stops, and what is left is done."""
    cluster.wait_for("end", 20, after=cluster.ledger.size)
    enqueuer.kill()
    for node in nodes:
        node.stop()
    cluster.heal()


def test_f31_the_server_restarts_every_other_second(cluster: Cluster, private_postgres: PrivatePostgres) -> None:
    seed = randrange(10**6)
    chance = Random(seed)
    nodes = cluster.nodes("a", "b")
    enqueuer = clients(cluster, seed=seed)

    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        cluster.wait_until_busy(chance.randint(50, 400))
        with cluster.outage("restart"):
            private_postgres.restart(chance.choice(["fast", "immediate"]))
    end(cluster, enqueuer, nodes)

    assert cluster.audit() == [], f"seed {seed}"


def test_f31_the_server_is_killed_and_away_for_a_while(cluster: Cluster, private_postgres: PrivatePostgres) -> None:
    nodes = cluster.nodes("a", "b")
    enqueuer = clients(cluster)
    cluster.wait_for("end", 50)

    with cluster.outage("kill"):
        private_postgres.kill()
        cluster.until("refused")  # a caller waits for ten seconds
        private_postgres.start()
    end(cluster, enqueuer, nodes)

    assert cluster.audit() == []


def test_f33_the_server_turns_read_only_and_back(cluster: Cluster, private_postgres: PrivatePostgres) -> None:
    nodes = cluster.nodes("a", "b")
    enqueuer = clients(cluster)
    cluster.wait_for("end", 50)

    with cluster.outage("read-only"):
        private_postgres.read_only()
        refused = private_postgres.log.count("in a read-only transaction")
        cluster.eventually(
            lambda: private_postgres.log.count("in a read-only transaction") > refused + 10 or None, "No refusals"
        )
        private_postgres.read_only(on=False)
    end(cluster, enqueuer, nodes)

    assert cluster.audit() == []


def test_f34_a_node_that_cannot_reach_the_server_for_longer_than_its_lease_ends_its_work(
    cluster: Cluster, proxy: Proxy
) -> None:
    cut_off = cluster.node("cut off", url=f"{proxy.url}?schema=jobs", lease=3.0)
    cluster.until("ready", key="cut off")
    cluster.enqueue("enqueuer", each=2, enqueuers=5, kinds=("held_one",))
    cluster.wait_for("start", 10)
    (other,) = cluster.nodes("other", lease=3.0)

    with cluster.outage("partition"):
        proxy.swallow()
        cluster.wait_for("cut", 10)
        cluster.wait_for("start", 20)
        proxy.heal()
    for id, starts in cluster.evidence().starts.items():
        assert [entry.pid for entry in starts] == [cut_off.pid, other.pid], id
    cluster.open_gate()
    cluster.wait_for("end", 10)
    for node in (cut_off, other):
        node.stop()
    cluster.heal()

    assert cluster.audit() == []


@pytest.mark.parametrize("fault", [Proxy.cut, Proxy.stall, Proxy.refuse], ids=lambda fault: fault.__name__)
def test_f35_connections_that_are_reset_or_stalled_or_refused_are_made_again(
    cluster: Cluster, proxy: Proxy, fault: Callable[[Proxy], None]
) -> None:
    node = cluster.node("disturbed", url=f"{proxy.url}?schema=jobs")
    cluster.until("ready", key="disturbed")
    enqueuer = clients(cluster, url=f"{proxy.url}?schema=jobs")

    until = time.monotonic() + SECONDS / 3
    while time.monotonic() < until:
        cluster.wait_for("end", 10, after=cluster.ledger.size)
        with cluster.outage(fault.__name__):
            fault(proxy)
            time.sleep(0.2)  # for as long as a fault lasts
            proxy.heal()
    end(cluster, enqueuer, [node])

    assert cluster.audit() == []


def test_f35_half_open_connections_are_given_up(cluster: Cluster, proxy: Proxy) -> None:
    node = cluster.node("disturbed", url=f"{proxy.url}?schema=jobs")
    cluster.until("ready", key="disturbed")
    enqueuer = clients(cluster, url=f"{proxy.url}?schema=jobs")
    cluster.wait_for("end", 50)

    with cluster.outage("half-open"):
        proxy.abandon()
        cluster.until("refused")
    end(cluster, enqueuer, [node])

    assert cluster.audit() == []


def test_f02_what_was_enqueued_and_never_confirmed_is_there_once(cluster: Cluster, proxy: Proxy) -> None:
    (node,) = cluster.nodes("a")
    enqueuer = clients(cluster, url=f"{proxy.url}?schema=jobs")
    cluster.wait_for("end", 50)

    with cluster.outage("mute"):
        proxy.mute()
        time.sleep(0.2)  # some commits whose answers are lost
        proxy.cut()
        proxy.heal()
    end(cluster, enqueuer, [node])

    assert cluster.audit() == []


def test_f37_latency_and_loss_make_it_slower_and_nothing_else(cluster: Cluster, proxy: Proxy) -> None:
    node = cluster.node("far away", url=f"{proxy.url}?schema=jobs")
    cluster.until("ready", key="far away")

    proxy.slow(0.2, loss=0.05)
    cluster.enqueue("enqueuer", each=2, enqueuers=10, kinds=KINDS)
    cluster.until("start")
    proxy.heal()
    node.stop()
    cluster.heal()

    assert cluster.audit() == []
    assert cluster.ledger.count("refused") == 0


def test_f38_jobs_are_found_although_the_connection_for_hints_has_died_silently(cluster: Cluster, proxy: Proxy) -> None:
    node = cluster.node("deaf", url=f"{proxy.url}?schema=jobs")
    cluster.until("ready", key="deaf")
    listening = "select client_port from pg_stat_activity where query ilike 'listen%' and client_port is not null"

    with cluster.outage("deaf"):
        proxy.abandon(blocking(ask_postgres(cluster.url, listening)))
        cluster.enqueue("enqueuer", each=1, enqueuers=3, kinds=("plain",))
        cluster.wait_for("end", 3)
    node.stop()
    cluster.heal()

    assert cluster.audit() == []


def test_f39_enqueues_succeed_when_no_more_hints_can_be_sent(tmp_path: Path, newest_postgres: PrivatePostgres) -> None:
    newest_postgres.set(max_notify_queue_pages="64")
    newest_postgres.restart()
    cluster = Cluster(tmp_path, f"{newest_postgres.url}?schema=jobs", lease=LONG)
    (node,) = cluster.nodes("a")

    with full_of_hints(newest_postgres.url):
        cluster.enqueue("enqueuer", each=2, enqueuers=10, kinds=KINDS)
        cluster.until("end")
    node.stop()
    cluster.heal()

    assert cluster.audit() == []
    assert cluster.ledger.count("refused") == 0


@pytest.mark.parametrize("parameter", ["", "&pooled=true"], ids=["found by itself", "named"])
def test_f40_nodes_work_behind_a_pooler_in_transaction_mode(
    cluster: Cluster, private_postgres: PrivatePostgres, make_pgbouncer: Callable[..., PgBouncer], parameter: str
) -> None:
    bouncer = make_pgbouncer(private_postgres.url, size=6)
    url = f"{bouncer.url}?schema=jobs{parameter}"
    nodes = [cluster.node(name, url=url, each=2) for name in "ab"]
    for name in "ab":
        cluster.until("enqueued", key=name)

    for node in nodes:
        node.stop()
    cluster.heal()

    assert cluster.audit() == []
    assert cluster.ledger.count("promised") > 80


def test_f41_a_node_keeps_its_lease_and_its_work_when_others_have_all_the_servers_connections(
    tmp_path: Path, private_postgres: PrivatePostgres
) -> None:
    private_postgres.set(max_connections="20")
    private_postgres.restart()
    cluster = Cluster(tmp_path, f"{private_postgres.url}?schema=jobs", lease=3.0)
    (node,) = cluster.nodes("a", each=10**6, enqueuers=3, pace=0.02, kinds=KINDS, patient=True)
    cluster.wait_for("end", 50)

    with all_connections(private_postgres.url), cluster.outage("crowded"):
        so_far = cluster.ledger.size
        cluster.wait_for("end", 100, after=so_far)
    node.kill()
    cluster.heal()

    assert cluster.audit() == []
    assert "has lost its lease" not in cluster.errors()


def test_f42_deadlocks_and_lock_timeouts_cost_no_attempt(cluster: Cluster, private_postgres: PrivatePostgres) -> None:
    private_postgres.set(deadlock_timeout="'10ms'")
    nodes = cluster.nodes("a", "b")
    enqueuer = clients(cluster)
    cluster.wait_for("end", 50)

    with cluster.outage("locks"), somebody_who_locks(cluster.url):
        cluster.wait_for("end", 300, after=cluster.ledger.size)
    end(cluster, enqueuer, nodes)

    assert cluster.audit() == []
    assert "deadlock detected" in private_postgres.log


def test_f45_nodes_that_start_together_on_an_empty_database_migrate_it_once(cluster: Cluster) -> None:
    nodes = cluster.nodes("a", "b", "c", "d", each=1)

    for name in "abcd":
        cluster.until("enqueued", key=name)
    for node in nodes:
        node.stop()
    cluster.heal()

    assert cluster.audit() == []
    assert blocking(ask_postgres(cluster.url, "select count(*) = max(number) from migration"))


# ── others on the same server ──────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def full_of_hints(url: str) -> Generator[None]:
    """Somebody listens and is never done with what he does, while somebody else talks: no hint can be sent."""
    with session(url) as listener, session(url) as talker:
        listener("listen gossip")
        listener("begin; select 1")
        numbers = count(1)
        with pytest.raises(asyncpg.ProgramLimitExceededError):
            again_and_again(lambda: talker(f"notify gossip, '{next(numbers)} {'x' * 7000}'"))
        yield


@contextmanager
def all_connections(url: str) -> Generator[None]:
    """Somebody has every connection that the server would give."""
    with ExitStack() as stack:
        with pytest.raises(asyncpg.TooManyConnectionsError):
            again_and_again(lambda: stack.enter_context(session(url)))
        yield


def again_and_again(step: Callable[[], object]) -> None:
    """Until it fails."""
    for _ in range(1000):
        step()


@contextmanager
def somebody_who_locks(url: str) -> Generator[None]:
    """Somebody locks jobs in an order that is not ours, again and again."""
    done = threading.Event()

    def lock() -> None:
        with session(url) as run:
            while not done.is_set():
                for order in ("desc", "asc"):
                    with suppress(asyncpg.DeadlockDetectedError):
                        run(f"""
                            begin; select from job order by id {order} limit 5 for update; select pg_sleep(0.02);
                            select from job where id % 3 = 0 order by id {order} limit 50 for update; commit""")
                    run("rollback")

    thread = threading.Thread(target=lock)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
