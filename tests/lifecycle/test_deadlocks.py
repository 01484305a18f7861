"""Waits that could never end are refused, with what waits for what and the way out."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from commandjobs import (
    AsyncCommandWithResult,
    BackgroundJobs,
    SyncCommandWithResult,
    WouldDeadlock,
    current_job,
    current_jobs,
    worker,
)
from tests.conftest import until
from tests.lifecycle.commands import LifeHold, LifeNote, stage

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


class DeadlockAwaits(AsyncCommandWithResult[dict[str, Any], str]):
    """Enqueues a job with these options and waits for its result."""

    async def run(self, request: dict[str, Any]) -> str:
        options = {**request}
        if options.pop("on_me", False):
            options["depends_on"] = current_job().id
        ref = await current_jobs().enqueue_command(LifeNote, "inner", **options)
        try:
            await ref.result(5)
        except WouldDeadlock as error:
            await ref.cancel()
            return str(error)
        return "waited"


class DeadlockAwaitsGrandchild(AsyncCommandWithResult[str]):
    async def run(self) -> str:
        child = await current_jobs().enqueue_command(LifeNote, "child", depends_on=current_job().id)
        grandchild = await current_jobs().enqueue_command(LifeNote, "grandchild", depends_on=[child])
        try:
            await grandchild.wait(5)
        except WouldDeadlock as error:
            return str(error)
        return "waited"


class DeadlockAwaitsItself(AsyncCommandWithResult[str]):
    async def run(self) -> str:
        try:
            await current_jobs().ref(current_job().ref_id).result(5)
        except WouldDeadlock as error:
            return str(error)
        return "waited"


@worker("deadlock-worker")
class DeadlockInner(AsyncCommandWithResult[str]):
    async def run(self) -> str:
        return "ran"


@worker("deadlock-worker")
class DeadlockRunsTransient(AsyncCommandWithResult[str]):
    async def run(self) -> str:
        try:
            return await current_jobs().run_command_async(DeadlockInner)
        except WouldDeadlock as error:
            return str(error)


@worker("deadlock-worker")
class DeadlockSyncRunsTransient(SyncCommandWithResult[str]):
    def run(self) -> str:
        try:
            return current_jobs().sync.run_command_async(DeadlockInner)
        except WouldDeadlock as error:
            return str(error)


class DeadlockTransientAwaits(AsyncCommandWithResult[str]):
    """A run in memory that waits for a stored job on the worker of the job that runs it."""

    async def run(self) -> str:
        ref = await current_jobs().enqueue_command(DeadlockInner)
        try:
            return await ref.result(5)
        except WouldDeadlock as error:
            await ref.cancel()
            return str(error)


@worker("deadlock-worker")
class DeadlockViaTransient(AsyncCommandWithResult[str]):
    async def run(self) -> str:
        return await current_jobs().run_command_async(DeadlockTransientAwaits)


@worker("deadlock-worker")
class DeadlockTransientOnWorker(DeadlockTransientAwaits):
    """A run in memory on the worker of the stored job that it waits for."""


async def answer(jobs: BackgroundJobs, command: type[Any], *request: Any, **options: Any) -> str:
    text: str = await (await jobs.enqueue_command(command, *request, **options)).result(10)
    return text


async def test_awaiting_a_job_that_depends_on_the_waiting_one_is_refused(jobs: BackgroundJobs) -> None:
    text = await answer(jobs, DeadlockAwaits, {"on_me": True})

    assert "(DeadlockAwaits) waits for job" in text
    assert "which depends on it" in text
    assert "read its result elsewhere, or in a callback" in text


async def test_awaiting_a_job_that_depends_on_the_waiting_one_through_another_is_refused(jobs: BackgroundJobs) -> None:
    assert "which depends on it" in await answer(jobs, DeadlockAwaitsGrandchild)


async def test_awaiting_its_own_end_is_refused(jobs: BackgroundJobs) -> None:
    assert "waits for its own end" in await answer(jobs, DeadlockAwaitsItself)


@pytest.mark.parametrize("option", ["worker", "concurrency_key"])
async def test_awaiting_a_job_that_needs_what_the_waiting_one_holds_is_refused(
    jobs: BackgroundJobs, option: str
) -> None:
    text = await answer(jobs, DeadlockAwaits, {option: "mine"}, **{option: "mine"})

    assert "mine that DeadlockAwaits holds" in text


async def test_awaiting_a_job_of_another_worker_is_fine(jobs: BackgroundJobs) -> None:
    assert await answer(jobs, DeadlockAwaits, {"worker": "other"}, worker="mine") == "waited"
    assert await answer(jobs, DeadlockAwaits, {}) == "waited"


@pytest.mark.parametrize("command", [DeadlockRunsTransient, DeadlockSyncRunsTransient])
async def test_awaiting_a_run_in_memory_on_the_jobs_own_worker_is_refused(
    jobs: BackgroundJobs, command: type[Any]
) -> None:
    text = await answer(jobs, command)

    assert "worker deadlock-worker" in text
    assert "Run it without that worker, or enqueue it" in text


async def test_a_run_in_memory_that_awaits_a_job_of_its_callers_worker_is_refused(jobs: BackgroundJobs) -> None:
    assert "worker deadlock-worker that DeadlockViaTransient holds" in await answer(jobs, DeadlockViaTransient)


async def test_a_run_in_memory_that_awaits_a_job_of_its_own_worker_is_refused(jobs: BackgroundJobs) -> None:
    text = await jobs.run_command_async(DeadlockTransientOnWorker)

    assert "A run of DeadlockTransientOnWorker waits for job" in text


async def test_what_was_refused_can_still_be_waited_for_outside(jobs: BackgroundJobs) -> None:
    await answer(jobs, DeadlockAwaitsGrandchild)
    await jobs.wait_until_idle(5)

    assert stage.done == ["child", "grandchild"]


async def test_waiting_outside_of_a_job_is_never_refused(jobs: BackgroundJobs) -> None:
    held = await jobs.enqueue_command(LifeHold, "held", worker="w")
    child = await jobs.enqueue_command(LifeNote, "child", worker="w", depends_on=held)
    waiting = asyncio.create_task(child.result(5))
    await until(lambda: stage.inside)
    stage.gate.set()

    await waiting
    assert stage.done == ["held", "child"]
