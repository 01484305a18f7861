"""What a command's `__init__` asks for."""

import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import svcs

from commandjobs import AsyncCommand, BackgroundJobs, MissingService, registry
from commandjobs.definition import define
from commandjobs.registry import Registry
from commandjobs.runtime.commands import Commands
from commandjobs.runtime.services import ServiceContainer, check_services


class Mailer:
    pass


class Clockwork:
    pass


class Audit(AsyncCommand):
    """Needs nothing from the registry, so any engine can run it."""

    async def run(self) -> None:
        pass


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> Registry:
    fresh = Registry()
    monkeypatch.setattr(registry, "default", fresh)
    return fresh


@pytest.fixture
def jobs() -> BackgroundJobs:
    return BackgroundJobs("memory://")


async def resolve(services: svcs.Registry, command: type[Any], jobs: BackgroundJobs) -> dict[str, Any]:
    async with await ServiceContainer.open(
        services, define(command), jobs=jobs, commands=Commands(Registry())
    ) as opened:
        return opened.arguments


async def test_parameters_are_resolved_by_their_annotation(jobs: BackgroundJobs) -> None:
    class Send(AsyncCommand):
        def __init__(self, mailer: Mailer, jobs: BackgroundJobs, log: logging.Logger, audit: Audit) -> None: ...

        async def run(self) -> None: ...

    services, mailer = svcs.Registry(), Mailer()
    services.register_value(Mailer, mailer)

    arguments = await resolve(services, Send, jobs)

    assert (arguments["mailer"], arguments["jobs"]) == (mailer, jobs)
    assert arguments["log"] is logging.getLogger("Send")
    assert isinstance(arguments["audit"], Audit)


async def test_a_parameter_with_a_default_is_left_out_if_nobody_provides_it(jobs: BackgroundJobs) -> None:
    class Send(AsyncCommand):
        def __init__(self, mailer: Mailer | None = None, clockwork: Clockwork = Clockwork()) -> None: ...  # noqa: B008

        async def run(self) -> None: ...

    check_services(svcs.Registry(), [define(Send)], engine=BackgroundJobs)
    assert await resolve(svcs.Registry(), Send, jobs) == {}


async def test_x06_one_container_gives_one_service_and_closes_it(jobs: BackgroundJobs) -> None:
    class Send(AsyncCommand):
        def __init__(self, mailer: Mailer) -> None: ...

        async def run(self) -> None: ...

    services, open_now, made = svcs.Registry(), list[Mailer](), list[Mailer]()

    async def mailer() -> AsyncGenerator[Mailer]:
        one = Mailer()
        made.append(one)
        open_now.append(one)
        yield one
        open_now.remove(one)

    services.register_factory(Mailer, mailer)
    first, second = await resolve(services, Send, jobs), await resolve(services, Send, jobs)

    assert first["mailer"] is not second["mailer"]
    assert (len(made), open_now) == (2, [])


async def test_a_service_that_cannot_be_made_leaves_nothing_open(jobs: BackgroundJobs) -> None:
    class Send(AsyncCommand):
        def __init__(self, mailer: Mailer, clockwork: Clockwork) -> None: ...

        async def run(self) -> None: ...

    services, closed = svcs.Registry(), list[str]()

    async def mailer() -> AsyncGenerator[Mailer]:
        yield Mailer()
        closed.append("mailer")

    def clockwork() -> Clockwork:
        raise OSError("no spring")

    services.register_factory(Mailer, mailer)
    services.register_factory(Clockwork, clockwork)

    with pytest.raises(OSError, match="no spring"):
        await resolve(services, Send, jobs)
    assert closed == ["mailer"]


def test_a_missing_service_is_named_with_its_command_and_parameter() -> None:
    class Send(AsyncCommand):
        def __init__(self, post: Mailer) -> None: ...

        async def run(self) -> None: ...

    with pytest.raises(
        MissingService, match=r"'Send' asks for post: Mailer in .* services=: registry.register_factory\(Mailer"
    ):
        check_services(svcs.Registry(), [define(Send)], engine=BackgroundJobs)
