"""What only the SQLite storage has: files, threads, locks, and the ways in which these can fail."""

import asyncio
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from commandjobs.errors import StorageCorrupt, StorageFull, StorageUnavailable
from commandjobs.model.outcome import Succeeded
from commandjobs.model.row import LogRow
from commandjobs.model.settle import begin, settle
from commandjobs.model.state import JobState
from commandjobs.storage.base import NobodyExecutes
from commandjobs.storage.sqlite import pending, writer
from commandjobs.storage.sqlite.archive import SQL as ARCHIVE_SQL
from commandjobs.storage.sqlite.change import SQL
from commandjobs.storage.sqlite.connection import migrate, open_for_writing
from commandjobs.storage.sqlite.inserts import JOBS
from commandjobs.storage.sqlite.reader import ReadOnlyFile
from commandjobs.storage.sqlite.storage import SqliteStorage
from tests.storage.life import (
    ANY,
    NOW,
    SECOND,
    begun,
    claim_one,
    end,
    finished,
    job,
    node,
    put,
    running,
    state,
    stored,
    swept,
)

MONTH = date(2026, 11, 1)
MONTH_FILE = "jobs_2026-11.db"
MAY_SCAN = {
    "forget_nodes",
    "bury_executors",
    "forget_answers",
    "intents",
    "nodes",
    "unfollowed",
    "lanes",
    "unconfirmed",
    "add_tally",
    "contents",
    "carry_ids",
    "carry_month_ids",
    "carry_ties",
    "copying",
    "forget_ties",
}
"""Small tables, the one look that counts all live jobs, the few buckets of one histogram, and what a copy of everything
reads."""

