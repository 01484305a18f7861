"""File locks by which several processes share one SQLite queue file.

**The idea.** Beside `jobs.db` lies `jobs.db.lock`. Its bytes stand for roles, and a process has a role while it holds
the record lock on that byte. The kernel frees a lock when its process ends, however it ends, so nothing is ever stale:
after `kill -9` the next process has the role at once. The file itself is never deleted: a lock on a deleted file is
held against nobody.

    0 …       a line of text for whoever finds the file; on Windows also the executor's process id
    1024      EXECUTOR   held as long as a process executes jobs
    1025      TURN       held around one transaction or checkpoint
    1026      TURNSTILE  held while waiting for TURN

**Why record locks** (`fcntl.lockf`), not `flock`: a child that a job forks does not inherit them, so a subprocess that
outlives its parent does not keep the role. They have two quirks that shape this file:

* They vanish when *any* descriptor of the file is closed in the process. So the file is opened once per process and
  shared by all its engines, and never is `jobs.db` itself locked here: SQLite opens and closes that as it likes.
* Threads of one process do not exclude each other by them. So beside each byte stands a threading lock.

**Why a turnstile.** A process that commits without pause takes TURN again microseconds after freeing it, before a
waiter has even woken up. So everyone passes TURNSTILE to get at TURN, and a waiter keeps it until it has TURN: the
busy process finds the turnstile shut and queues up behind. The same holds between threads.

**Order of locks**: `_SharedFile.turnstile`, `_SharedFile.turn`, TURNSTILE, TURN. Apart from these: `_opening`, and
`_SharedFile.role` around EXECUTOR, which is only ever tried, never waited for.
"""

import contextlib
import errno
import os
import struct
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from commandjobs.errors import StorageUnavailable

EXECUTOR: Final = 1024
TURN: Final = 1025
TURNSTILE: Final = 1026

_NOTICE = b"Locks of the job queue beside this file. Do not delete it: processes would no longer see each other.\n"


class ProcessLocks:
    """One engine's share in the locks of one queue file."""

    def __init__(self, path: str) -> None:
        """Open the lock file of the queue file `path`, or join the engines of this process that have it open."""
        self._path = os.path.realpath(path)
        self._file = _join(self._path)
        self._closed = False
        self._turn = WriteTurn(self)

    @property
    def executes(self) -> bool:
        """Whether this engine is the executing one."""
        self._check_process()
        return self._file.executor is self

    def try_execute(self) -> bool:
        """Become the executing engine if there is none; returns at once. True also if it is already."""
        file = self.file()
        with file.role:
            if file.executor is None and file.try_executor():
                file.executor = self
            return file.executor is self

    def release_execute(self) -> None:
        """Stop being the executing engine; nothing happens if it is not."""
        file = self.file()
        with file.role:
            if file.executor is self:
                file.release_executor()

    def executor_present(self) -> bool:
        """Whether any engine of any process executes."""
        file = self.file()
        with file.role:
            return file.executor is not None or file.holder(EXECUTOR) is not None

    def executor_pid(self) -> int | None:
        """The process that executes; None if there is none, or if it is in another container."""
        file = self.file()
        with file.role:
            return os.getpid() if file.executor is not None else file.holder(EXECUTOR) or None

    def writer_pid(self) -> int | None:
        """The other process that has the write turn now; None: none has, or it is in another container."""
        return self.file().holder(TURN) or None

    def write_turn(self) -> "WriteTurn":
        """Take turns with the other writers: `with locks.write_turn():` around one transaction or checkpoint.

        Blocks until it is this engine's turn, for ever if another process was stopped (SIGSTOP) inside its own: for
        writer threads only. Not reentrant.
        """
        return self._turn

    def try_turn(self) -> bool:
        """Take the turn if that needs no waiting at all; `end_turn` gives it back."""
        return self.file().try_turn()

    def end_turn(self) -> None:
        """What leaving `write_turn()` does: without the checks, since a turn that was taken must be given back."""
        self._file.end_turn()

    def intact(self) -> bool:
        """Whether the lock file is still the one under its name.

        False: somebody deleted or replaced it, and processes that start now do not see ours.
        """
        return self.file().intact()

    def close(self) -> None:
        """Give up every role; safe to call twice, and in a forked child, where it leaves the parent's locks alone."""
        if self._closed or self._file.pid != os.getpid():
            return
        self.release_execute()
        self._closed = True
        _leave(self._file)

    def file(self) -> "_SharedFile":
        """The open lock file, if this engine may use it."""
        self._check_process()
        if self._closed:
            raise StorageUnavailable(f"The queue {self._path} was closed.")
        return self._file

    def _check_process(self) -> None:
        if self._file.pid != os.getpid():
            raise StorageUnavailable(
                f"The queue {self._path} was opened in process {self._file.pid} and used in its fork {os.getpid()}: "
                "open it after the fork, in each process that uses it."
            )


