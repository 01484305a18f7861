"""Copies of a queue's files, taken beside a running engine.

**The idea.** Jobs move from the queue file to a month's file: first they are written there, then deleted here. So the
queue file is copied first and the months after it: a job that moves in between is in both copies. The queue's copy says
that it is one, so that its first start looks for such jobs. The other way round a job could be in neither. For the same
reason the months are
listed only when the queue file's copy has its snapshot: a month may begin at any moment.

**Each copy is one moment.** SQLite's backup starts over whenever another connection commits between two of its steps,
and beside a busy engine it would never end. A read transaction around all steps pins one moment of the write-ahead log
instead; commits go on behind it, and the log grows until the copy is done.

**All or nothing.** Files are written as `NAME.partial`, flushed, and renamed at the end, the queue file last: where
there is a `jobs.db`, everything that belongs to it is there.
"""

import contextlib
import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from commandjobs.errors import InvalidOption, StorageCorrupt, StorageFull, StorageUnavailable

_STEP: Final = 1000
"""Pages copied at a time, about 4 MB: some milliseconds without the GIL."""

_FLUSH: Final = 16_000
"""Pages after which what was written is flushed. All of it at the end would hold up the engine's own flushes."""

_PARTIAL: Final = ".partial"


def backup_files(
    queue_path: str,
    month_paths: Callable[[], Iterable[str]],
    directory: str,
    stop: threading.Event | None = None,
    *,
    note: str | None = None,
) -> list[str]:
    """Copy the queue file and its months into a new or empty directory; returns the files written, the queue's first.

    month_paths: called when the queue file has been copied. A month that is dropped meanwhile is left out.
    note: a statement that marks the queue file's copy as one.
    stop: set by another thread to give up soon, clear away what was written, and raise `StorageUnavailable`.
    """
    target = Path(directory)
    with _translated(target), _cleared(target) as written:
        step = partial(_check, stop or threading.Event(), target)
        _copy(Path(queue_path), target, written, step, note=note)
        for path in map(Path, month_paths()):
            if path.exists():
                _copy(path, target, written, step)
        for place in reversed(range(len(written))):
            written[place] = written[place].rename(written[place].with_suffix(""))
            _flush_directory(target)
    return [str(file) for file in written]


@contextlib.contextmanager
def _cleared(target: Path) -> Generator[list[Path]]:
    """Make the directory, or find it empty; if the backup fails, what it has written goes again."""
    existed = target.is_dir()
    _make(target)
    written: list[Path] = []
    try:
        yield written
        if not existed:
            _flush_directory(target.absolute().parent)
    except BaseException:
        for file in written:
            file.unlink(missing_ok=True)
        if not existed:
            with contextlib.suppress(OSError):
                target.rmdir()
        raise


def _make(target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
        found = next(target.iterdir(), None)
    except OSError as error:
        raise InvalidOption(f"A backup cannot be written to {target}: {error.strerror}.") from error
    if found is not None and found.name.endswith(_PARTIAL):
        raise InvalidOption(f"{target} holds a backup that was not finished: delete it, or name another directory.")
    if found is not None:
        raise InvalidOption(f"{target} is not empty ({found.name} is there): a backup needs a new or empty directory.")


def _copy(
    source: Path, target: Path, written: list[Path], step: Callable[[], None], *, note: str | None = None
) -> None:
    """Copy one file as of now, flushed, under its temporary name. note: a statement run in the copy."""
    part = target / f"{source.name}{_PARTIAL}"
    rights = source.stat().st_mode & 0o777  # requests may hold what others must not read
    # Kept open until SQLite has closed the file: closing any descriptor would drop SQLite's locks on it.
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, rights)
    written.append(part)
    try:
        with contextlib.closing(_reader(source)) as reader, contextlib.closing(_writer(part)) as writer:
            reader.backup(writer, pages=_STEP, progress=_flusher(fd, step))
            if note is not None:
                writer.execute(note)
        os.fsync(fd)
    finally:
        os.close(fd)


def _reader(source: Path) -> sqlite3.Connection:
    """Read-only, since closing any other connection could checkpoint, which is for the engine alone to do."""
    reader = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # from here on it sees this moment only
    return reader


def _writer(part: Path) -> sqlite3.Connection:
    """Without a journal and without flushes: nobody reads the file before it has its name."""
    writer = sqlite3.connect(part, isolation_level=None)
    writer.execute("PRAGMA journal_mode = OFF")
    writer.execute("PRAGMA synchronous = OFF")
    return writer


def _flusher(fd: int, step: Callable[[], None]) -> Callable[[int, int, int], None]:
    flushed = 0

    def progress(_status: int, remaining: int, total: int) -> None:
        nonlocal flushed
        step()
        if total - remaining - flushed >= _FLUSH:
            os.fsync(fd)
            flushed = total - remaining

    return progress


def _check(stop: threading.Event, target: Path) -> None:
    if stop.is_set():
        raise StorageUnavailable(f"The backup to {target} was stopped.")


def _flush_directory(target: Path) -> None:
    if os.name == "nt":  # directories cannot be opened there
        return
    fd = os.open(target, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _translated(target: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extended part
        if code == sqlite3.SQLITE_FULL:
            raise StorageFull(f"No space is left for the backup in {target}.") from error
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise StorageCorrupt(f"A file to be backed up is damaged: {error}.") from error
        raise StorageUnavailable(f"The backup to {target} failed: {error}.") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StorageFull(f"No space is left for the backup in {target}.") from error
        raise StorageUnavailable(f"The backup to {target} failed: {error}.") from error
