"""The filters of `find` and `count`: fragments of a statement over the view `summary`, each named `where_…`."""

from collections.abc import Iterator, Mapping
from typing import Any

from commandjobs.model.find import JobFilter
from commandjobs.model.state import JobState
from commandjobs.storage.sql.rows import to_json

EXACT = (
    "command", "ref_id", "parent_id", "worker", "queue", "batch_id", "created_by", "user_id", "tenant_id", "error_code",
)  # fmt: skip
"""Columns that are compared as they are."""


def where(wanted: JobFilter, after: int | None, fragments: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The conditions, each beginning with "and", and their parameters."""
    conditions: list[str] = []
    parameters: dict[str, Any] = {}
    for name, values in _conditions(wanted, after):
        conditions.append(f"and {fragments[name]}")
        parameters.update(values)
    return "\n".join(conditions), parameters


def _conditions(wanted: JobFilter, after: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    for column in EXACT:
        value = getattr(wanted, column)
        if value is not None:
            yield f"where_{column}", {column: value}
    if after is not None:
        yield "where_after", {"after": after}
    if wanted.ids:
        yield "where_ids", {"ids": list(wanted.ids)}
    if wanted.states:
        yield "where_states", {"states": [str(state) for state in wanted.states]}
        if JobState.COMPLETED not in wanted.states:
            yield "where_unsuccessful", {}  # word for word as in the index of what did not succeed
    if wanted.tag is not None:
        yield "where_tag", {"tag": wanted.tag}
    if wanted.args:
        yield "where_args", {"args": to_json(dict(wanted.args))}
    if wanted.since is not None:
        yield "where_since", {"since": wanted.since}
    if wanted.until is not None:
        yield "where_until", {"until": wanted.until}
    if wanted.text is not None:
        yield "where_text", {"text": wanted.text.lower()}
