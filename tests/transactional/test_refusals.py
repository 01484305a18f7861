"""E-16: a connection that a job cannot be part of is refused, with the reason and the way out."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import psycopg2
import pytest
from django.db import connection as django_connection
from django.db import transaction as django_transaction
from psycopg.rows import dict_row
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from commandjobs import BackgroundJobs, InvalidOption
from tests import postgres
from tests.lifecycle.commands import LifeNote, LifeNothing, stage
from tests.transactional.callers import Asyncpg, Caller, Django, Psycopg, address, address_for, set_up_django

pytestmark = pytest.mark.postgres

ROOT = Path(__file__).parents[2]


def elsewhere() -> str:
    """Another database of the same server."""
    return address().rpartition("/")[0] + "/postgres"


"""Another database of the same server."""


@pytest.fixture
async def raw() -> AsyncIterator[asyncpg.Connection]:
    """A connection without a transaction."""
    connection = await asyncpg.connect(address())
    yield connection
    connection.terminate()


# ── no transaction ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_e16_asyncpg_without_a_transaction(jobs: BackgroundJobs, raw: asyncpg.Connection) -> None:
    with pytest.raises(InvalidOption, match=r"in autocommit.*async with connection\.transaction\(\)"):
        await jobs.enqueue_command(LifeNothing, connection=raw)


async def test_e16_psycopg_in_autocommit(jobs: BackgroundJobs) -> None:
    with psycopg.connect(address(), autocommit=True) as connection:
        with pytest.raises(InvalidOption, match=r"in autocommit.*with connection\.transaction\(\)"):
            jobs.sync.enqueue_command(LifeNothing, connection=connection)
        with connection.transaction():
            ref = jobs.sync.enqueue_command(LifeNote, "in a block", connection=connection)
    await jobs.ref(ref.id).wait(timeout=60)


async def test_e16_psycopg2_in_autocommit(jobs: BackgroundJobs) -> None:
    connection = psycopg2.connect(address())
    connection.autocommit = True

    with pytest.raises(InvalidOption, match=r"connection\.autocommit = False"):
        jobs.sync.enqueue_command(LifeNothing, connection=connection)
    connection.close()


@pytest.mark.parametrize("where", ["engine", "connection"])
async def test_e16_sqlalchemy_in_autocommit(jobs: BackgroundJobs, where: str) -> None:
    level = {"isolation_level": "AUTOCOMMIT"}
    engine = create_engine(address_for("psycopg"), poolclass=NullPool, **(level if where == "engine" else {}))
    with engine.connect() as connection:
        if where == "connection":
            connection.execution_options(**level)
        with pytest.raises(InvalidOption, match="another isolation_level"):
            jobs.sync.enqueue_command(LifeNothing, connection=connection)


async def test_e16_django_outside_of_atomic(jobs: BackgroundJobs) -> None:
    set_up_django()

    with pytest.raises(InvalidOption, match=r"with transaction\.atomic\(\)"):
        await asyncio.to_thread(lambda: jobs.sync.enqueue_command(LifeNothing, connection=django_connection))


# ── one that is of no use ───────────────────────────────────────────────────────────────────────────────────────────


async def test_e16_closed(jobs: BackgroundJobs, raw: asyncpg.Connection) -> None:
    await raw.close()
    blocking = psycopg.connect(address())
    blocking.close()
    old = psycopg2.connect(address())
    old.close()
    alchemy = create_engine(address_for("psycopg"), poolclass=NullPool).connect()
    alchemy.close()

    with pytest.raises(InvalidOption, match="is closed"):
        await jobs.enqueue_command(LifeNothing, connection=raw)
    for connection in (blocking, old, alchemy):
        with pytest.raises(InvalidOption, match="is closed"):
            jobs.sync.enqueue_command(LifeNothing, connection=connection)


async def test_e16_given_back_to_its_pool(jobs: BackgroundJobs) -> None:
    async with asyncpg.create_pool(address(), min_size=1, max_size=1) as pool:
        async with pool.acquire() as connection:
            pass

        with pytest.raises(InvalidOption, match="given back to its pool"):
            await jobs.enqueue_command(LifeNothing, connection=connection)


async def test_e16_in_a_pipeline(jobs: BackgroundJobs) -> None:
    with psycopg.connect(address()) as connection:
        with connection.pipeline(), pytest.raises(InvalidOption, match="is in pipeline mode"):
            jobs.sync.enqueue_command(LifeNothing, connection=connection)

        assert jobs.sync.enqueue_command(LifeNothing, connection=connection).created


async def test_e16_in_a_transaction_that_has_failed(jobs: BackgroundJobs, caller: Caller) -> None:
    with suppress(Exception):
        await caller.execute("select 1 / 0")

    with pytest.raises(InvalidOption, match="has failed: roll it back"):
        await caller.enqueue(jobs, LifeNothing)


async def test_e16_in_an_atomic_block_that_is_to_be_rolled_back(jobs: BackgroundJobs) -> None:
    async with Django() as caller:
        await caller.call(django_transaction.set_rollback, True)

        with pytest.raises(InvalidOption, match="has failed: roll it back"):
            await caller.enqueue(jobs, LifeNothing)


async def test_e16_in_a_transaction_that_may_only_read(jobs: BackgroundJobs, raw: asyncpg.Connection) -> None:
    async with raw.transaction(readonly=True):
        with pytest.raises(InvalidOption, match="may only read"):
            await jobs.enqueue_command(LifeNothing, connection=raw)


async def test_e16_without_the_rights(jobs: BackgroundJobs, someone: Asyncpg) -> None:
    await someone.execute("create role commandjobs_nobody; set local role commandjobs_nobody")

    with pytest.raises(InvalidOption, match="may not write to PostgreSQL at"):
        await someone.enqueue(jobs, LifeNothing)


async def test_e16_with_the_rights_that_the_docs_name(jobs: BackgroundJobs, someone: Asyncpg) -> None:
    page = (ROOT / "docs" / "how-to" / "transactional-enqueue.md").read_text(encoding="utf-8")
    [grants] = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    taken = await jobs.enqueue_command(LifeNote, "a", ref_id="taken")
    await someone.execute("create role shop")
    await someone.execute(re.sub(r"\bjobs\b", postgres.SCHEMA, grants) + "set local role shop")

    ref = await someone.enqueue(jobs, LifeNote, "b", unique_key="k", ref_id="mine", worker="w", depends_on=taken.id)
    again = await someone.enqueue(jobs, LifeNote, "a", ref_id="taken", on_duplicate="return")

    assert ref.created
    assert again.id == taken.id


async def test_e16_session_without_a_bind(jobs: BackgroundJobs) -> None:
    with pytest.raises(InvalidOption, match="not bound to a single Engine"):
        jobs.sync.enqueue_command(LifeNothing, connection=Session())


async def test_e16_session_whose_flush_has_failed(jobs: BackgroundJobs) -> None:
    with Session(create_engine(address_for("psycopg"), poolclass=NullPool)) as session:
        session.begin()
        nested = session.begin_nested()
        with suppress(Exception):
            session.execute(text("select 1 / 0"))
        nested.rollback()

        assert jobs.sync.enqueue_command(LifeNothing, connection=session).created


# ── elsewhere ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_e16_another_database(jobs: BackgroundJobs) -> None:
    raw = await asyncpg.connect(elsewhere())
    async with raw.transaction():
        with pytest.raises(InvalidOption, match=r"leads to database postgres at .*, and the jobs are in"):
            await jobs.enqueue_command(LifeNothing, connection=raw)
        assert await raw.fetch("select 1") == [(1,)]
    await raw.close()


async def test_e16_another_kind_of_database(jobs: BackgroundJobs) -> None:
    with (
        create_engine("sqlite://").connect() as connection,
        pytest.raises(InvalidOption, match="leads to sqlite, and the jobs are in PostgreSQL"),
    ):
        jobs.sync.enqueue_command(LifeNothing, connection=connection)


# ── what is no such connection ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (object(), "an object"),
        (7, "an int"),
        ("elsewhere", "elsewhere"),
        (create_engine(address_for("psycopg")), "an Engine"),
        (None, "None"),
    ],
    ids=["object", "number", "alias", "engine", "none"],
)
async def test_e16_something_else(jobs: BackgroundJobs, given: Any, named: str) -> None:
    set_up_django()

    with pytest.raises(InvalidOption, match=f"^connection.*{named}"):
        jobs.sync.enqueue_command(LifeNothing, connection=given)
    with pytest.raises(InvalidOption, match=f"^connection.*{named}"):
        await jobs.enqueue_command(LifeNothing, connection=given)


async def test_e16_blocking_connection_is_not_for_the_loop(jobs: BackgroundJobs) -> None:
    with psycopg.connect(address()) as connection, pytest.raises(InvalidOption, match=r"jobs\.sync\.enqueue_command"):
        await jobs.enqueue_command(LifeNothing, connection=connection)


async def test_e16_async_connection_is_not_for_threads(jobs: BackgroundJobs, someone: Caller) -> None:
    with pytest.raises(InvalidOption, match=r"await jobs\.enqueue_command"):
        jobs.sync.enqueue_command(LifeNothing, connection=someone.connection)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_e16_storage_without_transactions_of_callers_says_so(kind: str, tmp_path: Path, someone: Caller) -> None:
    async with BackgroundJobs("memory://" if kind == "memory" else tmp_path / "jobs.db") as jobs:
        with pytest.raises(InvalidOption, match=r"same PostgreSQL database.*enqueue after your transaction"):
            await someone.enqueue(jobs, LifeNothing)
        assert (await jobs.find_jobs()).total == 0


# ── what does not matter ────────────────────────────────────────────────────────────────────────────────────────────


async def test_e16_settings_of_the_connection_do_not_matter(jobs: BackgroundJobs) -> None:
    async with Asyncpg() as one, Psycopg() as other:
        for kind in ("json", "jsonb"):
            await one.raw.set_type_codec(kind, schema="pg_catalog", encoder=repr, decoder=repr)
        await one.execute("set local search_path = nowhere")
        other.connection.row_factory = dict_row
        first = await one.enqueue(jobs, LifeNote, "a", unique_key="a", tags=["x"])
        second = await other.enqueue(jobs, LifeNote, "b", unique_key="b", depends_on=[])
        await one.end(commit=True)
        await other.end(commit=True)

    for ref in (first, second):
        await jobs.ref(ref.id).wait(timeout=60)
    assert sorted(stage.done) == ["a", "b"]


async def test_e16_savepoint_of_the_callers_own_takes_the_job_with_it(jobs: BackgroundJobs, someone: Asyncpg) -> None:
    kept = await someone.enqueue(jobs, LifeNote, "kept")
    nested = someone.raw.transaction()
    await nested.start()
    gone = await someone.enqueue(jobs, LifeNote, "gone")
    await nested.rollback()
    await someone.end(commit=True)
    await jobs.ref(kept.id).wait(timeout=60)

    assert await jobs.get_job(gone.id) is None
    assert stage.done == ["kept"]


async def test_e16_blocking_connection_on_the_thread_of_the_loop(jobs: BackgroundJobs) -> None:
    """It blocks the loop, as everything does that is done there with such a connection."""
    parent = await jobs.enqueue_command(LifeNote, "a")
    with psycopg.connect(address()) as connection:
        ref = jobs.sync.enqueue_command(LifeNote, "b", connection=connection, depends_on=parent)
    await jobs.ref(ref.id).wait(timeout=60)

    assert stage.done == ["a", "b"]


async def test_e16_blocking_session_inside_an_async_one(jobs: BackgroundJobs) -> None:
    engine = create_async_engine(address_for("asyncpg"), poolclass=NullPool)
    async with AsyncSession(engine) as session, session.begin():
        ref = await session.run_sync(lambda inner: jobs.sync.enqueue_command(LifeNote, "a", connection=inner))
    await jobs.ref(ref.id).wait(timeout=60)
    await engine.dispose()

    assert stage.done == ["a"]


async def test_e16_schema_of_another_name_is_told_apart(url: str, someone: Caller) -> None:
    """Two queues in two schemas of one database: a connection is good for both."""
    other = f"{postgres.SCHEMA}_other"
    async with BackgroundJobs(url, execute=False) as jobs, BackgroundJobs(postgres.url(other), execute=False) as others:
        mine = await someone.enqueue(jobs, LifeNothing, ref_id="same")
        theirs = await someone.enqueue(others, LifeNothing, ref_id="same")
        await someone.end(commit=True)

        assert await jobs.get_job(mine.id) is not None
        assert await others.get_job(theirs.id) is not None
    postgres.execute(f"drop schema {other} cascade")
