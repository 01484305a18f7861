"""What a command class says about its jobs. Each decorator records a value on the class and returns the same class.

A subclass says what its base says, unless it says something itself. Names and aliases belong to one class alone.
"""

import inspect
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar, get_args

from commandjobs import checks, registry
from commandjobs.definition import UNSET, Unset
from commandjobs.errors import InvalidOption
from commandjobs.model.retry import Backoff, RetryPolicy

C = TypeVar("C", bound=type[Any])


def command(
    *,
    name: str | None = None,
    aliases: Sequence[str] = (),
    tags: Sequence[str] | Unset = UNSET,
    queue: str | None = None,
    priority: int | None = None,
    rerun_after_crash: bool | Unset = UNSET,
    runnable: bool | Unset = UNSET,
) -> Callable[[C], C]:
    """Say how a command is stored and what its jobs are by default.

    name: what its jobs are stored under; default: the class's `__name__`. 1 to 200 characters.
    aliases: earlier names; jobs stored under them still run this class.
    tags: tags of its jobs; default: none.
    queue: queue of its jobs; default: "default".
    priority: higher runs first; default: 0.
    rerun_after_crash: False: a job whose process died is failed and never run twice; default: True.
    runnable: True: operators may run it from the admin UI; default: False.

    Raises `InvalidOption`, and `DuplicateCommand` when another command has the name or an alias.
    """
    said: dict[str, Any] = {"aliases": checks.names("aliases", aliases)}
    if name is not None:
        said["name"] = checks.a_name("name", name)
    if tags is not UNSET:
        said["tags"] = checks.names("tags", tags)
    if queue is not None:
        said["queue"] = checks.a_name("queue", queue)
    if priority is not None:
        said["priority"] = checks.an_integer("priority", priority)
    if rerun_after_crash is not UNSET:
        said["rerun_after_crash"] = checks.a_bool("rerun_after_crash", rerun_after_crash)
    if runnable is not UNSET:
        said["runnable"] = checks.a_bool("runnable", runnable)
    return lambda cls: _registered_again(_record(cls, said))


def worker(name: str) -> Callable[[C], C]:
    """Run the command's jobs one at a time and in order, in the whole cluster, with all others of the same worker.

    name: 1 to 200 characters; the option `worker=` of a job wins. Raises `InvalidOption`.
    """
    _refuse_bare("worker", name, '@worker("smtp")')
    return _recorder(worker=checks.a_name("worker", name))


def retry(
    limit: int = 2,
    *,
    backoff: Backoff = "exponential_jitter",
    delay: float | timedelta = 5.0,
    max_delay: float | timedelta = 300.0,
    on: tuple[type[BaseException], ...] = (Exception,),
    never_on: tuple[type[BaseException], ...] = (),
) -> Callable[[C], C]:
    """Say when the command's jobs are retried; for transient runs too, which otherwise run once.

    limit: retries after the first attempt, 0 or more; the option `retry_limit=` of a job wins.
    backoff: how waits grow: "fixed" d, "linear" n*d, "exponential" d*2^(n-1), or "exponential_jitter", a random time
        between half of that and the whole.
    delay: seconds before the first retry, d above.
    max_delay: seconds; no wait is longer.
    on: exceptions that are retried.
    never_on: exceptions that are not, though they are among `on`. `Fail` and `InvalidRequest` never are.

    Raises `InvalidOption`.
    """
    _refuse_bare("retry", limit, "@retry(), or @retry(limit=3)")
    policy = RetryPolicy(
        limit=checks.a_count("limit", limit),
        backoff=checks.one_of("backoff", backoff, get_args(Backoff)),
        delay=checks.seconds("delay", delay),
        max_delay=checks.seconds("max_delay", max_delay),
        on=checks.exception_types("on", on),
        never_on=checks.exception_types("never_on", never_on),
    )
    return _recorder(retry=policy)


def timeout(after: float | timedelta | None) -> Callable[[C], C]:
    """End an attempt of the command's jobs that runs longer.

    after: seconds, 0 or more; None: no limit; the option `timeout=` of a job wins. Async code is ended where it awaits:
        code that never does runs to its end.

    Raises `InvalidOption`.
    """
    _refuse_bare("timeout", after, "@timeout(60)")
    return _recorder(timeout=checks.seconds_or_none("timeout", after))


def _refuse_bare(decorator: str, given: object, right: str) -> None:
    """The class itself came as the first argument."""
    if isinstance(given, type):
        raise InvalidOption(f"@{decorator} was written without its parentheses. Write {right}.")


def _recorder(**said: Any) -> Callable[[C], C]:
    return lambda cls: _record(cls, said)


def _record(cls: C, said: dict[str, Any]) -> C:
    given: object = cls
    if not inspect.isclass(given):
        name = getattr(given, "__name__", given)
        raise InvalidOption(f"@{', @'.join(said)} is for command classes, and {name!r} is none.")
    for option, value in said.items():
        setattr(cls, f"__command_{option}__", value)
    if "__command_definition__" in vars(cls):  # somebody looked at the class before it was decorated
        del cls.__command_definition__
    return cls


def _registered_again(cls: C) -> C:
    """The metaclass registered the class under its own name, before a decorator could run."""
    if isinstance(cls, registry.CommandType) and registry.is_concrete(cls):
        registry.default.register(cls)
    return cls
