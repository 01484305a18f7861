"""Named points at which a process of the bench can be killed, without a word about it in the package.

What the writing threads call is wrapped: statements that begin, write or commit, checkpoints, the steps of files, the
hand-overs between writer, archiver and loop, and what handlers write down; so is what is sent to a server. Each passing
of a point is counted by name; at the one that was asked for the process kills itself, before or after it.
"""

import os
import re
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import asyncpg

from commandjobs.storage.sqlite import locks
from commandjobs.storage.sqlite.archive import Archiver
from commandjobs.storage.sqlite.mover import Mover
from commandjobs.storage.sqlite.pending import Pending
from commandjobs.storage.sqlite.writer import Writer

WRITES = re.compile(r"\b(insert|update|delete)\b(?: or \w+)?(?: into| from)? (\w+)", re.IGNORECASE)
CHECKPOINT = re.compile(r"pragma (wal_checkpoint|incremental_vacuum)\b", re.IGNORECASE)
SERVER_WRITES = re.compile(r"\b(insert into|update|delete from) (?:only )?\w+\.(\w+)")
COMMENT = re.compile(r"--.*")
MONTH = re.compile(r"_\d{4}-\d{2}\.")


@dataclass(frozen=True, slots=True)
class Kill:
    """Where a process is to die."""

    point: str
    when: Literal["before", "after"]
    passing: int = 1

    def __str__(self) -> str:
        return f"{self.when} {self.point} ({self.passing})"


class Points:
    """The points that this process passes."""

    def __init__(self, kill: Kill | None, last_words: Callable[..., None]) -> None:
        """last_words: called with the kill just before it."""
        self.passed = Counter[str]()
        self._kill = kill
        self._last_words = last_words
        self._counting = threading.Lock()

    @contextmanager
    def at(self, name: str) -> Any:
        """What is done within is the point."""
        with self._counting:
            self.passed[name] += 1
            passing = self.passed[name]
        mine = self._kill is not None and (self._kill.point, self._kill.passing) == (name, passing)
        if mine and self._kill is not None and self._kill.when == "before":
            self._die()
        yield
        if mine:
            self._die()

    def _die(self) -> None:
        self._last_words("waits", key=str(self._kill))
        os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, as a point."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            with self.at(name):
                return function(*arguments, **keywords)

        return call

    def install(self) -> None:
        """Wrap everything, in this process."""
        connect, points = sqlite3.connect, self

        def connecting(database: Any, *arguments: Any, **keywords: Any) -> Any:
            connection = connect(database, *arguments, factory=Watched, **keywords)
            connection.watch(points, "month" if MONTH.search(str(database)) else "queue")
            return connection

        sqlite3.connect = connecting
        self._wrap(locks, "_create", "lock file: create")
        self._wrap(Archiver, "put", "hand-over: to the archiver")
        self._wrap(Archiver, "confirm", "hand-over: confirm to the archiver")
        self._wrap(Archiver, "_open", "month: open")
        self._wrap(Writer, "put", "hand-over: to the writer")
        self._wrap(Writer, "close", "hand-over: close the writer")
        self._wrap(Mover, "after", "hand-over: after a commit")
        self._wrap(Pending, "answer", "hand-over: answer the callers")
        self._wrap_server()
        self._wrap_step("unlink")
        self._wrap_step("rename")

    def _wrap(self, owner: Any, attribute: str, name: str) -> None:
        setattr(owner, attribute, self.wrapped(name, getattr(owner, attribute)))

    def _wrap_server(self) -> None:
        """What is sent to PostgreSQL: before it is sent, and when its answer has come."""
        for method in ("execute", "fetch"):
            original: Callable[..., Any] = getattr(asyncpg.Connection, method)
            setattr(asyncpg.Connection, method, self._sending(original))

    def _sending(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def send(connection: Any, sql: str, *arguments: Any, **keywords: Any) -> Any:
            with self.at(f"server: {statement_name(sql)}"):
                return await original(connection, sql, *arguments, **keywords)

        return send

    def _wrap_step(self, step: str) -> None:
        """A step of `Path`, named by the kind of file."""
        original: Callable[..., Any] = getattr(Path, step)

        def call(path: Path, *arguments: Any, **keywords: Any) -> Any:
            with self.at(f"file: {step} {MONTH.sub('_month.', path.name)}"):
                return original(path, *arguments, **keywords)

        setattr(Path, step, call)


def statement_name(sql: str) -> str:
    """What a statement of the server storage does: the first table that it writes, or its first word."""
    text = COMMENT.sub("", sql).replace('"', "").lower()
    if (write := SERVER_WRITES.search(text)) is not None:
        return f"{write[1].split()[0]} {write[2]}"
    return re.split(r"\W", text.strip(), maxsplit=1)[0]


class Watched(sqlite3.Connection):
    """A connection whose statements are points."""

    _points: Points | None = None
    _file = ""
    _first = ""
    """What the transaction under way has written first."""

    def watch(self, points: Points, file: str) -> None:
        self._points, self._file = points, file

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        return self._pass(sql, super().execute, arguments)

    def executemany(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        return self._pass(sql, super().executemany, arguments)

    def _pass(self, sql: str, run: Callable[..., sqlite3.Cursor], arguments: Sequence[Any]) -> sqlite3.Cursor:
        name = self._name(sql)
        if name is None or self._points is None:
            return run(sql, *arguments)
        with self._points.at(f"{self._file}: {name}"):
            return run(sql, *arguments)

    def _name(self, sql: str) -> str | None:
        if sql.startswith("begin"):
            self._first = ""
            return "begin"
        if sql == "commit":
            return f"commit of {self._first or 'nothing'}"
        if (care := CHECKPOINT.search(sql)) is not None:
            return care[1]
        if (write := WRITES.search(sql)) is None:
            return "create the schema" if "create table job (" in sql else None
        what = f"{write[1].lower()} {write[2]}"
        if not self.in_transaction:
            return f"{what} alone"
        self._first = self._first or what
        return what
