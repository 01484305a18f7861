from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pytest

from commandjobs import registry
from commandjobs.command import AsyncCommand
from commandjobs.decorators import command, retry, timeout, worker
from commandjobs.definition import CommandDefinition, define
from commandjobs.errors import InvalidOption
from commandjobs.options import (
    OPTIONS,
    TRANSIENT_OPTIONS,
    JobOptions,
    OptionDefaults,
    ResolvedOptions,
    resolve,
    resolve_transient,
)
from commandjobs.ref import JobRef, SyncJobRef
from commandjobs.registry import Registry

NOW = 1_800_000_000_000_000
DEFAULTS = OptionDefaults(retry_limit=4, timeout=30.0)


class Lane(StrEnum):
    FAST = "fast"


@pytest.fixture(autouse=True)
def _fresh_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "default", Registry())


@pytest.fixture
def plain() -> CommandDefinition:
    class Sweep(AsyncCommand):
        async def run(self) -> None: ...

    return define(Sweep)


@pytest.fixture
def decorated() -> CommandDefinition:
    @command(queue="slow", priority=3, tags=["floor"])
    @worker("broom")
    @retry(7)
    @timeout(None)
    class Sweep(AsyncCommand):
        async def run(self) -> None: ...

    return define(Sweep)


def resolved(definition: CommandDefinition, **options: Any) -> ResolvedOptions:
    return resolve(definition, options, defaults=DEFAULTS, now_us=NOW)


def test_engine_defaults_hold_where_nobody_says_more(plain: CommandDefinition) -> None:
    options = resolved(plain)

    assert (options.retry_limit, options.timeout_s) == (4, 30.0)
    assert (options.queue, options.priority, options.worker, options.tags) == ("default", 0, None, ())


def test_command_wins_over_engine_defaults(decorated: CommandDefinition) -> None:
    options = resolved(decorated)

    assert (options.retry_limit, options.timeout_s) == (7, None)
    assert (options.queue, options.priority, options.worker, options.tags) == ("slow", 3, "broom", ("floor",))


def test_e07_call_wins_over_command(decorated: CommandDefinition) -> None:
    options = resolved(decorated, worker="mop", retry_limit=0, timeout=1, queue="q", priority=-1, tags=["wet"])

    assert (options.retry_limit, options.timeout_s) == (0, 1.0)
    assert (options.queue, options.priority, options.worker, options.tags) == ("q", -1, "mop", ("wet",))


def test_timeout_of_none_wins_over_engine_default(plain: CommandDefinition) -> None:
    assert resolved(plain, timeout=None).timeout_s is None


def test_call_without_options_gives_one_and_the_same_value(plain: CommandDefinition) -> None:
    assert resolved(plain) is resolved(plain)


def test_e06_options_of_the_caller_are_not_changed(plain: CommandDefinition) -> None:
    options = {"args": {"a": "b"}, "tags": ["x"], "run_after": timedelta(seconds=1)}
    frozen: Mapping[str, Any] = MappingProxyType(options)
    first = resolve(plain, frozen, defaults=DEFAULTS, now_us=NOW)

    assert resolve(plain, frozen, defaults=DEFAULTS, now_us=NOW) == first
    assert first.args == {"a": "b"}
    assert first.args is not options["args"]


def test_e11_delay_counts_from_now(plain: CommandDefinition) -> None:
    assert resolved(plain, run_after=timedelta(seconds=2)).run_after == NOW + 2_000_000


def test_e11_aware_datetime_is_a_moment(plain: CommandDefinition) -> None:
    at = datetime(2027, 1, 1, 0, 0, 0, 1, tzinfo=UTC)

    assert resolved(plain, run_after=at, expires=at).expires == int(at.timestamp()) * 1_000_000 + 1


def test_durations_may_be_timedeltas(plain: CommandDefinition) -> None:
    assert resolved(plain, timeout=timedelta(minutes=2)).timeout_s == 120.0


def test_parents_are_ids_or_handles(plain: CommandDefinition) -> None:
    handle: JobRef[None] = JobRef(3, "c")
    blocking: SyncJobRef[None] = SyncJobRef(JobRef(4, "d"), lambda _: None)

    assert resolved(plain, depends_on=7).depends_on == (7,)
    assert resolved(plain, depends_on=handle).depends_on == (3,)
    assert resolved(plain, depends_on=[1, handle, blocking, 1]).depends_on == (1, 3, 4)


def test_callback_is_stored_by_name(plain: CommandDefinition) -> None:
    @command(name="floors.shine")
    class Shine(AsyncCommand):
        async def run(self) -> None: ...

    assert resolved(plain, callback=Shine).callback == "floors.shine"
    assert resolved(plain, callback="any.name").callback == "any.name"