Open = Callable[..., Awaitable[SqliteStorage]]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens storages on the same file, and closes them in the end."""
    storages: list[SqliteStorage] = []

    async def open_one(*, executes: bool = True, **options: Any) -> SqliteStorage:
        storage = SqliteStorage(tmp_path / "jobs.db", **options)
        await storage.open(on_wake=lambda: None)
        storages.append(storage)
        await storage.register(node())
        assert await storage.try_execute() is executes
        return storage

    yield open_one
    for storage in storages:
        await storage.close()


@pytest.fixture
async def storage(opened: Open) -> SqliteStorage:
    return await opened()


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Look into a file from outside."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def change(path: Path, sql: str) -> None:
    """Change a file from outside."""
    with sqlite3.connect(path) as connection:
        connection.execute(sql)
    connection.close()


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# ── statements ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("queries", "schema"), [(SQL, "schema"), (ARCHIVE_SQL, "archive_schema")], ids=["queue", "archive"]
)
def test_no_statement_scans_a_table_that_grows(tmp_path: Path, queries: dict[str, str], schema: str) -> None:
    connection = open_for_writing(tmp_path / "plan.db", synchronous="FULL")
    migrate(connection, tmp_path / "plan.db", schema)

    scans = [
        (name, step)
        for name, sql in queries.items()
        if name not in MAY_SCAN and not name.startswith(("find", "count"))
        for *_, step in connection.execute(f"explain query plan {sql}", parameters(sql))
        if re.search(r"SCAN (?!json_each|CONSTANT|sqlite_sequence|\(subquery)|TEMP B-TREE", step)
    ]

    connection.close()
    assert scans == []


@pytest.mark.parametrize(("queue", "found"), [("default", ("later", "Work")), ("later", None)])
def test_a_step_over_the_kinds_of_jobs_reads_no_backlog(
    tmp_path: Path, queue: str, found: tuple[str, str] | None
) -> None:
    connection = open_for_writing(tmp_path / "jobs.db", synchronous="FULL")
    migrate(connection, tmp_path / "jobs.db", "schema")
    connection.executemany(
        "insert into job (ref_id, command, created, claim_queue, claim_command) values (?, 'Work', 1, ?, 'Work')",
        [(f"{queue} {number}", queue) for queue in ("default", "later") for number in range(1000)],
    )
    steps: list[None] = []
    connection.set_progress_handler(lambda: steps.append(None), 10)

    next_kind = connection.execute(SQL["next_claimable_kind"], {"queue": queue, "command": "Work"}).fetchone()

    connection.close()
    assert next_kind == found
    assert len(steps) < 20


def parameters(sql: str) -> dict[str, int] | list[int]:
    named = re.findall(r":(\w+)", sql)
    return dict.fromkeys(named, 1) if named else [1] * sql.count("?")


def test_a_plain_job_binds_few_values(tmp_path: Path) -> None:
    connection = open_for_writing(tmp_path / "jobs.db", synchronous="FULL")
    migrate(connection, tmp_path / "jobs.db", "schema")
    statements: list[str] = []
    connection.set_trace_callback(statements.append)

    JOBS.insert(connection, [job()], lambda *_: (1, "ref", "Work", NOW, None, None, None, "default", "Work", 1))

    connection.close()
    assert statements[-1].count(",") <= 2 * 12
    assert "priority" not in statements[-1]


def test_a_row_is_written_with_the_columns_it_uses(tmp_path: Path) -> None:
    connection = open_for_writing(tmp_path / "jobs.db", synchronous="FULL")
    migrate(connection, tmp_path / "jobs.db", "schema")
    head = (None, None, None, 0)

    JOBS.insert(
        connection,
        [job(ref_id="a", priority=3, tags=("x", "y")), job(ref_id="b", args={"k": "v"})],
        lambda row, _: (None, row.ref_id, row.command, row.created, None, None, *head),
    )

    found = connection.execute("select ref_id, priority, tags, args from job order by id").fetchall()
    connection.close()
    assert found == [("a", 3, '["x","y"]', None), ("b", 0, None, '{"k":"v"}')]


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("create table users (name text)")
    before = path.read_bytes()

    with pytest.raises(StorageUnavailable, match=r"app\.db is a database of something else \(it has 'users' in it\)"):
        await SqliteStorage(path).open(on_wake=lambda: None)

    assert path.read_bytes() == before


async def test_of_those_who_say_that_they_execute_the_last_is_believed(storage: SqliteStorage) -> None:
    dead, alive = node("dead", executing=True), node("alive", executing=True)
    for one in (dead, alive):
        await storage.register(one)
        await storage.heartbeat(one)

    executing = {one.name: (one.executing, one.stopped) for one in await storage.nodes() if one.name != "node"}

    assert executing == {"dead": (False, dead.heartbeat), "alive": (True, None)}


async def test_nobody_executes_whose_lock_is_free(opened: Open) -> None:
    storage = await opened()
    killed = node("killed", executing=True)
    await storage.register(killed)
    await storage.heartbeat(killed)
    await storage.resign()

    (found,) = [one for one in await storage.nodes() if one.name == "killed"]

    assert (found.executing, found.stopped) == (False, killed.heartbeat)


async def test_ids_go_on_where_a_table_was_emptied(opened: Open) -> None:
    storage = await opened()
    last = await finished(storage)
    await storage.close()

    again = await opened()

    assert await put(again, job()) == last + 1


async def test_a_finished_job_lies_in_its_month_and_nowhere_else(storage: SqliteStorage, tmp_path: Path) -> None:
    id = await finished(storage)

    assert rows(tmp_path / "jobs.db", "select id from job") == []
    assert rows(tmp_path / "jobs.db", "select id, state from job_summary") == [(id, "Completed")]
    assert rows(tmp_path / MONTH_FILE, "select id, run, state from job") == [(id, 0, "Completed")]


@pytest.mark.parametrize(("durability", "queue_level"), [("full", 2), ("relaxed", 1)])
async def test_month_files_are_always_flushed(opened: Open, durability: str, queue_level: int) -> None:
    storage = await opened(durability=durability)
    await finished(storage)

    month = await storage._archiver.call(MONTH, lambda: level(storage._archiver.file(MONTH)))

    assert (level(storage._writer._connection), month) == (queue_level, 2)


def level(connection: sqlite3.Connection) -> int:
    (synchronous,) = connection.execute("pragma synchronous").fetchone()
    return int(synchronous)


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "jobs.db")
    connection.execute("pragma user_version = 999")
    connection.close()

    with pytest.raises(StorageUnavailable, match="newer commandjobs"):
        await SqliteStorage(tmp_path / "jobs.db").open(on_wake=lambda: None)


async def test_f24_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"no database" * 1000)

    with pytest.raises(StorageCorrupt, match=r"jobs\.db is damaged"):
        await SqliteStorage(tmp_path / "jobs.db").open(on_wake=lambda: None)


async def test_f24_damage_found_after_an_unclean_stop_ends_all_writing(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = await opened()
    await storage.close()
    change(storage._path, "update meta set value = 0 where name = 'clean'")

    async def damaged(_: object) -> str:
        return "row 7 missing from index job_ref"

    monkeypatch.setattr("commandjobs.storage.sqlite.reader.Reader.damage", damaged)
    again = await opened()

    await eventually(lambda: says(again, "row 7 missing"))
    with pytest.raises(StorageCorrupt, match="nothing more is written"):
        await put(again, job())


async def says(storage: SqliteStorage, words: str) -> bool:
    return any(words in sentence for sentence in await storage.check())


async def test_f21_a_full_disk_is_told_and_forgotten_when_there_is_space(storage: SqliteStorage) -> None:
    connection = storage._writer._connection
    await put(storage, job())
    (pages,) = connection.execute("pragma page_count").fetchone()
    connection.execute(f"pragma max_page_count = {pages}")

    with pytest.raises(StorageFull, match=r"No space is left for .*jobs\.db"):
        await put(storage, job(request_body="x" * 100_000))

    connection.execute("pragma max_page_count = 1000000")
    assert await state(storage, await put(storage, job(request_body="x" * 100_000))) is JobState.QUEUED


async def test_f22_jobs_go_on_while_their_archive_is_away(storage: SqliteStorage, tmp_path: Path) -> None:
    (tmp_path / MONTH_FILE).mkdir()

    id = await finished(storage)

    assert await state(storage, id) is JobState.COMPLETED
    assert (await stored(storage, id)).response_body == '"done"'
    assert await storage.finished([id]) == {id}
    assert await says(storage, MONTH_FILE)


async def test_f22_moves_go_on_when_the_archive_is_back(storage: SqliteStorage, tmp_path: Path) -> None:
    (tmp_path / MONTH_FILE).mkdir()
    id = await finished(storage)
    assert await swept(storage) == 0
    (tmp_path / MONTH_FILE).rmdir()

    assert await swept(storage) == 1

    assert rows(tmp_path / MONTH_FILE, "select id from job") == [(id,)]
    assert rows(tmp_path / "jobs.db", "select id from job") == []
    assert await storage.check() == []


async def test_f25_a_month_that_was_deleted_is_begun_anew(storage: SqliteStorage, tmp_path: Path) -> None:
    lost = await finished(storage)
    for file in (MONTH_FILE, f"{MONTH_FILE}-wal", f"{MONTH_FILE}-shm"):
        (tmp_path / file).unlink()

    kept = await finished(storage)

    assert rows(tmp_path / MONTH_FILE, "select id from job") == [(kept,)]
    found = await storage.job(lost)
    assert found is not None
    assert found.row is None


async def test_f26_a_damaged_month_is_put_aside(opened: Open, tmp_path: Path) -> None:
    (tmp_path / MONTH_FILE).write_bytes(b"no database" * 1000)
    storage = await opened()

    id = await finished(storage)

    assert rows(tmp_path / MONTH_FILE, "select id from job") == [(id,)]
    assert (tmp_path / f"{MONTH_FILE}.corrupt-1").exists()
    assert await says(storage, "corrupt-1 is a damaged archive")


async def test_l21_a_look_into_a_month_that_is_dropped_meanwhile_finds_nothing(
    storage: SqliteStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await finished(storage)
    await storage._reader.archives.forget(MONTH)
    opening = ReadOnlyFile._open

    async def drop_first(file: ReadOnlyFile) -> Any:
        (tmp_path / MONTH_FILE).unlink(missing_ok=True)
        return await opening(file)

    monkeypatch.setattr(ReadOnlyFile, "_open", drop_first)

    assert await storage._reader.archives.rows(MONTH, ARCHIVE_SQL["newest_end"]) is None


async def test_f11_what_a_kill_has_left_of_a_dropped_month_is_deleted(opened: Open, tmp_path: Path) -> None:
    storage = await opened()
    await storage.close()
    left = [tmp_path / f"{MONTH_FILE}{side}" for side in ("-wal", "-shm")]
    for file in [*left, tmp_path / f"other.db{MONTH_FILE}-wal"]:
        file.touch()
    change(tmp_path / "jobs.db", "update meta set value = 0 where name = 'clean'")

    await opened()

    assert [file for file in left if file.exists()] == []
    assert (tmp_path / f"other.db{MONTH_FILE}-wal").exists()


async def test_a_month_that_was_put_back_is_found_again(storage: SqliteStorage, tmp_path: Path) -> None:
    id = await finished(storage)
    await storage.close()
    (tmp_path / MONTH_FILE).rename(tmp_path / "cold.db")
    again = SqliteStorage(tmp_path / "jobs.db")
    await again.open(on_wake=lambda: None)
    found = await again.job(id)
    assert found is not None
    assert found.row is None

    (tmp_path / "cold.db").rename(tmp_path / MONTH_FILE)

    assert (await stored(again, id)).id == id
    assert [info.month for info in await again.months()] == [MONTH]
    await again.close()


async def test_a_refused_settlement_leaves_nothing_in_the_archive(storage: SqliteStorage, tmp_path: Path) -> None:
    row = await running(storage)
    settlement = settle(row, Succeeded('"late"'), now=NOW + SECOND, backoff=lambda _: 1.0)
    settlement.owner = 999

    settled = await storage.settle([settlement], now=NOW + SECOND)

    assert settled.written == [False]
    assert await state(storage, row.id) is JobState.STARTED
    await storage.append_logs([line(row.id)])  # the archiver is done with what came before
    assert rows(tmp_path / MONTH_FILE, "select id from job") == []


def line(job_id: int, message: str = "hello") -> LogRow:
    return LogRow(job_id, NOW, 1, NOW, "INFO", "app", message)


async def test_a_lone_surrogate_in_a_log_line_is_replaced(storage: SqliteStorage) -> None:
    id = await put(storage, job())

    await storage.append_logs([line(id, "a\udc80b"), line(id, "é")])

    assert [kept.message for kept in await storage.logs(id, after=0, limit=9)] == ["a?b", "é"]


# ── the writer ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_callers_bad_row_is_his_own(storage: SqliteStorage) -> None:
    bad, *good = await asyncio.gather(
        put(storage, job(priority=2**70)),
        *(put(storage, job()) for _ in range(20)),
        return_exceptions=True,
    )

    assert isinstance(bad, OverflowError)
    assert len({id for id in good if isinstance(id, int)}) == 20


async def test_an_operation_whose_caller_gave_up_is_withdrawn(storage: SqliteStorage) -> None:
    with storage._locks.write_turn():
        waiting = asyncio.create_task(put(storage, job(ref_id="withdrawn")))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.sleep(0.05)

    await put(storage, job())

    assert await storage.job("withdrawn") is None


async def test_f12_a_turn_that_does_not_come_is_an_error_with_a_deadline(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, storage._locks.write_turn():
        for part in (storage, storage._pending):  # for this one call: what may be written can take longer
            patch.setattr(part, "_deadline", 0.2)
        with pytest.raises(StorageUnavailable, match=r"could not be written for 0\.2 s"):
            await put(storage, job(ref_id="late"))

    await put(storage, job())
    assert await storage.job("late") is None


async def test_callers_wait_for_room_and_leave_nothing_if_they_give_up(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "MOST_OPERATIONS", 3)
    with storage._locks.write_turn():
        inserts = [asyncio.create_task(put(storage, job(ref_id=f"job-{n}"))) for n in range(5)]
        await asyncio.sleep(0.05)
        inserts[3].cancel()

    done = await asyncio.gather(*inserts, return_exceptions=True)

    assert [isinstance(id, int) for id in done] == [True, True, True, False, True]
    assert await storage.job("job-3") is None


async def test_commits_are_prompt_beside_a_busy_loop(storage: SqliteStorage) -> None:
    """Without courtesy one commit takes seconds here: the writing thread never gets the GIL."""
    busy = True

    async def compute() -> None:
        while busy:
            until = time.perf_counter() + 0.0002
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(0)

    load = asyncio.create_task(compute())
    used = time.process_time()  # of CPU time: what the disk and other processes take does not count
    for _ in range(20):
        await put(storage, job())
    busy = False
    await load

    assert time.process_time() - used < 4.0


async def test_the_log_grows_in_idle_moments_only(opened: Open, tmp_path: Path) -> None:
    await opened(wal_size=1_000_000)

    async def grown() -> bool:
        return (tmp_path / "jobs.db-wal").stat().st_size >= 1_000_000

    await eventually(grown)
    assert (tmp_path / "jobs.db").stat().st_size < 1_000_000


async def test_a_start_mark_is_dropped_if_the_job_has_ended_by_then(storage: SqliteStorage) -> None:
    row = job()
    await put(storage, row, claim=ANY)
    begin(row, now=NOW, node="node")
    with storage._locks.write_turn():
        marked = storage.mark_started([row])
        ended = asyncio.create_task(end(storage, row))
        await asyncio.sleep(0.05)

    assert await marked == [False]
    await ended
    assert (await stored(storage, row.id)).attempts == 1


async def test_f29_a_reader_that_keeps_the_log_from_being_reset_is_noticed(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(storage, job())

    monkeypatch.setattr("commandjobs.storage.sqlite.storage.LARGE_WAL", 1)

    assert await says(storage, "log cannot begin anew")


# ── several processes ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_f28_opening_waits_for_a_lock_that_a_killed_process_still_has(opened: Open, tmp_path: Path) -> None:
    storage = await opened()
    await finished(storage)
    await storage.close()
    dying = [
        sqlite3.connect(tmp_path / name, isolation_level=None, check_same_thread=False)
        for name in ("jobs.db", MONTH_FILE)
    ]
    for connection in dying:
        connection.execute("begin immediate")
        threading.Timer(0.2, connection.rollback).start()

    again = await opened()

    await finished(again)
    assert rows(tmp_path / "jobs.db", "select id from job") == []
    for connection in dying:
        connection.close()


async def test_one_executes_and_the_other_enqueues(storage: SqliteStorage, opened: Open) -> None:
    other = await opened(executes=False)

    [inserted] = await other.insert([job()], now=NOW, claim=ANY)

    assert not inserted.claimed
    assert (await claim_one(storage)).id == inserted.id
    with pytest.raises(StorageUnavailable, match="may only enqueue, look and ask"):
        await other.cancel([inserted.id], by=None, now=NOW)


async def test_the_executing_one_hears_of_new_jobs(tmp_path: Path, opened: Open) -> None:
    woken = asyncio.Event()
    storage = SqliteStorage(tmp_path / "jobs.db")
    await storage.open(on_wake=woken.set)
    assert await storage.try_execute()
    other = await opened(executes=False)
    woken.clear()

    await put(other, job())

    await asyncio.wait_for(woken.wait(), 20)
    await storage.close()


async def test_others_hear_of_what_was_finished(tmp_path: Path, storage: SqliteStorage) -> None:
    woken = asyncio.Event()
    other = SqliteStorage(tmp_path / "jobs.db")
    await other.open(on_wake=woken.set)

    id = await finished(storage)

    await asyncio.wait_for(woken.wait(), 20)
    assert await other.finished([id]) == {id}
    await other.close()


async def test_an_intent_is_answered(storage: SqliteStorage, opened: Open) -> None:
    other = await opened(executes=False)
    asked = asyncio.create_task(other.steer("cancel", {"ids": [1]}, timeout=20))

    async def heard() -> bool:
        return bool(await storage.intents())

    await eventually(heard)
    [intent] = await storage.intents()
    assert (intent.action, intent.arguments) == ("cancel", {"ids": [1]})
    await storage.answer(intent, {"done": True})

    assert await asked == {"done": True}
    assert await storage.intents() == []


async def test_f12_a_silent_executor_is_named(storage: SqliteStorage, opened: Open) -> None:
    other = await opened(executes=False)

    with pytest.raises(StorageUnavailable, match=f"Process {os.getpid()}, which executes"):
        await other.steer("pause", {}, timeout=0.1)

    async def withdrawn() -> bool:
        return await storage.intents() == []

    await eventually(withdrawn)


async def test_nobody_is_asked_if_nobody_executes(storage: SqliteStorage, opened: Open) -> None:
    other = await opened(executes=False)
    await storage.resign()

    with pytest.raises(NobodyExecutes):
        await other.steer("pause", {}, timeout=5)

    assert await other.try_execute()


async def test_a_fork_is_told_to_open_its_own(tmp_path: Path) -> None:
    answer = await asyncio.to_thread(run_child, tmp_path, FORK)

    assert "opened in process" in answer


# ── kill -9 ────────────────────────────────────────────────────────────────────────────────────────────────────────

PRELUDE = """
import asyncio, os, sys
from pathlib import Path
from commandjobs.storage.sqlite import mover, storage
from tests.storage.life import *

