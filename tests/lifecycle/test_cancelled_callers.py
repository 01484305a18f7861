"""Callers that give up at any moment: what they leave in the storage goes on without them."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from typing import Any

import pytest

from commandjobs import AsyncCommand, BackgroundJobs, JobState
from tests.lifecycle.commands import LifeFailOnce, LifeNote, count, eventually, until_state

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]

MOMENTS = 40


class CallerNothing(AsyncCommand[int]):
    async def run(self, request: int) -> None:
        pass


async def given_up(call: Coroutine[Any, Any, object], moment: int) -> None:
    """Cancel a call at one of many moments on its way: after some turns of the loop, and then some tenths of a ms."""
    task = asyncio.ensure_future(call)
    for _ in range(moment % 8):
        await asyncio.sleep(0)
    if moment >= 8:
        await asyncio.sleep(moment / 20_000)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


CALLS: dict[str, Callable[[BackgroundJobs, int], Coroutine[Any, Any, object]]] = {
    "enqueue_command": lambda jobs, n: jobs.enqueue_command(CallerNothing, n),
    "with a worker": lambda jobs, n: jobs.enqueue_command(CallerNothing, n, worker="one"),
    "with a key": lambda jobs, n: jobs.enqueue_command(CallerNothing, n, unique_key="k"),
    "with a date": lambda jobs, n: jobs.enqueue_command(CallerNothing, n, run_after=timedelta(seconds=0.02)),
    "enqueue_json": lambda jobs, n: jobs.enqueue_json("CallerNothing", str(n)),
    "enqueue_many": lambda jobs, n: jobs.enqueue_many(CallerNothing, [n] * 20),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_a_job_whose_caller_gave_up_runs_if_it_exists(
    engine: Engine, call: Callable[[BackgroundJobs, int], Coroutine[Any, Any, object]]
) -> None:
    async with engine() as jobs:
        for moment in range(MOMENTS):
            await given_up(call(jobs, moment), moment)

        async def all_have_run() -> bool:
            return await count(jobs) == await count(jobs, JobState.COMPLETED)

        await eventually(all_have_run)
        assert await count(jobs) > 0


async def test_a_requeue_whose_caller_gave_up_is_done_whole(engine: Engine) -> None:
    async with engine() as jobs:
        refs = [await jobs.enqueue_command(LifeFailOnce, f"{n}", retry_limit=0) for n in range(MOMENTS // 2)]
        for ref in refs:
            await until_state(jobs, ref.id, JobState.FAILED)
        for moment, ref in enumerate(refs):
            await given_up(jobs.requeue_failed_job(ref.id), moment * 2)

        async def none_waits() -> bool:
            return await count(jobs, JobState.QUEUED, JobState.STARTED) == 0

        await eventually(none_waits)


async def test_an_update_whose_caller_gave_up_is_done_whole(engine: Engine) -> None:
    async with engine() as jobs:
        refs = [await jobs.enqueue_command(LifeNote, f"{n}", run_after=timedelta(hours=1)) for n in range(MOMENTS)]
        for moment, ref in enumerate(refs):
            await given_up(jobs.update_job(ref.id, run_after=timedelta(0)), moment)

        for ref in refs:
            await jobs.update_job(ref.id, run_after=timedelta(0))

        for ref in refs:
            await until_state(jobs, ref.id, JobState.COMPLETED)


async def test_leaving_waits_for_nobody_who_enqueues_in_the_same_moment(engine: Engine) -> None:
    for _ in range(5):
        async with engine() as jobs:
            for number in range(20):
                await jobs.enqueue_command(CallerNothing, number)
            late = asyncio.ensure_future(jobs.enqueue_command(CallerNothing, 99))
        async with asyncio.timeout(30):
            await asyncio.wait([late])
        late.exception()
