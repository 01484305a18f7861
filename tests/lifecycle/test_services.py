"""What a command's `__init__` asks for, in a running engine."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest
import svcs

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    JobState,
    MissingService,
    SyncCommandWithResult,
    registry,
)
from commandjobs.registry import Registry
from tests.lifecycle.commands import job

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


class Connection:
    """A service that knows whether it is open."""

    made: ClassVar[list["Connection"]] = []

    def __init__(self) -> None:
        self.is_open = True
        self.closed_on: threading.Thread | None = None
        self.made.append(self)


async def connection() -> AsyncGenerator[Connection]:
    made = Connection()
    yield made
    await asyncio.sleep(0)
    made.is_open, made.closed_on = False, threading.current_thread()


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """Commands of these tests are known to no other engine, which would miss their services."""
    fresh = Registry()
    monkeypatch.setattr(registry, "default", fresh)
    Connection.made.clear()
    yield fresh
    Connection.made.clear()


@pytest.fixture
def services() -> svcs.Registry:
    registered = svcs.Registry()
    registered.register_factory(Connection, connection)
    return registered


def define_use() -> type[AsyncCommandWithResult[bool]]:
    class ServicesUse(AsyncCommandWithResult[bool]):
        def __init__(self, connection: Connection) -> None:
            self.connection = connection

        async def run(self) -> bool:
            await asyncio.sleep(0)
            return self.connection.is_open

    return ServicesUse


def define_sync_use() -> type[SyncCommandWithResult[bool]]:
    class ServicesSyncUse(SyncCommandWithResult[bool]):
        def __init__(self, connection: Connection) -> None:
            self.connection = connection

        def run(self) -> bool:
            return self.connection.is_open

    return ServicesSyncUse


def define_failing() -> type[AsyncCommand]:
    class ServicesFail(AsyncCommand):
        def __init__(self, connection: Connection) -> None:
            pass

        async def run(self) -> None:
            raise ValueError("no")

    return ServicesFail


async def test_missing_service_is_reported_when_the_engine_starts(engine: Engine) -> None:
    define_use()

    with pytest.raises(MissingService, match="'ServicesUse' asks for connection: Connection"):
        async with engine():
            pass


async def test_a_process_that_does_not_execute_needs_no_services(engine: Engine) -> None:
    use = define_use()

    async with engine(execute=False) as jobs:
        assert (await jobs.enqueue_command(use)).id == 1


async def test_x06_each_attempt_has_services_of_its_own_closed_after_it(
    engine: Engine, services: svcs.Registry
) -> None:
    use = define_use()
    async with engine(services=services) as jobs:
        refs = [await jobs.enqueue_command(use) for _ in range(5)]

        assert [await ref.result(5) for ref in refs] == [True] * 5
        assert len(Connection.made) == 5
        assert not any(made.is_open for made in Connection.made)


async def test_x06_services_of_a_sync_command_are_opened_and_closed_on_the_loop(
    engine: Engine, services: svcs.Registry
) -> None:
    use = define_sync_use()
    async with engine(services=services) as jobs:
        refs = [await jobs.enqueue_command(use) for _ in range(5)]

        assert [await ref.result(5) for ref in refs] == [True] * 5
        assert [(made.is_open, made.closed_on) for made in Connection.made] == [(False, threading.main_thread())] * 5


async def test_x06_services_of_an_attempt_that_failed_are_closed(engine: Engine, services: svcs.Registry) -> None:
    fail = define_failing()
    async with engine(services=services) as jobs:
        ref = await jobs.enqueue_command(fail, retry_limit=0)

        assert (await ref.wait(5)).summary.state is JobState.FAILED
        assert [made.is_open for made in Connection.made] == [False]


async def test_services_of_transient_runs_are_closed_too(engine: Engine, services: svcs.Registry) -> None:
    use, sync_use = define_use(), define_sync_use()
    async with engine(services=services) as jobs:
        assert await jobs.run_command_async(use)
        assert await jobs.run_command_async(sync_use)

        assert [made.is_open for made in Connection.made] == [False, False]


async def test_x19_a_sync_job_with_services_is_counted_once(engine: Engine, services: svcs.Registry) -> None:
    use = define_sync_use()
    async with engine(services=services) as jobs:
        for _ in range(3):
            await (await jobs.enqueue_command(use, worker="counted")).result(5)

        [stats] = await jobs.get_workers()
        assert (stats.received, stats.completed, stats.running_job) == (3, 3, None)


async def test_a_service_that_cannot_be_made_fails_the_attempt(engine: Engine) -> None:
    services, use, sync_use = svcs.Registry(), define_use(), define_sync_use()

    def broken() -> Connection:
        raise OSError("no connection")

    services.register_factory(Connection, broken)
    async with engine(services=services) as jobs:
        for command in (use, sync_use):
            ref = await jobs.enqueue_command(command, retry_limit=0)
            await ref.wait(5)
            failed = await job(jobs, ref.id)
            assert (failed.error_code, failed.error.message if failed.error else "") == ("OSError", "no connection")


async def test_the_engine_is_a_service_that_needs_no_registration(engine: Engine) -> None:
    class ServicesEngine(AsyncCommandWithResult[int]):
        def __init__(self, jobs: BackgroundJobs) -> None:
            self.jobs = jobs

        async def run(self) -> int:
            return (await self.jobs.find_jobs()).total

    async with engine() as jobs:
        assert await (await jobs.enqueue_command(ServicesEngine)).result(5) == 1
