"""What only PostgreSQL has: partitions, hints, a schema by URL, poolers, and plans that do not grow with history."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from anyio import create_task_group

from commandjobs.errors import InvalidOption, StorageUnavailable
from commandjobs.model.find import JobFilter
from commandjobs.model.moment import month_of, month_range, to_moment
from commandjobs.storage import open_storage
from commandjobs.storage.postgres.address import parse
from commandjobs.storage.postgres.migrating import steps
from commandjobs.storage.postgres.months import following
from commandjobs.storage.postgres.storage import PostgresStorage
from commandjobs.storage.queries import Statement
from tests import postgres
from tests.conftest import until
from tests.storage.life import ANY, NOW, SECOND, claim_ids, finished, job, node, put, running, stored

pytestmark = pytest.mark.postgres
OTHER = f'{postgres.SCHEMA} "other"'
"""A name that has to be quoted."""
PLANNED = f"{postgres.SCHEMA}_plans"
ARCHIVED, QUEUED = 1_000_000, 200_000


@pytest.fixture
async def storage() -> AsyncIterator[PostgresStorage]:
    """An empty storage, open, with one node that executes."""
    opened = PostgresStorage(postgres.empty_url())
    await opened.open(on_wake=lambda: None)
    await opened.register(node())
    await opened.try_execute()
    yield opened
    await opened.close()


@pytest.fixture
def other_schema() -> Iterator[str]:
    """The name of a schema that is not there, before and after."""
    drop = f"drop schema if exists {postgres_name(OTHER)} cascade"
    postgres.execute(drop)
    yield OTHER
    postgres.execute(drop)


@pytest.fixture
def stranger(other_schema: str) -> Iterator[str]:
    """A user of the server with no right but to connect."""
    name = f"{postgres.SCHEMA}_stranger"
    postgres.execute(f"create role {name} login password 'stranger'")
    yield name
    postgres.execute(f"drop owned by {name} cascade; drop role {name}")


def postgres_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_ours_in_a_url_is_the_drivers() -> None:
    address = parse("postgresql://me:secret@db:6432/app?schema=jobs&sslmode=require&pooled=true&migrate=false")

    assert address.dsn == "postgresql://me:secret@db:6432/app?sslmode=require"
    assert (address.schema, address.pooled, address.migrate) == ("jobs", True, False)
    assert address.place == "PostgreSQL at db:6432/app (schema jobs)"


@pytest.mark.parametrize("query", ["schema=", "pooled=maybe", "migrate=1", f"schema={'x' * 64}"])
def test_a_parameter_that_cannot_be_is_refused(query: str) -> None:
    with pytest.raises(InvalidOption, match=query.partition("=")[0]):
        open_storage(f"postgresql://localhost/app?{query}")


def test_a_password_is_not_told() -> None:
    with pytest.raises(InvalidOption) as refused:
        open_storage("mongodb://me:secret@db/app")

    assert "secret" not in str(refused.value)


async def test_a_server_that_is_not_there_is_told_within_the_deadline() -> None:
    storage = PostgresStorage("postgresql://me:secret@127.0.0.1:9/app", deadline=0.2)

    with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1:9/app") as away:
        await storage.open(on_wake=lambda: None)

    assert "secret" not in str(away.value)


async def test_a_schema_of_any_name_holds_a_queue_of_its_own(storage: PostgresStorage, other_schema: str) -> None:
    other = PostgresStorage(postgres.url(other_schema))
    await other.open(on_wake=lambda: None)
    await put(storage, job())

    await put(other, job(ref_id="there"))

    assert await other.count(JobFilter(), limit=9) == 1
    assert await storage.job("there") is None
    await other.close()


# ── migrations ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_f45_processes_that_start_together_migrate_once(other_schema: str) -> None:
    storages = [PostgresStorage(postgres.url(other_schema)) for _ in range(4)]

    async with create_task_group() as tasks:
        for storage in storages:
            tasks.start_soon(open_quietly, storage)

    ran = postgres.query(f"select count(*) from {postgres_name(other_schema)}.migration")
    assert ran == [(len(steps()),)]
    for storage in storages:
        await storage.close()


async def test_a_process_may_leave_the_schema_as_it_is(other_schema: str) -> None:
    storage = PostgresStorage(postgres.url(other_schema, migrate="false"))

    with pytest.raises(StorageUnavailable, match="commandjobs migrate"):
        await storage.open(on_wake=lambda: None)

    assert postgres.query("select from pg_namespace where nspname = $1", other_schema) == []


async def test_f45_a_schema_of_a_newer_version_is_refused(storage: PostgresStorage) -> None:
    postgres.execute(f"insert into {postgres.SCHEMA}.migration (number, name) values (9999, 'newer')")
    try:
        with pytest.raises(StorageUnavailable, match="Update this one"):
            await PostgresStorage(postgres.url()).open(on_wake=lambda: None)
    finally:
        postgres.execute(f"delete from {postgres.SCHEMA}.migration where number = 9999")


async def test_who_has_a_schema_needs_no_right_to_make_one(stranger: str, other_schema: str) -> None:
    postgres.execute(f"create schema {postgres_name(other_schema)} authorization {stranger}")
    storage = PostgresStorage(url_of(stranger, other_schema))

    await storage.open(on_wake=lambda: None)

    assert await storage.count(JobFilter(), limit=9) == 0
    await storage.close()


async def test_who_has_no_right_is_told(stranger: str, other_schema: str) -> None:
    with pytest.raises(StorageUnavailable, match="refuses what jobs need"):
        await PostgresStorage(url_of(stranger, other_schema)).open(on_wake=lambda: None)


def url_of(user: str, schema: str) -> str:
    address = urlsplit(postgres.url(schema))
    return address._replace(netloc=f"{user}:stranger@{address.netloc.rpartition('@')[2]}").geturl()


# ── months ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_tables_of_the_next_months_are_there_ahead_of_time(storage: PostgresStorage) -> None:
    [(now,)] = postgres.query("select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
    this = month_of(now)

    assert {this, following(this), following(following(this))} <= set(await storage._months())


async def test_a_month_that_nobody_thought_of_is_made_when_its_first_job_ends(storage: PostgresStorage) -> None:
    await storage.drop_month(date(1999, 1, 1))

    id = await finished(storage, job(created=to_moment(datetime(1999, 1, 31, 23, 59, tzinfo=UTC))))

    assert date(1999, 1, 1) in await storage._months()
    assert (await stored(storage, id)).completed == NOW + SECOND


async def test_a_dropped_month_leaves_no_table(storage: PostgresStorage) -> None:
    await finished(storage, job(created=to_moment(datetime(1999, 1, 31, tzinfo=UTC))))

    await storage.drop_month(date(1999, 1, 1))

    left = "select relname from pg_class where relname like '%1999_01' and relnamespace = $1::regnamespace"
    assert postgres.query(left, postgres.SCHEMA) == []


async def test_f11_nodes_that_drop_a_month_at_once_leave_no_trace_of_it(storage: PostgresStorage) -> None:
    others = [PostgresStorage(postgres.url()) for _ in range(3)]
    for other in others:
        await other.open(on_wake=lambda: None)
    for _ in range(5):
        await finished(storage, job(created=to_moment(datetime(1999, 1, 31, tzinfo=UTC))))

        async with create_task_group() as tasks:
            for other in others:
                tasks.start_soon(other.drop_month, date(1999, 1, 1))

        assert date(1999, 1, 1) not in [info.month for info in await storage.months()]
    for other in others:
        await other.close()


async def test_f44_a_month_is_dropped_when_nobody_reads_the_archive(
    storage: PostgresStorage,
) -> None:
    await finished(storage, job(created=to_moment(datetime(1999, 1, 31, tzinfo=UTC))))
    reader = await asyncpg.connect(postgres.address())
    await reader.execute(f"begin; select from {postgres.SCHEMA}.finished")
    hasty = PostgresStorage(postgres.url(), deadline=0.5)
    await hasty.open(on_wake=lambda: None)

    with pytest.raises(StorageUnavailable, match="lock timeout"):
        await hasty.drop_month(date(1999, 1, 1))
    await reader.execute("commit")

    await storage.drop_month(date(1999, 1, 1))
    assert await storage.months() == []
    await hasty.close()
    await reader.close()


async def test_a_month_that_was_detached_is_history_again_when_it_is_attached(storage: PostgresStorage) -> None:
    month = date(1999, 1, 1)
    first, end = month_range(month)
    id = await finished(storage, job(created=first))
    table = f"{postgres.SCHEMA}.finished_1999_01"
    postgres.execute(f"alter table {postgres.SCHEMA}.finished detach partition {table}")
    found = await storage.job(id)
    assert found is not None
    assert found.row is None

    postgres.execute(
        f"alter table {postgres.SCHEMA}.finished attach partition {table} for values from ({first}) to ({end})"
    )

    assert (await stored(storage, id)).completed == NOW + SECOND
    await storage.drop_month(month)


# ── hints and poolers ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_f38_what_no_hint_told_of_is_found_by_looking(storage: PostgresStorage) -> None:
    heard: list[None] = []
    deaf = PostgresStorage(postgres.url(pooled="true"))
    await deaf.open(on_wake=lambda: heard.append(None))
    await deaf.register(node())
    await deaf.try_execute()
    await deaf.claim({}, 1, claim=ANY, now=NOW)

    id = await put(storage, job())

    await until(lambda: heard)
    assert await claim_ids(deaf) == [id]
    await deaf.close()


async def test_f40_behind_a_pooler_nothing_is_prepared_and_nobody_listens() -> None:
    postgres.empty_url()
    storage = PostgresStorage(postgres.url(pooled="true"))
    await storage.open(on_wake=lambda: None)
    await storage.register(node())
    await storage.try_execute()

    await finished(storage, job(worker="smtp", tags=("a",)))

    assert storage._hints is None
    async with storage._postgres.transaction() as connection:
        prepared: Any = await connection.raw.fetch("select count(*) from pg_prepared_statements where name <> ''")
        assert prepared[0][0] == 0
    await storage.close()


async def test_f38_a_listener_that_was_cut_off_listens_again(storage: PostgresStorage) -> None:
    heard: list[None] = []
    other = PostgresStorage(postgres.url())
    await other.open(on_wake=lambda: heard.append(None))
    await until(lambda: other._hints is not None and other._hints.listening)
    assert other._hints is not None
    before = other._hints._connection
    assert before is not None
    postgres.execute(f"select pg_terminate_backend({before.get_server_pid()})")

    await until(lambda: other._hints is not None and other._hints.listening and other._hints._connection is not before)
    heard.clear()
    storage.ring()

    await until(lambda: heard)
    await other.close()


async def test_f31_a_connection_that_was_cut_is_replaced_by_another(storage: PostgresStorage) -> None:
    await put(storage, job())
    postgres.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'commandjobs' and query like '%" + postgres.SCHEMA + "%' and pid <> pg_backend_pid()"
    )

    row = await running(storage)
    id = await put(storage, job(unique_key="k"))

    assert row.id in owned()
    assert id in await claim_ids(storage)


async def test_f42_a_stranger_with_a_lock_delays_only_who_needs_what_he_has(storage: PostgresStorage) -> None:
    stranger = await asyncpg.connect(postgres.address())
    held = job(unique_key="k")
    await put(storage, held)
    await stranger.execute(f"begin; delete from {postgres.SCHEMA}.job where id = {held.id}")

    answers = [await storage.insert([job()], now=NOW) for _ in range(5)]

    assert all(answer.conflict is None for [answer] in answers)
    await stranger.execute("rollback")
    await stranger.close()


def owned() -> set[int]:
    return {id for (id,) in postgres.query(f"select id from {postgres.SCHEMA}.job where owner is not null")}


# ── plans ───────────────────────────────────────────────────────────────────────────────────────────────────────────

FILL = f"""
insert into {{schema}}.job (ref_id, command, created, request_body, claim_queue, claim_command, common)
select 'q' || n, case when n % 10 = 0 then 'Other' else 'Work' end, {NOW} + n, '{{{{}}}}', 'default',
       case when n % 10 = 0 then 'Other' else 'Work' end, true
