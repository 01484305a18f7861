"""The options of a job: what a caller may say, and how call, command and engine defaults become one set of values.

What the call says wins over what the command's decorators say, and that over the engine's defaults.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Generic, Literal, TypedDict

from typing_extensions import TypeVar

from commandjobs import checks
from commandjobs.command import Command, TakesResult
from commandjobs.definition import UNSET, CommandDefinition
from commandjobs.errors import InvalidOption
from commandjobs.ref import JobRef, SyncJobRef
from commandjobs.registry import command_name
from commandjobs.signature import METHODS

R = TypeVar("R")

QUEUE = "default"
"""The queue of jobs that name none."""


class JobOptions(TypedDict, Generic[R], total=False):
    """What every enqueue takes as keywords; R is the command's result type."""

    worker: str
    """Run one at a time, in order, cluster-wide; wins over `@worker`."""
    queue: str
    """Default "default"."""
    priority: int
    """Higher first; default 0."""
    callback: type[TakesResult[R]] | type[Command[None]] | str
    """Command to run with the result after success; a name is checked at enqueue."""
    depends_on: int | JobRef[Any] | SyncJobRef[Any] | Sequence[int | JobRef[Any] | SyncJobRef[Any]]
    """Wait for these jobs."""
    depends_on_batch: str
    """Not available in this version."""
    depends_on_policy: Literal["success", "finished"]
    """Which end of the parents lets the job run; default "success"."""
    run_after: datetime | timedelta
    """Aware datetime, or a delay."""
    expires: datetime | timedelta
    """Cancel the job if it was not started by then."""
    retry_limit: int
    """Retries after the first attempt; wins over `@retry`."""
    timeout: float | timedelta | None
    """Seconds for one attempt; None: no limit; wins over `@timeout`."""
    ref_id: str
    """The caller's own id; default: one is made."""
    on_duplicate: Literal["raise", "return"]
    """When a job has this `ref_id`; default "raise". "return" needs a `ref_id`."""
    unique_key: str
    """One unfinished job of this command per key; the enqueue returns that one."""
    unique_until: Literal["start", "finish"]
    """When the `unique_key`, which it needs, is free again; default "finish"."""
    concurrency_key: str
    """At most one running job per key, cluster-wide."""
    user_id: str
    """Run as this user."""
    tags: Sequence[str]
    """For grouping; wins over the command's tags."""
    batch_id: str
    parent_id: int
    created_by: str
    tenant_id: str
    reply_to: str
    """Where to deliver the result."""
    args: Mapping[str, str]
    """Free values, found again with `find_jobs(args=...)`."""
    connection: Any
    """Enqueue inside the caller's own database transaction: the connection or session that it is open on, of asyncpg,
    psycopg, SQLAlchemy or Django. PostgreSQL only."""


TRANSIENT_OPTIONS = frozenset(
    {
        *("worker", "callback", "timeout", "retry_limit", "user_id", "tags", "args", "created_by", "tenant_id"),
        "concurrency_key",
    }
)
"""What `run_command` takes: the options that mean something without a stored job."""


