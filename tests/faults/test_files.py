"""Files that are full, cannot be written, or are damaged."""

import asyncio
import multiprocessing
import os
import shutil
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from commandjobs import BackgroundJobs, JobState
from commandjobs.errors import StorageCorrupt, StorageFull, StorageUnavailable
from tests.conftest import until
from tests.faults.audit import months, rows
from tests.faults.bench import Bench
from tests.faults.commands import Errand, FaultAsync
from tests.faults.workload import DATABASE, Plan

if os.name != "nt":
    import resource

LATER = timedelta(hours=1)


def errand(key: str = "x", pause: float = 0.0) -> Errand:
    return Errand(key=key, kind="plain", pause=pause)


def in_a_process(life: Callable[[Path], Awaitable[None]], folder: Path) -> None:
    """Limits and users belong to a process, so it gets one of its own."""
    process = multiprocessing.get_context("forkserver").Process(target=_live, args=(life, folder))
    process.start()
    process.join(40)
    assert process.exitcode == 0


def _live(life: Callable[[Path], Awaitable[None]], folder: Path) -> None:
    async def whole() -> None:
        await life(folder)

    asyncio.run(whole())


# ── full ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def fill_the_disk(folder: Path) -> None:
    async with BackgroundJobs(folder / DATABASE) as jobs:
        first = await jobs.enqueue_command(FaultAsync, errand("first"))
        await first.result(10)
        size = largest(folder)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 300_000, hard))
        kept = await enqueue_until_full(jobs)
        assert (await first.wait(5)).job.response_body == '"first"'
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert await (await jobs.enqueue_command(FaultAsync, errand("after"))).result(10) == "after"
        waiting = await jobs.find_jobs(states=[JobState.QUEUED], limit=1000)
        assert {job.id for job in waiting.jobs} == set(kept)


def largest(folder: Path) -> int:
    return max(file.stat().st_size for file in folder.iterdir())


async def enqueue_until_full(jobs: BackgroundJobs) -> list[int]:
    kept: list[int] = []
    with pytest.raises(StorageFull, match=r"No space is left for .*jobs\.db"):  # noqa: PT012  some time or other
        while len(kept) < 1000:
            ref = await jobs.enqueue_command(FaultAsync, errand("x" * 20_000), run_after=LATER)
            kept.append(ref.id)
    return kept


@pytest.mark.skipif(os.name == "nt", reason="no limit of sizes there")
def test_f21_a_full_disk_is_told_leaves_nothing_half_written_and_is_forgotten(tmp_path: Path) -> None:
    in_a_process(fill_the_disk, tmp_path)


# ── not to be written ──────────────────────────────────────────────────────────────────────────────────────────────


async def start_without_permission(folder: Path) -> None:
    await asyncio.to_thread(int)  # what is imported late may be out of this user's reach
    if os.geteuid() == 0:
        os.setuid(65534)
    with pytest.raises(StorageUnavailable, match=r"jobs\.db"):
        async with BackgroundJobs(folder / DATABASE):
            pass


@pytest.fixture
def readable() -> Iterator[Path]:
    """A queue that another user can read and not write."""
    folder = Path(tempfile.mkdtemp())
    with BackgroundJobs(folder / DATABASE).sync:
        pass
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.skipif(os.name == "nt", reason="no such users there")
def test_f23_a_queue_that_may_not_be_written_is_refused_in_a_sentence(readable: Path) -> None:
    in_a_process(start_without_permission, readable)


