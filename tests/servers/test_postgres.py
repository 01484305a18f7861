"""What a test can do to a PostgreSQL server of its own."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import PrivatePostgres, candidates
from tests.servers.run import Run
from tests.servers.sql import ask_postgres as ask
from tests.servers.sql import asyncpg


async def test_the_shared_server_answers(postgres_url: str) -> None:
    assert await ask(postgres_url, "select 1") == 1


async def test_a_private_server_is_empty_and_answers(private_postgres: PrivatePostgres) -> None:
    assert await ask(private_postgres.url, "select current_database()") == "test"
    assert await ask(private_postgres.url, "select count(*) from pg_stat_user_tables") == 0


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_ends_every_connection_and_keeps_what_was_committed(
    private_postgres: PrivatePostgres, mode: Any
) -> None:
    await ask(private_postgres.url, "create table kept ()")
    connection = await asyncpg.connect(private_postgres.url)

    private_postgres.restart(mode)

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await connection.fetchval("select 1")
    assert await ask(private_postgres.url, "select count(*) from kept") == 0


async def test_after_kill_9_it_recovers(private_postgres: PrivatePostgres) -> None:
    await ask(private_postgres.url, "create table kept ()")

    private_postgres.kill()
    with pytest.raises(ConnectionRefusedError):
        await ask(private_postgres.url, "select 1")
    private_postgres.start()

    assert await ask(private_postgres.url, "select count(*) from kept") == 0
    assert "was not properly shut down" in private_postgres.log


async def test_a_read_only_server_refuses_writes_until_it_takes_them_again(private_postgres: PrivatePostgres) -> None:
    private_postgres.read_only()
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await ask(private_postgres.url, "create table refused ()")

    private_postgres.read_only(on=False)

    await ask(private_postgres.url, "create table taken ()")


async def test_a_suspended_server_answers_nobody(private_postgres: PrivatePostgres) -> None:
    connection = await asyncpg.connect(private_postgres.url)
    private_postgres.suspend()
    with pytest.raises(TimeoutError):
        await connection.fetchval("select 1", timeout=0.2)
    private_postgres.resume()

    assert await ask(private_postgres.url, "select 1") == 1
    connection.terminate()


async def test_a_replica_follows_until_it_is_promoted(private_postgres: PrivatePostgres, servers: Run) -> None:
    replica = private_postgres.replica(servers)
    await ask(private_postgres.url, "create table followed ()")
    async with asyncio.timeout(60):
        while await ask(replica.url, "select to_regclass('followed')") is None:  # noqa: ASYNC110  the server does it
            await asyncio.sleep(0.01)
    private_postgres.kill()

    replica.promote()

    await ask(replica.url, "create table written ()")
    replica.remove()


async def test_a_pgbouncer_shares_few_connections_among_many_clients(
    private_postgres: PrivatePostgres, make_pgbouncer: Callable[..., PgBouncer]
) -> None:
    bouncer = make_pgbouncer(private_postgres.url, size=2)
    clients = [await asyncpg.connect(bouncer.url, statement_cache_size=0) for _ in range(10)]

    servers = {await client.fetchval("select pg_backend_pid()") for client in clients}

    assert len(servers) <= 2
    await asyncio.gather(*(client.close() for client in clients))


@pytest.mark.parametrize("places", ["debian", "wheel"])
def test_servers_can_be_made_from_the_package_and_from_the_wheel(
    places: str, monkeypatch: pytest.MonkeyPatch, another_run: Run
) -> None:
    found = [place for place in candidates() if ("/usr/lib" in str(place)) == (places == "debian")]
    if not found:
        pytest.skip(f"There is no {places} here.")
    monkeypatch.setattr("tests.servers.postgres.candidates", lambda: found)

    server = PrivatePostgres(another_run)
    server.start()

    assert server.process.is_running
    server.remove()


def test_a_run_that_is_over_leaves_no_server_behind(another_run: Run, private_postgres: PrivatePostgres) -> None:
    server = PrivatePostgres(another_run)
    server.start()

    another_run.close()

    server.process.until(lambda: not server.process.is_running)
    server.process.until(lambda: not another_run.folder.exists())
