"""Log lines, progress and estimates of running and ended jobs."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from commandjobs import AsyncCommand, BackgroundJobs, JobState, Storage, SyncCommand, current_job, retry
from commandjobs.runtime.execution import LOG_LIMIT
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import LifeHold, LifeNothing, eventually, job, stage

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]
log = logging.getLogger("tests.app")


@pytest.fixture(autouse=True)
def app_levels() -> Iterator[None]:
    """The app prints from INFO up."""
    log.setLevel(logging.INFO)
    yield
    log.setLevel(logging.NOTSET)


class LogsStandard(AsyncCommand):
    async def run(self) -> None:
        log.debug("too quiet")
        log.info("one %s", "argument")
        await asyncio.sleep(0)
        await asyncio.create_task(self.inside())
        await asyncio.to_thread(log.warning, "from a thread")

    async def inside(self) -> None:
        log.error("from a task")


class LogsSync(SyncCommand):
    def run(self) -> None:
        log.info("in a thread")
        current_job().log.info("its own")


class LogsOwn(AsyncCommand):
    async def run(self) -> None:
        current_job().log.debug("quiet %d", 1)
        current_job().log.info("spoken")
        current_job().note("for the record")
        current_job().note("loud", level=logging.ERROR)


class LogsMany(AsyncCommand[int]):
    async def run(self, request: int) -> None:
        for number in range(request):
            current_job().note(f"line {number}")


class LogsTooMuch(AsyncCommand):
    async def run(self) -> None:
        for _ in range(LOG_LIMIT // 1000 + 5):
            current_job().note("x" * 1000)


@retry(limit=1, backoff="fixed", delay=60)
class LogsFail(AsyncCommand):
    async def run(self) -> None:
        log.info("attempt %d", current_job().attempt)
        current_job().update_status(0.5, "half")
        raise ValueError("boom")


class LogsCaught(AsyncCommand):
    async def run(self) -> None:
        try:
            raise ValueError("boom")  # noqa: TRY301
        except ValueError:
            log.exception("caught")
            current_job().log.debug("caught again", exc_info=True)


class LogsHeld(AsyncCommand):
    async def run(self) -> None:
        log.info("begun")
        current_job().update_status(0.5, "half")
        stage.enter("held")
        await stage.gate.wait()


class LogsTimed(AsyncCommand[str]):
    """Runs until the gate opens, and says nothing of itself."""

    async def run(self, request: str) -> None:
        stage.enter(request)
        await stage.gate.wait()
        stage.leave()


async def lines(jobs: BackgroundJobs, id: int) -> list[str]:
    return [f"{line.level} {line.message}" for line in await jobs.get_logs(id)]


async def test_p01_standard_logging_inside_a_job_is_stored_in_its_order(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LogsStandard)
    await ref.result(5)

    stored = await jobs.get_logs(ref.id)

    assert [f"{line.level} {line.message}" for line in stored] == [
        "INFO one argument",
        "ERROR from a task",
        "WARNING from a thread",
    ]
    assert [line.sequence for line in stored] == [1, 2, 3]
    assert {(line.logger, line.attempt, line.exception) for line in stored} == {("tests.app", 1, None)}
    assert stored[0].at <= stored[1].at <= stored[2].at


async def test_a_line_is_stored_once_where_two_engines_share_a_process(jobs: BackgroundJobs) -> None:
    async with BackgroundJobs("memory://"):
        ref = await jobs.enqueue_command(LogsMany, 1)
        await ref.result(5)

    assert [line.message for line in await jobs.get_logs(ref.id)] == ["line 0"]


async def test_p01_a_log_is_read_from_a_sequence_on(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LogsMany, 10)
    await ref.result(5)

    page = await jobs.get_logs(ref.id, after=3, limit=2)

    assert [(line.sequence, line.message) for line in page] == [(4, "line 3"), (5, "line 4")]
    assert await jobs.get_logs(ref.id, after=10) == []


async def test_p01_an_exception_is_stored_with_its_line(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LogsCaught)
    await ref.result(5)

    caught, again = await jobs.get_logs(ref.id)

    for line in (caught, again):
        assert line.exception is not None
        assert line.exception.endswith("ValueError: boom")


async def test_p01_sync_code_is_captured_from_its_thread(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LogsSync)
    await ref.result(5)

    assert await lines(jobs, ref.id) == ["INFO in a thread", "INFO its own"]


async def test_p02_the_jobs_log_takes_what_the_normal_logger_does_not(
    jobs: BackgroundJobs, caplog: pytest.LogCaptureFixture
) -> None:
    ref = await jobs.enqueue_command(LogsOwn)
    await ref.result(5)

    assert await lines(jobs, ref.id) == ["DEBUG quiet 1", "INFO spoken", "INFO for the record", "ERROR loud"]
    assert "for the record" not in caplog.text
    assert "quiet" not in caplog.text


async def test_p02_the_jobs_log_works_with_logging_switched_off(jobs: BackgroundJobs) -> None:
    logging.disable(logging.CRITICAL)
    try:
        ref = await jobs.enqueue_command(LogsOwn)
        await ref.result(5)
    finally:
        logging.disable(logging.NOTSET)

    assert (await lines(jobs, ref.id))[:2] == ["DEBUG quiet 1", "INFO spoken"]


async def test_lines_of_two_jobs_are_kept_apart(jobs: BackgroundJobs) -> None:
    refs = [await jobs.enqueue_command(LogsStandard) for _ in range(10)]
    for ref in refs:
        await ref.result(5)

    assert [len(await jobs.get_logs(ref.id)) for ref in refs] == [3] * 10


async def test_p04_lines_and_progress_of_a_running_job_are_written_each_second(
    engine: Engine, clock: FakeClock
) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LogsHeld)
        await until(lambda: stage.inside)
        assert await jobs.get_logs(ref.id) == []

        await clock.advance(1)

        async def progress_is_written() -> bool:
            found = await jobs._engine.storage.job(ref.id)
            assert found is not None
            assert found.row is not None
            return (found.row.progress, found.row.status) == (0.5, "half")

        await eventually(lambda: lines(jobs, ref.id))
        await eventually(progress_is_written)
        assert await lines(jobs, ref.id) == ["INFO begun"]
        stage.gate.set()


async def test_p05_a_log_over_the_limit_ends_with_a_line_that_says_so(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LogsTooMuch)
    await ref.result(5)

    stored = await jobs.get_logs(ref.id)

    assert len(stored) == LOG_LIMIT // 1000 + 1
    assert stored[-1].message.startswith("The log ends here")


async def test_p09_every_line_before_the_exception_is_kept_and_the_exception_itself(
    engine: Engine, clock: FakeClock
) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LogsFail)
        await until(lambda: "LogsFail" in jobs._engine.statistics.commands)
        await clock.advance(60)
        await ref.wait(5)

        stored = await jobs.get_logs(ref.id)

        assert [(line.attempt, line.level, line.message) for line in stored] == [
            (1, "INFO", "attempt 1"),
            (1, "ERROR", "ValueError: boom"),
            (2, "INFO", "attempt 2"),
            (2, "ERROR", "ValueError: boom"),
        ]
        assert 'raise ValueError("boom")' in (stored[-1].exception or "")
        failed = await job(jobs, ref.id)
        assert (failed.state, failed.progress, failed.status) == (JobState.FAILED, 0.5, "half")


async def test_p04_lines_are_written_when_the_engine_stops(engine: Engine, place: str | Storage) -> None:
    async with engine(place, shutdown_grace=0.0) as jobs:
        ref = await jobs.enqueue_command(LogsHeld)
        await until(lambda: stage.inside)

    async with engine(place, execute=False) as jobs:
        assert await lines(jobs, ref.id) == ["INFO begun"]
        handed_back = await job(jobs, ref.id)
        assert (handed_back.state, handed_back.attempts - handed_back.attempts_returned) == (JobState.QUEUED, 0)


# ── estimates ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def took(jobs: BackgroundJobs, clock: FakeClock, seconds: float, *, worker: str = "w") -> None:
    """A job of `LogsTimed` that takes so long."""
    stage.gate.clear()
    ref = await jobs.enqueue_command(LogsTimed, "timed", worker=worker)
    await until(lambda: stage.inside)
    await clock.advance(seconds)
    stage.gate.set()
    await ref.result(5)
    stage.gate.clear()


async def estimate(jobs: BackgroundJobs, clock: FakeClock, after: float, *, worker: str = "w") -> float | None:
    ref = await jobs.enqueue_command(LogsTimed, "estimated", worker=worker)
    await until(lambda: stage.inside)
    await clock.advance(after)
    progress = (await job(jobs, ref.id)).progress
    stage.gate.set()
    await ref.result(5)
    stage.gate.clear()
    return progress


async def test_p06_a_running_job_that_says_nothing_is_estimated_from_its_usual_duration(
    engine: Engine, clock: FakeClock
) -> None:
    async with engine(clock=clock) as jobs:
        assert await estimate(jobs, clock, 10.0, worker="first") is None
        await took(jobs, clock, 10.0)
        await took(jobs, clock, 30.0)

        assert await estimate(jobs, clock, 5.0) == 0.25


async def test_p06_the_estimate_is_that_of_the_same_worker_else_of_the_command(
    engine: Engine, clock: FakeClock
) -> None:
    async with engine(clock=clock) as jobs:
        await took(jobs, clock, 10.0, worker="fast")
        await took(jobs, clock, 30.0, worker="slow")

        assert await estimate(jobs, clock, 5.0, worker="fast") == 0.5
        assert await estimate(jobs, clock, 15.0, worker="slow") == 0.5
        assert await estimate(jobs, clock, 1.25 * 5, worker="other") is not None


async def test_p07_the_estimate_after_a_restart_is_the_same(
    engine: Engine, clock: FakeClock, place: str | Storage
) -> None:
    async with engine(place, clock=clock) as jobs:
        await took(jobs, clock, 10.0)
        await took(jobs, clock, 30.0)

    async with engine(place, clock=clock) as jobs:
        assert await estimate(jobs, clock, 5.0) == 0.25


async def test_p06_what_a_job_reports_wins_over_the_estimate(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LogsHeld)
        await until(lambda: stage.inside)
        await clock.advance(500)

        assert (await job(jobs, ref.id)).progress == 0.5
        stage.gate.set()


# ── tags ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_p08_a_job_has_several_tags_and_is_found_by_each(jobs: BackgroundJobs) -> None:
    both = await jobs.enqueue_command(LifeNothing, tags=["mail", "night"])
    one = await jobs.enqueue_command(LifeNothing, tags=["mail"])
    await jobs.enqueue_command(LifeHold, "untagged")
    stage.gate.set()

    assert {found.id for found in (await jobs.find_jobs(tag="mail")).jobs} == {both.id, one.id}
    assert [found.tags for found in (await jobs.find_jobs(tag="night")).jobs] == [["mail", "night"]]
