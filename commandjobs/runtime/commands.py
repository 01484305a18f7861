"""The commands this process knows, defined once and kept."""

from typing import Any

from commandjobs.definition import CommandDefinition, define
from commandjobs.errors import InvalidOption, UnknownCommand
from commandjobs.registry import Registry
from commandjobs.signature import fits, type_name


class Commands:
    """A registry seen by the engine: names to definitions."""

    def __init__(self, registry: Registry) -> None:
        """Classes registered later are seen as soon as they are there."""
        self.registry = registry
        self._definitions: dict[str, CommandDefinition] = {}
        self._names: frozenset[str] = frozenset()
        self._revision = -1

    def names(self) -> frozenset[str]:
        """Every stored name that leads to a command here, old ones too; the same object until that changes."""
        if self._revision != self.registry.revision:
            self._read_again()
        return self._names

    def _read_again(self) -> None:
        self._revision = self.registry.revision
        self._definitions.clear()
        names = frozenset(self.registry) | self.registry.aliases().keys()
        if names != self._names:
            self._names = names

    def definition(self, name: str) -> CommandDefinition:
        """The command of a stored name. Raises `UnknownCommand`, and `InvalidCommand` if it cannot be run."""
        if self._revision != self.registry.revision:
            self._read_again()
        definition = self._definitions.get(name)
        if definition is None:
            definition = self._definitions[name] = define(self.registry.get(name))
        return definition

    def find(self, name: str) -> CommandDefinition | None:
        """The same; None: no command here has that name."""
        try:
            return self.definition(name)
        except UnknownCommand:
            return None

    def callback(self, name: str, work: CommandDefinition) -> CommandDefinition:
        """The command that shall run with the result of another.

        Raises `UnknownCommand`, and `InvalidOption` if it takes something else: it would always fail, after the work.
        """
        callback = self.definition(name)
        if callback.request is not None and not fits(work.result, callback.request):
            returned = "has no result" if work.result is None else f"returns {type_name(work.result)}"
            raise InvalidOption(
                f"callback={name!r} takes {type_name(callback.request)}, but {work.name} {returned}. "
                "Give a command that takes that result, or one that takes no request."
            )
        return callback

    def of(self, command: type[Any]) -> CommandDefinition:
        """The definition of a class; one that is not in the registry is used as it is."""
        return define(command)

    def all(self) -> list[CommandDefinition]:
        """Every command here. Raises `InvalidCommand` for the first that cannot be run."""
        return [self.definition(name) for name in self.registry]
