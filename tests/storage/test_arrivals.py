"""Jobs of many callers that reach the writing thread as one operation: what each of them sees of that."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from commandjobs.errors import StorageUnavailable
from commandjobs.model.row import JobRow
from commandjobs.storage.base import Inserted
from commandjobs.storage.sqlite.locks import ProcessLocks
from commandjobs.storage.sqlite.storage import SqliteStorage
from tests.storage.life import NOW, node


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    """One that waits half a second for its turn to write."""
    opened = SqliteStorage(tmp_path / "jobs.db", deadline=0.5)
    await opened.open(on_wake=lambda: None)
    await opened.register(node())
    assert await opened.try_execute()
    yield opened
    await opened.close()


def fresh(ref_id: str, **columns: Any) -> JobRow:
    return JobRow(ref_id=ref_id, fresh=True, command="Work", created=NOW, **columns)


async def insert(storage: SqliteStorage, row: JobRow) -> Inserted:
    inserted: list[Inserted] = await storage.insert([row], now=NOW)
    return inserted[0]


async def test_callers_get_ids_in_the_order_in_which_they_came(storage: SqliteStorage) -> None:
    inserted = await asyncio.gather(*(insert(storage, fresh(f"job {number}")) for number in range(200)))

    assert [one.id for one in inserted] == list(range(1, 201))
    assert [one.ref_id for one in inserted] == [f"job {number}" for number in range(200)]


async def test_those_who_come_together_share_a_statement(storage: SqliteStorage, tmp_path: Path) -> None:
    statements: list[str] = []
    storage._writer._connection.set_trace_callback(statements.append)
    other = ProcessLocks(str(tmp_path / "jobs.db"))
    with other.write_turn():  # so that the thread comes for them when all are there
        calls = [asyncio.ensure_future(insert(storage, fresh(f"job {number}"))) for number in range(50)]
        await asyncio.sleep(0)
    other.close()

    await asyncio.gather(*calls)
    assert len([statement for statement in statements if statement.startswith("insert into job")]) == 1


async def test_a_job_with_a_key_keeps_its_place_between_plain_ones(storage: SqliteStorage) -> None:
    rows = [fresh("a"), fresh("b"), fresh("keyed", unique_key="k"), fresh("c"), fresh("d")]

    inserted = await asyncio.gather(*(insert(storage, row) for row in rows))

    assert [one.id for one in inserted] == [1, 2, 3, 4, 5]


async def test_a_row_that_cannot_be_written_is_its_callers_alone(storage: SqliteStorage) -> None:
    await insert(storage, fresh("taken"))
    rows = [fresh("before"), fresh("taken"), fresh("after")]

    before, taken, after = await asyncio.gather(*(insert(storage, row) for row in rows), return_exceptions=True)

    assert isinstance(taken, Exception)
    assert [isinstance(one, Inserted) for one in (before, after)] == [True, True]
    assert [found.summary.ref_id for found in await storage.jobs([1, before.id, after.id])] == [  # type: ignore[union-attr]
        "taken", "before", "after",
    ]  # fmt: skip


async def test_who_gives_up_in_time_leaves_nothing_and_holds_up_nobody(storage: SqliteStorage, tmp_path: Path) -> None:
    other = ProcessLocks(str(tmp_path / "jobs.db"))
    with other.write_turn():
        calls = [asyncio.ensure_future(insert(storage, fresh(f"job {number}"))) for number in range(3)]
        await asyncio.sleep(0)
        calls[1].cancel()
        await asyncio.wait([calls[1]])
    other.close()

    assert (await calls[0]).ref_id == "job 0"
    assert (await calls[2]).ref_id == "job 2"
    assert await storage.job("job 1") is None


async def test_all_are_told_when_the_turn_to_write_does_not_come(storage: SqliteStorage, tmp_path: Path) -> None:
    other = ProcessLocks(str(tmp_path / "jobs.db"))
    with other.write_turn():
        calls = (insert(storage, fresh(f"job {number}")) for number in range(20))
        answers = await asyncio.gather(*calls, return_exceptions=True)
    other.close()

    assert [type(answer) for answer in answers] == [StorageUnavailable] * 20
    later = await insert(storage, fresh("later"))
    assert [await storage.job(f"job {number}") for number in range(20)] == [None] * 20
    assert later.ref_id == "later"


async def test_what_goes_wrong_when_one_is_told_is_not_the_others_loss(storage: SqliteStorage) -> None:
    def landed(rows: Sequence[JobRow], inserted: list[Inserted]) -> int:
        if rows[0].ref_id == "job 1":
            raise ZeroDivisionError
        return inserted[0].id

    calls = [storage.insert([fresh(f"job {number}")], now=NOW, landed=landed) for number in range(3)]
    answers = [await asyncio.wait_for(asyncio.gather(call, return_exceptions=True), 20) for call in calls]

    assert [type(answer) for (answer,) in answers] == [int, ZeroDivisionError, int]
