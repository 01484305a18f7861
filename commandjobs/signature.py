"""What a command class says about itself in its bases and its `run`: kind, request type, result type.

Read when the class is registered, to refuse one that could never run, and once more when it is first used: a name in an
annotation may only exist by then. Annotations that do not resolve are left to the type checker.
"""

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ForwardRef,
    Literal,
    TypeVar,
    TypeVarTuple,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from typing_extensions import NoDefault, get_original_bases

from commandjobs.errors import InvalidCommand

METHODS = ("run", "execute")
"""What the engine may call; a plain class has one of them, a `Command` has `run`."""

PROMOTIONS: Mapping[Any, tuple[Any, ...]] = {int: (float, complex), float: (complex,)}
"""Classes that type checkers accept for another one without being its subclass."""


@dataclass(frozen=True, slots=True)
class CommandSignature:
    """How the engine calls a command."""

    kind: Literal["async", "sync"]
    method: str
    """`run` or `execute`."""
    request: Any
    """Request type; None: the command takes none."""
    result: Any
    """Result type; None: the command has none."""

    def __str__(self) -> str:
        keyword = "async def" if self.kind == "async" else "def"
        request = "" if self.request is None else f", request: {type_name(self.request)}"
        return f"{keyword} {self.method}(self{request}) -> {type_name(self.result)}"


def command_signature(command: type[Any]) -> CommandSignature:
    """The signature of a command class, or of a plain class with a typed `run` or `execute`.

    Types that are named by a string which does not resolve yet are returned as they are written.
    Raises `InvalidCommand` when the method does not fit the base, or the class has none.
    """
    root = command_root(command)
    return _plain_signature(command) if root is None else _derived_signature(command, root)


def unresolved(annotation: Any) -> bool:
    """Whether a type is still a name, or contains one."""
    return isinstance(annotation, (str, ForwardRef)) or any(unresolved(inner) for inner in _type_arguments(annotation))


def command_root(command: type[Any]) -> type[Any] | None:
    """`Command`, if the class derives from it. Found by its mark, because `command` imports this module."""
    return next((base for base in reversed(command.__mro__) if "__command_kind__" in vars(base)), None)


def location(command: type[Any]) -> str:
    """Where a class is defined: `app.mail.SendEmail (/srv/app/mail.py:12)`, or only its name where there is no file."""
    name = f"{command.__module__}.{command.__qualname__}"
    try:
        return f"{name} ({inspect.getfile(command)}:{inspect.getsourcelines(command)[1]})"
    except (OSError, TypeError):
        return name


def is_same_definition(first: type[Any], second: type[Any]) -> bool:
    """Whether two classes come from one class statement: a reload, a notebook cell run again, a copy with slots."""
    return _place(first) == _place(second) or _shares_code(first, second)


def type_name(annotation: Any) -> str:
    """A type as users write it: `SendEmail`, `list[int]`, `None`."""
    if annotation is None or annotation is NoneType:
        return "None"
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    return str(annotation).replace("typing.", "")


def resolved(annotation: Any, namespace: Mapping[str, Any]) -> Any:
    """The type that an annotation means, or the annotation itself while a name in it does not exist."""

    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    try:
        return get_type_hints(holder, dict(namespace), include_extras=True)["it"]
    except Exception:  # a string may hold any expression
        return annotation


def fits(narrow: Any, wide: Any) -> bool:
    """Whether a value of type `narrow` can be given where `wide` is wanted; True where only a type checker can tell."""
    if narrow == wide or inspect.Parameter.empty in (narrow, wide) or unresolved(narrow) or unresolved(wide):
        return True
    if get_origin(wide) in (Union, UnionType):
        return any(fits(narrow, member) for member in get_args(wide))
    if get_origin(narrow) in (Union, UnionType):
        return all(fits(member, wide) for member in get_args(narrow))
    narrow, wide = _class_of(narrow), _class_of(wide)
    if narrow is None or wide is None or wide in PROMOTIONS.get(narrow, ()):
        return True
    try:
        return issubclass(narrow, wide)
    except TypeError:  # a Protocol or TypedDict
        return True


def namespace_of(command: type[Any], function: Any) -> dict[str, Any]:
    """The names that a method's annotations can use."""
    names = getattr(inspect.unwrap(function), "__globals__", {})
    return {**names, **vars(command), command.__name__: command}


# ── classes that derive from Command ────────────────────────────────────────────────────────────────────────────────