async def main():
    opened = storage.SqliteStorage(Path(sys.argv[1]) / "jobs.db")
    await opened.open(on_wake=lambda: None)
    await opened.register(node())
    await opened.try_execute()
    await life(opened)
"""
FORK = """
async def life(opened):
    if os.fork() == 0:
        try:
            await opened.insert([job()], now=NOW)
        except Exception as error:
            print(error, flush=True)
        os._exit(0)
    os.wait()
    await opened.close()
"""
BETWEEN_FILES = """
async def life(opened):
    parent = await running(opened, job(worker="smtp"))
    await put(opened, child(parent.id))
    await put(opened, job(worker="smtp"))
    mover.Mover._settled = lambda *_: os._exit(9)
    await end(opened, parent)
"""
AFTER_THE_MARK = """
async def life(opened):
    mover.Mover._archived_behind = lambda *_: os._exit(9)
    await opened.cancel([await put(opened, job())], by="me", now=NOW)
    await asyncio.sleep(5)
"""
WITH_CLAIMS = """
async def life(opened):
    await running(opened)
    await put(opened, job(), claim=ANY)
    os._exit(9)
"""


def run_child(directory: Path, life: str) -> str:
    program = f"{PRELUDE}\n{life}\nasyncio.run(main())"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(directory)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stderr == ""
    return done.stdout


async def test_f07_a_move_that_was_cut_off_is_finished(tmp_path: Path, opened: Open) -> None:
    await asyncio.to_thread(run_child, tmp_path, BETWEEN_FILES)
    assert rows(tmp_path / MONTH_FILE, "select id from job") == [(1,)]
    assert rows(tmp_path / "jobs.db", "select id, state from job where id = 1") == [(1, "Started")]

    storage = await opened()

    assert await state(storage, 1) is JobState.COMPLETED
    assert [run.run for run in await storage.runs(1)] == [0]
    assert rows(tmp_path / MONTH_FILE, "select * from unconfirmed") == []
    assert {row.id for row in await storage.claim({}, 9, claim=ANY, now=NOW)} == {2, 3}
    assert (await storage.rescue(now=NOW)).started == []


async def test_f07_a_job_that_was_marked_is_moved_by_the_next_process(tmp_path: Path, opened: Open) -> None:
    await asyncio.to_thread(run_child, tmp_path, AFTER_THE_MARK)

    storage = await opened()
    await swept(storage)

    assert await state(storage, 1) is JobState.CANCELLED
    assert rows(tmp_path / "jobs.db", "select id from job") == []
    assert rows(tmp_path / MONTH_FILE, "select id, state from job") == [(1, "Cancelled")]


async def test_f03_f04_what_a_dead_process_owned_is_rescued(tmp_path: Path, opened: Open) -> None:
    await asyncio.to_thread(run_child, tmp_path, WITH_CLAIMS)
    storage = await opened()

    rescued = await storage.rescue(now=NOW)

    assert ([row.id for row in rescued.started], rescued.released) == ([1], 1)
    claimed = await claim_one(storage)
    assert (claimed.id, claimed.suspect, claimed.attempts) == (2, True, 0)


async def test_an_orderly_stop_leaves_nothing_to_look_for(storage: SqliteStorage, tmp_path: Path) -> None:
    await finished(storage)
    await storage.close()

    assert rows(tmp_path / "jobs.db", "select value from meta where name = 'clean'") == [(1,)]
    assert rows(tmp_path / MONTH_FILE, "select * from unconfirmed") == []
    assert not (tmp_path / "jobs.db-wal").exists()


async def test_a_job_that_ended_during_a_backup_does_not_run_again_from_it(opened: Open, tmp_path: Path) -> None:
    storage = await opened()
    id = await put(storage, job())
    await storage.backup(str(tmp_path / "before"))
    await finished_from(storage, id)
    await storage.backup(str(tmp_path / "after"))
    await storage.close()
    shutil.copy(tmp_path / "after" / MONTH_FILE, tmp_path / "before" / MONTH_FILE)

    restored = SqliteStorage(tmp_path / "before" / "jobs.db")
    await restored.open(on_wake=lambda: None)
    await restored.register(node())
    assert await restored.try_execute()

    found = await restored.job(id)
    assert found is not None
    assert found.summary.state is JobState.COMPLETED
    assert await restored.claim({}, 10, claim=ANY, now=NOW) == []
    await restored.close()


@pytest.mark.parametrize("enqueued_first", [False, True], ids=["later", "before it executes"])
async def test_a_new_job_is_never_taken_for_one_that_ended_after_the_backup(
    opened: Open, tmp_path: Path, enqueued_first: bool
) -> None:
    restored = await restored_with_a_later_month(opened, tmp_path)
    await restored.open(on_wake=lambda: None)
    await restored.register(node())
    if enqueued_first:
        await put(restored, job(ref_id="new"))
    assert await restored.try_execute()
    if not enqueued_first:
        await put(restored, job(ref_id="new"))

    row = await begun(restored, await claim_one(restored))
    await end(restored, row, Succeeded('"of the new job"'))

    assert (await stored(restored, row.id)).response_body == '"of the new job"'
    await restored.close()


async def restored_with_a_later_month(opened: Open, tmp_path: Path) -> SqliteStorage:
    """A backup in whose month a job has ended that its queue file does not know."""
    storage = await opened()
    await storage.backup(str(tmp_path / "before"))
    await finished(storage, outcome=Succeeded('"of the old job"'))
    await storage.backup(str(tmp_path / "after"))
    await storage.close()
    shutil.copy(tmp_path / "after" / MONTH_FILE, tmp_path / "before" / MONTH_FILE)
    return SqliteStorage(tmp_path / "before" / "jobs.db")


async def finished_from(storage: SqliteStorage, id: int) -> None:
    """Run a waiting job to its end."""
    [row] = await storage.claim({}, 1, claim=ANY, now=NOW)
    assert row.id == id
    begin(row, now=NOW, node="node")
    settled = await storage.settle([settle(row, Succeeded("1"), now=NOW, backoff=lambda _: 0.0)], now=NOW)
    assert settled.written == [True]


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
async def test_into_a_file_that_was_deleted_under_it_nothing_more_is_written(
    storage: SqliteStorage, tmp_path: Path
) -> None:
    await put(storage, job())
    (tmp_path / "jobs.db").unlink()

    async def is_refused() -> bool:
        try:
            await put(storage, job())
        except StorageCorrupt as error:
            return "was deleted or replaced while it was in use" in str(error)
        return False

    await eventually(is_refused)
    assert any("deleted or replaced" in reason for reason in await storage.check())


async def test_a_file_that_cannot_be_looked_at_fails_no_commit(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(f"{path} is out of reach")

    monkeypatch.setattr(writer, "identity", refuse)
    monkeypatch.setattr(writer, "POLL", 0.0)

    ids = [await put(storage, job()) for _ in range(3)]

    assert [found.summary.id for found in await storage.jobs(ids)] == ids
