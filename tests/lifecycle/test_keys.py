"""Ref ids and unique keys: what is refused or given back, and when a key is free again."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest

from commandjobs import (
    AsyncCommand,
    BackgroundJobs,
    DuplicateRefId,
    DuplicateUniqueKey,
    Fail,
    InvalidOption,
    JobState,
    Snooze,
    Storage,
    current_job,
    current_jobs,
    retry,
)
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import (
    LifeEcho,
    LifeError,
    LifeHold,
    LifeNote,
    LifeThreadHold,
    count,
    stage,
    state,
    until_retry,
    until_state,
)

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]
LATER: dict[str, Any] = {"run_after": timedelta(hours=1)}


@retry(limit=1, backoff="fixed", delay=60)
class KeysEnds(AsyncCommand[str]):
    """Ends in the way that it is asked to."""

    async def run(self, request: str) -> None:
        match request:
            case "fail":
                raise Fail("for good")
            case "retry" if current_job().attempt == 1:
                raise LifeError("once more")
            case "snooze" if current_job().attempt == 1:
                raise Snooze(60)
            case "hold":
                stage.enter("hold")
                await stage.gate.wait()
            case _:
                stage.done.append(request)


class KeysAgain(AsyncCommand[int]):
    """Enqueues itself under its own key, so many times."""

    async def run(self, request: int) -> None:
        if request > 0:
            again = await current_jobs().enqueue_command(
                KeysAgain, request - 1, unique_key="again", unique_until="start"
            )
            stage.done.append(f"created {again.created}")


# ── ref ids ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_e12_a_second_job_with_the_ref_id_is_refused_and_nothing_is_written(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(LifeNote, "a", ref_id="mine", **LATER)
    with pytest.raises(DuplicateRefId, match=rf"ref_id='mine' exists already \(id {first.id}\)"):
        await jobs.enqueue_command(LifeNote, "a", ref_id="mine", **LATER)

    assert await count(jobs) == 1


async def test_e12_the_ref_id_of_a_finished_job_is_taken_too(engine: Engine, place: str | Storage) -> None:
    async with engine(place) as jobs:
        first = await jobs.enqueue_command(LifeEcho, "a", ref_id="mine")
        await first.wait(10)
        with pytest.raises(DuplicateRefId):
            await jobs.enqueue_command(LifeEcho, "a", ref_id="mine")

    async with engine(place) as jobs:
        with pytest.raises(DuplicateRefId):
            await jobs.enqueue_command(LifeEcho, "a", ref_id="mine")


async def test_e12_of_concurrent_callers_one_gets_the_ref_id(jobs: BackgroundJobs) -> None:
    answers = await asyncio.gather(
        *(jobs.enqueue_command(LifeNote, f"{n}", ref_id="mine", **LATER) for n in range(50)), return_exceptions=True
    )

    assert sum(isinstance(answer, DuplicateRefId) for answer in answers) == 49
    assert await count(jobs) == 1


async def test_e12_a_refused_job_does_not_harm_those_stored_at_the_same_moment(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(LifeNote, "first", ref_id="mine")
    answers = await asyncio.gather(
        *(jobs.enqueue_command(LifeNote, f"{n}", ref_id="mine" if n % 10 == 0 else f"ref-{n}") for n in range(50)),
        return_exceptions=True,
    )
    await jobs.wait_until_idle(10)

    assert sum(isinstance(answer, DuplicateRefId) for answer in answers) == 5
    assert len(stage.done) == await count(jobs) == 46


async def test_e13_return_gives_the_existing_job_of_the_same_work(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(LifeEcho, "a", ref_id="mine", on_duplicate="return")
    again = await jobs.enqueue_command(LifeEcho, "a", ref_id="mine", on_duplicate="return")

    assert (first.created, again.created, again) == (True, False, first)
    assert await again.result(10) == "a"
    finished = await jobs.enqueue_command(LifeEcho, "a", ref_id="mine", on_duplicate="return")
    assert (finished.created, await finished.result(10)) == (False, "a")
    assert await count(jobs) == 1


async def test_e13_return_refuses_other_work(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(LifeEcho, "a", ref_id="mine")
    with pytest.raises(DuplicateRefId, match="it is other work"):
        await jobs.enqueue_command(LifeEcho, "b", ref_id="mine", on_duplicate="return")
    with pytest.raises(DuplicateRefId, match="it is other work"):
        await jobs.enqueue_command(LifeNote, "a", ref_id="mine", on_duplicate="return")

    assert await count(jobs) == 1


async def test_e13_concurrent_callers_get_one_job_which_runs_once(jobs: BackgroundJobs) -> None:
    refs = await asyncio.gather(
        *(jobs.enqueue_command(LifeNote, "a", ref_id="mine", on_duplicate="return") for _ in range(50))
    )
    await jobs.wait_until_idle(10)

    assert {ref.id for ref in refs} == {refs[0].id}
    assert [ref.created for ref in refs].count(True) == 1
    assert stage.done == ["a"]


async def test_e13_concurrent_callers_with_other_work_are_refused(jobs: BackgroundJobs) -> None:
    answers = await asyncio.gather(
        *(jobs.enqueue_command(LifeNote, f"{n % 2}", ref_id="mine", on_duplicate="return") for n in range(50)),
        return_exceptions=True,
    )

    assert sum(isinstance(answer, DuplicateRefId) for answer in answers) == 25
    assert await count(jobs) == 1


@pytest.mark.parametrize(
    "option", [{"ref_id": "r"}, {"unique_key": "k"}, {"on_duplicate": "return"}, {"unique_until": "start"}]
)
async def test_many_jobs_cannot_share_a_key(jobs: BackgroundJobs, option: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=f"^{next(iter(option))}= is about the key of one job"):
        await jobs.enqueue_many(LifeNote, ["a", "b"], **option)

    assert await count(jobs) == 0


# ── unique keys ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_e14_while_a_job_with_the_key_is_unfinished_an_enqueue_returns_it(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(KeysEnds, "a", unique_key="k", **LATER)
    again = await jobs.enqueue_command(KeysEnds, "b", unique_key="k")

    assert (first.created, again.created, again) == (True, False, first)
    assert await count(jobs) == 1


async def test_e14_also_while_it_runs(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(LifeHold, "a", unique_key="k")
    await until(lambda: stage.inside == 1)
    again = await jobs.enqueue_command(LifeHold, "b", unique_key="k")
    stage.gate.set()

    assert (again.id, again.created) == (first.id, False)


async def test_e14_also_while_its_callback_runs(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(LifeEcho, "a", callback=LifeHold, unique_key="k")
    await until_state(jobs, first.id, JobState.EXECUTED)

    assert not (await jobs.enqueue_command(LifeEcho, "b", unique_key="k")).created
    stage.gate.set()
    await first.wait(10)
    assert (await jobs.enqueue_command(LifeEcho, "b", unique_key="k")).created


@pytest.mark.parametrize("how", ["retry", "snooze"])
async def test_e14_also_while_it_waits_for_its_next_attempt(engine: Engine, clock: FakeClock, how: str) -> None:
    async with engine(clock=clock) as jobs:
        first = await jobs.enqueue_command(KeysEnds, how, unique_key="k")
        await until_retry(jobs, first.id, attempts=1)
        assert not (await jobs.enqueue_command(KeysEnds, "b", unique_key="k")).created
        await clock.advance(60)
        await first.wait(10)

        assert (await jobs.enqueue_command(KeysEnds, "b", unique_key="k")).created


async def test_e14_also_after_a_restart(engine: Engine, place: str | Storage) -> None:
    async with engine(place) as jobs:
        first = await jobs.enqueue_command(KeysEnds, "a", unique_key="k", **LATER)

    async with engine(place) as jobs:
        again = await jobs.enqueue_command(KeysEnds, "b", unique_key="k")
        assert (again.id, again.ref_id, again.created) == (first.id, first.ref_id, False)


async def test_e14_concurrent_callers_get_one_job(jobs: BackgroundJobs) -> None:
    refs = await asyncio.gather(*(jobs.enqueue_command(LifeHold, f"{n}", unique_key="k") for n in range(50)))
    stage.gate.set()

    assert {ref.id for ref in refs} == {refs[0].id}
    assert [ref.created for ref in refs].count(True) == 1
    assert await count(jobs) == 1


async def test_e14_the_key_is_that_of_one_command(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(LifeNote, "a", unique_key="k", **LATER)
    other = await jobs.enqueue_command(LifeEcho, "a", unique_key="k")

    assert (first.created, other.created) == (True, True)


@pytest.mark.parametrize("how", ["succeed", "fail"])
async def test_e14_the_key_is_free_when_the_job_has_ended(jobs: BackgroundJobs, how: str) -> None:
    first = await jobs.enqueue_command(KeysEnds, how, unique_key="k")
    await first.wait(10)

    second = await jobs.enqueue_command(KeysEnds, "b", unique_key="k")
    assert (second.created, second.id == first.id) == (True, False)


async def test_e14_the_key_is_free_when_the_job_was_cancelled_while_it_waited(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(KeysEnds, "a", unique_key="k", **LATER)
    await first.cancel()

    assert (await jobs.enqueue_command(KeysEnds, "b", unique_key="k")).created


async def test_e14_the_key_is_free_when_the_job_was_cancelled_while_it_ran(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(KeysEnds, "hold", unique_key="k")
    await until(lambda: stage.inside == 1)
    await first.cancel()
    await first.wait(10)

    assert (await jobs.enqueue_command(KeysEnds, "b", unique_key="k")).created


async def test_e14_the_key_of_a_cancelled_job_is_held_until_its_code_has_ended(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(LifeThreadHold, "a", unique_key="k")
    await until(lambda: stage.inside == 1)
    await first.cancel()
    assert not (await jobs.enqueue_command(LifeThreadHold, "b", unique_key="k")).created
    stage.thread_gate.set()
    await first.wait(10)

    assert (await jobs.enqueue_command(LifeThreadHold, "b", unique_key="k")).created


async def test_e14_the_key_is_free_when_the_job_has_expired(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        first = await jobs.enqueue_command(KeysEnds, "a", unique_key="k", expires=timedelta(minutes=1), **LATER)
        await clock.advance(61)
        assert (await first.wait(10)).summary.error_code == "JobExpired"

        assert (await jobs.enqueue_command(KeysEnds, "b", unique_key="k")).created


async def test_e14_the_key_is_free_when_a_parent_has_failed(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(LifeHold, "parent")
    first = await jobs.enqueue_command(KeysEnds, "a", unique_key="k", depends_on=parent)
    await parent.cancel()
    assert (await first.wait(10)).summary.error_code == "ParentFailed"

    assert (await jobs.enqueue_command(KeysEnds, "b", unique_key="k")).created


async def test_e14_the_key_of_a_job_whose_parent_failed_before_was_never_held(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(KeysEnds, "fail")
    await parent.wait(10)
    await jobs.enqueue_command(KeysEnds, "a", unique_key="k", depends_on=parent)

    assert (await jobs.enqueue_command(KeysEnds, "b", unique_key="k")).created


async def test_e14_a_ref_id_that_exists_is_told_before_a_key_that_is_held(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(KeysEnds, "a", unique_key="k", ref_id="mine", **LATER)

    with pytest.raises(DuplicateRefId):
        await jobs.enqueue_command(KeysEnds, "a", unique_key="k", ref_id="mine")
    assert not (await jobs.enqueue_command(KeysEnds, "a", unique_key="k", ref_id="other")).created
    assert await jobs.get_job_by_ref_id("other") is None


# ── until the start ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_unique_until_start_frees_the_key_when_the_job_starts(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(LifeHold, "a", unique_key="k", unique_until="start")
    await until(lambda: stage.inside == 1)
    second = await jobs.enqueue_command(LifeHold, "b", unique_key="k", unique_until="start")
    stage.gate.set()

    assert (second.created, second.id == first.id) == (True, False)


async def test_unique_until_start_holds_the_key_while_the_job_waits(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(LifeNote, "a", unique_key="k", unique_until="start", **LATER)
    again = await jobs.enqueue_command(LifeNote, "b", unique_key="k", unique_until="start")

    assert (again.id, again.created) == (first.id, False)


async def test_unique_until_start_holds_the_key_while_the_job_waits_in_memory(engine: Engine) -> None:
    async with engine(concurrency=1) as jobs:
        await jobs.enqueue_command(LifeHold, "holder")
        await until(lambda: stage.inside == 1)
        first = await jobs.enqueue_command(LifeNote, "a", unique_key="k", unique_until="start")

        again = await jobs.enqueue_command(LifeNote, "b", unique_key="k", unique_until="start")
        assert (again.id, again.created) == (first.id, False)
        stage.gate.set()
        await first.wait(10)


async def test_unique_until_start_lets_a_running_job_enqueue_the_next_one(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(KeysAgain, 3, unique_key="again", unique_until="start")
    await until(lambda: len(stage.done) == 3)
    await jobs.wait_until_idle(10)

    assert stage.done == ["created True"] * 3
    assert await count(jobs) == 4


async def test_unique_until_start_a_retry_does_not_take_the_key_back(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        first = await jobs.enqueue_command(KeysEnds, "retry", unique_key="k", unique_until="start")
        await until_retry(jobs, first.id, attempts=1)
        second = await jobs.enqueue_command(KeysEnds, "hold", unique_key="k", unique_until="start")
        assert second.created
        await clock.advance(60)

        assert (await first.wait(10)).summary.state is JobState.COMPLETED
        stage.gate.set()
        assert (await second.wait(10)).summary.state is JobState.COMPLETED


# ── requeue ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_requeued_job_takes_its_key_again(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(KeysEnds, "hold", unique_key="k")
    await until(lambda: stage.inside == 1)
    await first.cancel()
    await first.wait(10)
    await jobs.requeue_failed_job(first.id)

    again = await jobs.enqueue_command(KeysEnds, "b", unique_key="k")
    assert (again.id, again.created) == (first.id, False)
    stage.gate.set()


async def test_a_job_cannot_be_requeued_while_another_holds_its_key(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(KeysEnds, "fail", unique_key="k")
    await first.wait(10)
    second = await jobs.enqueue_command(KeysEnds, "hold", unique_key="k")
    with pytest.raises(DuplicateUniqueKey, match=rf"job {second.id} holds its unique_key 'k'"):
        await jobs.requeue_failed_job(first.id)

    assert await state(jobs, first.id) is JobState.FAILED
    result = await jobs.requeue_failed_jobs(ids=[first.id])
    assert (result.ids, list(result.errors)) == ([], [first.id])
    stage.gate.set()
    await second.wait(10)
    assert (await jobs.requeue_failed_job(first.id)).id == first.id


async def test_of_two_failed_jobs_with_a_key_one_can_be_requeued(engine: Engine) -> None:
    async with engine(concurrency=1) as jobs:
        failed: list[int] = []
        for _ in range(2):
            ref = await jobs.enqueue_command(KeysEnds, "fail", unique_key="k")
            failed.append((await ref.wait(10)).summary.id)
        await jobs.enqueue_command(LifeHold, "holder")
        await until(lambda: stage.inside == 1)

        result = await jobs.requeue_failed_jobs(ids=failed)
        assert (result.ids, list(result.errors)) == (failed[:1], failed[1:])
        assert [await state(jobs, id) for id in failed] == [JobState.QUEUED, JobState.FAILED]
        stage.gate.set()
