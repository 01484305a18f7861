"""A row of the engine as columns and as JSON, and back.

`JOB_COLUMNS` is the one order in which whole rows are selected. What goes in goes as one JSON document for any number
of rows, so that a statement's text never changes; a column that the document leaves out is at its default.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from commandjobs.model.row import JobRow, SummaryRow
from commandjobs.model.state import FINAL, Hold, JobState
from commandjobs.storage.base import Copying

Columns = Sequence[Any]

STATES = {str(state): state for state in JobState}
HOLDS: dict[int | None, Hold | None] = {None: None, **{int(hold): hold for hold in Hold}}

COMMON_COLUMNS = (
    "id", "ref_id", "command", "created", "request", "request_body", "queue", "priority", "retry_limit", "timeout",
)  # fmt: skip
"""What a row with `common` consists of; everything else is at its default."""
JOB_COLUMNS = (
    *COMMON_COLUMNS,
    "owner", "state", "hold", "parents_left", "lane", "lane_key", "suspect", "run",
    "attempts", "attempts_returned", "callback_attempts", "callback_returned", "crashes",
    "started", "completed", "notified", "last_activity", "duration_ms", "progress", "status",
    "response", "response_body", "error", "error_code", "error_message",
    "overrunning", "cancel_requested", "cancelled_by", "node", "meta", "history", "work_done",
    "request_type", "worker", "tags", "batch_id", "callback", "callback_queue",
    "depends_on", "depends_on_policy", "bound_attempt", "parent_id", "run_after", "expires",
    "created_by", "user_id", "tenant_id", "reply_to", "unique_key", "unique_until", "concurrency_key",
    "args", "trace_id", "rerun_after_crash",
)  # fmt: skip
CHANGING = (
    "owner", "state", "hold", "parents_left", "lane", "lane_key", "suspect", "attempts", "attempts_returned",
    "callback_attempts", "callback_returned", "crashes", "started", "completed", "notified", "last_activity",
    "duration_ms", "progress", "status", "response", "response_body", "error", "error_code", "error_message",
    "overrunning", "cancel_requested", "cancelled_by", "node", "meta", "history", "work_done", "callback_queue",
    "run_after", "priority", "queue",
)  # fmt: skip
"""Everything that an attempt or an operator can change of a job."""
PLAIN_END = frozenset({
    *COMMON_COLUMNS, "fresh", "owner", "hold", "state", "attempts", "started", "completed", "last_activity", "node",
    "duration_ms", "progress", "response", "response_body",
})  # fmt: skip
"""Of a row in memory that has ended as most do."""

SUMMARY_COLUMNS = (
    "id", "ref_id", "command", "created", "state", "started", "completed", "duration_ms", "attempts",
    "callback_attempts", "run", "queue", "worker", "tags", "batch_id", "parent_id", "created_by", "user_id",
    "tenant_id", "error_code", "error_message", "args",
)  # fmt: skip
"""What a summary keeps."""
FINISHED_COLUMNS = tuple(name for name in JOB_COLUMNS if name not in {"owner", "hold"})
"""What an archive keeps."""


def to_row(columns: Columns) -> JobRow:
    """The row of `JOB_COLUMNS`."""
    row = JobRow(**dict(zip(JOB_COLUMNS, columns, strict=True)))
    row.state, row.hold = STATES[row.state], HOLDS[row.hold]
    row.suspect, row.work_done = bool(row.suspect), bool(row.work_done)
    row.rerun_after_crash = bool(row.rerun_after_crash)
    row.tags, row.depends_on, row.history = texts(row.tags), texts(row.depends_on), texts(row.history)
    row.args, row.meta = mapping(row.args), mapping(row.meta)
    return row


def to_row_of_summary(columns: Columns) -> JobRow:
    """The row of `SUMMARY_COLUMNS`: what a summary does not keep is at its default."""
    row = JobRow.of(dict(zip(SUMMARY_COLUMNS, columns, strict=True)))
    row.state, row.tags, row.args = STATES[row.state], texts(row.tags), mapping(row.args)
    return row


def to_copying(columns: Columns) -> Copying:
    """The row of the query `copying`."""
    source, run, last_id, source_node, target_node, after, ref_id, done = columns
    return Copying(
        source=source,
        run=run,
        last_id=last_id,
        source_node=source_node,
        target_node=target_node,
        after=after,
        ref_id=ref_id,
        done=bool(done),
    )


def to_common_row(columns: Columns) -> JobRow:
    """The row of `COMMON_COLUMNS`."""
    return JobRow(**dict(zip(COMMON_COLUMNS, columns, strict=True)))


def to_summary(columns: Columns) -> SummaryRow:
    """The summary of the first 18 columns of the view `summary`."""
    (
        id, ref_id, command, state, created, started, completed, duration_ms, attempts, worker, queue, tags, batch_id,
        created_by, user_id, error_code, error_message, run,
    ) = columns  # fmt: skip
    return SummaryRow(
        id=id,
        ref_id=ref_id,
        command=command,
        state=STATES[state],
        created=created,
        started=started,
        completed=completed,
        duration_ms=duration_ms,
        attempts=attempts,
        worker=worker,
        queue=queue,
        tags=texts(tags),
        batch_id=batch_id,
        created_by=created_by,
        user_id=user_id,
        error_code=error_code,
        error_message=error_message,
        run=run,
    )


def next_step(row: JobRow) -> tuple[str, str]:
    """Queue and command of what a waiting row does next: its callback's once it is Executed."""
    if row.state is JobState.EXECUTED:
        return row.callback_queue or row.queue, row.callback or row.command
    return row.queue, row.command


