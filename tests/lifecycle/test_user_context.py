"""C-14: jobs run as the user they were enqueued for."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from pydantic import BaseModel

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    JobState,
    SyncCommandWithResult,
    current_jobs,
    current_user,
    retry,
)
from tests.lifecycle.commands import job, stage, until_retry

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


class User(BaseModel):
    name: str
    roles: list[str] = []


USERS = {"7": User(name="Ann", roles=["admin"]), "8": User(name="Bob")}


async def users(id: str) -> User | None:
    return USERS.get(id)


def whoever() -> str:
    user = current_user()
    return user.name if isinstance(user, User) else repr(user)


class UserWho(AsyncCommandWithResult[str]):
    async def run(self) -> str:
        return whoever()


class UserWhoSync(SyncCommandWithResult[str]):
    def run(self) -> str:
        return whoever()


class UserCallback(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append(f"{request} called back as {whoever()}")


class UserEnqueues(AsyncCommandWithResult[str]):
    """The job it enqueues has the user it is given, not its own."""

    async def run(self) -> str:
        return await (await current_jobs().enqueue_command(UserWho)).result(5)


@pytest.mark.parametrize("command", [UserWho, UserWhoSync])
async def test_c14_a_job_runs_as_what_the_loader_gives(engine: Engine, command: type[Any]) -> None:
    async with engine(users=users) as jobs:
        refs = [await jobs.enqueue_command(command, user_id=id) for id in ("7", "8")]

        assert [await ref.result(5) for ref in refs] == ["Ann", "Bob"]


@pytest.mark.parametrize("command", [UserWho, UserWhoSync])
async def test_c14_anonymous_by_default(engine: Engine, command: type[Any]) -> None:
    async with engine(users=users) as jobs:
        assert await (await jobs.enqueue_command(command)).result(5) == "None"


async def test_c14_without_a_loader_the_user_is_the_id(jobs: BackgroundJobs) -> None:
    assert await (await jobs.enqueue_command(UserWho, user_id="7")).result(5) == "'7'"


@pytest.mark.parametrize("command", [UserWho, UserWhoSync])
async def test_c14_an_unknown_user_fails_the_job_without_retries(engine: Engine, command: type[Any]) -> None:
    async with engine(users=users) as jobs:
        ref = await jobs.enqueue_command(command, user_id="nobody", retry_limit=5)
        await ref.wait(5)

        failed = await job(jobs, ref.id)
        assert (failed.state, failed.error_code, failed.attempts) == (JobState.FAILED, "UserNotFound", 1)
        assert "no user with id 'nobody'" in (failed.error.message if failed.error else "")


@pytest.mark.parametrize("command", [UserWho, UserWhoSync])
async def test_c14_a_loader_that_fails_is_a_failed_attempt(engine: Engine, command: type[Any]) -> None:
    async def broken(_: str) -> User | None:
        raise OSError("the directory is away")

    async with engine(users=broken) as jobs:
        ref = await jobs.enqueue_command(command, user_id="7", retry_limit=1)

        waiting = await until_retry(jobs, ref.id, attempts=1)
        assert (waiting.error_code, waiting.error.message if waiting.error else "") == (
            "OSError",
            "the directory is away",
        )


async def test_c14_a_loader_that_fails_for_good_fails_its_job_alone(engine: Engine) -> None:
    async def broken(_: str) -> User | None:
        raise OSError("the directory is away")

    async with engine(users=broken) as jobs:
        for command in (UserWho, UserWhoSync):
            refs = [await jobs.enqueue_command(command, user_id="7", retry_limit=0) for _ in range(50)]
            assert {(await ref.wait(5)).summary.error_code for ref in refs} == {"OSError"}
        assert await (await jobs.enqueue_command(UserWhoSync)).result(5) == "None"


async def test_c14_d24_a_callback_runs_as_the_jobs_user(engine: Engine) -> None:
    async with engine(users=users) as jobs:
        await (await jobs.enqueue_command(UserWho, user_id="7", callback=UserCallback)).result(5)

    assert stage.done == ["Ann called back as Ann"]


async def test_c14_the_user_of_a_job_is_not_that_of_the_jobs_it_enqueues(engine: Engine) -> None:
    async with engine(users=users) as jobs:
        assert await (await jobs.enqueue_command(UserEnqueues, user_id="7")).result(5) == "None"


@pytest.mark.parametrize("command", [UserWho, UserWhoSync])
async def test_c14_a_transient_run_has_a_user_too(engine: Engine, command: type[Any]) -> None:
    async with engine(users=users) as jobs:
        assert await jobs.run_command_async(command, user_id="8") == "Bob"
        with pytest.raises(Exception, match="no user with id 'nobody'"):
            await jobs.run_command_async(command, user_id="nobody")


@retry(limit=0)
class UserCallbackFails(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        raise AssertionError("never reached")


async def test_c14_an_unknown_user_fails_before_the_code_runs(engine: Engine) -> None:
    async with engine(users=users) as jobs:
        ref = await jobs.enqueue_json("UserCallbackFails", '"x"', user_id="nobody")

        assert (await ref.wait(5)).summary.error_code == "UserNotFound"
