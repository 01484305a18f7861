"""What the engine knows of a command: all that its class says, looked up once and kept with the class."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from commandjobs.checks import shown
from commandjobs.codec import LIMIT, Codec
from commandjobs.errors import InvalidCommand, InvalidRequest, InvalidResult
from commandjobs.model.retry import RetryPolicy
from commandjobs.registry import command_aliases, command_name
from commandjobs.signature import command_signature, location, namespace_of, resolved, type_name, unresolved


class Unset(Enum):
    """The type of `UNSET`, which stands for "not said" where None means something."""

    UNSET = "UNSET"


UNSET: Final = Unset.UNSET

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
IMPORT_IT = "Import or define it in the command's module, outside of functions and `if TYPE_CHECKING`"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CommandDefinition:
    """Everything about a command that does not change from job to job."""

    name: str
    """What its jobs are stored under."""
    cls: type[Any]
    kind: Literal["async", "sync"]
    method: str
    """`run` or `execute`."""
    request: Any
    """Request type; None: it takes no request."""
    result: Any
    """Result type; None: it has no result."""
    request_codec: Codec | None
    result_codec: Codec | None
    """Refuses with `InvalidResult`; has no limit, since a result that is too large is dropped, not refused."""
    worker: str | None
    queue: str | None
    priority: int | None
    tags: tuple[str, ...]
    retry: RetryPolicy | None
    """None: no `@retry`; stored jobs take the engine's default, a transient run runs once."""
    timeout: float | Unset | None
    """Seconds; None: no limit; UNSET: no `@timeout`, the engine's default."""
    rerun_after_crash: bool
    runnable: bool
    aliases: tuple[str, ...]
    doc: str | None
    init_parameters: Mapping[str, Any]
    """Parameter of `__init__` → the type of the service it asks for."""
    init_optional: frozenset[str]
    """Those of them that have a default."""


def define(command: type[Any]) -> CommandDefinition:
    """The definition of a command class. Raises `InvalidCommand` when it cannot be run as it is."""
    try:
        known: CommandDefinition | None = command.__dict__.get("__command_definition__")
    except AttributeError:
        known = None
    if known is not None and known.cls is command:  # a class made again with slots has a copy of the other's
        return known
    _check_is_class(command)
    definition = command.__command_definition__ = _read(command)
    return definition


def _check_is_class(command: Any) -> None:
    if not isinstance(command, type):
        given = f"an instance of {type(command).__name__}" if hasattr(command, "run") else shown(command)
        raise InvalidCommand(f"A command is given by its class, got {given}.")


def _read(command: type[Any]) -> CommandDefinition:
    signature = command_signature(command)
    name = command_name(command)
    services = _services(command)
    return CommandDefinition(
        name=name,
        cls=command,
        kind=signature.kind,
        method=signature.method,
        request=signature.request,
        result=signature.result,
        request_codec=_codec(command, signature.request, f"The request of {name}", InvalidRequest, LIMIT),
        result_codec=_codec(command, signature.result, f"The result of {name}", InvalidResult, None),
        worker=_said(command, "worker", None),
        queue=_said(command, "queue", None),
        priority=_said(command, "priority", None),
        tags=_said(command, "tags", ()),
        retry=_said(command, "retry", None),
        timeout=_said(command, "timeout", UNSET),
        rerun_after_crash=_said(command, "rerun_after_crash", True),
        runnable=_said(command, "runnable", False),
        aliases=tuple(command_aliases(command)),
        doc=inspect.cleandoc(command.__doc__) if command.__doc__ else None,
        init_parameters={parameter.name: annotation for parameter, annotation in services},
        init_optional=frozenset(parameter.name for parameter, _ in services if _has_default(parameter)),
    )


def _said(command: type[Any], option: str, otherwise: Any) -> Any:
    """What a decorator of the class, or of the nearest base, says."""
    return getattr(command, f"__command_{option}__", otherwise)


def _codec(
    command: type[Any], type_: Any, subject: str, error: type[InvalidRequest | InvalidResult], limit: int | None
) -> Codec | None:
    if type_ is None:
        return None
    if unresolved(type_):
        raise InvalidCommand(
            f"{location(command)}: run takes or returns {type_name(type_)}, but there is no such name. {IMPORT_IT}."
        )
    try:
        return Codec(type_, subject=subject, limit=limit, error=error)
    except Exception as problem:  # whatever pydantic, or a type's own hooks, raise
        raise InvalidCommand(
            f"{location(command)}: {type_name(type_)} cannot be stored as JSON. "
            f"Use a type that pydantic supports. ({problem})"
        ) from problem


def _services(command: type[Any]) -> list[tuple[inspect.Parameter, Any]]:
    """What `__init__` takes beside `self`, and the types it asks for; what it can do without may stay unclear."""
    if command.__init__ is object.__init__:
        return []
    _, *parameters = inspect.signature(command.__init__).parameters.values()
    names = namespace_of(command, command.__init__)
    asked = [(each, resolved(each.annotation, names)) for each in parameters if each.kind not in VARIADIC]
    for parameter, annotation in asked:
        problem = _injection_problem(parameter, annotation)
        if problem is not None and not _has_default(parameter):
            raise InvalidCommand(f"{location(command)}: parameter {parameter.name!r} of __init__ {problem}.")
    return [(parameter, type_) for parameter, type_ in asked if _injection_problem(parameter, type_) is None]


def _injection_problem(parameter: inspect.Parameter, annotation: Any) -> str | None:
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        return "is positional-only, but services are passed by name. Remove the `/`"
    if annotation is inspect.Parameter.empty:
        return "has no annotation. Annotate it with the type of the service it asks for"
    if unresolved(annotation):
        return f"asks for {type_name(annotation)}, but there is no such name. {IMPORT_IT}"
    return None


def _has_default(parameter: inspect.Parameter) -> bool:
    return parameter.default is not inspect.Parameter.empty
