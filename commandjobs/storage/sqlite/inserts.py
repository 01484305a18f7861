"""INSERT statements that bind only the columns in use, many rows a statement.

Binding costs 0.15 us a value, a table has 60 columns, and a plain job uses ten: so the statement is composed from the
columns in which a row differs from the table's defaults, and what all its rows have in common (command, type, queue) is
bound once: that is 1.1 us of the 3.7 that a new row takes. Many rows a statement: one by one they take 25 % longer, and
each statement is a chance to lose the GIL to a busy loop.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any, Literal

from commandjobs.model.row import JobRow
from commandjobs.model.state import JobState
from commandjobs.storage.sqlite.rows import ENCODERS, JOB_COLUMNS

MOST_ROWS = 64
"""In one statement of any number of rows: more of them would fill the driver's cache with texts hardly ever used."""
LARGE = 256
"""In one statement, if there are so many."""
SHARING = 8
"""Rows from which on it pays to look for what they have in common."""
ALIKE = {
    "id", "command", "request", "owner", "claim_queue", "claim_command", "common", "attempts", "progress", "response",
    "node",
}  # fmt: skip
"""Columns in which neighbours are alike, or are not, for long. (Times and durations are so by chance, and each set of
shared columns is a text that SQLite has to compile: that made a drain a quarter slower.)"""

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
        self._alike = tuple(i for i, name in enumerate(head) if name in ALIKE)
        self._defaults = {name: defaults.get(name, getattr(JobRow, name)) for name in optional}
        self._statement = cache(self._compose)
        self._asked = lru_cache(maxsize=1024)(self._ask)

    def insert(self, connection: sqlite3.Connection, rows: Iterable[JobRow], head: Head) -> None:
        """Write rows; `head` gives the head's values of a row that uses the given optional columns."""
        by_use: dict[Used, list[Sequence[Any]]] = {}
        for row in rows:
            used = self._use(row)
            values = head(row, used)
            by_use.setdefault(used, []).append((*values, *_encoded(row, used)) if used else values)
        for used, written in by_use.items():
            for statement, bound in self._statements(used, written):
                connection.execute(statement, bound)

    def insert_at_once(self, connection: sqlite3.Connection, rows: Sequence[JobRow], head: Head) -> int | None:
        """Write up to `MOST_ROWS` rows by one statement, and return the id of the last; None: that is not possible, and
        nothing was done.

        SQLite gives the ids of one statement in its order, without gaps (https://sqlite.org/autoinc.html).
        """
        used = self._use(rows[0])
        written: list[Sequence[Any]] = []
        for row in rows:
            if self._use(row) != used:
                return None
            values = head(row, used)
            written.append((*values, *_encoded(row, used)) if used else values)
        [(statement, bound)] = self._statements(used, written)
        return connection.execute(statement, bound).lastrowid

    def _statements(self, used: Used, rows: Sequence[Sequence[Any]]) -> Iterator[tuple[str, list[Any]]]:
        """Statements that write rows of these values, with what is bound. A value that all rows have is bound once."""
        columns = list(zip(*rows, strict=True))
        shared: tuple[int, ...] = ()
        if len(rows) >= SHARING:
            shared = tuple([i for i in self._alike if columns[i].count(columns[i][0]) == len(rows)])
        once = [columns[i][0] for i in shared]
        others = [column for i, column in enumerate(columns) if i not in shared]
        for size, start in _pieces(len(rows)):
            piece = zip(*(column[start : start + size] for column in others), strict=True)
            yield self._statement(used, shared, size), [*once, *chain.from_iterable(piece)]

    def _use(self, row: JobRow) -> Used:
        values = vars(row)
        asked = self._asked(tuple(values))
        return tuple([name for name, default in asked if values[name] != default]) if asked else ()

    def _ask(self, names: tuple[str, ...]) -> list[tuple[str, Any]]:
        """The optional columns among those that a row holds: nearly all rows hold one of a few sets."""
        return sorted((name, self._defaults[name]) for name in names if name in self._defaults)

    def _compose(self, used: Used, shared: tuple[int, ...], size: int) -> str:
        columns = [*self._head, *used]
        once = [columns[i] for i in shared]
        others = [name for name in columns if name not in once]
        row = f"({','.join('?' * len(others))})"
        rows = f"values {','.join([row] * size)}"
        if once:
            each = (f"column{number}" for number in range(1, len(others) + 1))
            rows = f"select {','.join(['?'] * len(once) + [*each])} from ({rows})"  # noqa: S608  names of ours
        return f"{self._into} ({','.join(once + others)}) {rows}"


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
SUMMARY_REST = (
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
SUMMARIES = ColumnSets("insert into", "job_summary", SUMMARY_HEAD, SUMMARY_REST, state=JobState.COMPLETED)

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
