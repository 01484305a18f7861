"""Roles that processes and engines exclude each other from; the other processes here are real ones."""

import mmap
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from commandjobs.errors import StorageUnavailable
from commandjobs.storage.sqlite.locks import ProcessLocks

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks and signals")

PEER = """
import os, sys, threading
from commandjobs.storage.sqlite import locks as module
from commandjobs.storage.sqlite.locks import ProcessLocks

def in_fork(expression):
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            answer = repr(eval(expression))
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.wait()
    return os.read(reader, 1000).decode()

def fork_that_stays():
    child = os.fork()
    if child == 0:
        os.read(os.pipe()[0], 1)
    return child

def turns_without_pause(counter):
    import mmap
    with open(counter, "r+b") as file:
        count = mmap.mmap(file.fileno(), 1)
    def run():
        while True:
            with locks.write_turn():
                count[0] = (count[0] + 1) % 256
                for _ in range(10000): pass
    threading.Thread(target=run, daemon=True).start()

path = sys.argv[1]
locks = ProcessLocks(path)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Peer:
    """Another process with the same queue open; it evaluates what it is asked."""

    def __init__(self, path: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PEER, path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self.process.pid

    def ask(self, expression: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{expression}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "jobs.db")


@pytest.fixture
def locks(path: str) -> Iterator[ProcessLocks]:
    locks = ProcessLocks(path)
    yield locks
    locks.close()


@pytest.fixture
def peer(path: str) -> Iterator[Peer]:
    with Peer(path) as peer:
        yield peer


def in_thread(run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


# ── who executes ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_process_executes(locks: ProcessLocks, peer: Peer) -> None:
    assert locks.try_execute()
    assert locks.try_execute()

    assert peer.ask("locks.try_execute(), locks.executes") == "(False, False)"
    assert peer.ask("locks.executor_present(), locks.executor_pid()") == f"(True, {os.getpid()})"


def test_released_role_is_free(locks: ProcessLocks, peer: Peer) -> None:
    locks.try_execute()
    locks.release_execute()

    assert not locks.executes
    assert peer.ask("locks.executor_present(), locks.executor_pid()") == "(False, None)"
    assert peer.ask("locks.try_execute()") == "True"
    assert (locks.executor_present(), locks.executor_pid()) == (True, peer.pid)


def test_looking_for_the_executor_is_in_nobodys_way(locks: ProcessLocks, peer: Peer) -> None:
    assert not locks.executor_present()

    assert peer.ask("locks.try_execute()") == "True"


def test_kill_9_frees_the_role_at_once(locks: ProcessLocks, peer: Peer) -> None:
    assert peer.ask("locks.try_execute()") == "True"
    assert not locks.try_execute()

    peer.kill()

    assert locks.try_execute()


def test_stopped_process_keeps_the_role(locks: ProcessLocks, peer: Peer) -> None:
    assert peer.ask("locks.try_execute()") == "True"

    os.kill(peer.pid, signal.SIGSTOP)

    assert not locks.try_execute()
    assert locks.executor_pid() == peer.pid


def test_one_engine_of_a_process_executes(locks: ProcessLocks, path: str) -> None:
    second = ProcessLocks(path)

    assert locks.try_execute()
    assert not second.try_execute()
    assert (second.executes, second.executor_present(), second.executor_pid()) == (False, True, os.getpid())

    locks.release_execute()
    assert second.try_execute()
    second.close()


def test_closing_an_engine_frees_its_role(path: str, locks: ProcessLocks, peer: Peer) -> None:
    second = ProcessLocks(path)
    second.try_execute()

    second.close()
    second.close()

    assert not second.executes
    assert peer.ask("locks.try_execute()") == "True"
    assert not locks.try_execute()


def test_closing_an_engine_keeps_the_roles_of_another(
    locks: ProcessLocks, tmp_path: Path, path: str, peer: Peer
) -> None:
    link = tmp_path / "elsewhere.db"
    link.symlink_to(path)
    locks.try_execute()

    ProcessLocks(path).close()
    ProcessLocks(str(link)).close()

    assert peer.ask("locks.try_execute()") == "False"


def test_last_engine_closes_the_file(path: str) -> None:
    first, second = ProcessLocks(path), ProcessLocks(path)
    shared = first.file()
    assert second.file() is shared

    first.close()
    os.fstat(shared.fd)
    second.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(shared.fd)


# ── forks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_fork_does_not_inherit_the_role(locks: ProcessLocks, peer: Peer) -> None:
    assert peer.ask("locks.try_execute()") == "True"
    child = int(peer.ask("fork_that_stays()"))

    peer.kill()

    os.kill(child, 0)
    assert locks.try_execute()
    os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("use", ["try_execute()", "executes", "executor_present()", "write_turn().__enter__()"])
def test_use_after_fork_is_refused(peer: Peer, use: str) -> None:
    told = peer.ask(f"in_fork('locks.{use}')")

    assert told.startswith("StorageUnavailable: The queue ")
    assert told.endswith("open it after the fork, in each process that uses it.")


def test_fork_opens_its_own_and_leaves_its_parents_alone(locks: ProcessLocks, peer: Peer) -> None:
    assert peer.ask("locks.try_execute()") == "True"

    assert peer.ask("in_fork('ProcessLocks(path).try_execute()')") == "False"
    assert peer.ask("in_fork('locks.close(), ProcessLocks(path).close()')") == "(None, None)"

    assert not locks.try_execute()


# ── turns ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_process_at_a_time_has_the_turn(locks: ProcessLocks, peer: Peer) -> None:
    peer.ask("locks.write_turn().__enter__()")
    had = threading.Event()

    def wait_for_turn() -> None:
        with locks.write_turn():
            had.set()

    waiter = in_thread(wait_for_turn)
    until(lambda: peer.ask("module._holder(locks.file().fd, module.TURNSTILE)") == str(os.getpid()))
    assert locks.writer_pid() == peer.pid
    assert not had.is_set()

    peer.ask("locks.write_turn().__exit__(None, None, None)")

    waiter.join(timeout=10)
    assert had.is_set()
    assert locks.writer_pid() is None


def test_kill_9_frees_the_turn_at_once(locks: ProcessLocks, peer: Peer) -> None:
    peer.ask("locks.write_turn().__enter__()")

    peer.kill()

    with locks.write_turn():
        assert locks.writer_pid() is None


def test_two_engines_of_a_process_take_turns(locks: ProcessLocks, path: str) -> None:
    second = ProcessLocks(path)
    inside: list[int] = []
    most: list[int] = []

    def take_turns(locks: ProcessLocks) -> None:
        for _ in range(2000):
            with locks.write_turn():
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    for thread in [in_thread(partial(take_turns, locks)), in_thread(partial(take_turns, second))]:
        thread.join(timeout=30)

    assert len(most) == 4000
    assert max(most) == 1
    second.close()


def test_error_inside_a_turn_ends_it(locks: ProcessLocks, peer: Peer) -> None:
    with pytest.raises(ZeroDivisionError), locks.write_turn():
        raise ZeroDivisionError

    assert peer.ask("locks.write_turn().__enter__()") == "None"


def test_process_that_never_pauses_lets_others_in(locks: ProcessLocks, peer: Peer, tmp_path: Path) -> None:
    counter = tmp_path / "turns"
    counter.write_bytes(b"\0")
    with counter.open("r+b") as file:
        count = mmap.mmap(file.fileno(), 1)
    peer.ask(f"turns_without_pause({str(counter)!r})")
    until(lambda: count[0] > 0)

    waited: list[int] = []
    for _ in range(30):
        before = until_changed(lambda: count[0])
        with locks.write_turn():
            waited.append((count[0] - before) % 256)

    assert statistics.median(waited) <= 1


def test_engine_that_never_pauses_lets_others_of_its_process_in(locks: ProcessLocks, path: str) -> None:
    second = ProcessLocks(path)
    turns = 0
    over = threading.Event()

    def take_turns() -> None:
        nonlocal turns
        while not over.is_set():
            with second.write_turn():
                turns += 1
                time.sleep(0.001)  # a commit, during which the other comes to the door

    greedy = in_thread(take_turns)
    waited: list[int] = []
    for _ in range(30):
        before = until_changed(lambda: turns)
        with locks.write_turn():
            waited.append(turns - before)
    over.set()
    greedy.join(timeout=10)

    assert statistics.median(waited) == 0
    second.close()


def test_two_files_in_two_processes_are_no_deadlock(tmp_path: Path) -> None:
    """Each has its turn on one file and waits on the other in a thread: the kernel refuses the second to wait."""
    ours, theirs = str(tmp_path / "ours.db"), str(tmp_path / "theirs.db")
    first, second = ProcessLocks(ours), ProcessLocks(theirs)
    with Peer(theirs) as peer:
        peer.ask("locks.write_turn().__enter__()")
        with first.write_turn():
            waiter = in_thread(second.write_turn().__enter__)
            until(lambda: peer.ask("module._holder(locks.file().fd, module.TURNSTILE)") == str(os.getpid()))
            peer.ask(f"globals().update(other=ProcessLocks({ours!r}), done=threading.Event())")
            peer.ask("threading.Thread(target=lambda: (other.write_turn().__enter__(), done.set())).start()")
            assert peer.ask("done.wait(0.05)") == "False"

        assert peer.ask("done.wait(10)") == "True"
        peer.ask("locks.write_turn().__exit__(None, None, None)")
        waiter.join(timeout=10)
        assert not waiter.is_alive()
    second.end_turn()
    first.close()
    second.close()


# ── the file ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_lock_file_has_the_rights_of_the_queue_file(tmp_path: Path) -> None:
    queue = tmp_path / "jobs.db"
    queue.touch()
    queue.chmod(0o660)

    ProcessLocks(str(queue)).close()

    assert (tmp_path / "jobs.db.lock").stat().st_mode & 0o777 == 0o660


def test_deleted_lock_file_is_noticed(locks: ProcessLocks, path: str) -> None:
    assert locks.intact()

    Path(f"{path}.lock").unlink()
    assert not locks.intact()

    ProcessLocks(path).close()
    assert not locks.intact()


def test_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match=r"missing/jobs\.db\.lock cannot be opened: No such file or directory"):
        ProcessLocks(str(tmp_path / "missing" / "jobs.db"))


def test_closed_queue_is_refused(path: str) -> None:
    locks = ProcessLocks(path)
    locks.close()

    with pytest.raises(StorageUnavailable, match=r"jobs\.db was closed"):
        locks.try_execute()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread or process does; the test's time limit ends it."""
    while not condition():
        threading.Event().wait(0.001)


def until_changed(value: Callable[[], int]) -> int:
    """Wait for the next turn of whoever counts its turns there."""
    before = value()
    until(lambda: value() != before)
    return value()
