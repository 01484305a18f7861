"""Lone inserts that are committed on the loop's own thread, and when they are not."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from commandjobs.errors import StorageCorrupt, StorageFull
from commandjobs.model.row import JobRow
from commandjobs.storage.base import Inserted
from commandjobs.storage.sqlite import inline, wal, writer
from commandjobs.storage.sqlite.inline import Pace
from commandjobs.storage.sqlite.locks import ProcessLocks
from commandjobs.storage.sqlite.storage import SqliteStorage
from tests.conftest import until
from tests.storage.life import NOW, job, node, stored

LOOP = threading.current_thread().name


class Watched(SqliteStorage):
    """It knows which threads have written."""

    @property
    def threads(self) -> set[str]:
        return self._threads

    async def watch(self) -> None:
        self._threads = set[str]()
        connection = self._writer._connection
        connection.set_trace_callback(
            lambda sql: self._threads.add(threading.current_thread().name) if sql.startswith("insert") else None
        )


@pytest.fixture
async def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    """On a disk that is always prompt, and with a thread that takes no turn by itself when it is idle."""
    monkeypatch.setattr(Pace, "is_prompt", lambda self, *, now: True)
    monkeypatch.setattr(writer, "POLL", 3600.0)
    monkeypatch.setattr(inline, "LONE", 1)
    opened = Watched(tmp_path / "jobs.db", wal_size=0)
    await opened.open(on_wake=lambda: None)
    await opened.register(node())
    assert await opened.try_execute()
    await opened.watch()
    yield opened
    await opened.close()


def fresh(ref_id: str = "ref", **columns: Any) -> JobRow:
    return JobRow(ref_id=ref_id, fresh=True, command="Work", created=NOW, **columns)


async def insert(storage: SqliteStorage, *rows: JobRow) -> list[Inserted]:
    inserted: list[Inserted] = await storage.insert(rows, now=NOW)
    return inserted


async def test_a_lone_insert_is_committed_where_it_is(storage: Watched) -> None:
    (first,) = await insert(storage, fresh("a"))
    (second,) = await insert(storage, fresh("b"))

    assert storage.threads == {LOOP}
    assert (first.ref_id, second.ref_id, second.id) == ("a", "b", first.id + 1)
    assert (await stored(storage, second.id)).ref_id == "b"


async def test_others_have_a_turn_between_two_of_them(storage: Watched) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while turns < 10:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    for number in range(10):
        await insert(storage, fresh(f"{number}"))
    await counting

    assert storage.threads == {LOOP}
    assert turns == 10


async def test_inserts_have_to_come_alone_for_a_while_first(storage: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "LONE", 3)

    await insert(storage, fresh("a"))
    await insert(storage, fresh("b"))
    assert storage.threads == {"jobs.db writer"}

    await insert(storage, fresh("c"))
    assert storage.threads == {LOOP, "jobs.db writer"}


async def test_two_in_one_turn_of_the_loop_are_not_both_committed_there(storage: Watched) -> None:
    answers = await asyncio.gather(insert(storage, fresh("a")), insert(storage, fresh("b")))

    assert storage.threads == {LOOP, "jobs.db writer"}
    assert sorted(answer.ref_id for (answer,) in answers) == ["a", "b"]


async def test_callers_who_come_together_share_commits_in_the_thread(
    storage: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline, "LONE", 3)

    for turn in range(10):
        await asyncio.gather(insert(storage, fresh(f"a{turn}")), insert(storage, fresh(f"b{turn}")))

    assert storage.threads == {"jobs.db writer"}


async def test_nobody_on_the_loop_waits_for_another_process(storage: Watched, tmp_path: Path) -> None:
    other = ProcessLocks(str(tmp_path / "jobs.db"))
    with other.write_turn():
        waiting = asyncio.ensure_future(insert(storage, fresh()))
        await asyncio.sleep(0.05)
        assert not waiting.done()
    other.close()

    assert len(await waiting) == 1
    assert storage.threads == {"jobs.db writer"}


@pytest.mark.parametrize(
    "row",
    [job(ref_id="chosen"), fresh(unique_key="k"), fresh(run_after=NOW + 1), fresh(request_body="x" * 20_000)],
    ids=["ref id", "key", "date", "large"],
)
async def test_what_takes_more_than_a_moment_goes_to_the_thread(storage: Watched, row: JobRow) -> None:
    (inserted,) = await insert(storage, row)

    assert storage.threads == {"jobs.db writer"}
    assert (await stored(storage, inserted.id)).ref_id == row.ref_id


async def test_the_engine_hears_of_an_insert_whose_caller_is_cancelled(storage: Watched) -> None:
    landed: list[Inserted] = []

    async def call() -> None:
        await storage.insert([fresh("given up")], now=NOW, landed=lambda _, inserted: landed.extend(inserted))

    caller = asyncio.ensure_future(call())
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])

    assert caller.cancelled()
    assert [one.ref_id for one in landed] == ["given up"]
    assert await storage.job("given up") is not None


async def test_an_error_is_the_one_the_thread_would_give(storage: Watched) -> None:
    connection = storage._writer._connection
    pages = connection.execute("pragma page_count").fetchone()[0]
    connection.execute(f"pragma max_page_count = {pages}")

    async def fill() -> None:
        for number in range(500):
            await insert(storage, fresh(f"{number}", request_body="x" * 9_000))

    with pytest.raises(StorageFull, match="No space is left"):
        await fill()


async def test_the_thread_keeps_the_log_short(storage: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "LONG", 60)

    for number in range(40):
        await insert(storage, fresh(f"{number}"))

    assert storage.threads == {LOOP, "jobs.db writer"}
    await until(lambda: not storage._writer._log.is_long)  # behind the answer to the last of them


async def test_into_a_damaged_file_nothing_more_is_written_here_either(storage: Watched) -> None:
    await insert(storage, fresh("before"))
    storage._writer.damage = StorageCorrupt("jobs.db is damaged.")

    for number in range(3):
        with pytest.raises(StorageCorrupt, match="damaged"):
            await insert(storage, fresh(f"{number}"))

    storage._writer.damage = None


async def test_an_insert_in_the_same_moment_as_the_end_is_written_or_refused(storage: Watched) -> None:
    last = asyncio.ensure_future(storage.insert([fresh("last")], now=NOW))
    await storage._writer.close()

    async with asyncio.timeout(20):
        await asyncio.wait([last])
    assert [one.ref_id for one in last.result()] == ["last"]
