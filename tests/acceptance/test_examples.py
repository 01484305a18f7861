"""The small examples run, and print what they are there to show."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres

ROOT = Path(__file__).parents[2]


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", f"examples.{module}", *arguments]


def run(folder: Path, module: str, *arguments: str) -> str:
    done = subprocess.run(
        command(module, *arguments),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def test_hello_runs_its_job_and_has_fifteen_lines(tmp_path: Path) -> None:
    source = (ROOT / "examples" / "hello.py").read_text(encoding="utf-8")

    assert run(tmp_path, "hello") == "Hello, world!\n"
    assert (tmp_path / "hello.db").is_file()
    assert len([line for line in source.splitlines() if line.strip()]) <= 15


def test_z05_log_demo_prints_its_log_and_estimates_from_the_second_run_on(tmp_path: Path) -> None:
    first = run(tmp_path, "log_demo", "--seconds", "2")
    second = run(tmp_path, "log_demo", "--seconds", "2")

    for output in (first, second):
        assert re.findall(r"step (\d+) of 20", output) == [str(step) for step in range(1, 21)]
        assert "is Completed after" in output
    assert "? %" in first
    assert "? %" not in second
    assert re.search(r"^ [1-9]\d%", second, re.MULTILINE)


def test_z05_log_demo_is_cancelled_by_ctrl_c(tmp_path: Path) -> None:
    # A shell's background process starts with SIGINT ignored, and so would its children.
    code = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "runpy.run_module('examples.log_demo', run_name='__main__')"
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, "--seconds", "30"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process:
        seen = ""
        while "step 1 of" not in seen:
            line = process.stdout.readline()
            assert line, seen
            seen += line
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=100)

    assert process.returncode == 0
    assert re.search(r"Job 1 is Cancelled after \d+\.\d s\.", rest)
    assert "step 20" not in rest


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of a database of its own."""
    name = f"commandjobs_example_{os.getpid()}"
    postgres.execute(f"create database {name}")
    yield f"{postgres.address().rpartition('/')[0]}/{name}"
    postgres.execute(f"drop database {name} with (force)")


@pytest.mark.postgres
def test_e16_transactional_enqueue_sends_receipts_for_committed_orders_only(tmp_path: Path, database: str) -> None:
    printed = run(tmp_path, "transactional_enqueue", "--database", database)

    assert printed.splitlines() == [
        *(
            line
            for way in ("asyncpg", "psycopg", "SQLAlchemy", "Django")
            for line in (way, f"  a receipt for Ada, by {way}")
        ),
        "4 jobs, none of them for nobody",
    ]
