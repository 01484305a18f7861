"""The floor: what plain SQLite makes of the same rows on the same disk, with nothing of ours in between."""

import sqlite3
from pathlib import Path
from time import perf_counter, sleep

SCHEMA = """
create table job (
    id integer primary key, ref_id text not null, command text not null, state text not null, created integer not null,
    queue text, worker text, run_after integer, request text
);
create unique index job_ref on job (ref_id);
create index job_state on job (state, id);
create index job_run_after on job (run_after);
"""
INSERT = "insert into job (ref_id, command, state, created, queue, request) values (?, ?, ?, ?, ?, ?)"


def bare_commits(folder: Path, *, commits: int, pause: float = 0.0) -> list[float]:
    """Seconds of each of so many commits of one row; `pause` seconds between them."""
    database = _open(folder)
    took: list[float] = []
    for number in range(commits):
        if pause:
            sleep(pause)
        before = perf_counter()
        database.execute("begin immediate")
        database.execute(INSERT, row(number))
        database.execute("commit")
        took.append(perf_counter() - before)
    database.close()
    return took


def bare_batches(folder: Path, *, rows: int, batch: int = 1_000) -> float:
    """Rows per second, committed in batches."""
    database = _open(folder)
    before = perf_counter()
    for start in range(0, rows, batch):
        database.execute("begin immediate")
        database.executemany(INSERT, [row(number) for number in range(start, start + batch)])
        database.execute("commit")
    took = perf_counter() - before
    database.close()
    return rows / took


def _open(folder: Path) -> sqlite3.Connection:
    """A fresh file whose write-ahead log has its size already, as it has after some minutes of work."""
    path = folder / "floor.db"
    for old in folder.glob("floor.db*"):
        old.unlink()
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript(f"pragma journal_mode = wal; pragma synchronous = full; {SCHEMA}")
    database.execute("create table grow (data blob)")
    database.execute("begin")
    database.execute("insert into grow values (zeroblob(16000000))")
    database.execute("rollback")
    database.execute("pragma wal_autocheckpoint = 4000")
    return database


def row(number: int) -> tuple[str, str, str, int, str, str]:
    """What is stored of job so-and-so: reference, command, state, moment, queue, request."""
    request = f'{{"to":"my@email.com","n":{number}}}'
    return (f"{number:032x}", "SendEmail", "Queued", 1_700_000_000_000_000 + number, "default", request)
