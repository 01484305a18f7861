"""What running code knows of its job."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    CurrentJob,
    Fail,
    InvalidOption,
    JobFailed,
    JobState,
    NoCurrentJob,
    SyncCommand,
    SyncCommandWithResult,
    current_job,
    current_jobs,
    current_user,
    retry,
    worker,
)
from tests.conftest import until
from tests.lifecycle.commands import job, stage

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


class CurrentSeen(BaseModel):
    id: int
    ref_id: str
    command: str
    attempt: int
    worker: str | None
    queue: str
    tags: list[str]
    batch_id: str | None
    parent_id: int | None
    user_id: str | None
    tenant_id: str | None
    created_by: str | None
    args: dict[str, str]
    reply_to: str | None
    user: str | None
    utc: bool


def look() -> CurrentSeen:
    at = current_job()
    return CurrentSeen(
        id=at.id,
        ref_id=at.ref_id,
        command=at.command,
        attempt=at.attempt,
        worker=at.worker,
        queue=at.queue,
        tags=list(at.tags),
        batch_id=at.batch_id,
        parent_id=at.parent_id,
        user_id=at.user_id,
        tenant_id=at.tenant_id,
        created_by=at.created_by,
        args=dict(at.args),
        reply_to=at.reply_to,
        user=current_user(),
        utc=at.created.tzinfo is UTC,
    )


class CurrentLook(AsyncCommandWithResult[CurrentSeen]):
    async def run(self) -> CurrentSeen:
        before = look()
        await asyncio.sleep(0)
        assert await asyncio.create_task(self.in_a_task()) == before
        assert await asyncio.to_thread(look) == before
        return before

    async def in_a_task(self) -> CurrentSeen:
        return look()


class CurrentSyncLook(SyncCommandWithResult[CurrentSeen]):
    def run(self) -> CurrentSeen:
        return look()


@retry(limit=2, delay=0.01)
class CurrentInstance(AsyncCommand):
    """A fresh one is made for each attempt."""

    made: ClassVar[list["CurrentInstance"]] = []

    def __init__(self) -> None:
        self.made.append(self)
        self.fresh = True

    async def run(self) -> None:
        assert self.fresh
        self.fresh = False
        raise ValueError("again")


class CurrentGive(AsyncCommandWithResult[str, CurrentSeen]):
    async def run(self, request: str) -> CurrentSeen:
        return look().model_copy(update={"ref_id": request})


class CurrentChild(AsyncCommandWithResult[list[str]]):
    async def run(self) -> list[str]:
        first = current_job().parent
        assert first is not None
        assert first.summary.id == current_job().parent_id
        return [str(parent.response().ref_id) for parent in [first, *await current_job().parents()]]


class CurrentSyncChild(SyncCommandWithResult[list[str]]):
    def run(self) -> list[str]:
        first = current_job().parent
        assert first is not None
        return [str(parent.response().ref_id) for parent in [first, *current_job().parents_sync()]]


@retry(limit=0)
class CurrentBad(AsyncCommand):
    async def run(self) -> None:
        raise Fail("for good")


class CurrentAfter(AsyncCommandWithResult[list[str]]):
    """Runs whatever becomes of its parent."""

    async def run(self) -> list[str]:
        parent = current_job().parent
        assert parent is not None
        error = parent.job.error
        return [parent.summary.state, error.message if error else ""]


class CurrentReport(AsyncCommand):
    async def run(self) -> None:
        current_job().update_status(0.25, "a quarter")
        current_job().update_status(0.5)
        stage.enter("report")
        await stage.gate.wait()


class CurrentSyncReport(SyncCommand):
    def run(self) -> None:
        current_job().update_status(status="begun")
        current_job().update_status(0.5)
        stage.enter("report")
        stage.thread_gate.wait(20)


class CurrentBadReport(AsyncCommand[float]):
    async def run(self, request: float) -> None:
        current_job().update_status(request)


class CurrentRanks(AsyncCommand):
    kept: ClassVar[list[CurrentJob]] = []

    async def run(self) -> None:
        self.kept.append(current_job())


class CurrentWatchesCancel(SyncCommand):
    def run(self) -> None:
        assert not current_job().cancelled
        current_job().raise_if_cancelled()
        stage.enter("watching")
        while not current_job().cancelled:
            threading.Event().wait(0.002)
        stage.done.append("seen")
        current_job().raise_if_cancelled()


class CurrentOfCallback(AsyncCommand[int]):
    async def run(self, request: int) -> None:
        at = current_job()
        stage.done.append(f"{at.command} attempt {at.attempt} of {at.worker}")


@worker("current-worker")
class CurrentWithCallback(AsyncCommandWithResult[int]):
    async def run(self) -> int:
        return 7


@pytest.mark.parametrize("command", [CurrentLook, CurrentSyncLook])
async def test_x07_code_knows_its_job_with_all_its_options(jobs: BackgroundJobs, command: type[Any]) -> None:
    ref = await jobs.enqueue_command(
        command,
        worker="w",
        queue="q",
        tags=["a", "b"],
        batch_id="b1",
        parent_id=77,
        user_id="7",
        tenant_id="t",
        created_by="ann",
        args={"k": "v"},
        reply_to="https://user:secret@example.com/x",
    )

    seen = await ref.result(5)

    assert seen.model_dump() == {
        "id": ref.id,
        "ref_id": ref.ref_id,
        "command": command.__name__,
        "attempt": 1,
        "worker": "w",
        "queue": "q",
        "tags": ["a", "b"],
        "batch_id": "b1",
        "parent_id": 77,
        "user_id": "7",
        "tenant_id": "t",
        "user": "7",
        "created_by": "ann",
        "args": {"k": "v"},
        "reply_to": "https://user:secret@example.com/x",
        "utc": True,
    }


async def test_x06_every_attempt_has_an_instance_of_its_own(jobs: BackgroundJobs) -> None:
    CurrentInstance.made.clear()
    ref = await jobs.enqueue_command(CurrentInstance)

    await ref.wait(5)

    assert len(CurrentInstance.made) == len({id(made) for made in CurrentInstance.made}) == 3


@pytest.mark.parametrize("command", [CurrentChild, CurrentSyncChild])
async def test_d03_a_dependent_reads_its_parents_and_their_results(jobs: BackgroundJobs, command: type[Any]) -> None:
    one, two = [await jobs.enqueue_command(CurrentGive, name) for name in ("one", "two")]

    child = await jobs.enqueue_command(command, depends_on=[two, one])

    assert await child.result(5) == ["two", "two", "one"]
    assert (await job(jobs, child.id)).parent_id == two.id


async def test_d04_parent_id_is_the_first_job_it_depends_on(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(CurrentGive, "parent")

    child = await jobs.enqueue_command(CurrentLook, depends_on=parent)

    assert (await child.result(5)).parent_id == parent.id


async def test_d09_a_dependent_on_the_end_sees_how_its_parent_ended(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(CurrentBad)

    child = await jobs.enqueue_command(CurrentAfter, depends_on=parent, depends_on_policy="finished")

    assert await child.result(5) == ["Failed", "for good"]


async def test_a_job_without_parents_has_none(jobs: BackgroundJobs) -> None:
    CurrentRanks.kept.clear()
    ref = await jobs.enqueue_command(CurrentRanks)
    await ref.result(5)

    assert CurrentRanks.kept[0].parent is None
    assert await CurrentRanks.kept[0].parents() == []


async def test_p03_the_latest_progress_and_status_are_shown_at_once_in_the_same_process(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CurrentReport)
    await until(lambda: stage.inside)

    running = await job(jobs, ref.id)
    assert (running.progress, running.status) == (0.5, "a quarter")
    stage.gate.set()
    await ref.result(5)

    ended = await job(jobs, ref.id)
    assert (ended.progress, ended.status) == (1.0, "a quarter")


async def test_p03_sync_code_reports_its_progress(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CurrentSyncReport)
    await until(lambda: stage.inside)

    running = await job(jobs, ref.id)
    stage.thread_gate.set()
    await ref.result(5)

    assert (running.progress, running.status) == (0.5, "begun")


@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan")])
async def test_p03_progress_outside_of_0_to_1_is_refused(jobs: BackgroundJobs, progress: float) -> None:
    with pytest.raises(InvalidOption, match="progress from 0 to 1"):
        await jobs.run_command_async(CurrentBadReport, progress)


async def test_x15_sync_code_sees_that_it_is_cancelled(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CurrentWatchesCancel)
    await until(lambda: stage.inside)

    assert await ref.cancel()

    assert (await ref.wait(5)).summary.state is JobState.CANCELLED
    assert stage.done[-1] == "seen"


async def test_a_callback_sees_the_job_it_belongs_to(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CurrentWithCallback, callback=CurrentOfCallback)
    await ref.result(5)

    assert stage.done == ["CurrentWithCallback attempt 1 of current-worker"]


@pytest.mark.parametrize("ask", [current_job, current_user, current_jobs])
async def test_outside_of_a_job_there_is_none(jobs: BackgroundJobs, ask: Callable[[], object]) -> None:
    with pytest.raises(NoCurrentJob, match="No job runs here"):
        ask()


async def test_x07_the_jobs_logger_is_named_after_the_command(
    jobs: BackgroundJobs, caplog: pytest.LogCaptureFixture
) -> None:
    CurrentRanks.kept.clear()
    await (await jobs.enqueue_command(CurrentRanks)).result(5)

    log = CurrentRanks.kept[0].log

    assert log.logger is logging.getLogger("CurrentRanks")
    assert log.isEnabledFor(logging.DEBUG)


async def test_current_jobs_is_the_engine_that_runs_the_job(jobs: BackgroundJobs) -> None:
    with pytest.raises(JobFailed, match="JobNotFound"):
        await (await jobs.enqueue_command(CurrentAsksEngine)).result(5)


@retry(limit=0)
class CurrentAsksEngine(AsyncCommand):
    async def run(self) -> None:
        found = await current_jobs().get_job(current_job().id)
        assert found is not None
        assert found.job.state in (JobState.STARTED, JobState.QUEUED)
        await current_jobs().ref(999_999).result(1)