def claimable_as(row: JobRow) -> tuple[str | None, str | None]:
    """The claim columns: queue and command of the next step, if the row only waits to be claimed."""
    if row.owner is not None or row.hold is not None or row.state in FINAL:
        return None, None
    return next_step(row)


# ── documents ───────────────────────────────────────────────────────────────────────────────────────────────────────


def document(rows: Iterable[Mapping[str, Any]]) -> str:
    """Many rows as the one parameter of a statement."""
    text = json.dumps(list(rows), ensure_ascii=False, separators=(",", ":"))
    return storable(text) if "\\u0000" in text or not text.isascii() else text


def new_columns(row: JobRow) -> dict[str, Any]:
    """A new row: what is not at its default, with the claim columns."""
    columns = encoded(row, JOB_COLUMNS)
    columns["claim_queue"], columns["claim_command"] = claimable_as(row)
    columns["timeout"] = row.timeout
    if row.unique_key is not None and row.state not in FINAL and not (row.unique_until == "start" and row.started):
        columns["held_key"] = row.unique_key
    return columns


def is_plain_end(row: JobRow) -> bool:
    """Whether a job has succeeded at its first attempt, with nothing to tell but when, and its result."""
    return row.state is JobState.COMPLETED and vars(row).keys() <= PLAIN_END and row.attempts == 1


def changed_columns(row: JobRow) -> dict[str, Any]:
    """Everything that can have changed of a row, with the claim columns. Its unique key is free once it has ended, or
    has started where that is enough.
    """
    columns = encoded(row, CHANGING)
    columns["id"] = row.id
    columns["claim_queue"], columns["claim_command"] = claimable_as(row)
    columns["keeps_key"] = row.state not in FINAL and not (row.unique_until == "start" and row.started is not None)
    return columns


def placed_columns(row: JobRow, token: int | None) -> dict[str, Any]:
    """Who owns a waiting row, what parks it, and as what it can be claimed."""
    queue, command = claimable_as(row)
    return {
        "id": row.id,
        "owner": row.owner,
        "token": None if row.owner is None else token,
        "hold": row.hold,
        "parents_left": row.parents_left,
        "suspect": row.suspect,
        "claim_queue": queue,
        "claim_command": command,
    }


def to_json(value: Any) -> str | None:
    """The JSON of a column that holds a collection; None when it is empty."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value else None


def texts(column: Any) -> tuple[Any, ...]:
    """The collection of such a column."""
    return () if column is None else tuple(json.loads(column))


def mapping(column: Any) -> dict[str, str]:
    """The mapping of such a column."""
    return {} if column is None else json.loads(column)


def storable(text: str) -> str:
    """Whatever a handler says is kept, be it in pieces: a server takes neither NUL nor half of a surrogate pair."""
    if "\\u0000" in text:
        text = ESCAPED_NUL.sub(r"\1\\ufffd", text)
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def plain_text(text: str | None) -> str | None:
    """The same for a text that is a value of its own."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""NUL as JSON writes it, and not a backslash before the letters of it."""

ENCODERS: dict[str, Callable[[Any], Any]] = {
    "tags": to_json,
    "depends_on": to_json,
    "args": lambda value: to_json(dict(value)),
    "meta": lambda value: to_json(dict(value)),
    "history": to_json,
}
"""Columns that are written as JSON of their own."""


def encoded(row: JobRow, columns: Collection[str]) -> dict[str, Any]:
    values = vars(row)
    found = {name: values[name] for name in columns if values.get(name) is not None}
    for name, encode in ENCODERS.items():
        if name in found:
            found[name] = encode(found[name])
    return found
