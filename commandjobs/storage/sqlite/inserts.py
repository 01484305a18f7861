"""INSERT statements that bind only the columns in use, many rows a statement.

Binding costs 0.15 us a value, a table has 60 columns, and a plain job uses ten: so the statement is composed from the
columns in which a row differs from the table's defaults. Many rows a statement: one by one they take 25 % longer, and
each statement is a chance to lose the GIL to a busy loop.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, Literal

from commandjobs.model.row import JobRow
from commandjobs.model.state import JobState
from commandjobs.storage.sqlite.rows import ENCODERS, JOB_COLUMNS

MOST_ROWS = 64
"""In one statement of any number of rows: more of them would fill the driver's cache with texts hardly ever used."""
LARGE = 256
"""In one statement, if there are so many."""

Used = tuple[str, ...]
"""The optional columns in which a row differs from the table's defaults."""
Head = Callable[[JobRow, Used], Sequence[Any]]


class ColumnSets:
    """How rows are written into one table.

    head: columns that are always bound; the caller gives their values.
    optional: columns bound where a row differs from the table's default, which is that of `JobRow` unless given here
        (and a row that is written there has set it then).
    """

    def __init__(
        self,
        verb: Literal["insert into", "insert or ignore into", "insert or replace into"],
        table: str,
        head: Sequence[str],
        optional: Sequence[str],
        **defaults: Any,
    ) -> None:
        self._into = f"{verb} {table}"
        self._head = tuple(head)
        self._defaults = {name: defaults.get(name, getattr(JobRow, name)) for name in optional}
        self._statement = cache(self._compose)
        self._asked = lru_cache(maxsize=1024)(self._ask)

    def insert(self, connection: sqlite3.Connection, rows: Iterable[JobRow], head: Head) -> None:
        """Write rows; `head` gives the head's values of a row that uses the given optional columns."""
        by_use: dict[Used, list[Any]] = {}
        for row in rows:
            used = self._use(row)
            flat = by_use.setdefault(used, [])
            flat += head(row, used)
            if used:
                flat += _encoded(row, used)
        for used, flat in by_use.items():
            width = len(self._head) + len(used)
            for size, start in _pieces(len(flat) // width):
                connection.execute(self._statement(used, size), flat[start * width : (start + size) * width])

    def insert_at_once(self, connection: sqlite3.Connection, rows: Sequence[JobRow], head: Head) -> int | None:
        """Write rows by one statement, and return the id of the last; None: that is not possible, and nothing was done.

        SQLite gives the ids of one statement in its order, without gaps (https://sqlite.org/autoinc.html).
        """
        used = self._use(rows[0])
        flat: list[Any] = []
        for row in rows:
            if self._use(row) != used:
                return None
            flat += head(row, used)
            if used:
                flat += _encoded(row, used)
        return connection.execute(self._statement(used, len(rows)), flat).lastrowid

    def _use(self, row: JobRow) -> Used:
        values = vars(row)
        asked = self._asked(tuple(values))
        return tuple([name for name, default in asked if values[name] != default]) if asked else ()

    def _ask(self, names: tuple[str, ...]) -> list[tuple[str, Any]]:
        """The optional columns among those that a row holds: nearly all rows hold one of a few sets."""
        return sorted((name, self._defaults[name]) for name in names if name in self._defaults)

    def _compose(self, used: Used, size: int) -> str:
        columns = [*self._head, *used]
        row = f"({','.join('?' * len(columns))})"
        return f"{self._into} ({','.join(columns)}) values {','.join([row] * size)}"


def _encoded(row: JobRow, used: Used) -> list[Any]:
    values = vars(row)
    return [ENCODERS[name](values[name]) if name in ENCODERS else values[name] for name in used]


def _pieces(count: int) -> Iterator[tuple[int, int]]:
    """(size, start) of statements that together write so many rows."""
    start = 0
    while start < count:
        size = next(size for size in (LARGE, MOST_ROWS, count - start) if size <= count - start)
        yield size, start
        start += size


JOB_HEAD = ("id", "ref_id", "command", "created", "request", "request_body")
ARCHIVE_HEAD = (
    *JOB_HEAD[1:], "started", "completed", "last_activity", "attempts", "duration_ms", "progress", "response",
    "response_body", "node",
)  # fmt: skip
SUMMARY_HEAD = ("id", "ref_id", "command", "created", "started", "completed", "duration_ms", "attempts")
_SUMMARY_REST = (
    "state", "callback_attempts", "run", "queue", "worker", "tags", "batch_id", "parent_id", "created_by", "user_id",
    "tenant_id", "error_code", "error_message", "args",
)  # fmt: skip


def _without(columns: Sequence[str], *taken: str) -> list[str]:
    return [name for name in columns if name not in taken]


JOBS = ColumnSets(
    "insert into",
    "job",
    (*JOB_HEAD, "owner", "claim_queue", "claim_command", "common"),
    _without(JOB_COLUMNS, *JOB_HEAD, "owner"),
)
_ARCHIVE_REST = _without(JOB_COLUMNS, "id", "run", "owner", "hold", *ARCHIVE_HEAD)
ARCHIVED = ColumnSets("insert or ignore into", "job", ("key", *ARCHIVE_HEAD), _ARCHIVE_REST, state=JobState.COMPLETED)
MOVED = ColumnSets("insert or replace into", "job", ("key", *ARCHIVE_HEAD), _ARCHIVE_REST, state=JobState.COMPLETED)
SUMMARIES = ColumnSets("insert into", "job_summary", SUMMARY_HEAD, _SUMMARY_REST, state=JobState.COMPLETED)

_archive_head = attrgetter(*ARCHIVE_HEAD)
_summary_head = attrgetter(*SUMMARY_HEAD)


def insert_archived(connection: sqlite3.Connection, rows: Sequence[JobRow]) -> None:
    """Write settled rows into their month before the queue file has agreed: what is there already stays."""
    ARCHIVED.insert(connection, rows, _archived_head)


def insert_moved(connection: sqlite3.Connection, rows: Sequence[JobRow]) -> None:
    """Write rows into their month that the queue file has marked as ended: it is right, whatever is there."""
    MOVED.insert(connection, rows, _archived_head)


def insert_summaries(connection: sqlite3.Connection, rows: Sequence[JobRow]) -> None:
    """Write the summaries of finished rows."""
    SUMMARIES.insert(connection, rows, lambda row, _: _summary_head(row))


def _archived_head(row: JobRow, _: Used) -> tuple[Any, ...]:
    return (archive_key(row.id, row.run), *_archive_head(row))


def archive_key(id: int, run: int) -> int:
    """The key of one run of a job in its month."""
    return id << 16 | run
