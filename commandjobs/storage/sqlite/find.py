"""The filters of `find` and `count`, as fragments of a statement over the view `summary`."""

from collections.abc import Iterator
from typing import Any

from commandjobs.model.find import JobFilter
from commandjobs.model.state import JobState
from commandjobs.storage.sqlite.rows import ids_json, to_json

EXACT = (
    "command", "ref_id", "parent_id", "worker", "queue", "batch_id", "created_by", "user_id", "tenant_id", "error_code",
)  # fmt: skip
"""Columns that are compared as they are."""
MENTIONS = """(
    ref_id like :text escape '\\' or command like :text escape '\\' or worker like :text escape '\\'
    or error_message like :text escape '\\'
    or exists (select 1 from json_each(tags) where value like :text escape '\\'))"""
MENTIONS_FOLDED = """(
    instr(casefold(ref_id), :folded) or instr(casefold(command), :folded) or instr(casefold(worker), :folded)
    or instr(casefold(error_message), :folded)
    or exists (select 1 from json_each(tags) where instr(casefold(value), :folded)))"""
"""For texts beyond ASCII, whose case `like` does not know."""


def where(wanted: JobFilter, after: int | None) -> tuple[str, dict[str, Any]]:
    """The conditions, each beginning with "and", and their parameters."""
    conditions: list[str] = []
    parameters: dict[str, Any] = {}
    for condition, values in _conditions(wanted, after):
        conditions.append(f"and {condition}")
        parameters.update(values)
    return "\n".join(conditions), parameters


def _conditions(wanted: JobFilter, after: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    for column in EXACT:
        value = getattr(wanted, column)
        if value is not None:
            yield f"{column} = :{column}", {column: value}
    if after is not None:
        yield "id < :after", {"after": after}
    if wanted.ids:
        yield "id in (select value from json_each(:ids))", {"ids": ids_json(wanted.ids)}
    if wanted.states:
        yield (
            "state in (select value from json_each(:states))",
            {"states": to_json([str(state) for state in wanted.states])},
        )
        if JobState.COMPLETED not in wanted.states:
            yield "state <> 'Completed'", {}  # word for word as in the index of what did not succeed
    if wanted.tag is not None:
        yield "exists (select 1 from json_each(tags) where value = :tag)", {"tag": wanted.tag}
    if wanted.since is not None:
        yield "created >= :since", {"since": wanted.since}
    if wanted.until is not None:
        yield "created < :until", {"until": wanted.until}
    yield from _in_args(wanted)
    yield from _mentions(wanted.text)


def _in_args(wanted: JobFilter) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, (key, value) in enumerate(wanted.args.items()):
        condition = f"exists (select 1 from json_each(args) where key = :key{number} and value = :value{number})"  # noqa: S608  two numbers
        yield condition, {f"key{number}": key, f"value{number}": value}


def _mentions(text: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    if text is None:
        return
    if text.isascii():
        escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        yield MENTIONS, {"text": f"%{escaped}%"}
    else:
        yield MENTIONS_FOLDED, {"folded": text.casefold()}
