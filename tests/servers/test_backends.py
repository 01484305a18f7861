"""Which server the tests of a backend run on, and what is said when there is none."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers.backends import MYSQL, POSTGRES, Backend, Found
from tests.servers.ports import free_port
from tests.servers.run import VARIABLE, Run

ROOT = Path(__file__).parents[2]
WITHOUT_MARIADB = """
def pytest_collection_modifyitems():
    from tests.servers import plugin

    plugin.NEEDS["mysql_url"] = lambda run: "There is no MariaDB here."
"""


def test_a_server_that_is_named_is_taken(another_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(POSTGRES.variable, "postgresql://somebody@somewhere/else")

    assert POSTGRES.find(another_run) == Found("postgresql://somebody@somewhere/else")


@pytest.mark.parametrize("backend", [POSTGRES, MYSQL], ids=lambda backend: backend.name)
def test_where_no_server_answers_one_is_started_once(
    backend: Backend, another_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(backend.variable, raising=False)
    nobody = replace(backend, default=f"postgresql://postgres@127.0.0.1:{free_port()}/test")

    found = nobody.find(another_run)

    assert found.url.endswith("/test")
    assert nobody.find(another_run) == found


def test_where_none_can_be_started_the_reason_says_how_to_get_one(
    another_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(POSTGRES.variable, raising=False)
    monkeypatch.setattr("tests.servers.postgres.candidates", list)
    nobody = replace(POSTGRES, default=f"postgresql://postgres@127.0.0.1:{free_port()}/test")

    found = nobody.find(another_run)

    assert found.url == ""
    assert "There is no PostgreSQL on this machine. Install Debian's package postgresql" in found.missing
    assert "name a server in COMMANDJOBS_TEST_POSTGRES" in found.missing


@pytest.mark.parametrize("options", [["-p", "no:xdist"], ["-n", "2"]], ids=["one process", "two workers"])
def test_tests_without_their_server_are_left_out_and_the_summary_says_so(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "without_mariadb.py").write_text(WITHOUT_MARIADB)
    tests = ["tests/servers/test_mariadb.py", "-k", "shared or empty", "-p", "without_mariadb"]
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE and "PYTEST" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *tests, *options],
        cwd=ROOT, env={**environment, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert "1 test could not run. There is no MariaDB here." in done.stdout, done.stdout + done.stderr
    assert "1 passed" in done.stdout, done.stdout
