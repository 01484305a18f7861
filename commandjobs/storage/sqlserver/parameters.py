"""The types of statements' parameters, each by its name.

A statement begins by declaring its parameters as variables of these types, and they are sent as just these types. Left
to guess, the driver would take NULL for an unknown type, a short text for a short type and a small number for a small
one, and SQL Server would plan each of those statements anew.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import mssql_python

from commandjobs.storage.queries import Statement, statement


@dataclass(frozen=True, slots=True)
class Kind:
    """What a parameter is declared as, and how it is sent: ODBC's type, length and digits."""

    declared: str
    sent: tuple[int, int, int]


NUMBER = Kind("bigint", (mssql_python.SQL_BIGINT, 0, 0))
FLAG = Kind("bit", (mssql_python.SQL_BIT, 0, 0))
TEXT = Kind("nvarchar(4000)", (mssql_python.SQL_WVARCHAR, 4000, 0))
DOCUMENT = Kind("nvarchar(max)", (mssql_python.SQL_WVARCHAR, 0, 0))
"""JSON: of many rows, of a list, of a mapping. (Length 0 is how ODBC says "max".)"""

KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(
        (
            "args", "commands", "firsts", "followings", "ids", "keys", "numbers", "parents", "queues", "refs", "rooms",
            "rows", "served", "states", "workers",
        ),
        DOCUMENT,
    ),
    **dict.fromkeys(
        (
            "batch_id", "command", "created_by", "error_code", "machine", "name", "queue", "ref", "ref_id", "schema",
            "source", "tag", "tenant_id", "text", "user_id", "worker",
        ),
        TEXT,
    ),
    **dict.fromkeys(("done", "draining", "executing", "standby"), FLAG),
}  # fmt: skip
"""All others are numbers."""
EXCEPTIONS = {("note_copying", "run"): TEXT}
"""Names that mean something else in one statement."""


def kind_of(statement: str, name: str) -> Kind:
    """What the parameter of this name is in a statement."""
    return EXCEPTIONS.get((statement, name)) or KINDS.get(name, NUMBER)


def declared(name: str, body: str) -> Statement:
    """A statement that declares its parameters."""
    made = statement(name, body, style="@")
    if not made.parameters:
        return made
    variables = ", ".join(f"@{parameter} {kind_of(name, parameter).declared} = ?" for parameter in made.parameters)
    return replace(made, text=f"declare {variables};\n{made.text}")


def values(statement: Statement, given: Mapping[str, Any]) -> list[Any]:
    """What is sent for a statement's parameters: lists go as JSON."""
    return [_sent(value) for value in statement.values(given)]


def sizes(statement: Statement) -> list[tuple[int, int, int]]:
    """As what they are sent."""
    return [kind_of(statement.name, name).sent for name in statement.parameters]


def _sent(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value
