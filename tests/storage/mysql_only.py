"""What only MySQL and MariaDB have: list partitions, tables by prefix, texts quoted on this side, reads of few rows.

Not collected yet: `open_storage` refuses the URLs of MySQL until its storage passes the conformance suite.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from anyio import Event, create_task_group

from commandjobs.errors import InvalidOption, StorageUnavailable
from commandjobs.model.find import JobFilter
from commandjobs.model.moment import month_of, to_moment
from commandjobs.model.state import JobState
from commandjobs.storage import open_storage
from commandjobs.storage.base import Claim
from commandjobs.storage.mysql import dialect as dialects
from commandjobs.storage.mysql.address import PREFIX, parse
from commandjobs.storage.mysql.connections import MysqlConnection, MysqlDriver
from commandjobs.storage.mysql.dialect import MysqlDialect
from commandjobs.storage.mysql.literals import literal
from commandjobs.storage.mysql.migrating import check_server, steps
from commandjobs.storage.mysql.months import following
from commandjobs.storage.mysql.storage import MysqlStorage
from commandjobs.storage.sql.claims import Claiming
from commandjobs.storage.sql.driver import Connection
from commandjobs.storage.sql.find import where
from commandjobs.storage.sql.transactions import Transactions, Try
from tests import mysql
from tests.storage.life import (
    ANY,
    NOW,
    SECOND,
    claim_ids,
    claim_one,
    finished,
    job,
    node,
    put,
    put_all,
    running,
    stored,
)

OTHER = "other_"
PLANNED = f"{mysql.DATABASE}_plans"
ARCHIVED, QUEUED = 1_000_000, 200_000
PIECE = 100_000


@pytest.fixture
async def storage() -> AsyncIterator[MysqlStorage]:
    """An empty storage, open, with one node that executes."""
    opened = MysqlStorage(mysql.empty_url())
    await opened.open(on_wake=lambda: None)
    await opened.register(node())
    await opened.try_execute()
    yield opened
    await opened.close()


@pytest.fixture
def other_prefix(storage: MysqlStorage) -> Iterator[str]:
    """A prefix of tables that are not there, before and after."""
    yield OTHER
    for (name,) in tables(OTHER):
        mysql.execute(f"drop table {mysql.DATABASE}.{name}")


def tables(prefix: str) -> Any:
    return mysql.query(
        "select table_name from information_schema.tables "
        f"where table_schema = '{mysql.DATABASE}' and table_name like '{prefix}%' order by table_name"
    )


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_url_says_where_and_how() -> None:
    address = parse("mariadb://me:s%40cret@db:3307/app?prefix=jobs_&migrate=false&ssl_ca=/ca.pem")

    assert (address.host, address.port, address.user, address.password) == ("db", 3307, "me", "s@cret")
    assert (address.database, address.prefix, address.migrate, address.encrypted) == ("app", "jobs_", False, True)
    assert address.place == "MySQL at db:3307/app (tables jobs_*)"


@pytest.mark.parametrize("query", ["prefix=a-b", "prefix=" + "x" * 33, "migrate=1", "ssl=maybe", "charset=latin1"])
def test_a_parameter_that_cannot_be_is_refused(query: str) -> None:
    with pytest.raises(InvalidOption, match=query.partition("=")[0]):
        open_storage(f"mysql://localhost/app?{query}")


@pytest.mark.parametrize("url", ["mysql://localhost", "mysql://localhost/a/b", "mysql://localhost:port/app"])
def test_a_url_without_a_database_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption, match="MySQL"):
        open_storage(url)


async def test_a_server_that_is_not_there_is_told_within_the_deadline() -> None:
    storage = MysqlStorage("mysql://me:secret@127.0.0.1:9/app", deadline=0.2)

    with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1:9/app") as away:
        await storage.open(on_wake=lambda: None)

    assert "secret" not in str(away.value)


@pytest.mark.parametrize("version", ["5.7.44-log", "8.0.16", "5.5.5-10.5.29-MariaDB-1:10.5.29"])
def test_a_server_that_is_too_old_is_refused(version: str) -> None:
    with pytest.raises(StorageUnavailable, match="or newer"):
        check_server(version, "MySQL at db")


@pytest.mark.parametrize("version", ["8.0.17", "8.4.2-commercial", "9.1.0", "5.5.5-10.6.0-MariaDB", "11.4.3-MariaDB"])
def test_a_server_that_is_new_enough_is_taken(version: str) -> None:
    check_server(version, "MySQL at db")


async def test_tables_of_another_prefix_hold_a_queue_of_their_own(storage: MysqlStorage, other_prefix: str) -> None:
    other = MysqlStorage(mysql.url(prefix=other_prefix))
    await other.open(on_wake=lambda: None)
    await put(storage, job())

    await put(other, job(ref_id="there"))

    assert await other.count(JobFilter(), limit=9) == 1
    assert await storage.job("there") is None
    await other.close()


# ── migrations ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_f45_processes_that_start_together_migrate_once(other_prefix: str) -> None:
    storages = [MysqlStorage(mysql.url(prefix=other_prefix)) for _ in range(4)]

    async with create_task_group() as tasks:
        for storage in storages:
            tasks.start_soon(open_quietly, storage)

    assert mysql.query(f"select count(*) from {mysql.DATABASE}.{OTHER}migration") == ((len(steps()),),)
    for storage in storages:
        await storage.close()


async def test_f45_a_migration_that_was_cut_off_is_done_again(other_prefix: str) -> None:
    await open_and_close(MysqlStorage(mysql.url(prefix=other_prefix)))
    before = tables(other_prefix)
    mysql.execute(f"delete from {mysql.DATABASE}.{OTHER}migration")
    mysql.execute(f"drop table {mysql.DATABASE}.{OTHER}node")

    await open_and_close(MysqlStorage(mysql.url(prefix=other_prefix)))

    assert tables(other_prefix) == before
    assert mysql.query(f"select count(*) from {mysql.DATABASE}.{OTHER}turnstile") == ((257,),)


async def test_a_process_may_leave_the_tables_as_they_are(other_prefix: str) -> None:
    storage = MysqlStorage(mysql.url(prefix=other_prefix, migrate="false"))

    with pytest.raises(StorageUnavailable, match="commandjobs migrate"):
        await storage.open(on_wake=lambda: None)

    assert tables(other_prefix) == ()


async def test_f45_tables_of_a_newer_version_are_refused(storage: MysqlStorage) -> None:
    mysql.execute(f"insert into {mysql.table('migration')} (number, name) values (9999, 'newer')")
    try:
        with pytest.raises(StorageUnavailable, match="Update this one"):
            await MysqlStorage(mysql.url()).open(on_wake=lambda: None)
    finally:
        mysql.execute(f"delete from {mysql.table('migration')} where number = 9999")


# ── months ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_partitions_of_the_next_months_are_there_ahead_of_time(storage: MysqlStorage) -> None:
    this = month_of(mysql.now())

    assert {this, following(this), following(following(this))} <= set(await storage._months())


async def test_a_month_that_nobody_thought_of_is_made_when_its_first_job_ends(storage: MysqlStorage) -> None:
    await storage.drop_month(date(1999, 1, 1))

    id = await finished(storage, job(created=to_moment(datetime(1999, 1, 31, 23, 59, tzinfo=UTC))))

    assert date(1999, 1, 1) in await storage._months()
    assert (await stored(storage, id)).completed == NOW + SECOND


async def test_a_dropped_month_leaves_no_partition_and_its_neighbours_alone(storage: MysqlStorage) -> None:
    old = await finished(storage, job(created=to_moment(datetime(1999, 1, 31, tzinfo=UTC))))
    kept = await finished(storage, job(created=to_moment(datetime(1999, 2, 1, tzinfo=UTC))))

    await storage.drop_month(date(1999, 1, 1))

    assert date(1999, 1, 1) not in await storage._months()
    assert await storage.job(old) is None
    assert (await stored(storage, kept)).completed == NOW + SECOND


async def test_the_last_job_is_known_to_have_ended_after_its_month_is_dropped(storage: MysqlStorage) -> None:
    id = await finished(storage, job(created=to_moment(datetime(1999, 1, 31, tzinfo=UTC))))

    await storage.drop_month(date(1999, 1, 1))

    assert await storage.finished([id]) == {id}


# ── texts and ids ───────────────────────────────────────────────────────────────────────────────────────────────────

TEXTS = ("it's", 'a "word"', "back\\slash", "\\", "\\'", "line\nfeed\r", "tab\t", "\x1a", "50%", "%s", ":name", "{x}",
         "-- x", "/* x */", "ÄÖ€", "\U0001f600", " ends with blanks  ")  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
async def test_a_text_comes_back_as_it_went(storage: MysqlStorage, text: str) -> None:
    id = await put(storage, job(request_body=text, unique_key=text, tags=(text,), args={"a": text}))

    row = await stored(storage, id)

    assert (row.request_body, row.unique_key, row.tags, row.args) == (text, text, (text,), {"a": text})
    assert mysql.query(f"select {literal(text)}") == ((text,),)


@pytest.mark.parametrize("text", TEXTS)
async def test_a_tag_and_an_argument_are_found_as_they_are(storage: MysqlStorage, text: str) -> None:
    id = await put(storage, job(tags=("other", text), args={"a": text, "b": "c"}))
    await put(storage, job(tags=(text + "x", text.swapcase() + "y"), args={"a": text + "x"}))

    assert [found.id for found in await storage.find(JobFilter(tag=text), after=None, limit=9)] == [id]
    assert [found.id for found in await storage.find(JobFilter(args={"a": text}), after=None, limit=9)] == [id]


async def test_names_differ_by_case_accents_and_blanks_at_their_ends(storage: MysqlStorage) -> None:
    names = ["smtp", "SMTP", "smtp ", "smtṕ"]

    rows = [job(worker=name, key=f"k{name}", unique_key=name, queue=name) for name in names]
    answers = [await storage.insert([row], now=NOW) for row in rows]

    assert [answer.conflict for [answer] in answers] == [None] * 4
    assert await claim_ids(storage) == [row.id for row in rows]


async def test_ids_are_right_on_a_server_that_does_not_count_by_one(storage: MysqlStorage) -> None:
    connection = await storage._mysql.connect()
    await connection.execute("set session auto_increment_increment = 3")
    connection.id_step = 3
    rows = [job() for _ in range(5)]

    ids = await storage._dialect.insert_simple(connection, rows, token=None)

    assert [found.id for row in rows if (found := await storage_row(storage, row.ref_id))] == ids
    assert ids == sorted(ids)
    await connection.close()


async def test_many_large_rows_are_inserted_in_pieces_and_all_together(storage: MysqlStorage) -> None:
    body = "x" * 600_000
    rows = [job(request_body=body) for _ in range(5)]

    assert not storage._dialect.inserts_alone(rows)
    ids = await put_all(storage, *rows)

    assert ids == list(range(ids[0], ids[0] + 5))
    assert [len(row.request_body or "") for row in await storage.claim({}, 9, claim=ANY, now=NOW)] == [600_000] * 5


def test_portions_keep_order_and_size() -> None:
    sized = [(number, dialects.LARGEST // 2) for number in range(5)]

    assert list(dialects.portions(sized)) == [[0, 1], [2, 3], [4]]
    assert list(dialects.portions([("huge", 10 * dialects.LARGEST)])) == [["huge"]]


async def test_the_server_has_nothing_to_warn_of(storage: MysqlStorage, caplog: pytest.LogCaptureFixture) -> None:
    """Not even of what it will not know in its next version: asyncmy asks and logs each time."""
    with caplog.at_level(logging.WARNING, logger="asyncmy"):
        id = await put(storage, job(worker="smtp", tags=("a",), unique_key="k"))
        await finished(storage, job())
        await storage.find(JobFilter(text="smtp"), after=None, limit=9)
        await storage.cancel([id], by="me", now=NOW)

    assert caplog.messages == []


async def storage_row(storage: MysqlStorage, ref_id: str) -> Any:
    found = await storage.job(ref_id)
    return found and found.row


# ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_f31_a_connection_that_was_cut_is_replaced_by_another(storage: MysqlStorage) -> None:
    before = await put(storage, job())
    for (id,) in mysql.query(f"select id from information_schema.processlist where db = '{mysql.DATABASE}'"):
        mysql.execute(f"kill {id}")

    row = await running(storage)
    id = await put(storage, job(unique_key="k"))

    assert (await stored(storage, row.id)).state is JobState.STARTED
    assert await claim_ids(storage) == [before, id]


async def test_f42_a_stranger_with_a_lock_delays_only_who_needs_what_he_has(storage: MysqlStorage) -> None:
    stranger = await MysqlDriver(parse(mysql.url())).connect(autocommit=False)
    held = job(unique_key="k")
    await put(storage, held)
    await stranger.execute(f"delete from {PREFIX}job where id = {held.id}")

    ids = [await put(storage, job()) for _ in range(5)]

    assert await claim_ids(storage) == ids
    await stranger.raw.rollback()
    await stranger.close()


async def test_f41_a_deadlock_is_tried_again(storage: MysqlStorage) -> None:
    one, two = await put_all(storage, job(), job())
    transactions = Transactions(storage._mysql)
    both = {one: Event(), two: Event()}
    tries: list[int] = []

    async def lock(first: int, second: int) -> None:
        async def work(connection: Connection, _: Try) -> None:
            tries.append(first)
            await storage._dialect.read(connection, [first], lock=True)
            both[first].set()
            await both[second].wait()
            await storage._dialect.read(connection, [second], lock=True)

        await transactions.write(work)

    async with create_task_group() as tasks:
        tasks.start_soon(lock, one, two)
        tasks.start_soon(lock, two, one)

    assert len(tries) >= 3


async def test_a_claim_takes_what_nobody_has_locked(storage: MysqlStorage) -> None:
    one, two = await put_all(storage, job(), job())
    stranger = await MysqlDriver(parse(mysql.url())).connect(autocommit=False)
    await stranger.execute(f"select id from {PREFIX}job where id = {one} for update")

    assert await claim_ids(storage) == [two]

    await stranger.raw.rollback()
    assert (await claim_one(storage)).id == one
    await stranger.close()


# ── plans ───────────────────────────────────────────────────────────────────────────────────────────────────────────

DIGITS = " union all ".join(f"select {digit} as d" for digit in range(10))
NUMBERS = f"""
select ones.d + 10 * tens.d + 100 * hundreds.d + 1000 * thousands.d + 10000 * myriads.d as n
from ({DIGITS}) as ones, ({DIGITS}) as tens, ({DIGITS}) as hundreds, ({DIGITS}) as thousands, ({DIGITS}) as myriads
"""
FILL_JOB = f"""
insert into {PLANNED}.{PREFIX}job (ref_id, command, created, request_body, claim_queue, claim_command, common)
select concat('q', {{first}} + n), if(n % 10 = 0, 'Other', 'Work'), {NOW} + n, '{{{{}}}}', 'default',
       if(n % 10 = 0, 'Other', 'Work'), true
