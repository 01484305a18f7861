"""Cancelling: waiting jobs end at once, running ones are asked to, and whatever they make of it they end Cancelled."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from typing import Any

import pytest

from commandjobs import (
    AsyncCommandWithResult,
    BackgroundJobs,
    JobCancelled,
    JobState,
    current_job,
    current_jobs,
    worker,
)
from tests.conftest import until
from tests.lifecycle.commands import (
    LifeEcho,
    LifeHold,
    LifeNote,
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


class CancellingStubborn(AsyncCommandWithResult[str]):
    """Goes on after its cancellation, and returns a result."""

    async def run(self) -> str:
        stage.enter("run")
        while not stage.gate.is_set():
            with suppress(asyncio.CancelledError):
                await stage.gate.wait()
        stage.leave()
        return "done all the same"


class CancellingRaises(AsyncCommandWithResult[str, str]):
    """Makes something else of its cancellation."""

    async def run(self, request: str) -> str:
        stage.enter("run")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            match request:
                case "value":
                    raise ValueError("instead") from error
                case "own":
                    raise JobCancelled("my own") from error
                case _:
                    return "result"
        raise AssertionError(request)


class CancellingItself(AsyncCommandWithResult[bool]):
    async def run(self) -> bool:
        accepted = await current_jobs().cancel_job(current_job().id)
        await asyncio.sleep(0)
        return accepted


class CancellingFails(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        raise ConnectionError(request)


@worker("cancelling-callbacks")
class CancellingCallback(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        stage.done.append(request)
        return request


async def test_r12_a_queued_job_is_cancelled_and_never_runs(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeNote, "never", run_after=timedelta(hours=1))

    assert await jobs.cancel_job(ref.id, by="eve")

    cancelled = await job(jobs, ref.id)
    assert (cancelled.state, cancelled.attempts, cancelled.error_code) == (JobState.CANCELLED, 0, "Cancelled")
    assert cancelled.completed is not None
    assert await jobs.get_attempts(ref.id) == []


async def test_r12_a_job_in_the_memory_queue_is_cancelled_and_never_runs(engine: Engine) -> None:
    async with engine(concurrency=1) as jobs:
        await jobs.enqueue_command(LifeHold, "holder")
        await until(lambda: stage.inside == 1)
        ref = await jobs.enqueue_command(LifeNote, "never")

        assert await ref.cancel()
        assert await state(jobs, ref.id) is JobState.CANCELLED
        stage.gate.set()
        await jobs.wait_until_idle(10)

    assert stage.done == ["holder"]


async def test_r12_a_job_that_waits_for_a_thread_is_cancelled_and_never_runs(engine: Engine) -> None:
    async with engine(threads=1) as jobs:
        await jobs.enqueue_command(LifeThreadHold, "holder")
        await until(lambda: stage.inside == 1)
        ref = await jobs.enqueue_command(LifeThreadNote, "never")

        assert await ref.cancel()
        assert (await ref.wait(10)).summary.state is JobState.CANCELLED
        stage.thread_gate.set()
        await jobs.wait_until_idle(10)

    assert stage.done == ["holder"]


async def test_r12_a_job_is_cancelled_whenever_that_comes_after_its_enqueue(jobs: BackgroundJobs) -> None:
    """At every step of the way from its insert over its claim to its start."""
    for turns in range(30):
        ref = await jobs.enqueue_command(LifeHold, f"{turns}")
        for _ in range(turns):
            await asyncio.sleep(0)
        assert await ref.cancel()
        assert (await ref.wait(10)).summary.state is JobState.CANCELLED


async def test_r12_a_cancelled_retry_has_no_attempt_more(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CancellingFails, "a")
    await until_retry(jobs, ref.id, attempts=1)
    assert await ref.cancel()

    assert [one.outcome for one in await jobs.get_attempts(ref.id)] == ["Failed"]
    assert (await job(jobs, ref.id)).attempts == 1


async def test_r13_a_running_job_is_cancelled(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeHold, "a")
    await until(lambda: stage.inside == 1)

    assert await ref.cancel()

    cancelled = (await ref.wait(10)).job
    assert (cancelled.state, cancelled.attempts) == (JobState.CANCELLED, 1)
    assert cancelled.cancel_requested is not None
    assert stage.inside == 0
    with pytest.raises(JobCancelled, match=f"Job {ref.id}"):
        await ref.result(10)


@pytest.mark.parametrize("what", ["value", "own", "result"])
async def test_r13_it_ends_cancelled_whatever_comes_out(jobs: BackgroundJobs, what: str) -> None:
    ref = await jobs.enqueue_command(CancellingRaises, what)
    await until(lambda: stage.inside == 1)
    await ref.cancel()

    cancelled = (await ref.wait(10)).job
    assert (cancelled.state, cancelled.error_code, cancelled.attempts) == (JobState.CANCELLED, "Cancelled", 1)
    assert cancelled.response_body is None


async def test_r14_an_uncooperative_job_is_cancelling_until_it_returns(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CancellingStubborn)
    await until(lambda: stage.inside == 1)
    assert await ref.cancel()
    cancelling = await job(jobs, ref.id)
    assert (cancelling.state, cancelling.cancel_requested is None) == (JobState.STARTED, False)
    stage.gate.set()

    cancelled = (await ref.wait(10)).job
    assert (cancelled.state, cancelled.response_body) == (JobState.CANCELLED, None)
    assert (await jobs.find_jobs(states=[JobState.CANCELLED, JobState.COMPLETED])).total == 1


async def test_r14_an_uncooperative_thread_is_cancelling_until_it_returns(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeThreadHold, "a")
    await until(lambda: stage.inside == 1)
    assert await ref.cancel()
    cancelling = await until_state(jobs, ref.id, JobState.STARTED)
    assert cancelling.cancel_requested is not None
    stage.thread_gate.set()

    assert (await ref.wait(10)).summary.state is JobState.CANCELLED


async def test_r13_a_job_can_cancel_itself(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CancellingItself)

    assert (await ref.wait(10)).summary.state is JobState.CANCELLED
    assert await (await jobs.enqueue_command(LifeEcho, "goes on")).result(10) == "goes on"


async def test_r13_others_are_not_touched_by_a_cancellation(jobs: BackgroundJobs) -> None:
    refs = [await jobs.enqueue_command(LifeHold, f"{n}") for n in range(10)]
    await until(lambda: stage.inside == 10)
    for ref in refs[::2]:
        await ref.cancel()
    await until(lambda: stage.inside == 5)
    stage.gate.set()
    ends = [(await ref.wait(10)).summary.state for ref in refs]

    assert ends == [JobState.CANCELLED, JobState.COMPLETED] * 5


async def test_r17_unknown_and_finished_jobs_cannot_be_cancelled(jobs: BackgroundJobs) -> None:
    done = await jobs.enqueue_command(LifeEcho, "a")
    await done.wait(10)

    assert not await done.cancel()
    assert not await jobs.cancel_job(4711)
    result = await jobs.cancel_jobs(ids=[done.id, 4711])
    assert (result.ids, result.errors) == ([], {done.id: "can only cancel incomplete jobs", 4711: "not found"})
    assert await state(jobs, done.id) is JobState.COMPLETED


async def test_r17_a_job_is_cancelled_once(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeNote, "a", run_after=timedelta(hours=1))

    assert await ref.cancel()
    assert not await ref.cancel()


async def test_r17_a_cancellation_that_is_accepted_is_the_outcome(jobs: BackgroundJobs) -> None:
    """Asked at every moment of a short job's life: True always means that it ends Cancelled, False that it does not."""
    for turns in range(40):
        ref = await jobs.enqueue_command(LifeEcho, f"{turns}")
        for _ in range(turns):
            await asyncio.sleep(0)
        accepted = await ref.cancel()
        end = (await ref.wait(10)).summary.state
        assert end is (JobState.CANCELLED if accepted else JobState.COMPLETED)


