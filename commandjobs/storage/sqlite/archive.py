"""The thread that writes the month files.

**A finished job moves in two commits**, never in one transaction over both files: in WAL mode SQLite commits attached
files one after the other, and a power cut in between lost acknowledged jobs in a fifth of simulated images.

    1  month file: the full row, and a note of the (id, run) as *unconfirmed*     both FULL
    2  queue file: the live row goes, its summary comes, dependents and lanes follow
    3  month file: the note goes, with the next commit that happens to come

Between 1 and 2 the job is in both files, and the queue file is right: the job is live. After a crash there only the
unconfirmed are looked at (`recovery`). While a batch is in step 2 the next one is in step 1.

If step 1 is impossible (no space, no permission), the settlement goes on to the queue file marked as not archived: the
job's end is durable there, and its move is tried again by `sweep`. A damaged month file is put aside and begun anew.
"""

import asyncio
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from queue import Empty
from typing import Any, TypeVar

from commandjobs.errors import StorageCorrupt, StorageError, StorageUnavailable
from commandjobs.handover import Inbox, LoopCalls
from commandjobs.model.row import JobRow, LogRow
from commandjobs.storage.queries import load_queries
from commandjobs.storage.sqlite.connection import identity, migrate, open_for_writing, translated
from commandjobs.storage.sqlite.inserts import archive_key, insert_archived, insert_moved
from commandjobs.storage.sqlite.months import Months
from commandjobs.storage.sqlite.rows import ids_json

SQL = load_queries("commandjobs.storage.sqlite", "archive_queries.sql")

OPEN_FILES = 3
MOST_ROWS, MOST_BYTES = 1000, 1_000_000
"""In one commit, if it holds more than one errand."""
CONFIRM_AFTER = 1.0
"""Seconds of idleness after which confirmations get a commit of their own."""

T = TypeVar("T")


@dataclass(slots=True)
class Receipt:
    """One commit of a month: confirmed when the last errand in it is done in the queue file too."""

    month: date
    batch: int
    open: int = 0


@dataclass(slots=True, eq=False)
class Errand:
    """Something to write into month files, and what comes after it."""

    done: Callable[["Errand"], None]
    """Called in this thread, after the commit or its failure."""
    settled: Sequence[JobRow] = ()
    moved: Sequence[JobRow] = ()
    forgotten: Sequence[JobRow] = ()
    logs: Sequence[LogRow] = ()
    size: int = 0
    error: StorageError | None = None
    receipts: list[Receipt] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows it writes."""
        return len(self.settled) + len(self.moved) + len(self.logs)


@dataclass(slots=True)
class Sheaf:
    """What one commit writes into one month."""

    errands: list[Errand] = field(default_factory=list)
    settled: list[JobRow] = field(default_factory=list)
    moved: list[JobRow] = field(default_factory=list)
    forgotten: list[JobRow] = field(default_factory=list)
    logs: list[LogRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A month's file as this thread has it open."""

    connection: sqlite3.Connection
    identity: tuple[int, int] | None