def _derived_signature(command: type[Any], root: type[Any]) -> CommandSignature:
    *requests, result = _closed_arguments(command, root)
    if len(requests) > 1:
        names = ", ".join(map(type_name, requests))
        raise InvalidCommand(
            f"{location(command)}: a command takes at most one request type, got {names}. "
            "Put them into one request class."
        )
    kind = cast("Any", command).__command_kind__ or _kind(_method(command, "run"))
    expected = CommandSignature(kind, "run", requests[0] if requests else None, _none_or(result))
    _check_method(command, expected)
    return expected


def _closed_arguments(command: type[Any], root: type[Any]) -> tuple[Any, ...]:
    arguments = _arguments_of(command, root)
    if not arguments or any(_is_open(argument) for argument in arguments):
        base = next(base for base in command.__mro__[1:] if getattr(base, "__parameters__", ()))
        raise InvalidCommand(
            f"{location(command)}: its base {base.__name__} leaves a type open. "
            f"Write them in brackets behind it, such as {base.__name__}[MyType]."
        )
    names = _names_of(command)
    return tuple(resolved(argument, names) if unresolved(argument) else argument for argument in arguments)


def _arguments_of(alias: Any, root: type[Any]) -> tuple[Any, ...]:
    """The type arguments of `root` in a class or alias, followed through its generic bases."""
    origin = get_origin(alias) or alias
    if origin is root:
        return get_args(alias)
    base = next(base for base in get_original_bases(origin) if issubclass(get_origin(base) or base, root))
    return _arguments_of(_substituted(base, origin, get_args(alias)), root)


def _substituted(base: Any, origin: Any, arguments: tuple[Any, ...]) -> Any:
    """A generic base with the arguments of the class that names it put in for that class's own type variables."""
    if isinstance(base, type) or not base.__parameters__:
        return base
    values = _assigned(origin.__parameters__, arguments)
    return base[tuple(value for parameter in base.__parameters__ for value in values[parameter])]


def _assigned(parameters: tuple[Any, ...], arguments: tuple[Any, ...]) -> dict[Any, tuple[Any, ...]]:
    """Type parameter → its arguments: any number for a `TypeVarTuple`, one for the others."""
    values: dict[Any, tuple[Any, ...]] = {}
    left = list(arguments)
    for index, parameter in enumerate(parameters):
        wanted = len(left) - (len(parameters) - index - 1) if isinstance(parameter, TypeVarTuple) else 1
        values[parameter] = tuple(left[:wanted]) if left else _default_of(parameter)
        left = left[max(wanted, 0) :]
    return values


def _default_of(parameter: Any) -> tuple[Any, ...]:
    default = getattr(parameter, "__default__", NoDefault)
    if isinstance(parameter, TypeVarTuple):
        return (parameter,) if default is NoDefault else ()
    return (parameter if default is NoDefault else default,)


def _is_open(argument: Any) -> bool:
    if isinstance(argument, type):
        return False
    return isinstance(argument, (TypeVar, TypeVarTuple)) or bool(getattr(argument, "__parameters__", ()))


def _names_of(command: type[Any]) -> dict[str, Any]:
    """The names that the type arguments of a class and of its bases can use."""
    modules = (sys.modules.get(base.__module__) for base in reversed(command.__mro__))
    return {name: value for module in modules if module is not None for name, value in vars(module).items()}


def _check_method(command: type[Any], expected: CommandSignature) -> None:
    method = _method(command, expected.method)
    _check_kind(command, method, expected)
    parameters = _parameters(command, expected.method)
    _check_arity(command, parameters, expected)
    names = namespace_of(command, method)
    if expected.request is not None and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        _check_request(command, resolved(parameters[0].annotation, names), expected)
    _check_result(command, resolved(inspect.signature(method).return_annotation, names), expected)


def _check_kind(command: type[Any], method: Any, expected: CommandSignature) -> None:
    if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
        raise InvalidCommand(
            f"{location(command)}: {expected.method} contains `yield`, so calling it would not run it. "
            f"Write `{expected}` without `yield`."
        )
    if _kind(method) != expected.kind:
        is_async = expected.kind == "async"
        base, given = ("an async", "a plain `def`") if is_async else ("a sync", "`async def`")
        other = "SyncCommand" if is_async else "AsyncCommand"
        raise InvalidCommand(
            f"{location(command)}: it derives from {base} command, but its {expected.method} is {given}. "
            f"Write `{expected}`, or derive from {other} (or {other}WithResult)."
        )


def _check_arity(command: type[Any], parameters: list[inspect.Parameter], expected: CommandSignature) -> None:
    given = [None] * (expected.request is not None)
    try:
        inspect.Signature(parameters).bind(*given)
    except TypeError as error:
        takes = "one request" if given else "no request"
        signature = inspect.signature(_method(command, expected.method))
        shown = signature.replace(return_annotation=inspect.Signature.empty)
        raise InvalidCommand(
            f"{location(command)}: its base says that it takes {takes}, but it is {expected.method}{shown}. "
            f"Write `{expected}`."
        ) from error