from {PLANNED}.numbers
"""
FILL_FINISHED = f"""
insert into {PLANNED}.{PREFIX}finished (id, month, created, ref_id, command, started, completed, last_activity)
select {QUEUED} + 1 + {{first}} + n, 202611, {NOW} + n, concat('f', {{first}} + n), 'Work', {NOW}, {NOW}, {NOW} + n
from {PLANNED}.numbers
"""
FILL_SUMMARY = f"""
insert into {PLANNED}.{PREFIX}job_summary (id, month, created, ref_id, command)
select {QUEUED} + 1 + {{first}} + n, 202611, {NOW} + n, concat('f', {{first}} + n), 'Work' from {PLANNED}.numbers
"""


@pytest.fixture(scope="module")
def full_url() -> Iterator[str]:
    """A database with 200,000 jobs that wait and 1,000,000 that have ended."""
    mysql.execute(f"create database {PLANNED}")
    url = mysql.url().replace(mysql.DATABASE, PLANNED)
    storage = MysqlStorage(url)
    mysql.do(open_with_month(storage))
    mysql.execute(f"create table {PLANNED}.numbers (n integer not null primary key) engine=InnoDB {NUMBERS}")
    for text, rows in ((FILL_JOB, QUEUED), (FILL_FINISHED, ARCHIVED), (FILL_SUMMARY, ARCHIVED)):
        for first in range(0, rows, PIECE):
            mysql.execute(text.format(first=first))
    yield url
    mysql.execute(f"drop database {PLANNED}")


async def open_with_month(storage: MysqlStorage) -> None:
    await storage.open(on_wake=lambda: None)
    await storage._make_month(month_of(NOW))
    await storage.register(node())
    await storage.close()


Work = Callable[[MysqlDialect, MysqlConnection], Awaitable[Any]]


def named(name: str, **values: Any) -> Work:
    return lambda dialect, connection: connection.rows(dialect.sql[name], **values)


def finding(wanted: JobFilter) -> Work:
    async def find(dialect: MysqlDialect, connection: MysqlConnection) -> Any:
        conditions, values = where(wanted, None, dialect.bodies)
        return await connection.rows(dialect.find(conditions), **values, limit=100)

    return find


async def finish(dialect: MysqlDialect, connection: MysqlConnection) -> None:
    await dialect.finish(connection, await dialect.read(connection, [5, 6, 7], lock=True))


EVERYDAY: dict[str, Work] = {
    "claim": lambda dialect, connection: dialect.claim(
        connection, Claiming({"default": 100}, 100, Claim(frozenset({"Work"})), 1, 1, NOW)
    ),
    "kinds": lambda dialect, connection: dialect.kinds(connection),
    "insert": lambda dialect, connection: dialect.insert(connection, [job(), job()], token=None),
    "mark_started": lambda dialect, connection: dialect.mark_started(connection, [{"id": 5, "owner": 1}]),
    "finish": finish,
    "held": named("held", ids=[5, 6, 7]),
    "find_rows": named("find_rows", ids=[5, QUEUED + 5]),
    "id_of_ref": named("id_of_ref", ref="f5"),
    "taken_refs": named("taken_refs", refs=["f5", "q5", "new"]),
    "children": named("children", ids=[5, 6, 7], most=1001),
    "due": named("due", now=NOW, most=1000),
    "expired": named("expired", now=NOW, most=1000),
    "next_moment": named("next_moment"),
    "orphaned": named("orphaned", most=200),
    "cancellations": named("cancellations", owner=1),
    "stirred": named("stirred"),
    "unfinished_among": named("unfinished_among", ids=[5, QUEUED + 5]),
    "lane_holders": named("lane_holders", workers=["smtp"], keys=["k"]),
    "waiting": lambda dialect, connection: dialect.waiting(connection, ["smtp"], ["k"], most=8),
    "lock": lambda dialect, connection: dialect.read(connection, range(1, 1_501), lock=True),
    "newest_ends": lambda dialect, connection: dialect.newest_ends(connection, [date(2026, 11, 1), date(2026, 12, 1)]),
    "summaries_of_month": named("summaries_of_month", first=NOW, after=QUEUED, most=500),
    "lock_summaries": named("lock_summaries", rows='[{"id": 200005, "run": 0}]'),
    "find": finding(JobFilter()),
    "find_ref": finding(JobFilter(ref_id="f5")),
}
"""What is done again and again."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", EVERYDAY)
async def test_l20_nothing_everyday_reads_a_whole_table(full_url: str, name: str) -> None:
    driver, dialect = MysqlDriver(parse(full_url)), MysqlDialect(PREFIX)
    connection = await driver.connect(autocommit=False)
    before = await rows_read(connection)

    await EVERYDAY[name](dialect, connection)

    assert await rows_read(connection) - before < 3_000
    await connection.raw.rollback()
    await connection.close()


async def rows_read(connection: MysqlConnection) -> int:
    """Rows that the session's statements have looked at, which no statistics and no estimate can hide."""
    return sum(int(number) for _, number in await connection.fetch("show session status like 'Handler_read%'"))


async def open_quietly(storage: MysqlStorage) -> None:
    await storage.open(on_wake=lambda: None)


async def open_and_close(storage: MysqlStorage) -> None:
    await storage.open(on_wake=lambda: None)
    await storage.close()