def test_text_of_an_enum_is_stored_as_text(plain: CommandDefinition) -> None:
    assert type(resolved(plain, queue=Lane.FAST).queue) is str


def test_tags_are_kept_once_in_their_order(plain: CommandDefinition) -> None:
    assert resolved(plain, tags=("b", "a", "b")).tags == ("b", "a")


def test_unknown_option_suggests_the_closest(plain: CommandDefinition) -> None:
    with pytest.raises(InvalidOption, match=r"'quue' is not an option of a job\. Did you mean 'queue'\?"):
        resolved(plain, quue="x")


def test_unknown_option_with_nothing_close_lists_all(plain: CommandDefinition) -> None:
    with pytest.raises(InvalidOption, match="Options are args, batch_id, callback"):
        resolved(plain, zzz="x")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[
            (name, "")
            for name in ("worker", "queue", "ref_id", "unique_key", "concurrency_key", "user_id", "created_by")
        ],
        *[(name, "x" * 201) for name in ("worker", "queue", "ref_id", "tenant_id", "batch_id", "callback")],
        *[(name, None) for name in ("queue", "worker", "priority", "retry_limit", "depends_on", "tags", "args")],
        ("queue", 5),
        ("queue", "a\0"),
        ("queue", "\ud800"),
        ("priority", True),
        ("priority", 1.5),
        ("priority", 2**40),
        ("retry_limit", -1),
        ("retry_limit", False),
        ("timeout", -0.1),
        ("timeout", float("inf")),
        ("timeout", "5"),
        ("timeout", True),
        ("run_after", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("run_after", 5),
        ("run_after", timedelta.max),
        ("expires", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("depends_on", "1"),
        ("depends_on", 0),
        ("depends_on", True),
        ("depends_on", [True]),
        ("depends_on", JobRef(0, "x")),
        ("depends_on_policy", "always"),
        ("depends_on_policy", []),
        ("on_duplicate", "ignore"),
        ("unique_until", "never"),
        ("tags", "mail"),
        ("tags", [""]),
        ("tags", [5]),
        ("args", {"a": 1}),
        ("args", {"": "a"}),
        ("args", ["a"]),
        ("parent_id", -1),
        ("parent_id", "1"),
        ("callback", 5),
        ("callback", dict),
        ("depends_on_batch", "b"),
        ("connection", "a connection"),
    ],
    ids=str,
)
def test_wrong_value_is_refused_naming_the_option(plain: CommandDefinition, option: str, value: Any) -> None:
    with pytest.raises(InvalidOption, match=f"^{option}"):
        resolved(plain, **{option: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_duplicate": "return"}, r'^on_duplicate="return" needs a ref_id.* Pass ref_id= too'),
        ({"unique_until": "start"}, "^unique_until='start' needs a unique_key.* Pass unique_key= too"),
        ({"unique_until": "finish", "ref_id": "mine"}, "^unique_until='finish' needs a unique_key"),
    ],
)
def test_what_is_said_about_a_key_needs_the_key(
    plain: CommandDefinition, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidOption, match=message):
        resolved(plain, **options)


def test_connection_is_kept_where_the_storage_can_use_it(plain: CommandDefinition) -> None:
    connection = object()
    options = resolve(plain, {"connection": connection}, defaults=DEFAULTS, now_us=NOW, supports_connection=True)

    assert options.connection is connection


def test_every_option_of_the_contract_is_checked() -> None:
    assert set(JobOptions.__annotations__) == OPTIONS
    assert TRANSIENT_OPTIONS < OPTIONS


@pytest.mark.parametrize("option", sorted(OPTIONS - TRANSIENT_OPTIONS))
def test_transient_run_refuses_options_of_stored_jobs(plain: CommandDefinition, option: str) -> None:
    with pytest.raises(InvalidOption, match=f"^{option} is not an option of a transient run"):
        resolve_transient(plain, {option: "x"}, defaults=DEFAULTS, now_us=NOW)


def test_c02_transient_run_without_retry_runs_once(plain: CommandDefinition) -> None:
    options = resolve_transient(plain, {}, defaults=DEFAULTS, now_us=NOW)

    assert (options.retry_limit, options.timeout_s) == (0, 30.0)


def test_c06_transient_run_uses_the_commands_policy(decorated: CommandDefinition) -> None:
    assert resolve_transient(decorated, {}, defaults=DEFAULTS, now_us=NOW).retry_limit == 7
    assert resolve_transient(decorated, {"retry_limit": 1}, defaults=DEFAULTS, now_us=NOW).retry_limit == 1
