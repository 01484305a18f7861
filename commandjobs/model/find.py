"""What `find_jobs` looks for, and the cursor of its pages."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from commandjobs.errors import InvalidOption
from commandjobs.model.state import JobState

COUNT_LIMIT = 10_000
"""Counts are exact up to here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """All that is set must hold; moments are microseconds, `since` included and `until` not."""

    states: tuple[JobState, ...] = ()
    ids: tuple[int, ...] = ()
    command: str | None = None
    ref_id: str | None = None
    parent_id: int | None = None
    worker: str | None = None
    queue: str | None = None
    tag: str | None = None
    batch_id: str | None = None
    created_by: str | None = None
    user_id: str | None = None
    tenant_id: str | None = None
    error_code: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    since: int | None = None
    until: int | None = None
    text: str | None = None
    """Part of the ref id, command, tags, worker or error message; case does not matter."""


def encode_cursor(last_id: int) -> str:
    """The cursor after a page that ended with this id."""
    return f"id-{last_id}"


def decode_cursor(cursor: str) -> int:
    """The id a cursor stands for. Raises `InvalidOption` for anything that `find_jobs` did not give."""
    kind, _, number = cursor.partition("-")
    if kind != "id" or not number.isascii() or not number.isdigit():
        raise InvalidOption(f"after={cursor!r} is not a cursor of find_jobs. Pass the `next` of the page before.")
    return int(number)
