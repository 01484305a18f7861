"""Copies of the files of a queue, beside writers that do not pause."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from commandjobs.errors import InvalidOption, StorageCorrupt, StorageUnavailable
from commandjobs.storage.sqlite import backup
from commandjobs.storage.sqlite.backup import backup_files

ROOT = Path(__file__).parents[2]


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    return database(tmp_path / "jobs.db", rows=20_000)


@pytest.fixture
def month(tmp_path: Path) -> Path:
    return database(tmp_path / "jobs_2026-01.db", rows=0)


@pytest.fixture
def target(tmp_path: Path) -> str:
    return str(tmp_path / "copy")


def test_copies_are_whole_and_named_like_the_originals(queue: Path, month: Path, target: str) -> None:
    files = backup_files(str(queue), lambda: [str(month)], target)

    assert files == [f"{target}/jobs.db", f"{target}/jobs_2026-01.db"]
    assert names(target) == {"jobs.db", "jobs_2026-01.db"}
    assert [len(ids(file)) for file in files] == [20_000, 0]


def test_copy_beside_a_writer_is_one_moment(queue: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "_STEP", 20)
    monkeypatch.setattr(backup, "_check", lambda *_: insert(queue))  # called between any two steps

    [copy] = backup_files(str(queue), list, target)

    assert ids(copy) == set(range(1, 20_001))
    assert len(ids(queue)) > 20_000


def test_jobs_that_move_meanwhile_are_never_in_neither(queue: Path, month: Path, target: str) -> None:
    with in_a_loop(lambda: move(queue, month, 10)):
        copies = backup_files(str(queue), lambda: [str(month)], target)

    assert set.union(*map(ids, copies)) == set(range(1, 20_001))


def test_month_that_begins_meanwhile_is_copied(queue: Path, target: str) -> None:
    def months() -> list[str]:
        month = database(queue.with_name("jobs_2026-02.db"), rows=0)
        move(queue, month, 100)
        return [str(month)]

    copies = backup_files(str(queue), months, target)

    assert [len(ids(copy)) for copy in copies] == [20_000, 100]


def test_month_that_is_dropped_meanwhile_is_left_out(queue: Path, month: Path, target: str) -> None:
    month.unlink()

    assert backup_files(str(queue), lambda: [str(month)], target) == [f"{target}/jobs.db"]


def test_backup_does_not_checkpoint(queue: Path, target: str) -> None:
    with closing(connect(queue)) as engine:
        engine.execute("PRAGMA wal_autocheckpoint = 0")
        before = queue.read_bytes()
        engine.execute("INSERT INTO job (body) VALUES ('only in the log')")

        [copy] = backup_files(str(queue), list, target)

        assert queue.read_bytes() == before
    assert len(ids(copy)) == 20_001


def test_queue_file_gets_its_name_last(queue: Path, month: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    monkeypatch.setattr(backup, "_flush_directory", lambda folder: seen.append(names(folder)))

    backup_files(str(queue), lambda: [str(month)], target)

    assert seen[:2] == [{"jobs.db.partial", "jobs_2026-01.db"}, {"jobs.db", "jobs_2026-01.db"}]


def test_backup_that_is_killed_is_no_backup(queue: Path, target: str) -> None:
    program = """if True:
        import os, sys
        from commandjobs.storage.sqlite.backup import backup_files
        backup_files(sys.argv[1], lambda: os._exit(9), sys.argv[2])
    """

    subprocess.run([sys.executable, "-c", program, queue, target], cwd=ROOT, check=False, timeout=100)

    assert names(target) == {"jobs.db.partial"}
    with pytest.raises(InvalidOption, match="copy holds a backup that was not finished: delete it"):
        backup_files(str(queue), list, target)


@pytest.mark.parametrize("existed", [True, False])
def test_backup_that_fails_leaves_nothing(queue: Path, month: Path, target: str, existed: bool) -> None:
    month.write_bytes(b"no database at all" * 1000)
    if existed:
        Path(target).mkdir()

    with pytest.raises(StorageCorrupt, match="damaged: file is not a database"):
        backup_files(str(queue), lambda: [str(month)], target)

    assert Path(target).exists() == existed
    assert not existed or names(target) == set()


def test_backup_that_is_stopped_leaves_nothing(queue: Path, target: str) -> None:
    stop = threading.Event()
    stop.set()

    with pytest.raises(StorageUnavailable, match="copy was stopped"):
        backup_files(str(queue), list, target, stop)

    assert not Path(target).exists()


def test_directory_must_be_empty(queue: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"is not empty \(jobs\.db is there\): a backup needs a new or empty"):
        backup_files(str(queue), list, str(tmp_path))

    with pytest.raises(InvalidOption, match=r"cannot be written to .*jobs\.db: File exists"):
        backup_files(str(queue), list, str(queue))


def test_missing_queue_is_told(tmp_path: Path, target: str) -> None:
    with pytest.raises(StorageUnavailable, match=r"copy failed: .*No such file or directory: '.*missing\.db'"):
        backup_files(str(tmp_path / "missing.db"), list, target)

    assert not Path(target).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="rights of the folder there")
def test_copy_has_the_rights_of_the_original(queue: Path, target: str) -> None:
    queue.chmod(0o600)

    [copy] = backup_files(str(queue), list, target)

    assert Path(copy).stat().st_mode & 0o777 == 0o600


def test_large_copy_is_flushed_as_it_grows(queue: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(backup, "_STEP", 100)
    monkeypatch.setattr(backup, "_FLUSH", 1000)
    monkeypatch.setattr(os, "fsync", lambda fd: sizes.append(os.fstat(fd).st_size))

    backup_files(str(queue), list, target)

    assert len(sizes) > 2
    assert 0 < sizes[0] < sizes[1]


def connect(path: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def database(path: Path, *, rows: int) -> Path:
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE job (id INTEGER PRIMARY KEY, body TEXT)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO job (body) VALUES (?)", [("x" * 500,)] * rows)
        connection.execute("COMMIT")
    return path


def insert(queue: Path) -> None:
    with closing(connect(queue)) as connection:
        for _ in range(10):
            connection.execute("INSERT INTO job (body) VALUES ('new')")


def move(queue: Path, month: Path, count: int) -> None:
    """As the archive does: written there, then deleted here."""
    with closing(connect(queue)) as here, closing(connect(month)) as there:
        rows = here.execute("SELECT id, body FROM job ORDER BY id LIMIT ?", (count,)).fetchall()
        there.executemany("INSERT INTO job VALUES (?, ?)", rows)
        here.executemany("DELETE FROM job WHERE id = ?", [row[:1] for row in rows])


@contextmanager
def in_a_loop(run: Callable[[], None]) -> Generator[Callable[[], int]]:
    """Run it in a thread without pause; gives how often it has run."""
    turns = 0
    started, over = threading.Event(), threading.Event()

    def loop() -> None:
        nonlocal turns
        while not over.is_set():
            run()
            turns += 1
            started.set()

    thread = threading.Thread(target=loop)
    thread.start()
    assert started.wait(timeout=10)
    before = turns
    try:
        yield lambda: turns - before
    finally:
        over.set()
        thread.join()


def ids(path: Path | str) -> set[int]:
    with closing(connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {id for (id,) in connection.execute("SELECT id FROM job")}


def names(folder: Path | str) -> set[str]:
    return {file.name for file in Path(folder).iterdir()}
