"""L-17, L-20, L-21: what the engine does by itself, on real files."""

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from commandjobs import AsyncCommand, BackgroundJobs, JobState, current_job
from commandjobs.errors import StorageUnavailable
from commandjobs.testing import FakeClock
from tests.conftest import until

JANUARY, MARCH = datetime(2026, 1, 15, 12, tzinfo=UTC), datetime(2026, 3, 10, tzinfo=UTC)


class MaintenanceNote(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        current_job().note(request)


@asynccontextmanager
async def engine(folder: Path, clock: FakeClock, **settings: Any) -> AsyncGenerator[BackgroundJobs]:
    async with BackgroundJobs(folder / "jobs.db", clock=clock, **settings) as jobs:
        yield jobs


async def done(jobs: BackgroundJobs, name: str = "x") -> int:
    ref = await jobs.enqueue_command(MaintenanceNote, name)
    await ref.result(10)
    return ref.id


@pytest.mark.parametrize("part", ["sweep", "months", "heartbeat", "nodes", "report", "intents"])
@pytest.mark.parametrize("error", [StorageUnavailable("away"), RuntimeError("a bug")])
async def test_l17_a_step_that_fails_does_not_stop_the_others_and_is_tried_again(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, part: str, error: Exception
) -> None:
    async with engine(tmp_path, clock, retention=timedelta(days=1)) as jobs:
        storage = jobs._engine.storage
        works: Callable[..., Awaitable[Any]] = getattr(storage, part)

        async def fail(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(storage, part, fail)
        ref = await jobs.enqueue_command(MaintenanceNote, "x")
        await clock.advance(5)
        monkeypatch.setattr(storage, part, works)
        await clock.advance(20)

        assert (await ref.wait(10)).summary.state is JobState.COMPLETED
        assert all(not task.done() for task in jobs._engine.supervisor._tasks)


async def test_l17_a_failing_step_is_logged(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine(tmp_path, clock) as jobs:

        async def fail(**_: Any) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(jobs._engine.storage, "sweep", fail)
        await clock.advance(5)

    assert "commandjobs sweep failed and starts again." in caplog.text


async def test_l20_an_idle_engine_reads_no_history_and_claims_nothing(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine(tmp_path, clock) as jobs:
        for name in ("a", "b"):
            await done(jobs, name)
        await jobs.enqueue_command(MaintenanceNote, "later", run_after=timedelta(days=1))
        await clock.advance(1)
        calls = count_calls(jobs, monkeypatch)
        await clock.advance(60)
        calls = calls.copy()

    assert set(calls) <= {"heartbeat", "sweep", "intents", "pending_commands"}
    assert calls["heartbeat"] <= 6
    assert calls["sweep"] <= 30
    assert calls["pending_commands"] <= 12


def count_calls(jobs: BackgroundJobs, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What the engine asks of its storage from here on."""
    calls, storage = Counter[str](), jobs._engine.storage

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            calls[name] += 1
            return method(*arguments, **keywords)

        return call

    for name in dir(type(storage)):
        method = getattr(storage, name)
        if not name.startswith("_") and callable(method):
            monkeypatch.setattr(storage, name, counted(name, method))
    return calls


async def test_l21_a_month_whose_newest_end_is_older_than_the_retention_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with engine(tmp_path, FakeClock(JANUARY)) as jobs:
        old = await done(jobs)
        waiting = (await jobs.enqueue_command(MaintenanceNote, "next year", run_after=timedelta(days=365))).id

    async with engine(tmp_path, FakeClock(MARCH), retention=timedelta(days=40)) as jobs:
        new = await done(jobs)
        await until(lambda: "Dropped the archive of 2026-01 with 1 jobs." in caplog.text)

        assert await jobs.get_job(old) is None
        assert [job.id for job in (await jobs.find_jobs()).jobs] == [new, waiting]
        assert (await jobs.get_logs(old), await jobs.get_attempts(old)) == ([], [])
        assert await jobs.months() == [date(2026, 3, 1)]
        assert not (tmp_path / "jobs_2026-01.db").exists()


async def test_l21_a_month_in_which_a_job_has_ended_lately_stays(tmp_path: Path) -> None:
    async with engine(tmp_path, FakeClock(JANUARY)) as jobs:
        old = await done(jobs)
        waiting = await jobs.enqueue_command(MaintenanceNote, "soon", run_after=timedelta(days=30))

    async with engine(tmp_path, FakeClock(MARCH - timedelta(days=20))) as jobs:
        await jobs.ref(waiting.id).wait(10)

    async with engine(tmp_path, FakeClock(MARCH), retention=timedelta(days=40)) as jobs:
        await done(jobs)
        await jobs._engine.supervisor._retention.run()

        assert await jobs.get_job(old) is not None
        assert date(2026, 1, 1) in await jobs.months()


async def test_l21_without_a_retention_nothing_is_dropped(tmp_path: Path) -> None:
    async with engine(tmp_path, FakeClock(JANUARY)) as jobs:
        old = await done(jobs)

    async with engine(tmp_path, FakeClock(datetime(2031, 1, 1, tzinfo=UTC))) as jobs:
        await done(jobs)
        found = await jobs.get_job(old)

        assert found is not None
        assert found.job.state is JobState.COMPLETED