@dataclass(frozen=True, slots=True, eq=False)
class InThread:
    """A `connection` that belongs to the calling thread: what `jobs.sync` makes of one that it is given."""

    connection: Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OptionDefaults:
    """What the engine was told for jobs whose call and command say nothing; made once per engine."""

    retry_limit: int = 2
    timeout: float | None = 600.0
    """Seconds; None: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedOptions:
    """All options of one job, checked and merged."""

    worker: str | None
    queue: str
    priority: int
    retry_limit: int
    timeout_s: float | None
    """Seconds; None: no limit."""
    tags: tuple[str, ...]
    callback: str | None = None
    """Stored name; one that the caller gave as a str is not yet checked against the registry."""
    depends_on: tuple[int, ...] = ()
    depends_on_policy: Literal["success", "finished"] = "success"
    run_after: int | None = None
    """Microseconds since 1970, UTC."""
    expires: int | None = None
    """Microseconds since 1970, UTC."""
    ref_id: str | None = None
    on_duplicate: Literal["raise", "return"] = "raise"
    unique_key: str | None = None
    unique_until: Literal["start", "finish"] = "finish"
    concurrency_key: str | None = None
    user_id: str | None = None
    batch_id: str | None = None
    parent_id: int | None = None
    created_by: str | None = None
    tenant_id: str | None = None
    reply_to: str | None = None
    args: dict[str, str] = field(default_factory=dict)
    """Shared by all jobs without any; not to be changed."""
    connection: Any = None


def resolve(
    definition: CommandDefinition,
    options: Mapping[str, Any],
    *,
    defaults: OptionDefaults,
    now_us: int,
    supports_connection: bool = False,
) -> ResolvedOptions:
    """Check the options of a call and merge them with what the command and the engine say.

    options: as given by the caller; not changed.
    now_us: microseconds since 1970, UTC; what delays count from.
    supports_connection: whether the storage can enqueue in a caller's transaction.

    Raises `InvalidOption`, naming the option.
    """
    if not options:
        return _without_options(definition, defaults)
    if "connection" in options and not supports_connection:
        raise InvalidOption(
            "connection cannot be given here: a job is part of your transaction only where the jobs are in the same "
            "PostgreSQL database as your data. Leave it out, and enqueue after your transaction has committed."
        )
    checked = {FIELDS.get(name, name): _checked(name, value, now_us) for name, value in options.items()}
    _check_keys(checked)
    return ResolvedOptions(**(_unsaid(definition, defaults) | checked))


def resolve_transient(
    definition: CommandDefinition, options: Mapping[str, Any], *, defaults: OptionDefaults, now_us: int
) -> ResolvedOptions:
    """The same for a run that is not stored: without `@retry` and `retry_limit=` it runs once.

    Raises `InvalidOption` also for options that need a stored job.
    """
    for name in options:
        if name in OPTIONS and name not in TRANSIENT_OPTIONS:
            raise InvalidOption(
                f"{name} is not an option of a transient run, which is stored nowhere. Enqueue the command to use it; "
                f"a transient run takes {', '.join(sorted(TRANSIENT_OPTIONS))}."
            )
    return resolve(definition, options, defaults=_running_once(defaults), now_us=now_us)


@lru_cache(maxsize=1024)
def _without_options(definition: CommandDefinition, defaults: OptionDefaults) -> ResolvedOptions:
    """Made once per command: most calls have no options, and must pay nothing for those they do not use."""
    return ResolvedOptions(**_unsaid(definition, defaults))


@lru_cache(maxsize=1024)
def _unsaid(definition: CommandDefinition, defaults: OptionDefaults) -> dict[str, Any]:
    """What holds where a call says nothing."""
    return {
        "worker": definition.worker,
        "queue": QUEUE if definition.queue is None else definition.queue,
        "priority": 0 if definition.priority is None else definition.priority,
        "retry_limit": defaults.retry_limit if definition.retry is None else definition.retry.limit,
        "timeout_s": defaults.timeout if definition.timeout is UNSET else definition.timeout,
        "tags": definition.tags,
    }


@lru_cache(maxsize=64)
def _running_once(defaults: OptionDefaults) -> OptionDefaults:
    return replace(defaults, retry_limit=0)


def _checked(name: str, value: Any, now_us: int) -> Any:
    if name in MOMENTS:
        return checks.a_moment(name, value, now=now_us)
    check = CHECKS.get(name)
    if check is None:
        raise _unknown(name)
    return check(name, value)


def _check_keys(checked: Mapping[str, Any]) -> None:
    """What is said about a key means nothing without it: who forgot the key would get duplicates unnoticed."""
    if checked.get("on_duplicate") == "return" and "ref_id" not in checked:
        raise InvalidOption(
            'on_duplicate="return" needs a ref_id: without one every job gets an id of its own, and none is a '
            "duplicate. Pass ref_id= too, or leave on_duplicate out."
        )
    if "unique_until" in checked and "unique_key" not in checked:
        raise InvalidOption(
            f"unique_until={checked['unique_until']!r} needs a unique_key: it says when that key is free again. "
            "Pass unique_key= too, or leave unique_until out."
        )


def _unknown(name: str) -> InvalidOption:
    close = get_close_matches(name, OPTIONS, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Options are {', '.join(sorted(OPTIONS))}."
    return InvalidOption(f"{name!r} is not an option of a job. {hint}")


def _callback(option: str, value: Any) -> str:
    if isinstance(value, type) and any(hasattr(value, method) for method in METHODS):
        return command_name(value)
    if isinstance(value, str):
        return checks.a_name(option, value)
    raise InvalidOption(f"{option} must be a command class or the name of one, got {checks.shown(value)}.")


def parents_in(depends_on: Any) -> tuple[int, ...]:
    """The ids that `depends_on` names."""
    return _parents("depends_on", depends_on)


def _parents(option: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, (int, str, JobRef, SyncJobRef)):  # a handle is a tuple, but not one of parents
        return (_parent(option, value),)
    return checks.several(option, value, _parent)


def _parent(option: str, value: Any) -> int:
    if isinstance(value, (JobRef, SyncJobRef)) and not value.id:
        raise InvalidOption(f"{option} needs the id of a job; {value!r} only knows its ref id. Read its id first.")
    return checks.an_id(option, value.id if isinstance(value, (JobRef, SyncJobRef)) else value)


def _no_batches(option: str, value: Any) -> Any:
    raise InvalidOption(
        f"{option}={checks.shown(value)}: batches are not available in this version. Use depends_on with job ids."
    )


def _connection(option: str, value: Any) -> Any:
    if value is None or (isinstance(value, InThread) and value.connection is None):
        raise InvalidOption(
            f"{option} is None, so there is no transaction that the job could be part of. Pass the connection that "
            "yours is open on, or leave it out."
        )
    return value


def _one_of(*choices: str) -> Callable[[str, Any], str]:
    return lambda option, value: checks.one_of(option, value, choices)


MOMENTS = frozenset({"run_after", "expires"})
FIELDS = {"timeout": "timeout_s"}
"""Options whose resolved name says their unit."""
CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "worker": checks.a_name,
    "queue": checks.a_name,
    "priority": checks.an_integer,
    "callback": _callback,
    "depends_on": _parents,
    "depends_on_batch": _no_batches,
    "depends_on_policy": _one_of("success", "finished"),
    "retry_limit": checks.a_count,
    "timeout": checks.seconds_or_none,
    "ref_id": checks.a_name,
    "on_duplicate": _one_of("raise", "return"),
    "unique_key": checks.a_name,
    "unique_until": _one_of("start", "finish"),
    "concurrency_key": checks.a_name,
    "user_id": checks.a_name,
    "tags": checks.names,
    "batch_id": checks.a_name,
    "parent_id": checks.an_id,
    "created_by": checks.a_name,
    "tenant_id": checks.a_name,
    "reply_to": checks.a_text,
    "args": checks.a_mapping,
    "connection": _connection,
}
OPTIONS = frozenset({*CHECKS, *MOMENTS})
