"""Named workers: one job at a time, in order, for as long as its code really runs."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

from commandjobs import AsyncCommand, BackgroundJobs, JobState, Snooze, current_job, retry, worker
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import (
    LifeFailOnce,
    LifeHold,
    LifeNote,
    LifeNothing,
    LifeThreadHold,
    LifeThreadNote,
    eventually,
    job,
    stage,
    state,
    until_retry,
    until_state,
)

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


@worker("smtp")
class NamedWorkersSend(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.enter(request)
        await asyncio.sleep(0)
        stage.leave()


@retry(limit=1, backoff="fixed", delay=60)
class NamedWorkersFlaky(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append(request)
        if current_job().attempt == 1:
            raise ConnectionError(request)


class NamedWorkersSnoozes(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append(request)
        if current_job().attempt == 1:
            raise Snooze(60)


async def test_x10_a_named_worker_runs_one_job_at_a_time_in_order(jobs: BackgroundJobs) -> None:
    for n in range(50):
        await jobs.enqueue_command(NamedWorkersSend, f"{n}")
    await jobs.wait_until_idle(20)

    assert stage.done == [f"{n}" for n in range(50)]
    assert stage.most_inside == 1


async def test_x10_the_order_is_that_of_ids_for_jobs_stored_at_once(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_many(NamedWorkersSend, [f"{n}" for n in range(50)])
    await jobs.wait_until_idle(20)

    assert stage.done == [f"{n}" for n in range(50)]
    assert stage.most_inside == 1


async def test_x10_different_workers_run_beside_each_other(jobs: BackgroundJobs) -> None:
    for name in ("a", "b", "c"):
        await jobs.enqueue_command(LifeHold, name, worker=name)
    await until(lambda: stage.inside == 3)
    stage.gate.set()


async def test_x10_async_and_sync_jobs_share_a_worker(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(LifeHold, "async", worker="w")
    await jobs.enqueue_command(LifeThreadHold, "thread", worker="w")
    last = await jobs.enqueue_command(LifeNote, "last", worker="w")
    await until(lambda: stage.inside == 1)
    stage.gate.set()
    await until(lambda: stage.done == ["async", "thread"])
    assert (await job(jobs, last.id)).wait_reason == "Waits for worker 'w', which runs one job at a time"
    stage.thread_gate.set()
    await last.wait(10)

    assert stage.most_inside == 1


async def test_x10_a_worker_serves_several_queues_one_job_at_a_time(jobs: BackgroundJobs) -> None:
    for n in range(20):
        await jobs.enqueue_command(NamedWorkersSend, f"{n}", queue=f"q{n % 3}")
    await jobs.wait_until_idle(20)

    assert stage.most_inside == 1
    assert len(stage.done) == 20


async def test_x10_transient_runs_and_stored_jobs_share_a_worker(jobs: BackgroundJobs) -> None:
    stored = await jobs.enqueue_command(LifeHold, "stored", worker="w")
    await until(lambda: stage.inside == 1)
    transient = jobs.run_command(LifeHold, "transient", worker="w")
    await asyncio.sleep(0)
    assert stage.done == ["stored"]
    stage.gate.set()
    await transient
    await stored.wait(10)

    assert (stage.done, stage.most_inside) == (["stored", "transient"], 1)


async def test_x10_a_job_that_waits_for_a_retry_does_not_hold_its_worker(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        flaky = await jobs.enqueue_command(NamedWorkersFlaky, "flaky", worker="w")
        other = await jobs.enqueue_command(LifeNote, "other", worker="w")
        await other.wait(5)
        await until_retry(jobs, flaky.id, attempts=1)
        await clock.advance(60)
        await flaky.wait(5)

    assert stage.done == ["flaky", "other", "flaky"]


async def test_x10_a_retry_that_is_due_keeps_its_place_by_id(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        flaky = await jobs.enqueue_command(NamedWorkersFlaky, "flaky", worker="w")
        await until_retry(jobs, flaky.id, attempts=1)
        await jobs.enqueue_command(LifeHold, "holder", worker="w")
        await until(lambda: stage.inside == 1)
        await jobs.enqueue_command(LifeNote, "later", worker="w")
        await clock.advance(60)
        await eventually(lambda: waits_for_its_worker(jobs, flaky.id))
        stage.gate.set()
        await flaky.wait(5)
        await jobs.wait_until_idle(5)

    assert stage.done == ["flaky", "holder", "flaky", "later"]


async def waits_for_its_worker(jobs: BackgroundJobs, id: int) -> bool:
    """Whether a job waits for nothing else any more."""
    return ((await job(jobs, id)).wait_reason or "").startswith("Waits for worker")


async def test_x10_snoozed_and_scheduled_jobs_do_not_hold_their_worker(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        snoozed = await jobs.enqueue_command(NamedWorkersSnoozes, "snoozed", worker="w")
        later = await jobs.enqueue_command(LifeNote, "later", worker="w", run_after=timedelta(seconds=30))
        now = await jobs.enqueue_command(LifeNote, "now", worker="w")
        await now.wait(5)
        await until_retry(jobs, snoozed.id, attempts=1)
        await clock.advance(60)
        await snoozed.wait(5)
        await later.wait(5)

    assert stage.done == ["snoozed", "now", "later", "snoozed"]


async def test_a_worker_is_free_after_every_kind_of_end(jobs: BackgroundJobs) -> None:
    """Failed, cancelled while it waited and while it ran, expired, timed out, with a callback, in a thread."""
    options: dict[str, Any] = {"worker": "w"}
    await jobs.enqueue_command(LifeFailOnce, "fails", **options)
    await jobs.wait_until_idle(10)
    running = await jobs.enqueue_command(LifeHold, "cancelled", **options)
    await until(lambda: stage.inside == 1)
    waiting = await jobs.enqueue_command(LifeNote, "never", **options)
    expiring = await jobs.enqueue_command(LifeNote, "never", **options, expires=timedelta(milliseconds=1))
    assert await waiting.cancel()
    await expiring.wait(10)
    assert await running.cancel()
    await jobs.enqueue_command(LifeHold, "times out", **options, timeout=0.01, retry_limit=0)
    await jobs.enqueue_command(LifeThreadNote, "in a thread", **options)
    await jobs.enqueue_command(NamedWorkersSend, "calls back", **options, callback=LifeNothing)

    last = await jobs.enqueue_command(LifeNote, "last", **options)
    await last.wait(10)
    await jobs.wait_until_idle(10)

    assert stage.done == ["fails", "cancelled", "times out", "in a thread", "calls back", "last"]


async def test_r10_a_timed_out_thread_keeps_its_worker_until_its_code_returns(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        stuck = await jobs.enqueue_command(LifeThreadHold, "stuck", worker="w", timeout=5, retry_limit=0)
        waiting = await jobs.enqueue_command(LifeNote, "next", worker="w")
        await until(lambda: stage.inside == 1)
        await until_state(jobs, stuck.id, JobState.STARTED)
        await clock.advance(60)

        assert (await job(jobs, stuck.id)).overrunning is not None
        assert await state(jobs, waiting.id) is JobState.QUEUED
        stage.thread_gate.set()
        assert (await stuck.wait(5)).summary.error_code == "Timeout"
        assert (await waiting.wait(5)).completed is not None


async def test_x12_one_job_at_a_time_per_concurrency_key(jobs: BackgroundJobs) -> None:
    for n in range(30):
        await jobs.enqueue_command(NamedWorkersSend, f"{n}", worker=f"w{n}", concurrency_key="account 7")
    await jobs.wait_until_idle(20)

    assert (len(stage.done), stage.most_inside) == (30, 1)


async def test_x12_different_keys_run_beside_each_other(jobs: BackgroundJobs) -> None:
    for key in ("a", "b", "c"):
        await jobs.enqueue_command(LifeHold, key, concurrency_key=key)
    await until(lambda: stage.inside == 3)
    stage.gate.set()


async def test_x12_a_job_needs_both_its_worker_and_its_key(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(LifeHold, "worker", worker="w")
    await jobs.enqueue_command(LifeHold, "key", concurrency_key="k")
    await until(lambda: stage.inside == 2)
    both = await jobs.enqueue_command(LifeNote, "both", worker="w", concurrency_key="k")
    stage.gate.set()
    await both.wait(10)

    assert stage.done[-1] == "both"


async def test_x12_a_waiting_job_says_what_it_waits_for(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(LifeHold, "holder", concurrency_key="k")
    await until(lambda: stage.inside == 1)
    waiting = await jobs.enqueue_command(LifeNote, "b", concurrency_key="k")

    assert (await job(jobs, waiting.id)).wait_reason == "Waits for concurrency key 'k', which runs one job at a time"
    stage.gate.set()


async def test_x12_a_key_is_free_after_every_kind_of_end(jobs: BackgroundJobs) -> None:
    options: dict[str, Any] = {"concurrency_key": "k"}
    await jobs.enqueue_command(LifeFailOnce, "fails", **options)
    await jobs.wait_until_idle(10)
    running = await jobs.enqueue_command(LifeHold, "cancelled", **options)
    await until(lambda: stage.inside == 1)
    waiting = await jobs.enqueue_command(LifeNote, "never", **options)
    assert await waiting.cancel()
    assert await running.cancel()
    timed_out = await jobs.enqueue_command(LifeHold, "times out", **options, timeout=0.01, retry_limit=0)
    await timed_out.wait(10)
    await (await jobs.enqueue_command(LifeNote, "last", **options)).wait(10)

    assert stage.done == ["fails", "cancelled", "times out", "last"]


async def test_x14_no_job_behind_a_busy_worker_or_key_is_stranded(jobs: BackgroundJobs) -> None:
    for n in range(400):
        options: dict[str, Any] = {"worker": f"w{n % 3}"} if n % 2 else {"concurrency_key": f"k{n % 5}"}
        await jobs.enqueue_command(NamedWorkersSend, f"{n}", **options, priority=n % 4)
    await jobs.wait_until_idle(30)

    assert len(stage.done) == 400
