"""The archive: finished jobs lie in the month of their creation, are read from there, and go when they are old."""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from commandjobs import (
    ArchiveMissing,
    AsyncCommandWithResult,
    BackgroundJobs,
    Fail,
    JobResult,
    JobState,
    Storage,
    current_job,
    retry,
)
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import LifeEcho, LifeHold, LifeNote, count, eventually, job, stage, state, until_state

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]
DECEMBER, JANUARY, FEBRUARY = date(2025, 12, 1), date(2026, 1, 1), date(2026, 2, 1)
LAST_MOMENT = datetime(2026, 1, 31, 23, 59, 59, 999_000, tzinfo=UTC)
DAY = timedelta(days=1)
KEEP = timedelta(days=30)


class ArchiveLogs(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        current_job().note(f"at work on {request}")
        return request


class ArchiveUntilFixed(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        if not stage.gate.is_set():
            raise Fail("not fixed yet")
        return request


@retry(limit=0)
class ArchiveReadsParent(AsyncCommandWithResult[str]):
    async def run(self) -> str:
        parent = current_job().parent
        if parent is None:
            return "no parent"
        try:
            return f"parent {parent.response()}"
        except ArchiveMissing:
            return f"{parent.summary.state}, and its month is missing"


async def found(jobs: BackgroundJobs, id: int) -> JobResult:
    result = await jobs.get_job(id)
    assert result is not None
    return result


async def gone(jobs: BackgroundJobs, id: int, clock: FakeClock) -> None:
    """Wait until a job is dropped: by the next hourly round, or if that has come too early by one after it."""

    async def is_gone() -> bool:
        if await jobs.get_job(id) is None:
            return True
        await clock.advance(3601)
        return False

    await eventually(is_gone)


def places(result: JobResult) -> list[str]:
    return [name for name in ("queued", "completed", "failed") if getattr(result, name) is not None]


#


async def test_x03_a_finished_job_is_archived_and_its_summary_remains(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeEcho, "x")
    await ref.wait(10)

    done = await found(jobs, ref.id)
    assert (places(done), done.job.state, done.summary.state) == (["completed"], JobState.COMPLETED, JobState.COMPLETED)
    assert await jobs.months() == [done.job.created.date().replace(day=1)]
    assert await count(jobs) == 1


async def test_x03_a_job_lies_in_the_month_of_its_creation_whenever_it_ends(engine: Engine, clock: FakeClock) -> None:
    clock.step(LAST_MOMENT - clock.at)
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeHold, "x")
        await until(lambda: stage.inside == 1)
        await clock.advance(0.001)
        stage.gate.set()
        done = (await ref.wait(10)).job

        assert (done.created, done.completed) == (LAST_MOMENT, LAST_MOMENT + timedelta(milliseconds=1))
        assert await jobs.months() == [JANUARY]


async def test_x03_jobs_on_both_sides_of_a_months_end_lie_in_two_months(engine: Engine, clock: FakeClock) -> None:
    clock.step(LAST_MOMENT - clock.at)
    async with engine(clock=clock) as jobs:
        january = await jobs.enqueue_command(LifeEcho, "january")
        await january.wait(10)
        assert await jobs.months() == [JANUARY]
        await clock.advance(0.001)
        february = await jobs.enqueue_command(LifeEcho, "february")
        await february.wait(10)

        assert await jobs.months() == [JANUARY, FEBRUARY]
        assert [one.response() for one in await jobs.get_jobs([february.id, january.id])] == ["february", "january"]


async def test_x03_a_file_for_each_month_lies_beside_the_queue(
    engine: Engine, clock: FakeClock, tmp_path: Path
) -> None:
    clock.step(LAST_MOMENT - clock.at)
    async with engine(f"sqlite:///{tmp_path / 'queue.db'}", clock=clock) as jobs:
        for _ in range(2):
            await (await jobs.enqueue_command(LifeEcho, "x")).wait(10)
            await clock.advance(0.001)

    assert (tmp_path / "queue_2026-01.db").exists()
    assert (tmp_path / "queue_2026-02.db").exists()


async def test_d05_cancelled_dependents_are_archived_each_in_its_own_month(engine: Engine, clock: FakeClock) -> None:
    clock.step(LAST_MOMENT - clock.at)
    async with engine(clock=clock) as jobs:
        parent = await jobs.enqueue_command(LifeHold, "x")
        child = await jobs.enqueue_command(LifeNote, "x", depends_on=parent)
        await clock.advance(0.001)
        await jobs.enqueue_command(LifeNote, "x", depends_on=child)
        await parent.cancel()
        await parent.wait(10)

        assert await jobs.months() == [JANUARY, FEBRUARY]
        assert (await jobs.find_jobs(states=[JobState.CANCELLED])).total == 3


@pytest.mark.parametrize("how", ["queued", "completed", "failed"])
async def test_x05_a_job_is_in_one_place_by_id_and_by_ref_id(jobs: BackgroundJobs, how: str) -> None:
    later: dict[str, Any] = {"run_after": timedelta(hours=1)} if how == "queued" else {}
    command = ArchiveUntilFixed if how == "failed" else LifeEcho
    ref = await jobs.enqueue_command(command, "x", **later)
    if how != "queued":
        await ref.wait(10)

    by_ref_id = await jobs.get_job_by_ref_id(ref.ref_id)
    assert by_ref_id is not None
    assert places(await found(jobs, ref.id)) == places(by_ref_id) == [how]
    assert (by_ref_id.job.id, by_ref_id.summary.id, by_ref_id.request()) == (ref.id, ref.id, "x")


async def test_x05_unknown_jobs_are_none_and_left_out_of_several(jobs: BackgroundJobs) -> None:
    done, waiting = (
        await jobs.enqueue_command(LifeEcho, "done"),
        await jobs.enqueue_command(LifeEcho, "waiting", run_after=timedelta(hours=1)),
    )
    await done.wait(10)

    assert await jobs.get_job(4711) is None
    assert await jobs.get_job_by_ref_id("4711") is None
    several = await jobs.get_jobs([waiting.id, 4711, done.id])
    assert [one.summary.id for one in several] == [waiting.id, done.id]
    assert await jobs.get_jobs([]) == []


async def test_x05_an_archived_job_is_read_after_a_restart(engine: Engine, place: str | Storage) -> None:
    async with engine(place) as jobs:
        ref = await jobs.enqueue_command(ArchiveLogs, "x", tags=["a"], args={"order": "12"}, callback=LifeNote)
        before = (await ref.wait(10)).job

    async with engine(place) as jobs:
        assert await job(jobs, ref.id) == before
        assert [line.message for line in await jobs.get_logs(ref.id)] == ["at work on x"]
        assert [one.outcome for one in await jobs.get_attempts(ref.id)] == ["Succeeded", "Succeeded"]


async def test_a_requeued_job_leaves_its_earlier_run_in_the_archive(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ArchiveUntilFixed, "x")
    await ref.wait(10)
    stage.gate.set()
    assert await (await jobs.requeue_failed_job(ref.id)).result(10) == "x"

    done = await found(jobs, ref.id)
    assert (places(done), done.job.error, done.summary.error_code) == (["completed"], None, None)
    assert [one.outcome for one in await jobs.get_attempts(ref.id)] == ["Failed", "Succeeded"]
    assert await count(jobs) == 1


# ── L-21 ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def days_later(clock: FakeClock, days: int) -> None:
    """Set the wall clock forward, and let the next hourly round see it."""
    clock.step(days * DAY)
    await clock.advance(3601)


async def test_l21_a_month_is_dropped_when_its_newest_end_is_older_than_the_retention(
    engine: Engine, clock: FakeClock
) -> None:
    async with engine(clock=clock, retention=KEEP) as jobs:
        old = await jobs.enqueue_command(ArchiveLogs, "x")
        await old.wait(10)
        await days_later(clock, 29)
        assert await jobs.months() == [JANUARY]
        assert await state(jobs, old.id) is JobState.COMPLETED

        await days_later(clock, 1)
        await gone(jobs, old.id, clock)
        assert (await count(jobs), await jobs.get_logs(old.id), await jobs.get_attempts(old.id)) == (0, [], [])

        async def month_is_gone() -> bool:
            return await jobs.months() == []

        await eventually(month_is_gone)


async def test_l21_a_dropped_month_says_so_in_the_log(
    engine: Engine, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "commandjobs")
    async with engine(clock=clock, retention=KEEP) as jobs:
        ref = await jobs.enqueue_command(LifeEcho, "x")
        await ref.wait(10)
        await days_later(clock, 31)
        await gone(jobs, ref.id, clock)
        await until(lambda: "Dropped the archive of 2026-01 with 1 jobs." in caplog.messages)


async def test_l21_a_late_end_keeps_its_month(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock, retention=KEEP) as jobs:
        early = await jobs.enqueue_command(LifeEcho, "x")
        late = await jobs.enqueue_command(LifeHold, "x", timeout=None)
        await early.wait(10)
        await until(lambda: stage.inside == 1)
        await days_later(clock, 29)
        stage.gate.set()
        await late.wait(10)
        await days_later(clock, 5)

        assert await jobs.months() == [JANUARY]
        assert [await state(jobs, ref.id) for ref in (early, late)] == [JobState.COMPLETED] * 2


async def test_l21_unfinished_jobs_of_a_dropped_month_stay(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock, retention=KEEP) as jobs:
        done = await jobs.enqueue_command(LifeEcho, "x")
        waiting = await jobs.enqueue_command(LifeEcho, "still here", run_after=90 * DAY)
        await done.wait(10)
        await days_later(clock, 31)
        await gone(jobs, done.id, clock)
        assert await state(jobs, waiting.id) is JobState.QUEUED
        await jobs.update_job(waiting.id, run_after=timedelta(0))

        assert await waiting.result(10) == "still here"


async def test_l21_a_job_whose_parent_was_dropped_runs_without_it(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock, retention=KEEP) as jobs:
        parent = await jobs.enqueue_command(LifeEcho, "x")
        soon = await jobs.enqueue_command(ArchiveReadsParent, depends_on=parent)
        later = await jobs.enqueue_command(ArchiveReadsParent, depends_on=parent, run_after=90 * DAY)
        assert await soon.result(10) == "parent x"
        await days_later(clock, 31)
        await gone(jobs, parent.id, clock)
        await jobs.update_job(later.id, run_after=timedelta(0))

        assert await later.result(10) == "no parent"


async def test_l21_a_dropped_ref_id_can_be_used_again(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock, retention=KEEP) as jobs:
        old = await jobs.enqueue_command(LifeEcho, "x", ref_id="mine")
        await old.wait(10)
        await days_later(clock, 31)
        await gone(jobs, old.id, clock)

        new = await jobs.enqueue_command(LifeEcho, "y", ref_id="mine")
        assert (await new.result(10), new.id == old.id) == ("y", False)


async def test_l21_without_a_retention_everything_is_kept(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeEcho, "x")
        await ref.wait(10)
        await days_later(clock, 4_000)

        assert await state(jobs, ref.id) is JobState.COMPLETED


# ── a month that was moved away (SQLite) ───────────────────────────────────────────────────────────────────────────


def move_january(folder: Path, to: Path) -> None:
    for file in folder.glob("queue_2026-01.db*"):
        file.rename(to / file.name)


async def moved_away(engine: Engine, clock: FakeClock, folder: Path, **options: Any) -> tuple[str, list[int], Path]:
    """A database whose jobs of January were moved away: its URL, the ids of a job that succeeded and of one that
    failed, and where January is now.
    """
    url = f"sqlite:///{folder / 'queue.db'}"
    async with engine(url, clock=clock) as jobs:
        refs = [
            await jobs.enqueue_command(LifeEcho, "x", **options),
            await jobs.enqueue_command(ArchiveUntilFixed, "x"),
        ]
        for ref in refs:
            await ref.wait(10)
    away = folder / "away"
    away.mkdir()
    move_january(folder, away)
    return url, [ref.id for ref in refs], away


async def test_x05_of_a_job_whose_month_is_missing_the_summary_remains(
    engine: Engine, clock: FakeClock, tmp_path: Path
) -> None:
    url, [id, _], _ = await moved_away(engine, clock, tmp_path)

    async with engine(url, clock=clock) as jobs:
        missing = await found(jobs, id)
        assert (missing.summary.id, missing.summary.state, places(missing)) == (id, JobState.COMPLETED, [])
        for read in (lambda: missing.job, missing.request, missing.response):
            with pytest.raises(ArchiveMissing, match=rf"Job {id} .* 2026-01"):
                read()
        with pytest.raises(ArchiveMissing, match="2026-01"):
            await jobs.ref(id).result(10)
        assert (await jobs.find_jobs()).total == 2
        assert await jobs.months() == []


async def test_a_job_whose_month_is_missing_is_neither_requeued_nor_replayed(
    engine: Engine, clock: FakeClock, tmp_path: Path
) -> None:
    url, [completed, failed], _ = await moved_away(engine, clock, tmp_path)

    async with engine(url, clock=clock) as jobs:
        with pytest.raises(ArchiveMissing, match="2026-01"):
            await jobs.requeue_failed_job(failed)
        with pytest.raises(ArchiveMissing, match="2026-01"):
            await jobs.replay_job(completed)
        assert (await jobs.get_attempts(completed), await jobs.get_logs(completed)) == ([], [])


async def test_a_month_that_is_put_back_is_found_again(engine: Engine, clock: FakeClock, tmp_path: Path) -> None:
    url, [completed, failed], away = await moved_away(engine, clock, tmp_path)

    async with engine(url, clock=clock) as jobs:
        assert places(await found(jobs, completed)) == []
        move_january(away, tmp_path)

        assert (await job(jobs, completed)).response_body == '"x"'
        assert await jobs.months() == [JANUARY]
        stage.gate.set()
        assert await (await jobs.requeue_failed_job(failed)).result(10) == "x"


async def test_the_ref_id_of_a_job_whose_month_is_missing_is_still_taken(
    engine: Engine, clock: FakeClock, tmp_path: Path
) -> None:
    url, [id, _], _ = await moved_away(engine, clock, tmp_path, ref_id="mine")

    async with engine(url, clock=clock) as jobs:
        by_ref_id = await jobs.get_job_by_ref_id("mine")
        assert by_ref_id is not None
        assert by_ref_id.summary.id == id


async def test_what_depends_on_a_job_whose_month_is_missing_knows_how_it_ended(
    engine: Engine, clock: FakeClock, tmp_path: Path
) -> None:
    url, [completed, failed], _ = await moved_away(engine, clock, tmp_path)

    async with engine(url, clock=clock) as jobs:
        released = await jobs.enqueue_command(ArchiveReadsParent, depends_on=completed)
        cancelled = await jobs.enqueue_command(ArchiveReadsParent, depends_on=failed)
        assert await released.result(10) == "Completed, and its month is missing"
        assert (await until_state(jobs, cancelled.id, JobState.CANCELLED)).error_code == "ParentFailed"


async def test_jobs_of_a_missing_month_that_end_later_begin_a_new_file(
    engine: Engine, clock: FakeClock, tmp_path: Path
) -> None:
    url, [completed, _], _ = await moved_away(engine, clock, tmp_path)

    async with engine(url, clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeEcho, "y")
        assert await ref.result(10) == "y"
        assert await jobs.months() == [JANUARY]
        assert places(await found(jobs, ref.id)) == ["completed"]
        assert places(await found(jobs, completed)) == []
