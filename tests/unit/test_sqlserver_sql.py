"""The SQL of the SQL Server storage, read by a parser of T-SQL: no server is at hand where it is built."""

import re

import pytest
from sqlglot import exp

from commandjobs.storage.sql.lanes import LOCKS
from commandjobs.storage.sql.rows import JOB_COLUMNS
from tests.unit.tsql import DIALECT, SCHEMA, parsed, sources, statements, tables

ALL = list(statements())
NAMED = pytest.mark.parametrize(("name", "text"), ALL, ids=[name for name, _ in ALL])
PASSING_OVER = ["updlock", "readpast", "rowlock", "readcommittedlock"]


@NAMED
def test_a_parser_of_t_sql_understands_every_statement(name: str, text: str) -> None:
    assert parsed(text)


def test_the_parser_would_find_a_mistake() -> None:
    with pytest.raises(Exception, match="Expecting"):
        parsed("select id from [jobs].job where (id = 1")
    with pytest.raises(AssertionError, match="read_committed"):
        parsed("alter database current set read_committed_snapshot on with no_wait")


@NAMED
def test_every_table_that_is_named_exists(name: str, text: str) -> None:
    named = {
        table.name
        for tree in parsed(text)
        if not isinstance(tree, (exp.Create, exp.Drop))
        for table in tree.find_all(exp.Table)
        if table.db == SCHEMA
    }

    assert named <= tables().keys()


@NAMED
def test_every_column_that_is_named_exists_where_it_is_looked_for(name: str, text: str) -> None:
    for tree in parsed(text):
        if isinstance(tree, (exp.Create, exp.Alter)) or "from sys." in text:
            continue  # definitions, and the server's own tables
        known = sources(tree)
        anywhere = {column for columns in known.values() for column in columns}
        for column in tree.find_all(exp.Column):
            if column.find_ancestor(exp.NextValueFor):
                continue
            assert column.name in (anywhere if column.table in {"", "inserted"} else known[column.table]), column.sql()


@NAMED
def test_an_insert_has_a_value_for_each_of_its_columns(name: str, text: str) -> None:
    for insert in (tree for tree in parsed(text) if isinstance(tree, exp.Insert)):
        columns = [column.name for column in insert.this.expressions]
        values = insert.expression.expressions if isinstance(insert.expression, exp.Values) else [insert.expression]
        counts = {len(one.expressions) if isinstance(one, exp.Tuple) else len(one.selects) for one in values}

        assert counts == {len(columns)}
        assert set(columns) <= tables().get(insert.this.this.name, dict.fromkeys(columns)).keys()


@NAMED
def test_an_update_changes_columns_of_its_table(name: str, text: str) -> None:
    for update in (tree for tree in parsed(text) if isinstance(tree, exp.Update)):
        columns = sources(update)[update.this.name]

        assert {change.this.name for change in update.expressions} <= columns.keys()


@NAMED
def test_texts_of_documents_are_compared_by_the_collation_of_columns(name: str, text: str) -> None:
    """They have that of the database, and SQL Server refuses to compare two."""
    for tree in parsed(text):
        if isinstance(tree, (exp.Create, exp.Alter)):
            continue
        known = sources(tree)
        of_documents = {
            (table.alias, column)
            for table in tree.find_all(exp.Table)
            if isinstance(table.this, exp.OpenJSON)
            for column, type_ in known[table.alias].items()
            if type_ == "TEXT"
        }
        loose = {column for _, column in of_documents}
        for comparison in tree.find_all(exp.EQ, exp.In):
            if comparison.find_ancestor(exp.Update) and comparison.arg_key == "expressions":
                continue  # an assignment
            query = comparison.args.get("query")
            if isinstance(comparison, exp.In) and query is None:
                continue  # a list of numbers
            sides = [comparison.left, comparison.right] if isinstance(comparison, exp.EQ) else query.this.selects  # type: ignore[union-attr]
            bare = [
                side
                for side in sides
                if isinstance(side, exp.Column)
                and (
                    (side.table, side.name) in of_documents if side.table else side.name in loose and query is not None
                )
            ]
            against_a_column = query is not None or any(
                isinstance(side, exp.Column) and side not in bare for side in sides
            )
            assert not (bare and against_a_column), comparison.sql()


@NAMED
def test_what_passes_over_locked_rows_locks_the_others_one_by_one(name: str, text: str) -> None:
    """Where readers see versions, `readpast` needs `readcommittedlock`; without `rowlock` it passes over pages."""
    hints = [
        [hint.name for hint in table.expressions] for tree in parsed(text) for table in tree.find_all(exp.WithTableHint)
    ]

    assert all(sorted(hint) == sorted(PASSING_OVER) for hint in hints if "readpast" in hint)
    assert all("rowlock" in hint or "tablockx" in hint for hint in hints)


@pytest.mark.parametrize("name", ["read_jobs", "lock_jobs", "claimed_by", "due", "expired", "earlier_runs"])
def test_whole_rows_come_in_the_one_order_of_columns(name: str) -> None:
    query = parsed(DIALECT.sql[name].text)[-1]
    assert isinstance(query, exp.Select)

    chosen = [column.name if isinstance(column, exp.Column) else None for column in query.selects]

    expected = [None if column in {"owner", "hold"} and name == "earlier_runs" else column for column in JOB_COLUMNS]
    assert chosen == expected


def test_a_found_row_has_its_columns_in_order_wherever_it_lies() -> None:
    union = parsed(DIALECT.sql["find_rows"].text)[-1]
    assert isinstance(union, exp.Union)
    live, archived = union.left, union.right
    assert isinstance(live, exp.Select)
    assert isinstance(archived, exp.Select)

    named = [next((one.name for one in column.find_all(exp.Column)), None) for column in archived.selects[1:]]

    assert tuple(column.name for column in live.selects[1:]) == JOB_COLUMNS
    assert named == [None if column in {"owner", "hold"} else column for column in JOB_COLUMNS]


def test_finished_rows_keep_every_column() -> None:
    insert, summary = (tree for tree in parsed(dict(ALL)["finish_jobs"]) if isinstance(tree, exp.Insert))

    for one in (insert, summary):
        targets = [column.name for column in one.this.expressions if column.name != "given_up"]
        origins = [next(value.find_all(exp.Column)).name for value in one.expression.selects][: len(targets)]
        assert origins == targets
    assert {column.name for column in insert.this.expressions} == tables()["finished_2026_11"].keys()


def test_there_is_a_row_to_lock_for_every_number_of_a_lane() -> None:
    schema = " ".join(text for name, text in ALL if "mutex" in text and ".sql" in name)

    assert re.findall(r"\((\d+)\)", schema[schema.index("values") :]) == [str(n) for n in range(16)]
    assert "high.n * 16 + low.n" in schema
    assert LOCKS == 16 * 16
