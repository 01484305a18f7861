from datetime import timedelta
from types import new_class
from typing import Any

import pytest

from commandjobs import registry
from commandjobs.command import AsyncCommand
from commandjobs.decorators import command, retry, timeout, worker
from commandjobs.definition import UNSET, define
from commandjobs.errors import InvalidOption
from commandjobs.model.retry import RetryPolicy
from commandjobs.registry import Registry, command_name


@pytest.fixture(autouse=True)
def _fresh_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "default", Registry())


class Mailing(AsyncCommand):
    """Only a base: it has no `run`."""


def subclass(base: type[Any], name: str = "Send") -> type[Any]:
    async def run(self: Any) -> None: ...

    return new_class(name, (base,), exec_body=lambda body: body.update(run=run))


def test_decorators_return_the_same_class() -> None:
    cls = subclass(Mailing)

    assert worker("smtp")(cls) is retry()(cls) is timeout(5)(cls) is command()(cls) is cls


def test_undecorated_command_says_nothing() -> None:
    definition = define(subclass(Mailing))

    assert (definition.worker, definition.queue, definition.priority, definition.retry) == (None,) * 4
    assert definition.timeout is UNSET
    assert definition.rerun_after_crash
    assert not definition.runnable


def test_decorated_values_are_in_the_definition() -> None:
    cls = command(tags=["mail"], queue="slow", priority=3, rerun_after_crash=False, runnable=True)(subclass(Mailing))
    definition = define(worker("smtp")(timeout(timedelta(minutes=1))(cls)))

    assert definition.tags == ("mail",)
    assert (definition.queue, definition.priority, definition.worker) == ("slow", 3, "smtp")
    assert definition.timeout == 60
    assert not definition.rerun_after_crash
    assert definition.runnable


def test_timeout_of_none_is_no_limit_and_not_unset() -> None:
    assert define(timeout(None)(subclass(Mailing))).timeout is None


def test_retry_records_a_policy() -> None:
    cls = retry(5, backoff="linear", delay=timedelta(seconds=2), on=(OSError,))(subclass(Mailing))

    assert define(cls).retry == RetryPolicy(5, "linear", 2.0, 300.0, (OSError,), ())


def test_c03_retry_without_arguments_gives_two_retries() -> None:
    assert define(retry()(subclass(Mailing))).retry == RetryPolicy(limit=2)


def test_decoration_of_a_subclass_does_not_leak() -> None:
    first, second = subclass(Mailing, "First"), subclass(Mailing, "Second")
    worker("smtp")(first)

    assert define(second).worker is None
    assert not hasattr(Mailing, "__command_worker__")


def test_subclass_inherits_all_but_names() -> None:
    base = subclass(Mailing, "Base")
    command(name="base", aliases=["old"], rerun_after_crash=False)(worker("smtp")(timeout(3)(base)))
    definition = define(subclass(base, "Derived"))

    assert (definition.worker, definition.timeout, definition.rerun_after_crash) == ("smtp", 3, False)
    assert (definition.name, definition.aliases) == ("Derived", ())


def test_subclass_says_something_itself() -> None:
    base = command(rerun_after_crash=False, tags=["a"])(worker("smtp")(subclass(Mailing, "Base")))
    derived = command(name="derived", tags=["b"])(worker("fax")(subclass(base, "Derived")))

    assert (define(derived).worker, define(derived).tags) == ("fax", ("b",))
    assert not define(derived).rerun_after_crash, "what @command leaves out is still inherited"


def test_decorating_a_class_that_was_used_already_takes_effect() -> None:
    cls = subclass(Mailing)
    define(cls)

    assert define(worker("smtp")(cls)).worker == "smtp"


def test_name_is_stored_with_the_class() -> None:
    assert command_name(command(name="mail.send")(subclass(Mailing))) == "mail.send"


@pytest.mark.parametrize(
    ("decorator", "values", "option"),
    [
        (worker, {"name": ""}, "worker"),
        (worker, {"name": "x" * 201}, "worker"),
        (worker, {"name": 5}, "worker"),
        (timeout, {"after": -1}, "timeout"),
        (timeout, {"after": "5"}, "timeout"),
        (timeout, {"after": float("nan")}, "timeout"),
        (retry, {"limit": -1}, "limit"),
        (retry, {"limit": True}, "limit"),
        (retry, {"delay": -1}, "delay"),
        (retry, {"max_delay": timedelta(seconds=-1)}, "max_delay"),
        (retry, {"backoff": "cubic"}, "backoff"),
        (retry, {"on": (1,)}, "on"),
        (retry, {"on": [OSError]}, "on"),
        (retry, {"never_on": ValueError}, "never_on"),
        (command, {"name": ""}, "name"),
        (command, {"aliases": [""]}, "aliases"),
        (command, {"tags": "mail"}, "tags"),
        (command, {"queue": ""}, "queue"),
        (command, {"priority": 1.5}, "priority"),
        (command, {"runnable": 1}, "runnable"),
        (command, {"rerun_after_crash": None}, "rerun_after_crash"),
    ],
)
def test_wrong_value_is_refused_where_it_is_written(decorator: Any, values: dict[str, Any], option: str) -> None:
    with pytest.raises(InvalidOption, match=f"^{option} must "):
        decorator(**values)


@pytest.mark.parametrize("decorator", [worker, retry, timeout], ids=lambda decorator: str(decorator.__name__))
def test_decorator_without_parentheses_is_refused_with_the_right_way(decorator: Any) -> None:
    name = decorator.__name__
    with pytest.raises(InvalidOption, match=rf"@{name} was written without its parentheses. Write @{name}\("):
        decorator(subclass(Mailing))


def test_decorator_on_a_function_is_refused() -> None:
    def send() -> None: ...

    with pytest.raises(InvalidOption, match="@worker is for command classes, and 'send' is none"):
        worker("smtp")(send)  # type: ignore[type-var]
