"""The app's own functions that are told of final outcomes."""

import asyncio
from contextvars import ContextVar, copy_context

import pytest

from commandjobs.model.job import Job
from commandjobs.model.state import JobState
from commandjobs.model.views import to_job
from commandjobs.runtime import hooks as module
from commandjobs.runtime.hooks import Hooks, RegisteredHooks
from tests.runtime.attempts import job

whose: ContextVar[str] = ContextVar("whose", default="the engine's")


def make() -> Hooks:
    return Hooks(RegisteredHooks(), to_job=lambda row: to_job(row, now=0), context=copy_context())


async def test_r08_plain_and_async_hooks_are_called_with_the_record() -> None:
    hooks, seen = make(), list[tuple[str, int]]()

    async def later(record: Job) -> None:
        await asyncio.sleep(0)
        seen.append(("later", record.id))

    hooks.registered.add(lambda record: seen.append(("now", record.id)), only_failed=False)
    hooks.registered.add(later, only_failed=False)
    hooks.finished(job(7, state=JobState.COMPLETED))
    await hooks.flush()

    assert seen == [("now", 7), ("later", 7)]


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED])
async def test_r08_hooks_for_failures_are_called_for_failed_jobs_alone(state: JobState) -> None:
    hooks, seen = make(), list[JobState]()
    hooks.registered.add(lambda record: seen.append(record.state), only_failed=True)

    hooks.finished(job(state=state))
    await hooks.flush()

    assert seen == ([state] if state is JobState.FAILED else [])


async def test_r08_a_removed_hook_is_not_called() -> None:
    hooks, seen = make(), list[int]()
    remove = hooks.registered.add(lambda record: seen.append(record.id), only_failed=False)

    remove()
    remove()
    hooks.finished(job())
    await hooks.flush()

    assert seen == []


async def test_p10_a_hook_that_fails_is_logged_and_the_others_are_called(caplog: pytest.LogCaptureFixture) -> None:
    hooks, seen = make(), list[int]()

    def fail(_: Job) -> None:
        raise ValueError("no")

    hooks.registered.add(fail, only_failed=False)
    hooks.registered.add(lambda record: seen.append(record.id), only_failed=False)
    hooks.finished(job(7, state=JobState.COMPLETED))
    await hooks.flush()

    assert seen == [7]
    assert "A hook failed for job 7; its outcome stays Completed." in caplog.text


async def test_a_record_that_cannot_be_made_is_the_hooks_trouble_alone(caplog: pytest.LogCaptureFixture) -> None:
    hooks = make()
    hooks.registered.add(lambda record: None, only_failed=False)

    hooks.finished(job(7, error="not JSON"))
    await hooks.flush()

    assert "A hook failed for job 7" in caplog.text


async def test_without_hooks_no_record_is_made() -> None:
    hooks = Hooks(RegisteredHooks(), to_job=lambda row: pytest.fail("nobody wants it"), context=copy_context())

    hooks.finished(job())
    await hooks.flush()


async def test_hooks_see_the_context_of_the_engine() -> None:
    hooks, seen = make(), list[str]()
    hooks.registered.add(lambda _: seen.append(whose.get()), only_failed=False)

    whose.set("a caller's")
    hooks.finished(job())
    await hooks.flush()

    assert seen == ["the engine's"]


async def test_a_hook_that_does_not_end_does_not_hold_up_the_stop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    hooks, gate = make(), asyncio.Event()

    async def wait(_: Job) -> None:
        await gate.wait()

    hooks.registered.add(wait, only_failed=False)
    hooks.finished(job())
    await hooks.flush()

    assert "1 hooks have not ended" in caplog.text
    gate.set()
    await hooks.flush()
