"""Statements are text in `.sql` files; these tests keep the files and their users together."""

import re
from pathlib import Path

import pytest

from commandjobs.storage import queries
from commandjobs.storage.queries import load_bodies, load_queries, statement

SQLITE = Path(queries.__file__).parent / "sqlite"
CODE = "\n".join(file.read_text(encoding="utf-8") for file in sorted(SQLITE.glob("*.py")))


SERVERS = ("postgres",)
SHARED = "\n".join(
    file.read_text(encoding="utf-8") for file in sorted((Path(queries.__file__).parent / "sql").glob("*.py"))
)


def test_a_statement_is_what_lies_under_its_name_without_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queries.sql").write_text(
        "-- Words.\n\n-- name: one\n-- Why.\nselect 1;\n\n-- name: two\nselect\n  2;\n"
    )
    monkeypatch.setattr(queries, "files", lambda _: tmp_path)

    assert load_queries("anything") == {"one": "select 1", "two": "select\n  2"}


def test_two_statements_cannot_have_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queries.sql").write_text("-- name: one\nselect 1;\n-- name: one\nselect 2;\n")
    monkeypatch.setattr(queries, "files", lambda _: tmp_path)

    with pytest.raises(ValueError, match="two statements named 'one'"):
        load_queries("anything")


@pytest.mark.parametrize("file", ["queries.sql", "archive_queries.sql"])
def test_every_statement_is_used(file: str) -> None:
    unused = [
        name
        for name in load_queries("commandjobs.storage.sqlite", file)
        if f'"{name}"' not in CODE and f"'{name}'" not in CODE
    ]

    assert unused == []


def test_every_statement_that_is_used_exists() -> None:
    known = {
        name
        for file in ("queries.sql", "archive_queries.sql")
        for name in load_queries("commandjobs.storage.sqlite", file)
    }

    assert set(re.findall(r"SQL\[[\"'](\w+)[\"']\]", CODE)) <= known


@pytest.mark.parametrize("file", ["queries.sql", "archive_queries.sql"])
def test_every_statement_has_its_sentence(file: str) -> None:
    text = (SQLITE / file).read_text(encoding="utf-8")

    assert re.findall(r"-- name: (\w+)\n(?!-- \w)", text) == []


@pytest.mark.parametrize("server", SERVERS)
def test_every_statement_of_a_server_is_used(server: str) -> None:
    own = "\n".join(file.read_text(encoding="utf-8") for file in (Path(queries.__file__).parent / server).glob("*.py"))

    unused = [
        name
        for name in load_bodies(f"commandjobs.storage.{server}", schema="s")
        if f'"{name}"' not in SHARED + own and not name.startswith("where_")
    ]

    assert unused == []


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_has_every_statement_that_servers_share(server: str) -> None:
    known = load_bodies(f"commandjobs.storage.{server}", schema="s")

    named = {*re.findall(r"sql\[\"(\w+)\"\]", SHARED), *re.findall(r"reader\.rows\(\s*\"(\w+)\"", SHARED)}

    assert {"claim", "settle"} - named == {"settle"}
    assert named <= known.keys()


@pytest.mark.parametrize("server", SERVERS)
def test_every_statement_of_a_server_has_its_sentence(server: str) -> None:
    text = (Path(queries.__file__).parent / server / "queries.sql").read_text(encoding="utf-8")

    lacking = re.findall(r"-- name: (\w+)\n(?!-- \w)", text)

    assert [name for name in lacking if not name.startswith("where_")] == []


def test_parameters_are_numbered_once_or_marked_each_time() -> None:
    body = "select :one::text, :two, :one where a like '%x'"

    numbered, marked = statement("s", body, style="$1"), statement("s", body, style="%s")

    assert (numbered.text, numbered.parameters) == ("select $1::text, $2, $1 where a like '%x'", ("one", "two"))
    assert (marked.text, marked.values({"one": 1, "two": 2})) == (
        "select %s::text, %s, %s where a like '%%x'",
        [1, 2, 1],
    )
