"""A row of the engine as columns, and back.

`JOB_COLUMNS` is the one order in which whole rows are selected. Most rows are common, and read in a third of the time.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from commandjobs.model.row import JobRow, SummaryRow
from commandjobs.model.state import Hold, JobState
from commandjobs.storage.base import Copying

Columns = Sequence[Any]

STATES = {str(state): state for state in JobState}
HOLDS: dict[int | None, Hold | None] = {None: None, **{int(hold): hold for hold in Hold}}

COMMON_COLUMNS = (
    "id", "ref_id", "command", "created", "request", "request_body", "queue", "priority", "retry_limit", "timeout",
)  # fmt: skip
"""What a row with `common = 1` consists of; everything else is at its default."""
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

SUMMARY_COLUMNS = (
    "id", "ref_id", "command", "created", "state", "started", "completed", "duration_ms", "attempts",
    "callback_attempts", "run", "queue", "worker", "tags", "batch_id", "parent_id", "created_by", "user_id",
    "tenant_id", "error_code", "error_message", "args",
)  # fmt: skip
"""What a summary keeps."""


def to_row(columns: Columns) -> JobRow:
    """The row of `JOB_COLUMNS`."""
    row = JobRow.of(dict(zip(JOB_COLUMNS, columns, strict=True)))
    row.state, row.hold = STATES[row.state], HOLDS[row.hold]
    row.suspect, row.work_done = bool(row.suspect), bool(row.work_done)
    row.rerun_after_crash = bool(row.rerun_after_crash)
    row.tags, row.depends_on, row.history = _texts(row.tags), _texts(row.depends_on), _texts(row.history)
    row.args, row.meta = _mapping(row.args), _mapping(row.meta)
    return row


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
        tags=() if tags is None else tuple(json.loads(tags)),
        batch_id=batch_id,
        created_by=created_by,
        user_id=user_id,
        error_code=error_code,
        error_message=error_message,
        run=run,
    )


def to_row_of_summary(columns: Columns) -> JobRow:
    """The row of `SUMMARY_COLUMNS`: what a summary does not keep is at its default."""
    row = JobRow.of(dict(zip(SUMMARY_COLUMNS, columns, strict=True)))
    row.state, row.tags, row.args = STATES[row.state], _texts(row.tags), _mapping(row.args)
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


def next_step(row: JobRow) -> tuple[str, str]:
    """Queue and command of what a waiting row does next: its callback's once it is Executed."""
    if row.state is JobState.EXECUTED:
        return row.callback_queue or row.queue, row.callback or row.command
    return row.queue, row.command


def to_json(value: Any) -> str | None:
    """The JSON of a column that holds a collection; None when it is empty."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value else None


def ids_json(ids: Sequence[int] | set[int]) -> str:
    """Ids as the one parameter of `id in (select value from json_each(?))`: one statement text for any number."""
    return str(ids if isinstance(ids, list) else list(ids))


def _texts(column: Any) -> tuple[Any, ...]:
    return () if column is None else tuple(json.loads(column))


def _mapping(column: Any) -> dict[str, str]:
    return {} if column is None else json.loads(column)


ENCODERS: dict[str, Callable[[Any], Any]] = {
    "tags": to_json,
    "depends_on": to_json,
    "args": to_json,
    "meta": to_json,
    "history": to_json,
    "state": str,
}
"""Columns that are not bound as they are. (Subclasses of str would pass through sqlite3's slow adapters.)"""
