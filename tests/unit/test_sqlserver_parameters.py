"""What the code passes to the statements of the SQL Server storage, held against what they ask for."""

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlglot import exp

from commandjobs.model.find import JobFilter
from commandjobs.model.node import NodeRow
from commandjobs.model.row import JobRow, LogRow, ProgressRow
from commandjobs.model.state import Hold, JobState
from commandjobs.model.stats import Tally, TallyKey
from commandjobs.storage.base import Copying
from commandjobs.storage.queries import Statement
from commandjobs.storage.sql import storage as shared
from commandjobs.storage.sql.claiming import StartMark, reports
from commandjobs.storage.sql.dialect import edges
from commandjobs.storage.sql.find import where
from commandjobs.storage.sql.inserting import SIMPLE
from commandjobs.storage.sql.logs import log_lines
from commandjobs.storage.sql.nodes import node_columns
from commandjobs.storage.sql.rows import FINISHED_COLUMNS, JOB_COLUMNS, SUMMARY_COLUMNS
from commandjobs.storage.sql.taking_in import LIVE_COLUMNS, LOG_COLUMNS
from commandjobs.storage.sql.tallies import tally_rows
from commandjobs.storage.sqlserver.dialect import SqlServerDialect
from commandjobs.storage.sqlserver.loading import Loader
from commandjobs.storage.sqlserver.parameters import DOCUMENT, FLAG, NUMBER, TEXT, Kind, kind_of, sizes, values
from commandjobs.storage.sqlserver.storage import SqlServerStorage
from tests.unit.tsql import DIALECT, PIECES, documents, parsed, tables

SHARED = Path(shared.__file__).parent
OWN = SHARED.parent / "sqlserver"
RUNNING = {"rows", "run", "look", "_run_alone", "_run_statement"}
"""Methods that take a statement, or its name, and its parameters."""
OF_CALLERS = {
    "savepoint", "undo", "release_savepoint", "whereabouts", "unadmitted", "lock_unadmitted", "known_among",
    "limit_wait", "restore_wait",
}  # fmt: skip
"""What only a database needs on which callers enqueue in transactions of their own."""
STATEMENTS = sorted(name for name in DIALECT.sql if not name.startswith((*PIECES, "find_newest")) and name != "find")
NODE = NodeRow(id="id", name="name", pid=1, version="1.0", started=1, heartbeat=1)
FULL = JobFilter(
    states=(JobState.QUEUED,), ids=(1,), command="c", ref_id="r", parent_id=1, worker="w", queue="q", tag="t",
    batch_id="b", created_by="me", user_id="u", tenant_id="t", error_code="e", args={"a": "b"}, since=1, until=2,
    text="x",
)  # fmt: skip


# ── the calls in the code ───────────────────────────────────────────────────────────────────────────────────────────


