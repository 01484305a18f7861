"""T-SQL as a parser sees it: which tables and columns there are, and which of them a statement names.

There is no SQL Server where commandjobs is built, so that what a server would refuse has to be found by reading.
"""

import logging
from collections.abc import Iterator
from datetime import date
from functools import cache
from typing import Any

import sqlglot
from sqlglot import exp

from commandjobs.storage.queries import load_bodies
from commandjobs.storage.sqlserver.dialect import SqlServerDialect
from commandjobs.storage.sqlserver.migrating import Migration, batches, steps
from commandjobs.storage.sqlserver.months import Months, of_month
from commandjobs.storage.sqlserver.parameters import declared

PACKAGE = "commandjobs.storage.sqlserver"
SCHEMA = "jobs"
MONTH = date(2026, 11, 1)
PIECES = ("where_", "find_newest", "count")
"""Beginnings of names of what is no statement by itself."""

DIALECT = SqlServerDialect(load_bodies(PACKAGE, schema=f"[{SCHEMA}]"))
MONTHS = load_bodies(PACKAGE, file="months.sql", schema=f"[{SCHEMA}]")
MIGRATING = Migration(SCHEMA, "here")


def statements() -> Iterator[tuple[str, str]]:
    """Every statement there is, with its name."""
    for name, body in DIALECT.bodies.items():
        if name == "find":
            conditions = "\n".join(f"and {DIALECT.bodies[one]}" for one in DIALECT.bodies if one.startswith("where_"))
            yield name, DIALECT.find(conditions).text
            yield "count", DIALECT.count(conditions).text
        elif not name.startswith(PIECES):
            yield name, of_month(DIALECT.sql[name].text, MONTH) if "YYYY_MM" in body else DIALECT.sql[name].text
    for name, body in MONTHS.items():
        if not name.endswith(("_view", "_part")):
            yield name, declared(name, of_month(body, MONTH)).text
    for name in ("finished", "log"):
        yield f"{name}_view", Months(SCHEMA).view(name, [MONTH, MONTH])
    yield from ((name, statement.text) for name, statement in MIGRATING.sql.items())
    for _, file, text in steps():
        yield from ((f"{file} batch {number}", batch) for number, batch in enumerate(batches(text, SCHEMA)))


def parsed(text: str) -> list[exp.Expr]:
    """The statements of a batch. The parser takes what it does not know for a command, which is not good enough."""
    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it says so as well
    trees = [tree for tree in sqlglot.parse(text, dialect="tsql") if tree is not None]
    unknown = [command.sql() for tree in trees for command in tree.find_all(exp.Command)]
    assert not unknown, unknown
    return trees


@cache
def tables() -> dict[str, dict[str, str]]:
    """The columns of every table and view, and their types."""
    found: dict[str, dict[str, str]] = {}
    for tree in (tree for _, text in statements() for tree in parsed(text) if isinstance(tree, exp.Create)):
        if tree.kind == "TABLE":
            found[tree.this.this.name] = dict(_defined(tree))
        elif tree.kind == "VIEW":
            found[tree.this.name] = dict.fromkeys(tree.expression.named_selects, "")
    return found


def sources(tree: exp.Expr) -> dict[str, dict[str, str]]:
    """By what columns can be named, and the columns of it: tables, documents, parts of the statement."""
    found: dict[str, dict[str, str]] = {}
    for table in tree.find_all(exp.Table):
        name = table.alias or table.name
        if isinstance(table.this, exp.OpenJSON):
            columns = {one.name: _type(one) for one in table.this.expressions} or {"key": "TEXT", "value": "TEXT"}
            found.setdefault(name, {}).update(columns)
        elif table.db == SCHEMA:
            found.setdefault(name, {}).update(tables()[table.name])
    for part in tree.find_all(exp.CTE, exp.Subquery, exp.Lateral, exp.Values):
        if part.alias:
            query = part.this.this if isinstance(part, exp.Lateral) else part.this
            names = part.alias_column_names or query.named_selects
            found.setdefault(part.alias, {}).update(dict.fromkeys(names, ""))
    for table in tree.find_all(exp.Table):
        if not table.db and table.name in found:
            found.setdefault(table.alias_or_name, {}).update(found[table.name])
    return found


def documents(tree: exp.Expr) -> list[set[str]]:
    """The columns that a statement reads of each document of rows."""
    return [
        {column.name for column in document.expressions}
        for document in tree.find_all(exp.OpenJSON)
        if isinstance(document.this, exp.Parameter) and document.this.name == "rows"
    ]


def _defined(tree: exp.Create) -> Iterator[tuple[str, str]]:
    for column in tree.this.expressions:
        if isinstance(column, exp.ColumnDef):
            yield column.name, _type(column)


def _type(column: Any) -> str:
    kind = column.args.get("kind")
    return "" if kind is None else "TEXT" if kind.is_type(*exp.DataType.TEXT_TYPES) else "NUMBER"
