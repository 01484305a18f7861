"""Nothing of an enqueuer's context is seen by a job, and nothing of a job by anybody else."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any

import pytest

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    SyncCommandWithResult,
    current_job,
    current_jobs,
    current_user,
)
from tests.conftest import until
from tests.lifecycle.commands import stage, until_retry

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]
request_of: ContextVar[str] = ContextVar("request_of", default="nobody")


class ContextLook(AsyncCommandWithResult[str]):
    async def run(self) -> str:
        before = request_of.get()
        await asyncio.sleep(0)
        assert request_of.get() == before
        request_of.set(f"job {current_job().id}")
        await asyncio.sleep(0)
        assert request_of.get() == f"job {current_job().id}"
        return before


class ContextSyncLook(SyncCommandWithResult[str]):
    def run(self) -> str:
        before = request_of.get()
        request_of.set("a sync job")
        return before


class ContextRetry(AsyncCommand):
    async def run(self) -> None:
        stage.done.append(request_of.get())
        request_of.set("the attempt before")
        if current_job().attempt == 1:
            raise ValueError("again")


class ContextCallback(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append(request_of.get())


class ContextEnqueues(AsyncCommandWithResult[str]):
    async def run(self) -> str:
        request_of.set("the enqueuing job")
        return await (await current_jobs().enqueue_command(ContextLook, user_id="inner")).result(5)


class ContextRunsTransient(AsyncCommandWithResult[str]):
    async def run(self) -> str:
        request_of.set("the running job")
        return await current_jobs().run_command_async(ContextLookTransient)


class ContextLookTransient(AsyncCommandWithResult[str]):
    async def run(self) -> str:
        return f"{request_of.get()}, {current_job().command}, {current_user()}"


@pytest.fixture
async def jobs(engine: Engine) -> AsyncGenerator[BackgroundJobs]:
    """Entered with "the app" set, and used with "a request" set."""
    request_of.set("the app")
    async with engine(retry_limit=1) as entered:
        request_of.set("a request")
        yield entered


async def enqueuing(jobs: BackgroundJobs, command: type[Any], **options: Any) -> str:
    """Enqueue from code that serves a request."""
    request_of.set("a request")
    result: str = await (await jobs.enqueue_command(command, **options)).result(5)
    assert request_of.get() == "a request"
    return result


@pytest.mark.parametrize("command", [ContextLook, ContextSyncLook])
async def test_a_job_sees_the_context_in_which_the_engine_was_entered(jobs: BackgroundJobs, command: type[Any]) -> None:
    for _ in range(5):
        assert await enqueuing(jobs, command) == "the app"


async def test_jobs_that_run_at_once_do_not_see_each_other(jobs: BackgroundJobs) -> None:
    seen = await asyncio.gather(*[enqueuing(jobs, ContextLook) for _ in range(20)])

    assert seen == ["the app"] * 20


async def test_each_attempt_has_a_context_of_its_own(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ContextRetry)
    failed = await until_retry(jobs, ref.id, attempts=1)
    assert await jobs.update_job(ref.id, run_after=failed.created)
    await ref.result(5)

    assert stage.done == ["the app", "the app"]


async def test_a_callback_has_a_context_of_its_own(jobs: BackgroundJobs) -> None:
    await enqueuing(jobs, ContextLook, callback=ContextCallback)

    assert stage.done == ["the app"]


async def test_nothing_of_the_enqueuing_job_leaks_into_the_enqueued_one(jobs: BackgroundJobs) -> None:
    assert await enqueuing(jobs, ContextEnqueues, user_id="outer") == "the app"


async def test_nothing_of_the_caller_leaks_into_a_transient_run(jobs: BackgroundJobs) -> None:
    request_of.set("a request")
    assert await jobs.run_command_async(ContextLookTransient, user_id="u") == "the app, ContextLookTransient, u"

    text = await enqueuing(jobs, ContextRunsTransient, user_id="outer")
    assert text == "the app, ContextLookTransient, None"


async def test_a_thread_that_enqueues_gives_nothing_along(jobs: BackgroundJobs) -> None:
    def script() -> str:
        request_of.set("a thread")
        return jobs.sync.enqueue_command(ContextLook).result(5)

    assert await asyncio.to_thread(script) == "the app"


async def test_hooks_and_the_users_loader_see_the_engines_context(engine: Engine) -> None:
    seen = list[str]()

    async def users(id: str) -> str:
        seen.append(f"loader: {request_of.get()}")
        return id

    request_of.set("the app")
    async with engine(users=users) as jobs:
        jobs.on_finished(lambda _: seen.append(f"hook: {request_of.get()}"))
        await enqueuing(jobs, ContextLook, user_id="ann")
        await jobs.wait_until_idle(5)
        await until(lambda: len(seen) == 2)

    assert seen == ["loader: the app", "hook: the app"]
