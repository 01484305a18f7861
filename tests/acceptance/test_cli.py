"""The `commandjobs` program as people and scripts run it."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commandjobs.storage import open_storage

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path, cwd: Path, program: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["-m", "commandjobs"] if program is None else ["-c", program]
    return subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """A folder with a queue in it."""
    asyncio.run(make_queue(f"sqlite:///{tmp_path}/jobs.db"))
    return tmp_path


async def make_queue(url: str) -> None:
    storage = open_storage(url)
    await storage.open(on_wake=lambda: None)
    await storage.close()


async def check_queue(url: str) -> list[str]:
    storage = open_storage(url)
    await storage.open(on_wake=lambda: None)
    try:
        return await storage.check()
    finally:
        await storage.close()


def test_backup_of_the_queue_in_this_folder(queue: Path) -> None:
    done = run("backup", "copy", cwd=queue)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("copy/jobs.db  ")
    assert asyncio.run(check_queue(f"sqlite:///{queue}/copy/jobs.db")) == []


def test_backup_of_another_queue_as_json(queue: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    target = tmp_path_factory.mktemp("backups") / "monday"

    done = run("backup", target, "--db", f"sqlite:///{queue}/jobs.db", "--json", cwd=ROOT)

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "directory": str(target),
        "files": [{"path": f"{target}/jobs.db", "bytes": (target / "jobs.db").stat().st_size}],
    }


def test_backup_over_something_is_refused(queue: Path) -> None:
    done = run("backup", ".", cwd=queue)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: ")
    assert "is not empty" in done.stderr


def test_missing_queue_is_told_and_not_made(tmp_path: Path) -> None:
    done = run("backup", "copy", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"Error: There is no queue at sqlite:///jobs.db: {tmp_path}/jobs.db does not exist. Name another with --db.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_no_queue_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"something else " * 1000)

    done = run("backup", "copy", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


def test_unknown_database_is_one_sentence(tmp_path: Path) -> None:
    done = run("backup", "copy", "--db", "mongodb://localhost/jobs", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


def test_help_names_every_option(tmp_path: Path) -> None:
    whole, one = run("--help", cwd=tmp_path), run("backup", "--help", cwd=tmp_path)

    assert (whole.returncode, one.returncode) == (0, 0)
    assert "backup" in whole.stdout
    assert all(part in one.stdout for part in ("DIR", "--db", "sqlite:///jobs.db", "--json"))


def test_version(tmp_path: Path) -> None:
    done = run("--version", cwd=tmp_path)

    assert (done.returncode, done.stdout.split()[0]) == (0, "commandjobs")


def test_unknown_option_is_a_usage_error(tmp_path: Path) -> None:
    done = run("backup", "copy", "--dry-run", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert "No such option: --dry-run" in done.stderr


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_is_named(tmp_path: Path, missing: str) -> None:
    done = run(
        cwd=tmp_path, program=f"import sys; sys.modules[{missing!r}] = None; from commandjobs.cli import main; main()"
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'The commandjobs program comes with an extra: pip install "commandjobs[cli]"\n'
