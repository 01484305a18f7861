"""Every statement that is sent to MySQL is read by a parser of its SQL: only MariaDB runs where this is tested."""

import re

import pytest
from sqlglot import exp, parse

from commandjobs.storage.mysql.dialect import COLUMNS, CONDITIONS, ROWS, MysqlDialect
from commandjobs.storage.mysql.literals import DEFAULT, literal, record
from commandjobs.storage.mysql.migrating import statements, steps
from commandjobs.storage.queries import PARAMETER

BODIES = MysqlDialect("commandjobs_").bodies
FILTERS = sorted(name for name in BODIES if name.startswith("where_"))
LIST = re.compile(r"\bin :[a-z_]+")


def filled(body: str) -> str:
    """A statement with something in all its places."""
    body = body.replace(COLUMNS, "id, ref_id").replace(ROWS, "(1, 'a'), (2, default)").replace(CONDITIONS, "")
    return PARAMETER.sub("1", LIST.sub("in (1, 2)", body))


@pytest.mark.parametrize("name", sorted(BODIES.keys() - set(FILTERS)))
def test_a_statement_is_mysql(name: str) -> None:
    [parsed] = parse(filled(BODIES[name]), dialect="mysql")

    assert isinstance(parsed, exp.Query | exp.Insert | exp.Update | exp.Delete)


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_of_find_is_mysql(name: str) -> None:
    [parsed] = parse(filled(BODIES["find"].replace(CONDITIONS, f"and {BODIES[name]}")), dialect="mysql")

    assert isinstance(parsed, exp.Query)


@pytest.mark.parametrize(("file", "text"), [(file, text) for _, file, text in steps()])
def test_a_schema_file_is_mysql(file: str, text: str) -> None:
    made = statements(text, prefix="jobs_", collation="utf8mb4_0900_bin")

    assert {type(parsed) for one in made for parsed in parse(one, dialect="mysql")} == {exp.Create, exp.Insert}


@pytest.mark.parametrize("missing", ["returning", "lateral", "any(", "unnest", "on conflict", "nulls first"])
def test_what_mysql_or_mariadb_lacks_is_not_used(missing: str) -> None:
    assert [name for name, body in BODIES.items() if missing in body.lower()] == []


@pytest.mark.parametrize("name", ["claimable", "lock_jobs", "held", "due", "expired", "free_to_seat", "try_lock_lanes"])
def test_a_locking_read_is_told_its_index(name: str) -> None:
    """A small table is read whole otherwise, and every row of it is locked, or waited for."""
    assert "force index" in BODIES[name]


def test_values_stand_in_a_statement_as_literals() -> None:
    assert record(["it's", 5, None, True, 1.5, DEFAULT]) == r"('it\'s',5,null,1,1.5,default)"
    assert literal([]) == "(null)"
    assert literal(["a", 1]) == "('a',1)"


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_a_number_that_mysql_does_not_know_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="no number"):
        literal(number)