async def test_f23_a_file_that_turns_read_only_is_waited_for_without_haste(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with BackgroundJobs(tmp_path / DATABASE) as jobs:
        running = await jobs.enqueue_command(FaultAsync, errand("running", pause=0.3))
        await asyncio.sleep(0.1)
        writer = jobs._engine.storage._writer  # type: ignore[attr-defined]
        begins, begin = Counter[str](), writer._begin
        monkeypatch.setattr(writer, "_begin", lambda: (begins.update(["begin"]), begin()))
        writer._connection.execute("pragma query_only = 1")

        with pytest.raises(StorageUnavailable, match="cannot be written"):
            await jobs.enqueue_command(FaultAsync, errand(), run_after=LATER)
        await asyncio.sleep(1.5)
        assert begins["begin"] < 40
        assert (await jobs.get_job(running.id)) is not None
        writer._connection.execute("pragma query_only = 0")

        assert await running.result(10) == "running"


# ── damaged ────────────────────────────────────────────────────────────────────────────────────────────────────────


def damage(file: Path, table: str) -> None:
    """Overwrite the first page of a table or an index."""
    with closing(sqlite3.connect(file)) as connection:
        (size,) = connection.execute("pragma page_size").fetchone()
        (page,) = connection.execute("select rootpage from sqlite_schema where name = ?", (table,)).fetchone()
        connection.execute("pragma wal_checkpoint(truncate)").fetchone()
    with file.open("r+b") as damaged:
        damaged.seek((page - 1) * size)
        damaged.write(b"\xa5" * size)


def archived(folder: Path) -> int:
    """How many jobs have been moved into the file of their month."""
    try:
        return sum(len(rows(month, "select id from job")) for month in months(folder))
    except sqlite3.OperationalError:  # the file is being made
        return 0


@pytest.fixture
def killed(tmp_path: Path) -> Bench:
    """A folder at which a process has died."""
    bench = Bench(tmp_path)
    life = bench.start(Plan("whole", each=2, then="stay"))
    bench.until("enqueued")
    while archived(tmp_path) < 20:
        time.sleep(0.02)
    life.signal(signal.SIGKILL)
    life.ended()
    return bench


async def test_f24_into_a_queue_with_a_damaged_page_nothing_is_written_and_its_archives_stay(
    killed: Bench, tmp_path: Path
) -> None:
    before_it = [row["id"] for month in months(tmp_path) for row in rows(month, "select id from job")]
    live = [row["id"] for row in rows(tmp_path / DATABASE, "select id from job not indexed")]
    damage(tmp_path / DATABASE, "job_ref")

    for _ in range(2):
        with pytest.raises(StorageCorrupt, match=r"jobs\.db is damaged .* restore"):
            async with BackgroundJobs(tmp_path / DATABASE, execute=False) as jobs:
                await jobs.enqueue_command(FaultAsync, errand(), run_after=LATER)

    assert [row["id"] for row in rows(tmp_path / DATABASE, "select id from job not indexed")] == live
    assert before_it
    assert [row["id"] for month in months(tmp_path) for row in rows(month, "select id from job")] == before_it


async def test_f24_a_damaged_page_that_is_met_by_nobody_is_found_after_an_unclean_stop(
    killed: Bench, tmp_path: Path
) -> None:
    damage(tmp_path / DATABASE, "summary_user")

    with pytest.raises(StorageCorrupt, match="nothing more is written"):  # noqa: PT012  it may be found while it starts
        async with BackgroundJobs(tmp_path / DATABASE) as jobs:
            await until(lambda: jobs._engine.storage._writer.damage is not None)  # type: ignore[attr-defined]
            assert any("jobs.db is damaged" in reason for reason in (await jobs.health()).reasons)
            await jobs.enqueue_command(FaultAsync, errand(), run_after=LATER)


@pytest.mark.parametrize("part", [0.0, 0.4, 0.9])
def test_f24_with_a_truncated_log_the_queue_is_as_it_was_a_while_before(
    killed: Bench, tmp_path: Path, part: float
) -> None:
    """What the cut-off part held is lost, and SQLite cannot know; all else is whole, and goes on."""
    log = tmp_path / f"{DATABASE}-wal"
    os.truncate(log, int(log.stat().st_size * part))

    killed.heal()

    whole = ("is damaged", "is archived", "is still", "is left over")
    assert [wrong for wrong in killed.audit() if any(words in wrong for words in whole)] == []


@pytest.mark.parametrize("table", ["job", "unconfirmed", "meta"])
async def test_f26_a_damaged_archive_is_put_aside_and_the_moves_under_way_are_done_again(
    killed: Bench, tmp_path: Path, table: str
) -> None:
    (month,) = months(tmp_path)
    damage(month, table)

    async with BackgroundJobs(tmp_path / DATABASE) as jobs:
        await jobs.cancel_jobs(tag="later")
        assert await (await jobs.enqueue_command(FaultAsync, errand("after"))).result(10) == "after"
        await until(lambda: rows(tmp_path / DATABASE, "select id from job") == [])
        assert any("corrupt-1 is a damaged archive" in reason for reason in (await jobs.health()).reasons)

    assert rows(month, "pragma integrity_check") == [{"integrity_check": "ok"}]
