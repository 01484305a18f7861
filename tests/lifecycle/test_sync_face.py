"""`jobs.sync`: the same methods, blocking, from threads, scripts and sync commands."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    InvalidOption,
    JobFailed,
    JobState,
    StorageUnavailable,
    SyncCommandWithResult,
    WouldDeadlock,
    current_job,
    current_jobs,
    retry,
)
from tests.conftest import until
from tests.lifecycle.commands import LifeHold, LifeNote, LifeThreadHold, stage

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


class SyncFaceDouble(AsyncCommandWithResult[int, int]):
    async def run(self, request: int) -> int:
        return request * 2


@retry(limit=0)
class SyncFaceFail(AsyncCommand):
    async def run(self) -> None:
        raise ValueError("no")


class SyncFaceOuter(SyncCommandWithResult[int, int]):
    """Enqueues a job in a thread, and waits for its result there."""

    def run(self, request: int) -> int:
        ref = current_jobs().sync.enqueue_command(SyncFaceDouble, request, created_by=current_job().ref_id)
        return ref.result(5)


class SyncFaceParentOfChild(SyncCommandWithResult[int]):
    """Enqueues a job that belongs to its own attempt."""

    def run(self) -> int:
        return current_jobs().sync.enqueue_command(LifeNote, "child", depends_on=current_job().id).id


class SyncFaceWaitsForChild(SyncCommandWithResult[str]):
    def run(self) -> str:
        child = current_jobs().sync.enqueue_command(LifeNote, "child", depends_on=current_job().id)
        try:
            child.result(5)
        except WouldDeadlock as error:
            return str(error)
        return "waited"


class SyncFaceOnTheLoop(AsyncCommandWithResult[str]):
    async def run(self) -> str:
        try:
            current_jobs().sync.enqueue_command(LifeNote, "never")
        except WouldDeadlock as error:
            return str(error)
        return "enqueued"


class SyncFaceFromToThread(AsyncCommandWithResult[int]):
    """An async command that calls blocking code."""

    async def run(self) -> int:
        return await asyncio.to_thread(self.blocking)

    def blocking(self) -> int:
        assert current_job().command == "SyncFaceFromToThread"
        return current_jobs().sync.run_command_async(SyncFaceDouble, 4)


async def test_e23_a_thread_enqueues_waits_and_looks(jobs: BackgroundJobs) -> None:
    def script() -> None:
        ref = jobs.sync.enqueue_command(SyncFaceDouble, 21, tags=["t"])
        id, ref_id = ref
        assert ref.result(5) == 42
        assert ref.wait(5).summary.state is JobState.COMPLETED
        assert not ref.cancel()
        found = jobs.sync.get_job(id)
        assert found is not None
        assert found.job.ref_id == ref_id == ref.ref_id
        assert [one.id for one in jobs.sync.find_jobs(tag="t").jobs] == [id]
        assert jobs.sync.ref(ref_id, SyncFaceDouble).result(5) == 42

    await asyncio.to_thread(script)


async def test_e23_a_blocking_call_does_not_block_the_loop(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeHold, "held")
    waiting = asyncio.create_task(asyncio.to_thread(lambda: jobs.sync.ref(ref.id).wait(5)))
    await until(lambda: stage.inside)
    turns = 0

    while turns < 100:
        await asyncio.sleep(0)
        turns += 1
    assert not waiting.done()
    stage.gate.set()

    assert (await waiting).summary.state is JobState.COMPLETED


async def test_e23_many_threads_enqueue_at_once(jobs: BackgroundJobs) -> None:
    def script(number: int) -> list[int]:
        return [jobs.sync.enqueue_command(SyncFaceDouble, number).result(10) for _ in range(20)]

    results = await asyncio.gather(*[asyncio.to_thread(script, number) for number in range(8)])

    assert results == [[number * 2] * 20 for number in range(8)]


async def test_errors_are_those_of_the_async_methods(jobs: BackgroundJobs) -> None:
    def script() -> None:
        with pytest.raises(InvalidOption, match="retry_limit"):
            jobs.sync.enqueue_command(SyncFaceFail, retry_limit=-1)
        with pytest.raises(JobFailed, match="ValueError: no"):
            jobs.sync.enqueue_command(SyncFaceFail).result(5)
        with pytest.raises(TimeoutError):
            jobs.sync.enqueue_command(LifeHold, "held").result(0.001)
        with pytest.raises(ValueError, match="no"):
            jobs.sync.run_command_async(SyncFaceFail)

    await asyncio.to_thread(script)
    stage.gate.set()


async def test_e23_a_transient_run_is_started_and_waited_for_in_a_thread(jobs: BackgroundJobs) -> None:
    def script() -> int:
        run = jobs.sync.run_command(SyncFaceDouble, 4)
        return run.wait(5) + jobs.sync.run_command_async(SyncFaceDouble, 5)

    assert await asyncio.to_thread(script) == 18


async def test_e23_a_sync_command_enqueues_and_waits_for_another_job(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(SyncFaceOuter, 21)

    assert await ref.result(10) == 42
    [inner] = (await jobs.find_jobs(created_by=ref.ref_id)).jobs
    assert inner.command == "SyncFaceDouble"


async def test_d30_a_job_that_a_thread_enqueues_belongs_to_its_attempt(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(SyncFaceParentOfChild)
    child = await jobs.get_job(await ref.result(5))
    assert child is not None
    await jobs.ref(child.summary.id).result(5)

    found = await jobs.get_job(child.summary.id)
    assert found is not None
    assert (found.job.depends_on, found.job.state) == ([ref.id], JobState.COMPLETED)


async def test_waiting_in_a_thread_for_a_job_that_depends_on_the_waiting_one_is_refused(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(SyncFaceWaitsForChild)

    assert "depends on it" in await ref.result(5)


async def test_calls_on_the_loops_own_thread_are_refused(jobs: BackgroundJobs) -> None:
    with pytest.raises(WouldDeadlock, match="Use the async methods there"):
        jobs.sync.enqueue_command(SyncFaceDouble, 1)

    assert "Use the async methods there" in await (await jobs.enqueue_command(SyncFaceOnTheLoop)).result(5)


async def test_code_in_a_thread_of_an_async_job_knows_its_job(jobs: BackgroundJobs) -> None:
    assert await (await jobs.enqueue_command(SyncFaceFromToThread)).result(5) == 8


async def test_hooks_are_added_from_a_thread(jobs: BackgroundJobs) -> None:
    ended = list[int]()

    remove = await asyncio.to_thread(jobs.sync.on_finished, lambda job: ended.append(job.id))
    ref = await jobs.enqueue_command(SyncFaceDouble, 1)
    await ref.result(5)
    await until(lambda: ended == [ref.id])
    remove()


async def test_async_methods_belong_to_the_loop_that_entered(jobs: BackgroundJobs) -> None:
    async def elsewhere() -> None:
        with pytest.raises(StorageUnavailable, match="From other threads use"):
            await jobs.enqueue_command(SyncFaceDouble, 1)
        with pytest.raises(StorageUnavailable, match="From other threads use"):
            _ = jobs.run_command(SyncFaceDouble, 1)
        assert jobs.sync.enqueue_command(SyncFaceDouble, 1).result(5) == 2
        assert jobs.sync.transient_jobs() == []

    def without_loop() -> None:
        with pytest.raises(StorageUnavailable, match="From other threads use"):
            _ = jobs.run_command(SyncFaceDouble, 1)

    await asyncio.to_thread(asyncio.run, elsewhere())
    await asyncio.to_thread(without_loop)


# ── scripts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_script_enters_the_blocking_face_and_its_jobs_run(storage_url: str) -> None:
    jobs = BackgroundJobs(storage_url)

    with jobs.sync as sync:
        assert sync.enqueue_command(SyncFaceDouble, 21).result(5) == 42
        sync.enqueue_many(LifeNote, ["a", "b"])
        sync.wait_until_idle(5)

    assert sorted(stage.done) == ["a", "b"]


def test_a_script_may_enter_again_and_inside_itself(storage_url: str) -> None:
    jobs = BackgroundJobs(storage_url)

    for _ in range(2):
        with jobs.sync:
            with jobs.sync as inner:
                assert inner.enqueue_command(SyncFaceDouble, 1).result(5) == 2
            assert jobs.sync.enqueue_command(SyncFaceDouble, 2).result(5) == 4

    with pytest.raises(StorageUnavailable, match="not entered"):
        jobs.sync.enqueue_command(SyncFaceDouble, 1)


@pytest.mark.parametrize("state", ["closed", "not running"])
def test_a_loop_that_runs_no_more_is_named(state: str) -> None:
    jobs, loop = BackgroundJobs("memory://"), asyncio.new_event_loop()

    async def elsewhere() -> None:
        await jobs.enqueue_command(SyncFaceDouble, 1)

    loop.run_until_complete(jobs.__aenter__())
    ref = jobs.sync.ref(1)
    if state == "closed":
        loop.run_until_complete(jobs._engine_here.supervisor.stop())  # what an exit without the context leaves behind
        loop.close()

    with pytest.raises(StorageUnavailable, match=f"entered on is {state}"):
        jobs.sync.enqueue_command(SyncFaceDouble, 1)
    with pytest.raises(StorageUnavailable, match=f"entered on is {state}"):
        ref.result(5)
    with pytest.raises(StorageUnavailable, match=f"entered on is {state}"):
        asyncio.run(elsewhere())
    if state == "not running":
        loop.run_until_complete(jobs.__aexit__(None, None, None))
        loop.close()


def test_threads_may_enter_at_once_and_the_last_one_stops_the_engine(storage_url: str) -> None:
    jobs, results, barrier = BackgroundJobs(storage_url), list[int](), threading.Barrier(5)

    def script(number: int) -> None:
        barrier.wait(5)
        with jobs.sync as sync:
            results.append(sync.enqueue_command(SyncFaceDouble, number).result(5))

    threads = [threading.Thread(target=script, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert sorted(results) == [0, 2, 4, 6, 8]
    assert jobs.loop is None


def test_a_start_that_fails_leaves_no_thread() -> None:
    jobs = BackgroundJobs("sqlite:////dev/null/impossible/jobs.db")
    before = {*threading.enumerate()}

    for _ in range(3):
        with pytest.raises(StorageUnavailable), jobs.sync:
            pass

    for thread in {*threading.enumerate()} - before:
        thread.join(5)
        assert not thread.is_alive(), thread.name
    assert jobs.loop is None


def test_leaving_a_script_hands_running_jobs_back(storage_url: str, caplog: pytest.LogCaptureFixture) -> None:
    jobs = BackgroundJobs(storage_url, shutdown_grace=0.0)

    with jobs.sync as sync:
        sync.enqueue_command(LifeThreadHold, "held")
        wait_for(lambda: stage.inside == 1)

    assert "was told to end and has not" in caplog.text
    stage.thread_gate.set()
    wait_for(lambda: not any("commandjobs" in thread.name for thread in threading.enumerate()))


def wait_for(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    assert any(condition() or pause.wait(0.005) for _ in range(2000))


async def test_entering_the_blocking_face_of_a_running_engine_does_not_stop_it(jobs: BackgroundJobs) -> None:
    def script() -> int:
        with jobs.sync as sync:
            return sync.enqueue_command(SyncFaceDouble, 21).result(5)

    assert await asyncio.to_thread(script) == 42
    assert await (await jobs.enqueue_command(SyncFaceDouble, 1)).result(5) == 2