LATER: dict[str, Any] = {"run_after": timedelta(hours=1)}


async def started(jobs: BackgroundJobs) -> int:
    """How many jobs are found that have started: their marks are written behind."""
    return (await jobs.find_jobs(states=[JobState.STARTED])).total


@pytest.mark.parametrize(
    ("filters", "cancelled"),
    [
        ({"worker": "w"}, "ab"),
        ({"queue": "q"}, "bc"),
        ({"tag": "red"}, "cd"),
        ({"batch_id": "x"}, "da"),
        ({"worker": "w", "queue": "q"}, "b"),
        ({"queue": "q", "tag": "red"}, "c"),
        ({"tag": "red", "worker": "w"}, ""),
        ({"states": [JobState.STARTED]}, "e"),
        ({"states": [JobState.QUEUED], "tag": "red"}, "cd"),
        ({"states": [JobState.COMPLETED]}, ""),
        ({"all": True}, "abcde"),
    ],
)
async def test_r16_filters_are_combined_with_and(jobs: BackgroundJobs, filters: dict[str, Any], cancelled: str) -> None:
    refs = {
        "a": await jobs.enqueue_command(LifeNote, "a", **LATER, worker="w", batch_id="x"),
        "b": await jobs.enqueue_command(LifeNote, "b", **LATER, worker="w", queue="q"),
        "c": await jobs.enqueue_command(LifeNote, "c", **LATER, queue="q", tags=["red", "green"]),
        "d": await jobs.enqueue_command(LifeNote, "d", **LATER, tags=["red"], batch_id="x"),
        "e": await jobs.enqueue_command(LifeHold, "e"),
    }
    await eventually(lambda: started(jobs))

    result = await jobs.cancel_jobs(**filters)

    assert sorted(result.ids) == sorted(refs[name].id for name in cancelled)
    ends = {name: (await refs[name].wait(10)).summary.state for name in cancelled}
    assert set(ends.values()) <= {JobState.CANCELLED}
    left = [name for name, ref in refs.items() if await state(jobs, ref.id) is not JobState.CANCELLED]
    assert "".join(left) == "".join(name for name in "abcde" if name not in cancelled)
    stage.gate.set()


