"""What operators see: health, nodes, queues, workers, commands."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    DuplicateCommand,
    Health,
    InvalidOption,
    JobState,
    Registry,
    Storage,
    StorageUnavailable,
    command,
    worker,
)
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import LifeHold, LifeNote, LifeNothing, LifeThreadHold, eventually, job, stage, state

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


class OverviewOrder(BaseModel):
    id: int
    secret: SecretStr


class OverviewReceipt(BaseModel):
    text: str


@worker("overview-printer")
@command(tags=["print"], runnable=True)
class OverviewPrint(AsyncCommandWithResult[OverviewOrder, OverviewReceipt]):
    """Print an order."""

    async def run(self, request: OverviewOrder) -> OverviewReceipt:
        return OverviewReceipt(text=str(request.id))


class OverviewStranger(AsyncCommand):
    """Known to the process that enqueues it alone."""

    async def run(self) -> None:
        pass


def knowing(*commands: type) -> Registry:
    registry = Registry()
    for one in commands:
        registry.register(one)
    return registry


# ── health ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_o03_an_engine_without_trouble_is_healthy(jobs: BackgroundJobs) -> None:
    await (await jobs.enqueue_command(LifeNothing)).result(5)

    health = await jobs.health()

    assert (health.status, health.reasons) == ("healthy", [])


@pytest.mark.parametrize(("waiting", "status"), [(999, "healthy"), (1_000, "degraded"), (10_000, "unhealthy")])
async def test_o03_many_waiting_jobs_are_a_reason(engine: Engine, waiting: int, status: str) -> None:
    async with engine(concurrency=1) as jobs:
        await jobs.enqueue_command(LifeHold, "held")
        await until(lambda: stage.inside)
        await start_is_written(jobs)
        await jobs.enqueue_many(LifeNote, ["x"] * waiting)

        health = await jobs.health()

        assert health.status == status
        assert health.reasons == ([] if waiting < 1_000 else [f"{waiting:,} jobs wait."])
        await jobs.cancel_jobs(states=[JobState.QUEUED])
        stage.gate.set()


async def start_is_written(jobs: BackgroundJobs) -> None:
    """Starts are written behind: until then the storage counts a running job among those that wait."""
    dispatcher = jobs._engine.dispatcher
    await dispatcher.marks.ensure(next(iter(dispatcher.running.values())))


def about_waiting(health: Health) -> list[str]:
    """The reasons that are about the age of a job. (A moved clock can make a heartbeat look late.)"""
    return [reason for reason in health.reasons if "has waited for" in reason]


@pytest.mark.parametrize(("seconds", "statuses"), [(299, ()), (300, ("degraded",)), (1_800, ("unhealthy",))])
async def test_o03_a_job_that_has_waited_long_is_a_reason(
    engine: Engine, clock: FakeClock, seconds: int, statuses: tuple[str, ...]
) -> None:
    async with engine(concurrency=1, clock=clock) as jobs:
        await jobs.enqueue_command(LifeHold, "held", timeout=None)
        await until(lambda: stage.inside)
        await jobs.enqueue_command(LifeNote, "x")
        await clock.advance(seconds)

        health = await jobs.health()

        assert about_waiting(health) == [f"The oldest waiting job has waited for {seconds:,} s." for _ in statuses]
        assert not statuses or health.status in statuses
        stage.gate.set()


async def test_o03_a_job_that_waits_for_its_date_is_no_reason(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        await jobs.enqueue_command(LifeNote, "tomorrow", run_after=timedelta(days=1))
        await clock.advance(timedelta(minutes=40))

        assert about_waiting(await jobs.health()) == []


async def test_o03_waiting_work_that_nobody_executes_is_unhealthy(engine: Engine) -> None:
    async with engine(execute=False) as jobs:
        assert (await jobs.health()).status == "healthy"
        await jobs.enqueue_command(LifeNothing)

        health = await jobs.health()

        assert (health.status, health.reasons) == ("unhealthy", ["Jobs wait and no process executes."])


async def test_r10_code_that_ignores_its_end_degrades_health(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeThreadHold, "held", timeout=5, retry_limit=0)
        await until(lambda: stage.inside)
        await clock.advance(5)

        health = await jobs.health()

        assert (health.status, health.reasons) == (
            "degraded",
            [f"Job {ref.id} (LifeThreadHold) was ended and its code still runs."],
        )
        stage.thread_gate.set()
        await ref.wait(5)
        assert (await jobs.health()).status == "healthy"


async def test_design6_a_waiting_job_of_a_command_the_executor_does_not_know_degrades_health(engine: Engine) -> None:
    async with engine(registry=knowing(LifeNothing)) as jobs:
        ref = await jobs.enqueue_command(OverviewStranger)
        await jobs.wait_until_idle(5)

        health = await jobs.health()

        assert health.status == "degraded"
        assert "does not know: OverviewStranger" in health.reasons[0]
        assert str(os.getpid()) in health.reasons[0]
        assert await state(jobs, ref.id) is JobState.QUEUED
        assert (await job(jobs, ref.id)).wait_reason == "Waits for a node that knows its command"


# ── nodes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_l12_a_process_is_shown_with_what_it_is_and_does(engine: Engine, clock: FakeClock) -> None:
    registry = knowing(LifeHold, LifeNote)
    async with engine(
        node_name="web-1", concurrency=7, clock=clock, registry=registry, queues={"a": 1, "b": 2}
    ) as jobs:
        [node] = await jobs.get_nodes()

        assert (node.name, node.pid, node.concurrency, node.queues) == ("web-1", os.getpid(), 7, ["a", "b"])
        assert (node.started, node.stopped, node.draining) == (clock.at, None, False)
        assert set(node.commands) == {"LifeHold", "LifeNote"}
        assert len(node.id) == 32


async def test_l12_a_heartbeat_says_how_many_jobs_run(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        await jobs.enqueue_command(LifeHold, "held")
        await until(lambda: stage.inside)
        await clock.advance(10)

        async def told() -> bool:
            [node] = await jobs.get_nodes()
            return (node.running, node.heartbeat) == (1, clock.at)

        await eventually(told)
        stage.gate.set()


async def test_l12_a_stopped_process_says_when(engine: Engine, place: str | Storage, clock: FakeClock) -> None:
    async with engine(place, clock=clock, node_name="first"):
        await clock.advance(60)

    async with engine(place, clock=clock, node_name="second") as jobs:
        await clock.advance(1)
        second, first = await jobs.get_nodes()

        assert [second.name, first.name] == ["second", "first"]
        assert (first.stopped, second.stopped) == (clock.at - timedelta(seconds=1), None)
        assert first.id != second.id


# ── queues ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_q04_queues_show_what_waits_and_runs_and_since_when(engine: Engine, clock: FakeClock) -> None:
    async with engine(concurrency=1, clock=clock) as jobs:
        await jobs.enqueue_command(LifeHold, "held", queue="busy")
        await until(lambda: stage.inside)
        await start_is_written(jobs)
        waits_since = clock.at
        await jobs.enqueue_command(LifeNote, "x", queue="busy")
        await clock.advance(5)
        await jobs.enqueue_command(LifeNote, "y", queue="busy")

        busy, default = await jobs.get_queues()

        assert (busy.name, busy.queued, busy.running, busy.oldest_queued) == ("busy", 2, 1, waits_since)
        assert (default.name, default.queued, default.running, default.oldest_queued) == ("default", 0, 0, None)
        stage.gate.set()


async def test_q04_configured_queues_are_listed_with_their_concurrency(engine: Engine) -> None:
    async with engine(queues={"mail": 3, "slow": 1}) as jobs:
        listed = {queue.name: queue.concurrency for queue in await jobs.get_queues()}

        assert listed == {"default": None, "mail": 3, "slow": 1}


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_c01_registered_commands_are_listed_with_tags_and_schemas(jobs: BackgroundJobs) -> None:
    listed = {info.name: info for info in await jobs.get_commands()}

    found = listed["OverviewPrint"]
    assert (found.kind, found.tags, found.worker, found.doc) == (
        "CMD",
        ["print"],
        "overview-printer",
        "Print an order.",
    )
    assert found.request_schema is not None
    assert set(found.request_schema["properties"]) == {"id", "secret"}
    assert found.result_schema is not None
    assert set(found.result_schema["properties"]) == {"text"}
    assert listed["LifeNothing"].request_schema is None


async def test_c01_a_second_command_of_the_same_name_is_refused() -> None:
    class OverviewOther:
        async def run(self) -> None: ...

    registry = knowing(OverviewPrint)

    with pytest.raises(DuplicateCommand, match="OverviewPrint"):
        registry.register(OverviewOther, name="OverviewPrint")


async def test_c01_an_engine_lists_the_commands_of_its_own_registry(engine: Engine) -> None:
    async with engine(registry=knowing(LifeNote)) as jobs:
        assert [info.name for info in await jobs.get_commands()] == ["LifeNote"]


async def test_secrets_are_masked_in_views_and_given_in_clear_to_code(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(OverviewPrint, OverviewOrder(id=1, secret=SecretStr("hush")))
    assert (await ref.result(5)).text == "1"

    found = await jobs.get_job(ref.id)

    assert found is not None
    assert "hush" not in found.model_dump_json()
    assert "**********" in (found.job.request_body or "")
    assert found.request().secret.get_secret_value() == "hush"


async def test_settings_that_cannot_be_are_refused_before_anything_is_opened() -> None:
    wrong: list[dict[str, Any]] = [{"concurrency": 0}, {"threads": 0}, {"queues": {}}, {"queues": {"a": 0}}]
    wrong.append({"shutdown_grace": -1})
    for settings in wrong:
        with pytest.raises(InvalidOption):
            BackgroundJobs("memory://", **settings)


# ── waiting, when the engine stops ──────────────────────────────────────────────────────────────────────────────────


async def test_d29_who_waits_for_a_job_when_the_engine_stops_is_told(engine: Engine) -> None:
    async with engine(shutdown_grace=0.0) as jobs:
        ref = await jobs.enqueue_command(LifeNote, "tomorrow", run_after=timedelta(days=1))
        waiting = asyncio.create_task(ref.wait(20))
        for _ in range(20):
            await asyncio.sleep(0)

    with pytest.raises(StorageUnavailable):
        await waiting
