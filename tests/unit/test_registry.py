import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from commandjobs import registry
from commandjobs.command import AsyncCommand
from commandjobs.decorators import command
from commandjobs.errors import DuplicateCommand, InvalidCommand, InvalidOption, UnknownCommand
from commandjobs.registry import Registry, command_name

SOURCE = """
from commandjobs.command import AsyncCommand

class Sweep(AsyncCommand):
    async def run(self) -> None: ...
"""


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> Registry:
    fresh = Registry()
    monkeypatch.setattr(registry, "default", fresh)
    return fresh


WriteModule = Callable[[str], Any]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteModule:
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str) -> Any:
        (tmp_path / f"{name}.py").write_text(SOURCE)
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return write


def sweep() -> type[Any]:
    class Sweep(AsyncCommand):
        async def run(self) -> None: ...

    return Sweep


def other_sweep() -> type[Any]:
    class Sweep(AsyncCommand):
        async def run(self) -> None: ...

    return Sweep


def test_command_is_registered_when_it_is_defined(commands: Registry) -> None:
    cls = sweep()

    assert commands.get("Sweep") is cls
    assert list(commands) == ["Sweep"]
    assert "Sweep" in commands


def test_unknown_command_suggests_the_closest_name(commands: Registry) -> None:
    sweep()

    with pytest.raises(UnknownCommand, match=r"No command is registered as 'Sweeep'\. Did you mean 'Sweep'\?"):
        commands.get("Sweeep")


def test_unknown_command_with_nothing_close_asks_for_the_import(commands: Registry) -> None:
    with pytest.raises(UnknownCommand, match=r"Is the module that defines it imported\?"):
        commands.get("Sweep")


def test_c01_duplicate_names_are_rejected_with_both_locations(commands: Registry) -> None:
    first = sweep()

    with pytest.raises(DuplicateCommand) as caught:
        other_sweep()

    message = str(caught.value)
    assert "'Sweep' is already registered by" in message
    assert message.index("sweep.<locals>.Sweep") < message.index("other_sweep.<locals>.Sweep")
    assert message.count("test_registry.py:") == 2
    assert commands.get("Sweep") is first


def test_class_defined_again_at_the_same_place_replaces_the_first(commands: Registry) -> None:
    sweep()
    second = sweep()

    assert commands.get("Sweep") is second
    assert len(commands) == 1


def test_reloaded_module_replaces_its_commands(commands: Registry, write_module: WriteModule) -> None:
    first = write_module("sweeping")
    second = write_module("sweeping")

    assert first.Sweep is not second.Sweep
    assert commands.get("Sweep") is second.Sweep


def test_same_name_in_two_modules_is_rejected(write_module: WriteModule) -> None:
    write_module("sweeping")

    with pytest.raises(DuplicateCommand, match=r"sweeping\.Sweep .*sweeping\.py:4.*cleaning\.Sweep .*cleaning\.py:4"):
        write_module("cleaning")


def test_notebook_cell_run_again_replaces_its_command(commands: Registry) -> None:
    cell: dict[str, Any] = {"__name__": "notebook"}
    exec(compile(SOURCE, "<ipython-input-1>", "exec"), cell)
    exec(compile(SOURCE, "<ipython-input-2>", "exec"), cell)

    assert commands.get("Sweep") is cell["Sweep"]


def test_copy_with_slots_replaces_its_original(commands: Registry) -> None:
    @dataclass(slots=True)
    class Sweep(AsyncCommand):
        async def run(self) -> None: ...

    assert commands.get("Sweep") is Sweep
    assert len(commands) == 1


@pytest.mark.parametrize("slots_first", [True, False])
def test_copy_with_slots_keeps_a_given_name(commands: Registry, slots_first: bool) -> None:
    class Sweep(AsyncCommand):
        async def run(self) -> None: ...

    named, slotted = command(name="sweep"), dataclass(slots=True)
    cls = named(slotted(Sweep)) if slots_first else slotted(named(Sweep))

    assert commands.get("sweep") is cls
    assert list(commands) == ["sweep"]


def test_given_name_replaces_the_class_name(commands: Registry) -> None:
    cls = command(name="floors.sweep")(sweep())

    assert list(commands) == ["floors.sweep"]
    assert command_name(cls) == "floors.sweep"


def test_given_name_makes_room_for_another_class_of_the_name(commands: Registry) -> None:
    command(name="floors.sweep")(sweep())
    second = other_sweep()

    assert commands.get("Sweep") is second


def test_e22_alias_leads_to_the_renamed_class(commands: Registry) -> None:
    cls = command(name="floors.sweep", aliases=["Clean", "Wipe"])(sweep())

    assert commands.get("Clean") is cls
    assert "Wipe" in commands
    assert list(commands) == ["floors.sweep"]
    assert commands.aliases() == {"Clean": "floors.sweep", "Wipe": "floors.sweep"}


def test_alias_that_another_command_has_is_rejected(commands: Registry) -> None:
    first = sweep()

    with pytest.raises(DuplicateCommand, match="'Sweep' is already registered"):
        command(name="other", aliases=["Sweep"])(define_clean())
    assert commands.get("Sweep") is first


def define_clean() -> type[Any]:
    class Clean(AsyncCommand):
        async def run(self) -> None: ...

    return Clean


def test_custom_registry_takes_commands_one_by_one(commands: Registry) -> None:
    own = Registry()
    cls = sweep()
    own.register(cls)

    assert list(own) == ["Sweep"]
    assert own.get("Sweep") is commands.get("Sweep") is cls


def test_plain_class_can_be_registered_under_a_name() -> None:
    class Billing:
        def execute(self, amount: int) -> str:
            return str(amount)

    own = Registry()
    own.register(Billing, name="bill")

    assert own.get("bill") is Billing
    assert command_name(Billing) == "bill"


def test_plain_class_without_a_typed_method_is_rejected() -> None:
    class Billing:
        execute = staticmethod(lambda amount: None)

    with pytest.raises(InvalidCommand, match="execute must be typed"):
        Registry().register(Billing)


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\0", 5])
def test_impossible_name_is_rejected(name: Any) -> None:
    with pytest.raises(InvalidOption, match="name must"):
        Registry().register(sweep(), name=name)