def calls(folder: Path) -> Iterator[tuple[str, set[str]]]:
    """The name of each statement that the code in a folder runs, with the parameters that it gets there."""
    for file in sorted(folder.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found = [(name_in(call.args[0]), given(call, function, tree), function) for call, function in runs(tree)]
        direct = {name for name, _, _ in found if name}
        local = {function: named_in(function) - direct for name, _, function in found if not name}
        elsewhere = named_in(tree) - direct - set().union(*local.values())
        for (
            name,
            parameters,
            function,
        ) in found:  # one in a variable may be any that is named there, and run by no other
            names = [name] if name else sorted(local[function] or elsewhere)
            yield from ((one, parameters) for one in names)


def runs(tree: ast.AST) -> Iterator[tuple[ast.Call, ast.AST]]:
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and called(node) in RUNNING and node.args:
                    yield node, function


def called(call: ast.Call) -> str:
    """The name of a function or method."""
    return ast.unparse(call.func).rpartition(".")[2]


def named_in(tree: ast.AST) -> set[str]:
    keys = {id(key) for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in keys]
    return {node.value for node in constants if isinstance(node.value, str) and node.value in STATEMENTS}


def name_in(statement: ast.AST) -> str | None:
    """`sql["claim"]`, "claim", or of_month("claim", month)."""
    constants = [node.value for node in ast.walk(statement) if isinstance(node, ast.Constant)]
    return next((value for value in constants if isinstance(value, str)), None)


def given(call: ast.Call, function: ast.AST, tree: ast.AST) -> set[str]:
    names = {keyword.arg for keyword in call.keywords if keyword.arg}
    for keyword in call.keywords:
        if keyword.arg is None:
            names |= keys_of(keyword.value, function, tree)
    return names


def keys_of(mapping: ast.AST, function: ast.AST, tree: ast.AST) -> set[str]:
    """The keys of a mapping that is passed on: written there, in a variable, or made by a function."""
    if isinstance(mapping, ast.Dict):
        own = {key.value for key in mapping.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
        inner = [value for key, value in zip(mapping.keys, mapping.values, strict=True) if key is None]
        return own.union(*(keys_of(value, function, tree) for value in inner))
    name = ast.unparse(mapping.func if isinstance(mapping, ast.Call) else mapping)
    if name == "node_columns":
        return set(node_columns(NODE))
    if name == "asdict":
        return {field.name for field in fields(Copying)}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return keys_of(node.value, function, tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == name and isinstance(node.body[-1], ast.Return):
            assert node.body[-1].value is not None
            return keys_of(node.body[-1].value, node, tree)
    return set()


@cache
def passed(folder: Path) -> Mapping[str, list[set[str]]]:
    found: dict[str, list[set[str]]] = {}
    for name, parameters in calls(folder):
        found.setdefault(name, []).append(parameters)
    return found


@pytest.mark.parametrize("name", [name for name in STATEMENTS if not name.startswith("load_")])
def test_every_statement_is_run_with_all_its_parameters(name: str) -> None:
    all_calls = passed(OWN).get(name) or passed(SHARED)[name]  # what SQL Server does in its own way is done so only

    for parameters in all_calls:
        assert set(DIALECT.sql[name].parameters) <= parameters


def test_every_statement_that_is_run_exists() -> None:
    assert not SqlServerStorage.capabilities.transactional_enqueue
    assert passed(SHARED).keys() - OF_CALLERS <= DIALECT.sql.keys()


def test_a_filter_passes_what_its_conditions_ask_for() -> None:
    conditions, parameters = where(FULL, 9, DIALECT.bodies)

    assert set(DIALECT.find(conditions).parameters) == {*parameters, "limit"}
    assert set(DIALECT.count(conditions).parameters) == {*parameters, "limit"}


# ── the types of parameters ─────────────────────────────────────────────────────────────────────────────────────────


def kind_for(value: Any) -> tuple[Kind, ...]:
    if isinstance(value, (list, tuple, dict)):
        return (DOCUMENT,)
    if isinstance(value, str):
        return TEXT, DOCUMENT
    return (FLAG,) if isinstance(value, bool) else (NUMBER,)


@pytest.mark.parametrize("name", ["where", "node"])
def test_parameters_have_the_types_of_what_is_passed(name: str) -> None:
    conditions, parameters = where(FULL, 9, DIALECT.bodies)
    statement, given = DIALECT.find(conditions), {**parameters, "limit": 1}
    if name == "node":
        statement, given = DIALECT.sql["keep_node"], {**node_columns(NODE), "number": 1, "stopped": 1}
        given |= {"queues": '["q"]', "commands": '["c"]'}

    assert [one for one in statement.parameters if kind_of(statement.name, one) not in kind_for(given[one])] == []


def test_a_statement_declares_each_parameter_once_and_by_its_type() -> None:
    statement = DIALECT.sql["neighbours"]

    first, _, rest = statement.text.partition("\n")

    assert first == "declare @machine nvarchar(4000) = ?, @number bigint = ?;"
    assert "?" not in rest
    assert values(statement, {"number": 2, "machine": "here", "more": 1}) == ["here", 2]
    assert sizes(statement) == [TEXT.sent, NUMBER.sent]


def test_a_list_goes_as_json() -> None:
    statement = DIALECT.sql["taken_refs"]

    assert values(statement, {"refs": ["a", "ż"]}) == ['["a","ż"]']


# ── the columns of documents ────────────────────────────────────────────────────────────────────────────────────────


class Recorder:
    """A connection that keeps what it is given, and knows no rows."""

    def __init__(self) -> None:
        self.given: dict[str, dict[str, Any]] = {}

    async def rows(self, statement: Statement, /, **parameters: Any) -> list[Any]:
        self.given[statement.name] = parameters
        return [(1,)]

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        await self.rows(statement, **parameters)


def whole_row(id: int = 0) -> JobRow:
    """A row that has something in every column."""
    types = tables()["job"]
    plain = {column: "x" if types[column] == "TEXT" else 1 for column in JOB_COLUMNS}
    special: dict[str, Any] = {
        "id": id, "state": JobState.QUEUED, "hold": Hold.LANE, "tags": ("t",), "depends_on": (1,), "history": ("{}",),
        "args": {"a": "b"}, "meta": {"a": "b"}, "unique_until": "finish", "callback_queue": "q",
    }  # fmt: skip
    columns: dict[str, Any] = {**plain, **special}
    return JobRow(**columns)


def keys(document: str) -> set[str]:
    return {key for row in json.loads(document) for key in row}


def columns(name: str, dialect: SqlServerDialect = DIALECT) -> set[str]:
    """What a statement reads of its document."""
    return {column for tree in parsed(dialect.sql[name].text) for part in documents(tree) for column in part}


async def test_every_column_of_a_new_row_is_read() -> None:
    recorder = Recorder()
    waiting = whole_row()
    waiting.owner, waiting.hold = None, None

    await DIALECT.insert(recorder, [whole_row(), waiting], token=1)
    await DIALECT.insert(recorder, [whole_row(7)], token=1)

    written = keys(recorder.given["insert_jobs"]["rows"]) | keys(recorder.given["insert_again"]["rows"])
    assert written == columns("insert_jobs") == columns("insert_again")


async def test_every_column_of_a_simple_row_is_read() -> None:
    recorder = Recorder()
    row: dict[str, Any] = {
        name: value for name, value in vars(whole_row()).items() if name in SIMPLE - {"hold", "parents_left"}
    }
    free: dict[str, Any] = {**row, "owner": None}

    await DIALECT.insert_simple(recorder, [JobRow(**row), JobRow(**free)], token=1)

    assert keys(recorder.given["insert_simple"]["rows"]) == columns("insert_simple")


async def test_every_column_of_a_changed_row_is_read() -> None:
    recorder = Recorder()
    waiting = whole_row(7)
    waiting.owner, waiting.hold = None, None

    await DIALECT.place(recorder, [whole_row(7), waiting], token=1)
    await DIALECT.rewrite(recorder, [whole_row(7), waiting])
    await DIALECT.finish(recorder, [whole_row(7), waiting])

    for name in ("place", "rewrite", "finish_jobs"):
        assert keys(recorder.given[name]["rows"]) == columns(name)


@pytest.mark.parametrize(
    ("table", "names"),
    [("job", LIVE_COLUMNS), ("finished", FINISHED_COLUMNS), ("job_summary", SUMMARY_COLUMNS), ("log", LOG_COLUMNS)],
)
def test_every_column_of_a_row_from_elsewhere_is_read_and_written(table: str, names: tuple[str, ...]) -> None:
    [(statement, document)] = Loader(DIALECT).loads(table, names, [[1] * len(names)])
    [insert] = [tree for tree in parsed(statement.text) if isinstance(tree, exp.Insert)]

    assert keys(document) == set(names) <= columns(f"load_{table}")
    assert {column.name for column in insert.this.expressions} - {"given_up"} == set(names)
    assert statement.parameters == ("rows",)


async def test_every_column_of_a_node_is_read() -> None:
    recorder = Recorder()

    await DIALECT.add_node(recorder, {**node_columns(NODE), "machine": None, "lease": 1})

    assert keys(recorder.given["add_node"]["rows"]) == columns("add_node")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("mark_started", set(StartMark.of(whole_row(7)).columns)),
        ("report", keys(reports([ProgressRow(1, 2, 0.5, "s", 3)]))),
        ("append_logs", keys(log_lines([LogRow(1, 2, 1, 3, "INFO", "l", "m")]))),
        ("write_tallies", keys(tally_rows({TallyKey(0, "CMD", "c", "w", "q", "completed"): Tally()}, 1))),
        ("forget_dependencies", keys(edges([(1, 2)]))),
        ("keep_cancelled", keys(edges([(1, 2)]))),
        ("depend", {"parent_id", "child_id", "bound_attempt", "cancelled"}),
        ("follow_later", {"parent_id", "state"}),
        ("bound_children", {"parent_id", "attempt"}),
        ("lock_summaries", {"id", "run"}),
        ("request_cancellation", {"id", "cancel_requested", "cancelled_by"}),
        ("seat", {"id", "owner", "token", "claim_queue", "claim_command"}),
    ],
)
def test_every_column_of_a_document_is_read(name: str, written: set[str]) -> None:
    assert columns(name) == written
