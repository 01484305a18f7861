"""Hooks in a running engine: told once of each final outcome, and never able to change it."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from commandjobs import AsyncCommand, BackgroundJobs, Job, JobState, NoCurrentJob, current_job
from tests.conftest import until
from tests.lifecycle.commands import LifeEcho, LifeFailOnce, LifeFlaky, LifeHold, LifeNote, job, stage

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


class HooksCallback(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append("called back")


async def test_r08_hooks_are_called_once_for_the_final_outcome(jobs: BackgroundJobs) -> None:
    ended, failed = list[Job](), list[Job]()
    jobs.on_finished(ended.append)
    jobs.on_failed(failed.append)

    flaky, fails = await jobs.enqueue_command(LifeFlaky, 2), await jobs.enqueue_command(LifeFailOnce, "no")
    await flaky.wait(5)
    await fails.wait(5)
    await until(lambda: len(ended) == 2)

    assert {(one.id, one.state, one.attempts) for one in ended} == {
        (flaky.id, JobState.COMPLETED, 3),
        (fails.id, JobState.FAILED, 1),
    }
    assert [(one.id, one.error_code) for one in failed] == [(fails.id, "LifeError")]


async def test_r08_a_job_with_a_callback_has_ended_after_it(jobs: BackgroundJobs) -> None:
    seen = list[tuple[str, list[str]]]()
    jobs.on_finished(lambda one: seen.append((one.state, [*stage.done])))

    await (await jobs.enqueue_command(LifeEcho, "x", callback=HooksCallback)).wait(5)
    await until(lambda: seen)

    assert seen == [("Completed", ["called back"])]


async def test_r08_hooks_are_told_of_cancelled_and_dependent_jobs_that_were_claimed_here(jobs: BackgroundJobs) -> None:
    ended = list[Job]()
    jobs.on_finished(ended.append)
    ref = await jobs.enqueue_command(LifeHold, "held")
    await until(lambda: stage.inside)

    await ref.cancel()
    await ref.wait(5)
    await until(lambda: ended)

    assert [(one.id, one.state) for one in ended] == [(ref.id, JobState.CANCELLED)]


async def test_p10_a_hook_that_fails_is_logged_and_changes_nothing(
    jobs: BackgroundJobs, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: Job) -> None:
        await asyncio.sleep(0)
        raise ValueError("in a hook")

    jobs.on_finished(fail)
    ref = await jobs.enqueue_command(LifeEcho, "x")

    assert await ref.result(5) == "x"
    await until(lambda: "in a hook" in caplog.text)
    assert (await job(jobs, ref.id)).state is JobState.COMPLETED


async def test_p10_a_slow_hook_does_not_hold_up_the_jobs(jobs: BackgroundJobs) -> None:
    gate = asyncio.Event()

    async def wait(_: Job) -> None:
        await gate.wait()

    jobs.on_finished(wait)
    for name in "abc":
        await (await jobs.enqueue_command(LifeNote, name)).result(5)
    gate.set()

    assert stage.done == ["a", "b", "c"]


async def test_l07_hooks_under_way_end_before_the_engine_is_left(engine: Engine) -> None:
    ended = list[int]()

    async def later(one: Job) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        ended.append(one.id)

    async with engine() as jobs:
        jobs.on_finished(later)
        ref = await jobs.enqueue_command(LifeNote, "x")
        await ref.result(5)

    assert ended == [ref.id]


async def test_a_hook_runs_outside_of_the_job(jobs: BackgroundJobs) -> None:
    seen = list[str]()

    def look(_: Job) -> None:
        try:
            current_job()
        except NoCurrentJob:
            seen.append("no job here")

    jobs.on_finished(look)
    await (await jobs.enqueue_command(LifeNote, "x")).result(5)

    await until(lambda: seen == ["no job here"])


async def test_a_removed_hook_is_not_called(jobs: BackgroundJobs) -> None:
    ended = list[Job]()
    remove = jobs.on_finished(ended.append)
    remove()

    await (await jobs.enqueue_command(LifeNote, "x")).result(5)
    await jobs.wait_until_idle(5)

    assert ended == []
