from dataclasses import dataclass
from types import new_class
from typing import Any

import pytest
from pydantic import BaseModel

from commandjobs import registry
from commandjobs.command import AsyncCommand, AsyncCommandWithResult, SyncCommand
from commandjobs.definition import define
from commandjobs.errors import InvalidCommand, InvalidRequest, InvalidResult
from commandjobs.registry import Registry


class Parcel(BaseModel):
    weight: int


class Carrier:
    """A service."""


@pytest.fixture(autouse=True)
def _fresh_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "default", Registry())


def test_definition_is_computed_once() -> None:
    class Ship(AsyncCommand[Parcel]):
        async def run(self, request: Parcel) -> None: ...

    assert define(Ship) is define(Ship)


def test_definition_tells_what_the_class_says() -> None:
    class Ship(AsyncCommandWithResult[Parcel, str]):
        """Send a parcel."""

        async def run(self, request: Parcel) -> str:
            return str(request.weight)

    definition = define(Ship)

    assert (definition.name, definition.cls, definition.kind, definition.method) == ("Ship", Ship, "async", "run")
    assert (definition.request, definition.result) == (Parcel, str)
    assert definition.doc == "Send a parcel."


def test_command_without_request_and_result_has_no_codecs() -> None:
    class Sweep(SyncCommand):
        def run(self) -> None: ...

    definition = define(Sweep)

    assert definition.kind == "sync"
    assert definition.request is definition.result is None
    assert definition.request_codec is definition.result_codec is None


def test_codecs_name_the_command_and_raise_their_own_error() -> None:
    class Ship(AsyncCommandWithResult[Parcel, int]):
        async def run(self, request: Parcel) -> int:
            return request.weight

    definition = define(Ship)
    assert definition.request_codec
    assert definition.result_codec

    with pytest.raises(InvalidRequest, match="The request of Ship must be Parcel, got int"):
        definition.request_codec.dump(5)
    with pytest.raises(InvalidResult, match="The result of Ship must be int, got str"):
        definition.result_codec.dump("5")


def test_copy_with_slots_has_its_own_definition() -> None:
    class Ship(AsyncCommand):
        async def run(self) -> None: ...

    define(Ship)
    copy = dataclass(slots=True)(Ship)

    assert copy is not Ship
    assert define(copy).cls is copy


def test_init_parameters_are_resolved() -> None:
    class Ship(AsyncCommand):
        def __init__(self, carrier: "Carrier", *, tries: int = 3, **rest: object) -> None: ...

        async def run(self) -> None: ...

    definition = define(Ship)

    assert definition.init_parameters == {"carrier": Carrier, "tries": int}
    assert definition.init_optional == {"tries"}


def test_init_parameters_of_a_dataclass_are_resolved() -> None:
    @dataclass
    class Ship(AsyncCommand):
        carrier: Carrier

        async def run(self) -> None: ...

    assert define(Ship).init_parameters == {"carrier": Carrier}


def asking(init: Any) -> type[Any]:
    async def run(self: Any) -> None: ...

    return new_class("Ship", (AsyncCommand,), exec_body=lambda body: body.update(run=run, __init__=init))


def test_parameter_without_annotation_is_refused() -> None:
    with pytest.raises(InvalidCommand, match=r"Ship.* parameter 'carrier' of __init__ has no annotation\. Annotate it"):
        define(asking(lambda self, carrier: None))


def test_parameter_with_an_unknown_annotation_is_refused() -> None:
    def init(self: Any, carrier: Any) -> None: ...

    init.__annotations__["carrier"] = "Carier"

    with pytest.raises(InvalidCommand, match="asks for Carier, but there is no such name"):
        define(asking(init))


def test_positional_only_parameter_is_refused() -> None:
    def init(self: Any, carrier: Carrier, /) -> None: ...

    with pytest.raises(InvalidCommand, match="positional-only"):
        define(asking(init))


def shipping(base: Any, request: Any) -> type[Any]:
    async def run(self: Any, request: Any) -> None: ...

    run.__annotations__["request"] = request
    body = {"run": run, "__module__": __name__}
    return new_class("Ship", (base,), exec_body=lambda namespace: namespace.update(body))


def test_forward_reference_is_resolved_when_the_command_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    base: Any = AsyncCommand
    ship = shipping(base["Later"], "Later")

    with pytest.raises(InvalidCommand, match="takes or returns Later, but there is no such name"):
        define(ship)
    monkeypatch.setitem(globals(), "Later", Parcel)

    assert define(ship).request is Parcel


def test_forward_reference_that_does_not_fit_is_refused_when_the_command_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ship = shipping(AsyncCommand[Parcel], "Later")
    monkeypatch.setitem(globals(), "Later", Carrier)

    with pytest.raises(InvalidCommand, match="the request is Parcel, but run takes Carrier"):
        define(ship)


def test_type_that_pydantic_does_not_know_is_refused() -> None:
    class Ship(AsyncCommand[Carrier]):
        async def run(self, request: Carrier) -> None: ...

    with pytest.raises(InvalidCommand, match=r"Carrier cannot be stored as JSON\. Use a type that pydantic supports"):
        define(Ship)


def test_plain_class_with_execute() -> None:
    class Billing:
        def execute(self, request: Parcel) -> int:
            return request.weight

    definition = define(Billing)

    assert (definition.method, definition.kind) == ("execute", "sync")
    assert (definition.request, definition.result) == (Parcel, int)


def test_plain_class_with_async_run_and_no_request() -> None:
    class Billing:
        async def run(self) -> None: ...

    definition = define(Billing)

    assert (definition.method, definition.kind, definition.request) == ("run", "async", None)


@pytest.mark.parametrize("value", [5, None, "Ship", Parcel(weight=1)])
def test_what_is_no_class_is_refused(value: Any) -> None:
    with pytest.raises(InvalidCommand, match="A command is given by its class"):
        define(value)
