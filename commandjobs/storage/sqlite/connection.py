"""Opening database files: pragmas, numbered migrations, and the one place where sqlite3's errors are translated."""

import sqlite3
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Literal

from commandjobs.errors import StorageCorrupt, StorageError, StorageFull, StorageUnavailable

PACKAGE = "commandjobs.storage.sqlite"
AUTOCHECKPOINT = 4000
"""Pages. Measured with 50 rows a commit, 1,000 and 16,000 have a worse tail: 2.7 and 1.6 ms against 1.5."""
BUSY_TIMEOUT = 5.0
"""Seconds to wait for a lock. When a process is killed, the system frees its locks file by file: that of the write turn
may be free while those within the database are not."""

APPLICATION_ID = 0x434A4F42
"""What SQLite's header says of whose file it is: "CJOB"."""

_CORRUPT = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")
_FULL = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE")


def open_for_writing(
    path: Path, *, synchronous: Literal["FULL", "NORMAL"], autocheckpoint: int = AUTOCHECKPOINT
) -> sqlite3.Connection:
    """The connection that writes a file, which is created if it is not there. One thread at a time may use it.

    autocheckpoint: pages; 0: whoever uses the connection makes the checkpoints.
    """
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    try:
        _refuse_foreign(connection, path)
        if connection.execute("pragma page_count").fetchone() == (0,):
            connection.execute("pragma auto_vacuum = incremental")
        _use_wal(connection, path)
        connection.execute(f"pragma synchronous = {synchronous}")
        connection.execute(f"pragma wal_autocheckpoint = {autocheckpoint}")
        if sys.platform == "darwin":  # there fsync alone leaves the data in the drive's cache
            connection.execute("pragma fullfsync = 1")
            connection.execute("pragma checkpoint_fullfsync = 1")
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    """Another program's database is left as it is, down to its journal mode."""
    if connection.execute("pragma application_id").fetchone() == (APPLICATION_ID,):
        return
    table = connection.execute("select name from sqlite_schema limit 1").fetchone()
    if table is not None:
        raise StorageUnavailable(
            f"{path} is a database of something else (it has {table[0]!r} in it), and nothing was changed. "
            "A job queue needs a file of its own: name another one."
        )


def _use_wal(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("pragma journal_mode = wal").fetchone() != ("wal",):
        raise StorageUnavailable(
            f"{path} cannot use a write-ahead log. Is it on a network share? Put it on a local disk."
        )


def identity(path: Path) -> tuple[int, int] | None:
    """Which file lies under a name; None: none does."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def migrate(connection: sqlite3.Connection, path: Path, folder: str) -> None:
    """Bring a file to the newest schema: run the numbered files it has not seen, all in one transaction."""
    steps = sorted(
        (file for file in (files(PACKAGE) / folder).iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    connection.execute("begin immediate")
    try:
        for step in steps[_version(connection, path, len(steps)) :]:
            for statement in _statements(step.read_text(encoding="utf-8")):
                connection.execute(statement)
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
        connection.execute(f"pragma user_version = {len(steps)}")
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise


def _version(connection: sqlite3.Connection, path: Path, known: int) -> int:
    version: int = connection.execute("pragma user_version").fetchone()[0]
    if version > known:
        raise StorageUnavailable(
            f"{path} was written by a newer commandjobs (its schema: {version}, known here: {known}). Update this one."
        )
    return version


def _statements(script: str) -> Iterator[str]:
    """`executescript` would commit the transaction it runs in, so the file's statements are run one by one."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def translated(error: BaseException, path: Path) -> BaseException:
    """What callers of the storage get for an error of sqlite3; anything else comes back as it is."""
    if not isinstance(error, sqlite3.Error):
        return error
    face = _translate(error, path)
    face.__cause__ = error
    return face


@contextmanager
def translating(path: Path) -> Generator[None]:
    """Raise sqlite3's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, path) from error


def _translate(error: sqlite3.Error, path: Path) -> StorageError:
    name = getattr(error, "sqlite_errorname", None) or ""
    if name.startswith(_FULL):
        return StorageFull(f"No space is left for {path} ({error}). Free some; everything goes on by itself then.")
    if name.startswith(_CORRUPT):
        return StorageCorrupt(
            f"{path} is damaged ({error}). Stop every process that uses it, keep a copy, and restore the file from a "
            f"backup or by `sqlite3 {path} .recover`."
        )
    if name.startswith("SQLITE_READONLY"):
        return StorageUnavailable(f"{path} cannot be written ({error}). Check its permissions and those of its folder.")
    return StorageUnavailable(f"{path} cannot be used now ({error}).")
