"""What a command's `__init__` asks for, resolved from the app's `svcs` registry in a container as old as the
attempt.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import svcs

from commandjobs.command import Command
from commandjobs.errors import MissingService

if TYPE_CHECKING:
    from collections.abc import Iterable

    from commandjobs.definition import CommandDefinition
    from commandjobs.jobs import BackgroundJobs
    from commandjobs.runtime.commands import Commands


class ServiceContainer:
    """The services of one attempt: open while it runs, closed after it."""

    def __init__(self, container: svcs.Container, arguments: dict[str, Any]) -> None:
        """Use `open`."""
        self._container = container
        self.arguments = arguments

    @classmethod
    async def open(
        cls, registry: svcs.Registry, definition: CommandDefinition, *, jobs: BackgroundJobs, commands: Commands
    ) -> ServiceContainer:
        """Resolve every parameter of the command's `__init__`."""
        container = svcs.Container(registry)
        try:
            return cls(container, await _resolve(container, definition, jobs, commands))
        except BaseException:
            await container.aclose()
            raise

    async def close(self) -> None:
        """Close what was opened for the attempt."""
        await self._container.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def check_services(registry: svcs.Registry, definitions: Iterable[CommandDefinition], *, engine: type) -> None:
    """Raise `MissingService` for the first command that asks for something the registry does not have."""
    for definition in definitions:
        for parameter, annotation in definition.init_parameters.items():
            optional = parameter in definition.init_optional
            if not (optional or _is_built_in(annotation, engine) or annotation in registry):
                wanted = getattr(annotation, "__qualname__", annotation)
                raise MissingService(
                    f"Command {definition.name!r} asks for {parameter}: {wanted} in its __init__, and no such service "
                    f"is registered. Register it in the svcs registry given as services=: "
                    f"registry.register_factory({wanted}, …)."
                )


async def _resolve(
    container: svcs.Container, definition: CommandDefinition, jobs: BackgroundJobs, commands: Commands
) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for parameter, annotation in definition.init_parameters.items():
        if annotation is logging.Logger:
            arguments[parameter] = logging.getLogger(definition.name)
        elif annotation is type(jobs):
            arguments[parameter] = jobs
        elif _is_command(annotation) and annotation not in container.registry:
            inner = commands.of(annotation)
            arguments[parameter] = annotation(**await _resolve(container, inner, jobs, commands))
        elif annotation in container.registry or parameter not in definition.init_optional:
            arguments[parameter] = await container.aget(annotation)
    return arguments


def _is_built_in(annotation: Any, engine: type) -> bool:
    return annotation is logging.Logger or annotation is engine or _is_command(annotation)


def _is_command(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Command)
