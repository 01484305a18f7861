"""Which command a stored name stands for, and the metaclass that enters every concrete command class.

A job may be stored for months and run by another release, so it names its command by text, and that text must lead to
exactly one class.
"""

from abc import ABCMeta
from collections.abc import Iterator, Sequence
from inspect import isabstract
from typing import Any

from commandjobs import checks
from commandjobs.errors import DuplicateCommand, UnknownCommand
from commandjobs.signature import command_signature, is_same_definition, location


class Registry:
    """Name → command class; the default one is `commandjobs.registry.default`."""

    def __init__(self) -> None:
        self._classes: dict[str, type[Any]] = {}
        self._names: dict[type[Any], tuple[str, ...]] = {}
        self.revision = 0
        """Raised whenever a name comes or goes."""

    def register(self, command: type[Any], *, name: str | None = None) -> None:
        """Enter a class under its name and aliases; one that is entered already gets the new ones.

        command: a command class, or any class with a typed `run` or `execute`.
        name: becomes the stored name of the class; default: that of `@command(name=...)`, else its `__name__`.

        Raises `InvalidCommand` when the class has no method that fits, `InvalidOption` for a name that is empty or over
        200 characters, and `DuplicateCommand` when another class has the name. A class of the same file and qualified
        name is not another one: it replaces the earlier.
        """
        command_signature(command)
        stored = command_name(command) if name is None else name
        names = checks.names("name", (stored, *command_aliases(command)))
        for claimed in names:
            self._refuse_duplicate(claimed, command)
        if name is not None:
            command.__command_name__ = name
        self._enter(command, names)

    def get(self, name: str) -> type[Any]:
        """The class of a stored name or alias. Raises `UnknownCommand`, with the closest name there is."""
        try:
            return self._classes[name]
        except KeyError:
            raise UnknownCommand(name, self._classes) from None

    def aliases(self) -> dict[str, str]:
        """Old name → the name its command has now."""
        return {alias: name for name, *aliases in self._names.values() for alias in aliases}

    def __contains__(self, name: object) -> bool:
        """Whether a name or alias leads to a class."""
        return name in self._classes

    def __iter__(self) -> Iterator[str]:
        """The names, without aliases, in order of registration."""
        return (name for name, *_ in list(self._names.values()))

    def __len__(self) -> int:
        return len(self._names)

    def _refuse_duplicate(self, name: str, command: type[Any]) -> None:
        holder = self._classes.get(name)
        if holder is not None and not is_same_definition(holder, command):
            raise DuplicateCommand(name, location(holder), location(command))

    def _enter(self, command: type[Any], names: tuple[str, ...]) -> None:
        self.revision += 1
        self._forget(command)
        for name in names:
            self._forget(self._classes.get(name))
        self._names[command] = names
        self._classes.update(dict.fromkeys(names, command))

    def _forget(self, command: type[Any] | None) -> None:
        if command is not None:
            for name in self._names.pop(command, ()):
                del self._classes[name]


default = Registry()
"""Where every command class is registered when it is defined."""


class CommandType(ABCMeta):
    """Registers concrete command classes: those without abstract methods and open type variables."""

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], /, **kwargs: Any) -> None:
        super().__init__(name, bases, namespace, **kwargs)
        if is_concrete(cls):
            default.register(cls)


def is_concrete(command: type[Any]) -> bool:
    """Whether a class can be run: nothing in it is abstract, and no type is left open by it."""
    return not isabstract(command) and not getattr(command, "__parameters__", ())


def command_name(command: type[Any]) -> str:
    """The name a class is stored under: given by `@command(name=...)` or `register`, else its `__name__`."""
    name: str = vars(command).get("__command_name__", command.__name__)
    return name


def command_aliases(command: type[Any]) -> Sequence[str]:
    """Old names that still lead to the class. They belong to it alone, not to its subclasses."""
    aliases: Sequence[str] = vars(command).get("__command_aliases__", ())
    return aliases