class WriteTurn:
    """What `ProcessLocks.write_turn` returns: one object for all turns, since each commit takes one."""

    __slots__ = ("_locks",)

    def __init__(self, locks: ProcessLocks) -> None:
        self._locks = locks

    def __enter__(self) -> None:
        self._locks.file().take_turn()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._locks.end_turn()


class _SharedFile:
    """The lock file as this process has it open, for all its engines."""

    def __init__(self, path: str, key: tuple[int, int]) -> None:
        self.path = path
        self.key = key
        self.pid = os.getpid()
        self.fd = os.open(path, os.O_RDWR)
        self.users = 0
        self.executor: ProcessLocks | None = None
        self.role = threading.Lock()
        self.turn = threading.Lock()
        self.turnstile = threading.Lock()

    def try_executor(self) -> bool:
        try:
            return _try_executor(self.fd)
        except OSError as error:
            raise self._unavailable(error) from error

    def release_executor(self) -> None:
        _unlock(self.fd, EXECUTOR)
        self.executor = None

    def take_turn(self) -> None:
        with self.turnstile:
            self.turn.acquire()
            try:
                if not _try_turn(self.fd):
                    self._wait_for_turn()
            except OSError as error:
                self.turn.release()
                raise self._unavailable(error) from error
            except BaseException:  # KeyboardInterrupt, should somebody take a turn on the main thread
                self.end_turn()
                raise

    def try_turn(self) -> bool:
        if not self.turnstile.acquire(blocking=False):
            return False
        try:
            if not self.turn.acquire(blocking=False):
                return False
            try:
                taken = _try_turn(self.fd)
            except OSError:  # whoever waits for it will hear of that
                taken = False
            if not taken:
                self.turn.release()
            return taken
        finally:
            self.turnstile.release()

    def _wait_for_turn(self) -> None:
        _lock(self.fd, TURNSTILE)
        try:
            _lock(self.fd, TURN)
        finally:
            _unlock(self.fd, TURNSTILE)

    def end_turn(self) -> None:
        try:
            _unlock(self.fd, TURN)
        finally:
            self.turn.release()

    def holder(self, byte: int) -> int | None:
        """Which other process holds the byte's lock; 0: one whose id cannot be told; None: no other."""
        try:
            return _holder(self.fd, byte)
        except OSError as error:
            raise self._unavailable(error) from error

    def intact(self) -> bool:
        try:
            return _key(self.path) == self.key
        except OSError:
            return False

    def _unavailable(self, error: OSError) -> StorageUnavailable:
        return StorageUnavailable(
            f"The lock file {self.path} cannot be locked: {error.strerror}. "
            "A SQLite queue needs a file system with file locks, best a local disk."
        )


# The one global here. Record locks belong to the process and are lost with the first descriptor of the file that is
# closed, so "is this file open already" can only be answered for the whole process: two engines that know nothing of
# each other, made by two libraries in one application, must find the same descriptor. The key is the file's identity,
# not its name, which is not unique: links, mounts, and file systems that ignore case.
_opened: dict[tuple[int, int], _SharedFile] = {}
_opening = threading.Lock()


def _join(queue_path: str) -> _SharedFile:
    path = f"{queue_path}.lock"
    with _opening:
        try:
            _create(path, queue_path)
            key = _key(path)
            file = _opened.get(key) or _SharedFile(path, key)
        except OSError as error:
            raise StorageUnavailable(f"The lock file {path} cannot be opened: {error.strerror}.") from error
        _opened[key] = file
        file.users += 1
        return file


def _leave(file: _SharedFile) -> None:
    with _opening:
        file.users -= 1
        if not file.users:
            del _opened[file.key]
            os.close(file.fd)


def _create(path: str, queue_path: str) -> None:
    """Make the lock file if there is none, with the rights of the queue file: who may use one may use the other.

    It is made under its name only: opening a file that is there, and closing it, would drop the locks on it.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return
    try:
        os.write(fd, _NOTICE)
        _share(fd, queue_path)
    finally:
        os.close(fd)


def _key(path: str) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_dev, status.st_ino


def _forget_parents_files() -> None:
    """In a forked child: the parent's locks are not ours, its threads are gone, and so may be who held `_opening`."""
    global _opened, _opening  # noqa: PLW0603  see above
    _opened = {}
    _opening = threading.Lock()


