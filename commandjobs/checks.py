"""What options and decorators accept: names, numbers, seconds and moments. Each check returns the value to keep.

All raise `InvalidOption`, naming the option, what it must be and what came.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite
from reprlib import Repr
from typing import Any, TypeVar

from commandjobs.errors import InvalidOption
from commandjobs.model.moment import to_datetime, to_moment

T = TypeVar("T")

SHORT = Repr()
SHORT.maxother = SHORT.maxstring = 60

NAME_LENGTH = 200
"""Characters; what every database can index."""
MOST = 2**31 - 1
"""What every database's INTEGER holds."""
MOST_ID = 2**63 - 1


def a_name(option: str, value: Any) -> str:
    """A text that names something: 1 to 200 characters."""
    name = a_text(option, value)
    if not name.strip() or len(name) > NAME_LENGTH:
        raise _invalid(option, f"have 1 to {NAME_LENGTH} characters", name, f" ({len(name)} characters)")
    return name


def a_text(option: str, value: Any) -> str:
    """A text that a database can hold."""
    if not isinstance(value, str):
        raise _invalid(option, "be a str", value)
    if "\0" in value or _has_lone_surrogates(value):
        raise _invalid(option, "be free of NUL characters and lone surrogates", value)
    return str.__str__(value)  # an enum member becomes its value


def an_integer(option: str, value: Any, *, least: int = -MOST, most: int = MOST) -> int:
    """A whole number; True and False are none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise _invalid(option, "be an int", value)
    if not least <= value <= most:
        raise _invalid(option, f"be from {least} to {most}", value)
    return int(value)


def a_bool(option: str, value: Any) -> bool:
    """True or False, nothing that only counts as it."""
    if not isinstance(value, bool):
        raise _invalid(option, "be True or False", value)
    return value


def a_count(option: str, value: Any) -> int:
    """A whole number, 0 or more."""
    return an_integer(option, value, least=0)


def an_id(option: str, value: Any) -> int:
    """The id of a job."""
    return an_integer(option, value, least=1, most=MOST_ID)


def seconds(option: str, value: Any) -> float:
    """A duration, 0 or more: seconds, or a timedelta."""
    number = a_number_of_seconds(option, value)
    if not isfinite(number) or number < 0:
        raise _invalid(option, "be 0 seconds or more", value)
    return number


def a_number_of_seconds(option: str, value: Any) -> float:
    """A duration that may be over: seconds, or a timedelta."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _invalid(option, "be a number of seconds or a timedelta", value)
    return float(value)


def seconds_or_none(option: str, value: Any) -> float | None:
    """A duration, or None for no limit."""
    return None if value is None else seconds(option, value)


def a_moment(option: str, value: Any, *, now: int) -> int:
    """A moment in microseconds: that of an aware datetime, or a delay from `now` as a timedelta."""
    try:
        at = to_datetime(now) + value if isinstance(value, timedelta) else value
        if isinstance(at, datetime) and at.utcoffset() is not None:
            return to_moment(at.astimezone(UTC))
    except OverflowError:
        raise _invalid(option, "lie in the years 1 to 9999", value) from None
    if isinstance(value, datetime):
        raise _invalid(option, "have a time zone, such as datetime.now(UTC)", value)
    raise _invalid(option, "be an aware datetime or a timedelta", value)


def one_of(option: str, value: Any, choices: Sequence[T]) -> T:
    """One of a few words."""
    if value not in choices:
        raise _invalid(option, f"be one of {', '.join(map(repr, choices))}", value)
    return choices[choices.index(value)]


def several(option: str, value: Any, check: Callable[[str, Any], T]) -> tuple[T, ...]:
    """A sequence of values that pass a check, each once, in the order given."""
    if not isinstance(value, (Sequence, set, frozenset)) or isinstance(value, (str, bytes)):
        raise _invalid(option, "be a sequence, such as a list", value)
    return tuple(dict.fromkeys(check(option, item) for item in value))


def names(option: str, value: Any) -> tuple[str, ...]:
    """A sequence of names."""
    return several(option, value, a_name)


def a_mapping(option: str, value: Any) -> dict[str, str]:
    """A mapping of names to texts; a copy."""
    if not isinstance(value, Mapping):
        raise _invalid(option, "be a mapping of str to str", value)
    return {a_name(option, key): a_text(option, text) for key, text in value.items()}


def exception_types(option: str, value: Any) -> tuple[type[BaseException], ...]:
    """A tuple of exception classes."""
    if not isinstance(value, tuple) or not all(
        isinstance(one, type) and issubclass(one, BaseException) for one in value
    ):
        raise _invalid(option, "be a tuple of exception classes, such as (OSError,)", value)
    return value


def shown(value: Any) -> str:
    """A value as messages show it: shortened, whatever its `repr` does."""
    try:
        return SHORT.repr(value)
    except Exception:  # a class's own `__repr__`, or an integer too long to be written
        return f"a {type(value).__name__}"


def _invalid(option: str, rule: str, value: Any, more: str = "") -> InvalidOption:
    return InvalidOption(f"{option} must {rule}, got {shown(value)}{more}.")


def _has_lone_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
