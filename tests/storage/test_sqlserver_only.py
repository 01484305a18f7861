"""What only SQL Server has: a table a month, names without spaces at their end, and versions for whoever reads."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime

import pytest

from commandjobs.errors import InvalidOption, StorageUnavailable
from commandjobs.model.moment import month_of, to_moment
from commandjobs.model.row import JobRow
from commandjobs.model.state import JobState
from commandjobs.storage.sqlserver.months import following
from commandjobs.storage.sqlserver.storage import SqlServerStorage
from tests import sqlserver
from tests.storage.life import finished, job, node, put, stored

LONG_AGO = to_moment(datetime(2020, 2, 3, tzinfo=UTC))
OTHER = f"{sqlserver.SCHEMA}_other"


@pytest.fixture
async def storage() -> AsyncIterator[SqlServerStorage]:
    """An empty storage, open, with one node that executes."""
    opened = SqlServerStorage(sqlserver.empty_url())
    await opened.open(on_wake=lambda: None)
    await opened.register(node())
    await opened.try_execute()
    yield opened
    await opened.close()


def tables() -> set[str]:
    found = sqlserver.query(f"select name from sys.tables where schema_id = schema_id('{sqlserver.SCHEMA}')")
    return {name for (name,) in found}


async def test_months_are_made_ahead_of_time(storage: SqlServerStorage) -> None:
    now = await storage.time()
    assert now is not None
    month = month_of(now)

    expected = [month, following(month), following(following(month))]

    assert {f"finished_{one:%Y_%m}" for one in expected} <= tables()
    assert {f"log_{one:%Y_%m}" for one in expected} <= tables()


async def test_a_month_that_has_no_tables_gets_them_when_a_job_of_it_ends(storage: SqlServerStorage) -> None:
    id = await finished(storage, job(created=LONG_AGO))

    assert "finished_2020_02" in tables()
    assert (await stored(storage, id)).state is JobState.COMPLETED


async def test_a_dropped_month_takes_its_tables_along(storage: SqlServerStorage) -> None:
    id = await finished(storage, job(created=LONG_AGO))

    assert await storage.drop_month(date(2020, 2, 1)) == 1

    assert not {"finished_2020_02", "log_2020_02"} & tables()
    assert await storage.job(id) is None


@pytest.mark.parametrize(
    ("option", "row"),
    [
        ("queue", job(queue="mail ")),
        ("worker", job(worker="smtp ")),
        ("concurrency_key", job(key="invoice 7 ")),
        ("unique_key", job(unique_key="invoice 7 ")),
        ("ref_id", job(ref_id="order 7 ")),
    ],
)
async def test_a_name_that_ends_with_a_space_is_refused(storage: SqlServerStorage, option: str, row: JobRow) -> None:
    with pytest.raises(InvalidOption, match=f"^{option} must not end with a space"):
        await put(storage, row)


async def test_names_that_differ_in_case_are_two(storage: SqlServerStorage) -> None:
    await put(storage, job(ref_id="Order", unique_key="Key"))

    await put(storage, job(ref_id="order", unique_key="key"))

    assert await storage.job("ORDER") is None


async def test_processes_that_start_together_migrate_once() -> None:
    sqlserver.drop(OTHER)
    storages = [SqlServerStorage(sqlserver.url(OTHER)) for _ in range(3)]

    await asyncio.gather(*(storage.open(on_wake=lambda: None) for storage in storages))

    assert sqlserver.query(f"select number from [{OTHER}].migration") == [(1,)]
    for storage in storages:
        await storage.close()
    sqlserver.drop(OTHER)


async def test_a_process_may_leave_the_schema_as_it_is() -> None:
    sqlserver.drop(OTHER)
    storage = SqlServerStorage(sqlserver.url(OTHER, migrate="false"))

    with pytest.raises(StorageUnavailable, match="commandjobs migrate"):
        await storage.open(on_wake=lambda: None)