# ── the platform ───────────────────────────────────────────────────────────────────────────────────────────────────

if sys.platform != "win32":
    import fcntl

    os.register_at_fork(after_in_child=_forget_parents_files)

    def _try_executor(fd: int) -> bool:
        return _try_lock(fd, EXECUTOR, 1)

    def _try_turn(fd: int) -> bool:
        """Take TURN at once if nobody has it and nobody waits for it.

        Both bytes in one call: a system call less than one after the other, and each of them lets go of the GIL.
        """
        free = _try_lock(fd, TURN, 2)
        if free:
            _unlock(fd, TURNSTILE)
        return free

    def _try_lock(fd: int, byte: int, length: int) -> bool:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, length, byte)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            return False
        return True

    def _lock(fd: int, byte: int) -> None:
        """Wait for a byte. (A wait that a signal interrupts goes on by itself: PEP 475.)"""
        while True:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX, 1, byte)
                return
            except OSError as error:
                # The kernel sees processes, not threads: two processes that write two queue files, each having its
                # turn on one and waiting on the other in two threads, look like a deadlock to it. They are none, as
                # a thread waits for one file at a time, so it passes within a commit.
                if error.errno != errno.EDEADLK:
                    raise
            time.sleep(0.001)

    def _unlock(fd: int, byte: int) -> None:
        fcntl.lockf(fd, fcntl.LOCK_UN, 1, byte)

    def _holder(fd: int, byte: int) -> int | None:
        """Asks (F_GETLK) and takes nothing, so that looking is never in anybody's way."""
        kind, pid = _answer(fcntl.fcntl(fd, fcntl.F_GETLK, _question(byte)))
        return None if kind == fcntl.F_UNLCK else max(pid, 0)

    # `struct flock`, whose order of fields is each system's own.
    if sys.platform == "linux":
        _FLOCK = struct.Struct("hhqqi")  # type, whence, start, length, pid

        def _question(byte: int) -> bytes:
            return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)

        def _answer(flock: bytes) -> tuple[int, int]:
            kind, _, _, _, pid = _FLOCK.unpack(flock)
            return kind, pid
    else:
        _FLOCK = struct.Struct(
            "qqihhi"
        )  # macOS and the BSDs: start, length, pid, type, whence (and room for a system id)

        def _question(byte: int) -> bytes:
            return _FLOCK.pack(byte, 1, 0, fcntl.F_WRLCK, os.SEEK_SET, 0)

        def _answer(flock: bytes) -> tuple[int, int]:
            _, _, pid, kind, _, _ = _FLOCK.unpack(flock)
            return kind, pid

    def _share(fd: int, queue_path: str) -> None:
        with contextlib.suppress(OSError):
            queue = Path(queue_path).stat()
            os.fchmod(fd, queue.st_mode & 0o666)
            os.fchown(fd, queue.st_uid, queue.st_gid)
else:
    import msvcrt

    # Windows has no wait for a byte but one that gives up after ten seconds, so waiting is trying again here. Nor can
    # it be asked who holds one: the executor writes its process id before the locked bytes, which others cannot read.
    _PID_AT = 512
    _position = threading.Lock()
    """Around moving a descriptor's position, of which there is one for all threads, and locking there."""

    def _try_executor(fd: int) -> bool:
        if not _try_lock(fd, EXECUTOR):
            return False
        with _position:
            os.lseek(fd, _PID_AT, os.SEEK_SET)
            os.write(fd, b"%20d" % os.getpid())
        return True

    def _try_turn(fd: int) -> bool:  # noqa: ARG001  a range cannot be freed in parts here: always the long way
        return False

    def _try_lock(fd: int, byte: int) -> bool:
        with _position, contextlib.suppress(OSError):
            os.lseek(fd, byte, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            return True
        return False

    def _lock(fd: int, byte: int) -> None:
        while not _try_lock(fd, byte):
            time.sleep(0.001)

    def _unlock(fd: int, byte: int) -> None:
        with _position, contextlib.suppress(OSError):  # not held: as good as freed
            os.lseek(fd, byte, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

    def _holder(fd: int, byte: int) -> int | None:
        if _try_lock(fd, byte):
            _unlock(fd, byte)
            return None
        if byte != EXECUTOR:
            return 0
        with _position:
            os.lseek(fd, _PID_AT, os.SEEK_SET)
            return int(os.read(fd, 20).strip() or 0)

    def _share(fd: int, queue_path: str) -> None:
        """Files take the rights of their folder here."""