from generate_series(1, {QUEUED}) as n;

insert into {{schema}}.finished (id, run, created, ref_id, command, queue, priority, retry_limit, state, started,
    completed, last_activity)
select {QUEUED} + n, 0, {NOW} + n, 'f' || n, 'Work', 'default', 0, 2, 'Completed', {NOW}, {NOW}, {NOW} + n
from generate_series(1, {ARCHIVED}) as n;

insert into {{schema}}.job_summary (id, ref_id, command, created)
select {QUEUED} + n, 'f' || n, 'Work', {NOW} + n from generate_series(1, {ARCHIVED}) as n;

select setval('{{schema}}.job_id_seq', {QUEUED + ARCHIVED + 1});
"""


@pytest.fixture(scope="module")
def full_schema() -> Iterator[str]:
    """A schema with 200,000 jobs that wait and 1,000,000 that have ended."""
    drop = f"drop schema if exists {PLANNED} cascade"
    postgres.execute(drop)
    storage = PostgresStorage(postgres.url(PLANNED))
    postgres.do(storage.open(on_wake=lambda: None))
    postgres.do(storage._make_month(month_of(NOW)))
    postgres.do(storage.close())
    postgres.execute(FILL.format(schema=PLANNED))
    postgres.execute(f"vacuum analyze {PLANNED}.job")
    postgres.execute(f"vacuum analyze {PLANNED}.job_summary")
    postgres.execute(f"vacuum analyze {PLANNED}.finished")
    yield PLANNED
    postgres.execute(drop)


EVERYDAY: dict[str, dict[str, Any]] = {
    "claim": {
        "queues": ["default"], "rooms": [100], "other": 100, "commands": ["Work"], "served": None, "owner": 1,
        "token": 1, "now": NOW,
    },
    "held": {"ids": [5, 6, 7]},
    "find_rows": {"ids": [5, QUEUED + 5]},
    "id_of_ref": {"ref": "f5"},
    "taken_refs": {"refs": ["f5", "q5", "new"]},
    "children": {"ids": [5, 6, 7], "most": 1001},
    "due": {"now": NOW, "most": 1000},
    "expired": {"now": NOW, "most": 1000},
    "next_moment": {},
    "orphaned": {"most": 200},
    "cancellations": {"owner": 1},
    "claimable_kinds": {},
    "stirred": {},
    "unfinished_among": {"ids": [5, QUEUED + 5]},
    "lane_waiting": {"workers": ["smtp"], "keys": ["k"], "most": 8},
    "lane_holders": {"workers": ["smtp"], "keys": ["k"]},
    "read_jobs": {"ids": [5, 6, 7]},
    "finish_jobs": {"rows": json.dumps([{"id": 5, "state": "Completed"}])},
    "mark_started": {"rows": json.dumps([{"id": 5, "owner": 1}])},
    "known_among": {"ids": [5, QUEUED + 5]},
    "key_holders": {"commands": ["Work"], "keys": ["k"]},
    "unadmitted": {"most": 1000},
    "lock_unadmitted": {"ids": [5, 6, 7]},
    "bound_children": {"rows": json.dumps([{"parent_id": 5, "attempt": 1}])},
    "newest_ends": {"numbers": [0], "firsts": [0], "followings": [2**60]},
}  # fmt: skip
"""Statements that run again and again, with what they are asked for."""


@pytest.mark.parametrize("name", EVERYDAY)
async def test_l20_no_everyday_statement_reads_a_whole_table(full_schema: str, name: str) -> None:
    storage = PostgresStorage(postgres.url(full_schema))

    plan = explained(storage._dialect.sql[name], EVERYDAY[name])

    read = [(node["Relation Name"], node["Actual Rows"]) for node in scans(plan) if node["Node Type"] == "Seq Scan"]
    large = {"job", "job_summary", "finished_2026_11"}
    assert [relation for relation, _ in read if relation in large] == []
    assert touched(plan) < 3_000


async def test_a_page_of_the_newest_jobs_is_read_from_an_index(full_schema: str) -> None:
    storage = PostgresStorage(postgres.url(full_schema))

    plan = explained(storage._dialect.find(""), {"limit": 100})

    assert touched(plan) < 1_000


def explained(statement: Statement, values: dict[str, Any]) -> dict[str, Any]:
    """The plan of a statement that is run, and taken back."""
    [(text,)] = postgres.query_and_roll_back(
        f"explain (analyze, buffers, format json) {statement.text}", *statement.values(values)
    )
    plan: dict[str, Any] = json.loads(text)[0]["Plan"]
    return plan


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Relation Name" in plan and "Actual Rows" in plan:
        yield plan
    for child in plan.get("Plans", ()):
        yield from scans(child)


def touched(plan: dict[str, Any]) -> int:
    """Pages looked at."""
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def open_quietly(storage: PostgresStorage) -> None:
    await storage.open(on_wake=lambda: None)