async def test_r16_more_than_a_page_is_cancelled(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_many(LifeNote, [f"{n}" for n in range(2_345)], **LATER, tags=["many"])

    result = await jobs.cancel_jobs(tag="many")

    assert len(result.ids) == 2_345
    assert (await jobs.find_jobs(states=[JobState.CANCELLED])).total == 2_345


async def test_cancelling_an_executed_job_ends_cancelled_and_keeps_its_result(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeEcho, "kept", callback=LifeHold)
    await until(lambda: stage.inside == 1)
    assert await state(jobs, ref.id) is JobState.EXECUTED
    assert await ref.cancel()

    cancelled = (await ref.wait(10)).job
    assert (cancelled.state, cancelled.response_body) == (JobState.CANCELLED, '"kept"')


async def test_cancelling_an_executed_job_whose_callback_waits_records_no_attempt(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(LifeHold, "holder", queue="q", worker="cancelling-callbacks")
    await until(lambda: stage.inside == 1)
    ref = await jobs.enqueue_command(LifeEcho, "kept", callback=CancellingCallback)
    await until_state(jobs, ref.id, JobState.EXECUTED)
    assert await ref.cancel()

    cancelled = (await ref.wait(10)).job
    assert (cancelled.state, cancelled.response_body, cancelled.callback_attempts) == (
        JobState.CANCELLED, '"kept"', 0,
    )  # fmt: skip
    assert [one.phase for one in await jobs.get_attempts(ref.id)] == ["work"]
    stage.gate.set()
