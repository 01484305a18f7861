"""Values as they stand in a statement's text: asyncmy binds on this side, and so many rows are bound best at once.

The session's `sql_mode` leaves backslashes their meaning, which the quoting of texts relies on.
"""

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any

from asyncmy.converters import escape_string


def literal(value: Any) -> str:
    """One value; a list as what stands after `in`."""
    write = WRITERS.get(type(value))
    if write is None:  # an enum's member, which is a text or a number
        write = _text if isinstance(value, str) else WRITERS[int]
    return write(value)


def record(values: Iterable[Any]) -> str:
    """Values as one row of an insert."""
    return f"({','.join([literal(value) for value in values])})"


class Default:
    """What a column is when nothing is said of it."""


DEFAULT = Default()


def _text(value: str) -> str:
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair is no text
    return f"'{escape_string(value)}'"


def _float(value: float) -> str:
    if not isfinite(value):
        raise ValueError(f"{value} is no number that MySQL knows.")
    return repr(value)


def _list(values: Iterable[Any]) -> str:
    return f"({','.join([literal(value) for value in values]) or 'null'})"


WRITERS: dict[type, Callable[[Any], str]] = {
    str: _text,
    int: lambda value: str(int(value)),
    bool: lambda value: "1" if value else "0",
    float: _float,
    type(None): lambda _: "null",
    list: _list,
    tuple: _list,
    Default: lambda _: "default",
}
