import importlib
import re
from abc import abstractmethod
from pathlib import Path
from types import new_class
from typing import Any, Generic, TypeVar

import pytest
from pydantic import BaseModel

from commandjobs import registry
from commandjobs.command import AsyncCommand, AsyncCommandWithResult, Command, SyncCommand, SyncCommandWithResult
from commandjobs.errors import InvalidCommand
from commandjobs.registry import Registry
from commandjobs.signature import command_signature

T = TypeVar("T")


class Order(BaseModel):
    id: int


class Receipt(BaseModel):
    text: str


class Page(BaseModel, Generic[T]):
    item: T


class Each(AsyncCommandWithResult[list[T], T], Generic[T]):
    async def run(self, request: list[T]) -> T:
        return request[0]


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> Registry:
    fresh = Registry()
    monkeypatch.setattr(registry, "default", fresh)
    return fresh


def test_async_command_without_request() -> None:
    class Sweep(AsyncCommand):
        async def run(self) -> None: ...

    assert str(command_signature(Sweep)) == "async def run(self) -> None"


def test_async_command_with_request() -> None:
    class Ship(AsyncCommand[Order]):
        async def run(self, request: Order) -> None: ...

    assert str(command_signature(Ship)) == "async def run(self, request: Order) -> None"


def test_sync_command_with_result_alone() -> None:
    class Report(SyncCommandWithResult[Receipt]):
        def run(self) -> Receipt:
            return Receipt(text="")

    assert str(command_signature(Report)) == "def run(self) -> Receipt"


def test_async_command_with_request_and_result() -> None:
    class Pay(AsyncCommandWithResult[Order, Receipt]):
        async def run(self, request: Order) -> Receipt:
            return Receipt(text=str(request.id))

    assert str(command_signature(Pay)) == "async def run(self, request: Order) -> Receipt"


def test_types_are_found_through_a_generic_base_of_the_users_own() -> None:
    class EachOrder(Each[Order]):
        pass

    assert command_signature(EachOrder).request == list[Order]
    assert command_signature(EachOrder).result is Order


def test_types_are_found_beside_a_mixin() -> None:
    class Audited:
        def audit(self) -> None: ...

    class Ship(Audited, SyncCommand[Order]):
        def run(self, request: Order) -> None: ...

    assert command_signature(Ship).request is Order


def test_abstract_class_is_not_registered(commands: Registry) -> None:
    class Base(AsyncCommand):
        @abstractmethod
        def address(self) -> str: ...

        async def run(self) -> None: ...

    class Concrete(Base):
        def address(self) -> str:
            return ""

    assert list(commands) == ["Concrete"]
    assert issubclass(Concrete, Base)


def test_class_without_run_is_not_registered(commands: Registry) -> None:
    class Base(AsyncCommand):
        pass

    assert not list(commands)
    with pytest.raises(InvalidCommand, match="has no `run` method"):
        command_signature(Base)


def test_class_with_open_type_variables_is_not_registered(commands: Registry) -> None:
    class EveryOther(Each[T]): ...

    assert not list(commands)
    assert issubclass(EveryOther, Command)


@pytest.mark.parametrize(
    ("base", "run", "message"),
    [
        ("AsyncCommandWithResult", "async def run(self) -> int: ...", "base AsyncCommandWithResult leaves a type open"),
        ("Each", "", "base Each leaves a type open. Write them in brackets behind it, such as Each[MyType]"),
        ("AsyncCommand[Order, int]", "async def run(self, a, b): ...", "at most one request type, got Order, int"),
        ("AsyncCommand", "def run(self): ...", "its run is a plain `def`. Write `async def run(self) -> None`"),
        ("SyncCommand", "async def run(self): ...", "a sync command, but its run is `async def`. Write `def run(self)"),
        ("SyncCommand", "def run(self): yield", "run contains `yield`, so calling it would not run it"),
        ("AsyncCommand", "async def run(self): yield", "run contains `yield`"),
        ("AsyncCommand[Order]", "async def run(self): ...", "takes one request, but it is run(self)."),
        ("AsyncCommand", "async def run(self, order): ...", "takes no request, but it is run(self, order)."),
        ("AsyncCommand[Order]", "async def run(self, a, b): ...", "takes one request, but it is run(self, a, b)."),
        ("AsyncCommand[Order]", "async def run(self, *, request): ...", "takes one request, but it is run(self, *, r"),
        ("AsyncCommand[Order]", "async def run(self, request: Receipt): ...", "is Order, but run takes Receipt"),
        ("AsyncCommand[int]", "async def run(self, request: str | bool): ...", "is int, but run takes str | bool"),
        ("AsyncCommand", "async def run(self) -> int: ...", "the result is None, but run returns int"),
        (
            "AsyncCommandWithResult[int]",
            "async def run(self) -> 'int | None': ...",
            "is int, but run returns int | None",
        ),
        ("SyncCommandWithResult[list[int]]", "def run(self) -> str: ...", "is list[int], but run returns str"),
    ],
)
def test_run_that_does_not_fit_its_base_is_refused(base: str, run: str, message: str) -> None:
    with pytest.raises(InvalidCommand, match=re.escape(message)):
        exec(f"class Wrong({base}):\n    {run or 'pass'}", globals() | {"__name__": "wrong"})


def test_run_may_have_more_parameters_with_defaults() -> None:
    class Ship(AsyncCommand[Order]):
        async def run(self, request: Order, dry: bool = False) -> None: ...

    assert command_signature(Ship).request is Order


@pytest.mark.parametrize("request_type", [BaseModel, object, Any, Order | None, "Order", "NotYetDefined"])
def test_run_may_take_a_wider_request(request_type: Any) -> None:
    async def run(self: Any, request: Any) -> None: ...

    run.__annotations__["request"] = request_type
    ship = new_class("Ship", (AsyncCommand[Order],), exec_body=lambda body: body.update(run=run))

    assert command_signature(ship).request is Order


def test_run_may_take_a_generic_model_of_any_type() -> None:
    class Wipe(AsyncCommand[Page[int]]):
        async def run(self, request: Page[Any]) -> None: ...

    assert command_signature(Wipe).request == Page[int]


def test_message_names_the_class_and_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = "from commandjobs.command import AsyncCommand\n\nclass Sweep(AsyncCommand):\n    def run(self): ...\n"
    (tmp_path / "wrong_sweep.py").write_text(source)

    with pytest.raises(InvalidCommand, match=r"^wrong_sweep\.Sweep \(.*wrong_sweep\.py:3\): "):
        importlib.import_module("wrong_sweep")