def _check_request(command: type[Any], given: Any, expected: CommandSignature) -> None:
    if not fits(expected.request, given):
        raise InvalidCommand(
            f"{location(command)}: its base says that the request is {type_name(expected.request)}, but "
            f"{expected.method} takes {type_name(given)}. Write `{expected}`, or change the base."
        )


def _check_result(command: type[Any], given: Any, expected: CommandSignature) -> None:
    if not fits(given, expected.result):
        hint = "or change the base" if expected.result is not None else "or derive from the base that has a result"
        raise InvalidCommand(
            f"{location(command)}: its base says that the result is {type_name(expected.result)}, but "
            f"{expected.method} returns {type_name(given)}. Write `{expected}`, {hint}."
        )


def _class_of(annotation: Any) -> type[Any] | None:
    if annotation is None:
        return NoneType
    if get_origin(annotation) is Annotated:
        return _class_of(get_args(annotation)[0])
    found = get_origin(annotation) or _generic_model_of(annotation) or annotation
    return found if isinstance(found, type) and found is not Any else None


def _generic_model_of(annotation: Any) -> Any:
    """The model that a generic one of pydantic was made from: `Page[int]` is a class beside `Page[Any]`, not below."""
    return getattr(annotation, "__pydantic_generic_metadata__", {}).get("origin")


# ── plain classes ───────────────────────────────────────────────────────────────────────────────────────────────────


def _plain_signature(command: type[Any]) -> CommandSignature:
    name = next((name for name in METHODS if callable(getattr(command, name, None))), None)
    if name is None:
        raise InvalidCommand(
            f"{location(command)} has no method that could be run. "
            "Give it a typed `run` or `execute`, or derive it from AsyncCommand or SyncCommand."
        )
    method = _method(command, name)
    parameters, names = _parameters(command, name), namespace_of(command, method)
    result = inspect.signature(method).return_annotation
    required = [parameter for parameter in parameters if parameter.default is inspect.Parameter.empty]
    if len(required) > 1 or result is inspect.Parameter.empty or _untyped(required):
        raise InvalidCommand(
            f"{location(command)}: {name} must be typed and take at most one request, but it is "
            f"{name}{inspect.signature(method)}. Write `def {name}(self, request: MyRequest) -> MyResult`, "
            "with `-> None` for no result."
        )
    request = resolved(required[0].annotation, names) if required else None
    expected = CommandSignature(_kind(method), name, request, _none_or(resolved(result, names)))
    _check_kind(command, method, expected)
    return expected


def _untyped(parameters: list[inspect.Parameter]) -> bool:
    return any(parameter.annotation is inspect.Parameter.empty for parameter in parameters)


# ── functions ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _method(command: type[Any], name: str) -> Any:
    method = getattr(command, name, None)
    if method is None or getattr(method, "__isabstractmethod__", False):
        raise InvalidCommand(f"{location(command)} has no `{name}` method. Write one: it is what the job does.")
    return method


def _parameters(command: type[Any], name: str) -> list[inspect.Parameter]:
    """What the method takes beside `self`."""
    parameters = list(inspect.signature(getattr(command, name)).parameters.values())
    bound = isinstance(inspect.getattr_static(command, name), (staticmethod, classmethod))
    return parameters if bound else parameters[1:]


def _kind(method: Any) -> Literal["async", "sync"]:
    functions = (method, inspect.unwrap(method))
    return "async" if any(inspect.iscoroutinefunction(function) for function in functions) else "sync"


def _none_or(annotation: Any) -> Any:
    return None if annotation is NoneType else annotation


def _type_arguments(annotation: Any) -> tuple[Any, ...]:
    """Arguments that are types; those of `Literal` and the metadata of `Annotated` are not."""
    if get_origin(annotation) is Literal:
        return ()
    arguments = get_args(annotation)
    return arguments[:1] if get_origin(annotation) is Annotated else arguments


def _place(command: type[Any]) -> tuple[str, str]:
    file = getattr(sys.modules.get(command.__module__), "__file__", None)
    return str(Path(file).resolve()) if file else command.__module__, command.__qualname__


def _shares_code(first: type[Any], second: type[Any]) -> bool:
    """A class made again with slots has the same functions, but at first not the same qualified name."""
    functions = (vars(first).get(name) for name in METHODS)
    others = [value for value in vars(second).values() if isinstance(value, FunctionType)]
    return any(own in others for own in functions)
