"""Options: every one is kept, seen by the running job, and refused when it cannot be."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from commandjobs import AsyncCommandWithResult, BackgroundJobs, InvalidOption, JobState, current_job
from commandjobs.testing import FakeClock
from tests.lifecycle.commands import LifeEcho, LifeNote, count, job

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
EVERY_OPTION: dict[str, Any] = {
    "worker": "w",
    "queue": "q",
    "priority": 3,
    "callback": LifeNote,
    "depends_on_policy": "finished",
    "run_after": timedelta(minutes=1),
    "expires": timedelta(hours=1),
    "retry_limit": 7,
    "timeout": timedelta(seconds=90),
    "ref_id": "ref 1",
    "unique_key": "u",
    "unique_until": "finish",
    "concurrency_key": "c",
    "user_id": "ada",
    "tags": ["red", "green"],
    "batch_id": "b",
    "parent_id": 1,
    "created_by": "eve",
    "tenant_id": "t",
    "reply_to": "https://user:secret@example.com/done",
    "args": {"k": "v"},
}


class OptionsSeen(AsyncCommandWithResult[str, dict[str, Any]]):
    async def run(self, request: str) -> dict[str, Any]:
        me = current_job()
        return {
            "worker": me.worker,
            "queue": me.queue,
            "tags": list(me.tags),
            "batch_id": me.batch_id,
            "parent_id": me.parent_id,
            "user_id": me.user_id,
            "tenant_id": me.tenant_id,
            "created_by": me.created_by,
            "args": dict(me.args),
            "reply_to": me.reply_to,
            "ref_id": me.ref_id,
        }


class OptionsCallback(AsyncCommandWithResult[dict[str, Any], None]):
    async def run(self, request: dict[str, Any]) -> None:
        pass


async def test_e17_every_option_is_readable_on_the_stored_job(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock, execute=False) as jobs:
        first = await jobs.enqueue_command(LifeEcho, "parent")
        ref = await jobs.enqueue_command(LifeEcho, "a", depends_on=[first], **EVERY_OPTION)

        kept = (await job(jobs, ref.id)).model_dump()
    expected = EVERY_OPTION | {
        "callback": "LifeNote",
        "depends_on": [first.id],
        "run_after": NOON + timedelta(minutes=1),
        "expires": NOON + timedelta(hours=1),
        "timeout": 90.0,
        "reply_to": "***@example.com",
    }
    del expected["unique_until"]
    assert {option: kept[option] for option in expected} == expected


async def test_e17_every_option_is_readable_inside_the_running_job(jobs: BackgroundJobs) -> None:
    options: dict[str, Any] = EVERY_OPTION | {"run_after": timedelta(), "callback": OptionsCallback}

    ref = await jobs.enqueue_command(OptionsSeen, "a", **options)

    seen = await ref.result(10)
    assert seen == {option: EVERY_OPTION[option] for option in seen}


async def test_e17_options_survive_the_archive(jobs: BackgroundJobs) -> None:
    options: dict[str, Any] = EVERY_OPTION | {"run_after": timedelta()}
    ref = await jobs.enqueue_command(LifeEcho, "a", **options)
    done = (await ref.wait(10)).job

    kept = done.model_dump()
    same = ("worker", "queue", "priority", "retry_limit", "unique_key", "concurrency_key", "tags", "batch_id", "args")
    assert done.state is JobState.COMPLETED
    assert {option: kept[option] for option in same} == {option: EVERY_OPTION[option] for option in same}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("worker", ""),
        ("worker", " "),
        ("worker", 1),
        ("queue", "x" * 201),
        ("queue", "with\0nul"),
        ("queue", "lone \ud800 surrogate"),
        ("priority", "high"),
        ("priority", True),
        ("priority", 2**40),
        ("callback", 3),
        ("depends_on", "1"),
        ("depends_on", [0]),
        ("depends_on", [1.5]),
        ("depends_on_policy", "never"),
        ("depends_on_batch", "b"),
        ("run_after", datetime(2026, 1, 1)),  # noqa: DTZ001  naive is the point
        ("run_after", 60),
        ("expires", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("expires", "tomorrow"),
        ("retry_limit", -1),
        ("retry_limit", 1.0),
        ("timeout", -1),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("timeout", timedelta(seconds=-1)),
        ("ref_id", ""),
        ("ref_id", "x" * 201),
        ("on_duplicate", "ignore"),
        ("unique_key", ""),
        ("unique_until", "never"),
        ("concurrency_key", 1),
        ("user_id", 5),
        ("tags", "red"),
        ("tags", [""]),
        ("tags", [1]),
        ("batch_id", ""),
        ("parent_id", -1),
        ("parent_id", True),
        ("created_by", ""),
        ("tenant_id", ""),
        ("reply_to", 7),
        ("args", ["a"]),
        ("args", {"a": 1}),
        ("args", {1: "a"}),
        ("connection", object()),
        ("retries", 3),
    ],
)
async def test_an_option_that_cannot_be_is_refused_by_name_and_nothing_is_written(
    jobs: BackgroundJobs, option: str, value: Any
) -> None:
    with pytest.raises(InvalidOption, match=option):
        await jobs.enqueue_command(LifeEcho, "a", **{option: value})

    assert await count(jobs) == 0


@pytest.mark.parametrize("option", ["ref_id", "unique_key"])
async def test_enqueue_many_refuses_what_names_one_job(jobs: BackgroundJobs, option: str) -> None:
    options: dict[str, Any] = {option: "x"}
    with pytest.raises(InvalidOption, match=option):
        await jobs.enqueue_many(LifeEcho, ["a", "b"], **options)

    assert await count(jobs) == 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("execute", 1),
        ("queues", {}),
        ("queues", {"": 1}),
        ("queues", {"mail": 0}),
        ("concurrency", 0),
        ("threads", 0),
        ("retry_limit", -1),
        ("timeout", -1),
        ("shutdown_grace", -1),
        ("node_name", ""),
        ("durability", "none"),
        ("storage", "oracle://db"),
    ],
)
async def test_a_setting_that_cannot_be_is_refused_by_name(setting: str, value: Any) -> None:
    settings: dict[str, Any] = {"storage": "memory://", setting: value}

    with pytest.raises(InvalidOption, match=setting):
        BackgroundJobs(**settings)
