"""Counts of what was executed, in the engine and after a restart."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    CommandInfo,
    Snooze,
    Storage,
    SyncCommand,
    WorkerStats,
    current_job,
    retry,
    worker,
)
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import LifeHold, LifeNote, eventually, stage

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


@retry(limit=1, backoff="fixed", delay=0.001)
class StatisticsFlaky(AsyncCommandWithResult[bool, int]):
    """Fails once, or always."""

    async def run(self, request: bool) -> int:
        if request or current_job().attempt == 1:
            raise ValueError(f"attempt {current_job().attempt}")
        return 1


@worker("statistics-snoozer")
class StatisticsSnooze(AsyncCommand):
    async def run(self) -> None:
        if current_job().attempt == 1:
            raise Snooze(3600)


class StatisticsSync(SyncCommand):
    def run(self) -> None:
        pass


class StatisticsTimed(AsyncCommand):
    async def run(self) -> None:
        stage.enter("timed")
        await stage.gate.wait()
        stage.leave()


class StatisticsCallback(AsyncCommand[int]):
    async def run(self, request: int) -> None:
        pass


async def info(jobs: BackgroundJobs, name: str) -> CommandInfo:
    [found] = [one for one in await jobs.get_commands() if one.name == name]
    return found


async def worker_stats(jobs: BackgroundJobs, name: str) -> WorkerStats:
    [found] = [one for one in await jobs.get_workers() if one.name == name]
    return found


async def test_c11_runs_failures_retries_and_the_last_error_of_a_command(jobs: BackgroundJobs) -> None:
    for always in (False, True):
        await (await jobs.enqueue_command(StatisticsFlaky, always)).wait(5)

    counted = await info(jobs, "StatisticsFlaky")

    assert (counted.runs, counted.failures, counted.retries, counted.last_error) == (4, 1, 2, "attempt 2")
    assert counted.min_ms is not None
    assert counted.median_ms is not None
    assert counted.max_ms is not None
    assert 0 <= counted.min_ms <= counted.median_ms <= counted.max_ms


async def test_c11_durations_are_those_of_the_clock(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        for seconds in (1, 2, 6):
            stage.gate.clear()
            ref = await jobs.enqueue_command(StatisticsTimed)
            await until(lambda: stage.inside)
            await clock.advance(seconds)
            stage.gate.set()
            await ref.result(5)

        counted = await info(jobs, "StatisticsTimed")

        assert (counted.min_ms, counted.median_ms, counted.max_ms) == (1000.0, 2000.0, 6000.0)


async def test_c11_a_callback_is_counted_for_its_own_command(jobs: BackgroundJobs) -> None:
    await (await jobs.enqueue_command(StatisticsFlaky, False, callback=StatisticsCallback)).result(5)

    assert ((await info(jobs, "StatisticsCallback")).runs, (await info(jobs, "StatisticsFlaky")).runs) == (1, 2)


async def test_c12_reading_statistics_never_alters_them(jobs: BackgroundJobs) -> None:
    await (await jobs.enqueue_command(StatisticsSync)).result(5)
    first = await info(jobs, "StatisticsSync")

    for _ in range(5):
        assert await info(jobs, "StatisticsSync") == first
        await jobs.get_workers()
        await jobs.health()


async def test_a_command_that_was_never_run_has_no_durations(jobs: BackgroundJobs) -> None:
    counted = await info(jobs, "StatisticsTimed")

    assert (counted.runs, counted.failures, counted.min_ms, counted.median_ms, counted.p95_ms) == (
        0,
        0,
        None,
        None,
        None,
    )


async def test_x19_a_named_worker_shows_what_it_runs_what_waits_and_what_is_done(
    engine: Engine, clock: FakeClock
) -> None:
    async with engine(clock=clock) as jobs:
        running = await jobs.enqueue_command(LifeHold, "running", worker="w")
        await jobs.enqueue_command(LifeNote, "waiting", worker="w")
        await until(lambda: stage.inside)
        await clock.advance(3)

        async def start_mark_is_written() -> bool:
            return (await worker_stats(jobs, "w")).queued == 1

        await eventually(start_mark_is_written)
        busy = await worker_stats(jobs, "w")
        assert (busy.queued, busy.received, busy.completed) == (1, 1, 0)
        assert (busy.running_job, busy.running_seconds) == (running.id, 3.0)
        stage.gate.set()
        await jobs.wait_until_idle(5)

        idle = await worker_stats(jobs, "w")
        assert (idle.queued, idle.received, idle.completed, idle.failed) == (0, 2, 2, 0)
        assert (idle.running_job, idle.running_seconds) == (None, None)


async def test_x19_failures_and_retries_of_a_worker(jobs: BackgroundJobs) -> None:
    for always in (False, True):
        await (await jobs.enqueue_command(StatisticsFlaky, always, worker="w")).wait(5)

    counted = await worker_stats(jobs, "w")

    assert (counted.received, counted.completed, counted.failed, counted.retries) == (4, 1, 1, 2)


async def test_x19_a_worker_whose_job_snoozes_runs_nothing(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(StatisticsSnooze)

    async def is_given_back() -> bool:
        stats = [one for one in await jobs.get_workers() if one.name == "statistics-snoozer"]
        return bool(stats) and (stats[0].received, stats[0].running_job) == (1, None)

    await eventually(is_given_back)


async def test_x19_sync_jobs_of_a_worker_are_counted(jobs: BackgroundJobs) -> None:
    refs = [await jobs.enqueue_command(StatisticsSync, worker="w") for _ in range(5)]
    for ref in refs:
        await ref.result(5)

    counted = await worker_stats(jobs, "w")

    assert (counted.received, counted.completed, counted.queued, counted.running_job) == (5, 5, 0, None)


async def test_c11_counts_go_on_after_a_restart(engine: Engine, place: str | Storage) -> None:
    for _ in range(2):
        async with engine(place) as jobs:
            await (await jobs.enqueue_command(StatisticsFlaky, True)).wait(5)
            await jobs.run_command_async(StatisticsSync)

    async with engine(place) as jobs:
        flaky, sync = await info(jobs, "StatisticsFlaky"), await info(jobs, "StatisticsSync")
        assert (flaky.runs, flaky.failures, flaky.retries) == (4, 2, 2)
        assert (sync.runs, sync.failures) == (2, 0)
        assert sync.median_ms is not None


async def test_c11_counts_are_seen_by_a_process_that_does_not_execute(engine: Engine, place: str | Storage) -> None:
    async with engine(place) as jobs:
        await (await jobs.enqueue_command(StatisticsSync)).result(5)

    async with engine(place, execute=False) as jobs:
        assert (await info(jobs, "StatisticsSync")).runs == 1


async def test_every_execution_is_counted_once_under_load(jobs: BackgroundJobs) -> None:
    refs = await jobs.enqueue_many(LifeNote, [str(number) for number in range(500)])
    await asyncio.gather(*[ref.result(20) for ref in refs])

    tallies = await jobs._engine.storage.tallies(since=0)

    assert (await info(jobs, "LifeNote")).runs == 500
    assert sum(tally.count for key, tally in tallies.items() if key.command == "LifeNote") == 500


@pytest.mark.parametrize("hours", [0, 1])
async def test_roll_ups_are_kept_by_the_hour(engine: Engine, clock: FakeClock, hours: int) -> None:
    async with engine(clock=clock) as jobs:
        await (await jobs.enqueue_command(StatisticsSync)).result(5)
        await clock.advance(3600 * hours)
        await (await jobs.enqueue_command(StatisticsSync)).result(5)

        tallies = await jobs._engine.storage.tallies(since=0)

        assert len({key.hour for key in tallies}) == 1 + hours