class Archiver:
    """Writes month files; the only one who does."""

    def __init__(self, months: Months, *, name: str, calls: LoopCalls) -> None:
        self._months = months
        self._loop = asyncio.get_running_loop()
        self._calls = calls
        self._queue = Inbox[Errand | Callable[[], None] | None]()
        self._files: OrderedDict[date, OpenFile] = OrderedDict()
        self._batches: dict[date, int] = {}
        self._confirmed: dict[date, list[int]] = {}
        self._unconfirmed = 0
        self._receipts = threading.Lock()
        self._thread = threading.Thread(target=self._work, name=f"{name} archiver", daemon=True)
        self.trouble: dict[date, StorageError] = {}
        """Why a month could not be written the last time."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def put(self, errand: Errand) -> None:
        """Queue an errand; from any thread."""
        self._queue.put(errand)

    def confirm(self, receipts: Iterable[Receipt]) -> None:
        """The queue file has what the errand with these receipts has brought; from any thread."""
        for receipt in receipts:
            with self._receipts:
                receipt.open -= 1
                if not receipt.open:
                    self._unconfirmed -= 1
                    self._confirmed.setdefault(receipt.month, []).append(receipt.batch)

    async def append_logs(self, lines: Sequence[LogRow]) -> None:
        """Append to the logs of jobs."""
        future: asyncio.Future[None] = self._loop.create_future()
        size = sum(len(line.message) + 100 for line in lines)
        self._queue.put(Errand(partial(self._logged, future), logs=lines, size=size))
        await future

    async def call(self, month: date, work: Callable[[], T]) -> T:
        """Do something about a month in this thread, between two commits."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(lambda: self._call(month, work, future))
        return await future

    async def settle_up(self) -> bool:
        """Write all confirmations; False: some commit was never confirmed, so the next start has to look."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._queue.put(lambda: self._call(date.min, self._confirm_now, done))
        await done
        with self._receipts:
            return not self._unconfirmed

    async def close(self) -> None:
        """Write what is queued, and end the thread."""
        if self._thread.is_alive():
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
        self._queue.close()

    # ── everything below runs in the thread ─────────────────────────────────────────────────────────────────────────

    def file(self, month: date) -> sqlite3.Connection:
        """The connection to a month's file, which is created if need be."""
        path = self._months.path(month)
        file = self._files.get(month)
        if file is not None and file.identity != identity(path):  # deleted or replaced: what we write would be lost
            self.close_file(month)
            file = None
        if file is None:
            file = self._files[month] = self._open(month, path)
            while len(self._files) > OPEN_FILES:
                self.close_file(next(iter(self._files)))
        self._files.move_to_end(month)
        return file.connection

    def look(self, month: date, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What there is in a month; one that is damaged is put aside, and gives `otherwise`."""
        try:
            return work(self.file(month))
        except sqlite3.Error as error:
            if not isinstance(translated(error, self._months.path(month)), StorageCorrupt):
                raise
            self._put_aside(month)
            return otherwise

    def close_file(self, month: date) -> None:
        """Let go of a month's file."""
        file = self._files.pop(month, None)
        if file is not None:
            file.connection.close()

    def forget(self, month: date) -> None:
        """A month is dropped: its notes and confirmations mean nothing any more."""
        self.close_file(month)
        self.trouble.pop(month, None)
        with self._receipts:
            self._confirmed.pop(month, None)

    def _open(self, month: date, path: Path) -> "OpenFile":
        connection = open_for_writing(path, synchronous="FULL")
        try:
            migrate(connection, path, "archive_schema")
            (last_batch,) = connection.execute(SQL["last_batch"]).fetchone()
        except BaseException:
            connection.close()
            raise
        self._batches[month] = max(self._batches.get(month, 0), last_batch)
        return OpenFile(connection, identity(path))

    def _work(self) -> None:
        running = True
        while running:
            errands, calls, running = self._take()
            if errands:
                self._write(errands)
            for call in calls:
                call()
        self._confirm_now()
        for month in list(self._files):
            self.close_file(month)

    def _take(self) -> tuple[list[Errand], list[Callable[[], None]], bool]:
        """Everything there is; a call ends the batch, so that it runs between what came before and after it."""
        errands: list[Errand] = []
        rows = size = 0
        item = self._wait()
        while True:
            if item is None:
                return errands, [], False
            if not isinstance(item, Errand):
                return errands, [item], True
            errands.append(item)
            rows, size = rows + item.rows, size + item.size
            if rows >= MOST_ROWS or size >= MOST_BYTES:
                return errands, [], True
            try:
                item = self._queue.get_nowait()
            except Empty:
                return errands, [], True

    def _wait(self) -> Errand | Callable[[], None] | None:
        while True:
            try:
                return self._queue.get(timeout=CONFIRM_AFTER if self._confirmed else None)
            except Empty:
                self._confirm_now()

    def _call(self, month: date, work: Callable[[], T], future: "asyncio.Future[T]") -> None:
        try:
            result = work()
        except BaseException as error:
            self._tell(_fail, future, translated(error, self._months.path(month)))
        else:
            self._tell(_succeed, future, result)

    def _logged(self, future: "asyncio.Future[None]", errand: Errand) -> None:
        if errand.error is None:
            self._tell(_succeed, future, None)
        else:
            self._tell(_fail, future, errand.error)

    def _tell(self, how: Callable[..., None], future: "asyncio.Future[Any]", what: object) -> None:
        self._calls.call(how, future, what)

    def _write(self, errands: Sequence[Errand]) -> None:
        """Write errands together; where that fails, one by one, so that nobody's bad row harms another's."""
        for month, sheaf in self._by_month(errands).items():
            error = self._write_month(month, sheaf)
            for errand in sheaf.errands:
                alone = error is None or len(sheaf.errands) == 1
                errand.error = errand.error or (error if alone else self._write_alone(month, errand))
        for errand in errands:
            errand.done(errand)

    def _write_alone(self, month: date, errand: Errand) -> StorageError | None:
        return self._write_month(month, self._by_month([errand])[month])

    def _by_month(self, errands: Sequence[Errand]) -> dict[date, Sheaf]:
        sheaves: dict[date, Sheaf] = {}

        def sheaf(created: int, errand: Errand) -> Sheaf:
            found = sheaves.setdefault(self._months.of(created), Sheaf())
            if not found.errands or found.errands[-1] is not errand:
                found.errands.append(errand)
            return found

        for errand in errands:
            for row in errand.settled:
                sheaf(row.created, errand).settled.append(row)
            for row in errand.moved:
                sheaf(row.created, errand).moved.append(row)
            for row in errand.forgotten:
                sheaf(row.created, errand).forgotten.append(row)
            for line in errand.logs:
                sheaf(line.created, errand).logs.append(line)
        return sheaves

    def _write_month(self, month: date, sheaf: Sheaf) -> StorageError | None:
        """Commit a sheaf; a damaged file is put aside, and a new one begun."""
        error = self._try_month(month, sheaf)
        if isinstance(error, StorageCorrupt):
            with suppress(OSError):
                self._put_aside(month)
                error = self._try_month(month, sheaf)
        if error is None:
            self.trouble.pop(month, None)
        else:
            self.trouble[month] = error
        return error

    def _put_aside(self, month: date) -> None:
        self.close_file(month)
        self._months.quarantine(month)

    def _try_month(self, month: date, sheaf: Sheaf) -> StorageError | None:
        connection: sqlite3.Connection | None = None
        try:
            connection = self.file(month)
            connection.execute("begin immediate")
            self._write_sheaf(connection, month, sheaf)
            connection.execute("commit")
        except Exception as error:
            if connection is not None and connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("rollback")
            return _storage_error(error, self._months.path(month))
        return None

    def _write_sheaf(self, connection: sqlite3.Connection, month: date, sheaf: Sheaf) -> None:
        connection.executemany(
            SQL["forget"],
            [(archive_key(row.id, row.run), str(row.state), row.last_activity) for row in sheaf.forgotten],
        )
        insert_archived(connection, sheaf.settled)
        insert_moved(connection, sheaf.moved)
        if sheaf.settled or sheaf.moved:
            self._note(connection, month, sheaf)
        if sheaf.logs:
            _append_logs(connection, sheaf.logs)
        self._write_confirmations(connection, month)

    def _note(self, connection: sqlite3.Connection, month: date, sheaf: Sheaf) -> None:
        rows = [*sheaf.settled, *sheaf.moved]
        batch = self._batches[month] = self._batches[month] + 1
        keys = ids_json([archive_key(row.id, row.run) for row in rows])
        connection.execute(SQL["note_unconfirmed"], (batch, keys))
        connection.execute(SQL["raise_newest_end"], {"at": max(row.last_activity or 0 for row in rows)})
        carriers = [errand for errand in sheaf.errands if errand.settled or errand.moved]
        receipt = Receipt(month, batch, len(carriers))
        with self._receipts:
            self._unconfirmed += 1
        for errand in carriers:
            errand.receipts.append(receipt)

    def _write_confirmations(self, connection: sqlite3.Connection, month: date) -> None:
        """(Those of a commit that fails are lost, and do no harm: recovery finds nothing to do for their notes.)"""
        with self._receipts:
            batches = self._confirmed.pop(month, None)
        if batches:
            connection.execute(SQL["confirm"], (ids_json(batches),))

    def _confirm_now(self) -> None:
        for month in list(self._confirmed):
            if self._months.path(month).exists():
                self._try_month(month, Sheaf())
            else:
                self.forget(month)


def _append_logs(connection: sqlite3.Connection, lines: Sequence[LogRow]) -> None:
    ids = ids_json(list({line.job_id for line in lines}))
    last: dict[int, int] = dict(connection.execute(SQL["last_sequences"], (ids,)))
    numbered: list[tuple[Any, ...]] = []
    for line in lines:
        sequence = last[line.job_id] = last.get(line.job_id, 0) + 1
        numbered.append(
            (
                line.job_id,
                sequence,
                line.attempt,
                line.at,
                line.level,
                line.logger,
                storable(line.message),
                None if line.exception is None else storable(line.exception),
            )
        )
    connection.executemany(SQL["append_log"], numbered)


def _storage_error(error: Exception, path: Path) -> StorageError:
    face = translated(error, path)
    return face if isinstance(face, StorageError) else StorageUnavailable(f"{path} cannot be written now ({error}).")


def storable(text: str) -> str:
    """Whatever a handler logs is kept, be it in pieces: a lone surrogate cannot be written as UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _succeed(future: "asyncio.Future[Any]", result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
