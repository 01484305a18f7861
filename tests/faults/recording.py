"""A tape of everything that SQLite does to the files of one folder, without a compiler and without a second SQLite.

SQLite reaches files through a table of functions (its VFS), and each open file through another one. `recording` puts a
copy of the default VFS in front of it whose `xOpen` gives every file a copied table in turn, in which writing,
truncating, syncing and closing are ours: they write down what they were asked for, then call the original. All of it
through ctypes, on the library that the standard `sqlite3` is linked with, so what is recorded is what the engine does.

Syncs are written down and not done: what they make safe is for `disk` to say. They take a moment, as on a quick disk,
so that commits gather as they do in life.
"""

import _sqlite3
import ctypes
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, addressof, byref, c_char_p, c_int, c_int64, c_void_p, cast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

SYNC_TAKES = 0.0001
"""Seconds."""
CREATE = 0x04
"""The flag of `xOpen` for a file that is made if it is not there."""
OK = 0


@dataclass(frozen=True, slots=True)
class Created:
    file: str


@dataclass(frozen=True, slots=True)
class Written:
    file: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncated:
    file: str
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    file: str


@dataclass(frozen=True, slots=True)
class Deleted:
    file: str
    durably: bool
    """The folder was synced too."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a client learned at this moment: from here on no power cut may take it back."""

    fact: Any


Event = Created | Written | Truncated | Synced | Deleted | Told


@dataclass(slots=True)
class Tape:
    """What was done to the files of a folder, in order."""

    folder: Path
    events: list[Event] = field(default_factory=list)

    def tell(self, fact: object) -> None:
        """A client has learned this."""
        self.events.append(Told(fact))


@contextmanager
def recording(folder: Path) -> Generator[Tape]:
    """Write down what happens to the files of a folder that are opened meanwhile, and must be closed meanwhile."""
    vfs, tape = _vfs(), Tape(folder.resolve())
    vfs.tapes[str(tape.folder)] = tape
    vfs.use(ours=True)
    try:
        yield tape
    finally:
        vfs.use(ours=False)
        del vfs.tapes[str(tape.folder)]


def why_not() -> str | None:
    """Why this Python cannot record; None: it can."""
    try:
        _vfs()
    except (AttributeError, OSError) as error:
        return f"the SQLite of this Python cannot be reached by ctypes ({error})"
    return None


@cache
def _vfs() -> "RecordingVfs":
    """Made once and kept: SQLite holds its address."""
    return RecordingVfs()


# ── the two tables, as in sqlite3.h ─────────────────────────────────────────────────────────────────────────────────

OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
DELETE = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
CLOSE = CFUNCTYPE(c_int, c_void_p)
WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
SYNC = CFUNCTYPE(c_int, c_void_p, c_int)


class Vfs(Structure):
    _fields_ = (
        *((name, c_int) for name in ("iVersion", "szOsFile", "mxPathname")),
        *((name, c_void_p) for name in ("pNext", "zName", "pAppData")),
        ("xOpen", OPEN),
        ("xDelete", DELETE),
        *((f"slot{number}", c_void_p) for number in range(14)),
    )


class Methods(Structure):
    """Version 3, as every SQLite since 3.7.17 has it."""

    _fields_ = (
        ("iVersion", c_int),
        ("xClose", CLOSE),
        ("xRead", c_void_p),
        ("xWrite", WRITE),
        ("xTruncate", TRUNCATE),
        ("xSync", SYNC),
        *((f"slot{number}", c_void_p) for number in range(13)),
    )


class RecordingVfs:
    """The default VFS with our functions in it. (SQLite calls them from any thread; ctypes takes the GIL for each.)"""

    def __init__(self) -> None:
        # The symbols of a library that a module is linked with are found through the module.
        self._sqlite = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
        find = self._sqlite.sqlite3_vfs_find
        find.restype = POINTER(Vfs)
        self._original = find(None)
        self._name = ctypes.create_string_buffer(b"recording")
        self._open, self._delete = OPEN(self.open), DELETE(self.delete)
        self._vfs = Vfs.from_buffer_copy(self._original.contents)
        self._vfs.pNext, self._vfs.zName = None, addressof(self._name)
        self._vfs.xOpen, self._vfs.xDelete = self._open, self._delete
        self._tables: dict[int, tuple[Methods, Methods]] = {}
        self._files: dict[int, tuple[Tape, str, Methods]] = {}
        self._kept: list[Callable[..., int]] = []
        self.tapes: dict[str, Tape] = {}
        """By folder."""

    def use(self, *, ours: bool) -> None:
        """Which VFS opens files from now on."""
        self._sqlite.sqlite3_vfs_register(byref(self._vfs) if ours else self._original, 1)

    def open(self, _vfs: int, name: int | None, file: int, flags: int, flags_out: int | None) -> int:
        path = None if name is None else Path(ctypes.string_at(name).decode())
        tape = None if path is None else self.tapes.get(str(path.parent))
        is_new = path is not None and not path.exists()
        result: int = self._original.contents.xOpen(cast(self._original, c_void_p), name, file, flags, flags_out)
        table = c_void_p.from_address(file)  # the first word of an open file points to its functions
        if result == OK and path is not None and tape is not None and table.value is not None:
            original, patched = self._table(table.value)
            self._files[file] = tape, path.name, original
            if is_new and flags & CREATE:
                tape.events.append(Created(path.name))
            table.value = addressof(patched)
        return result

    def _table(self, address: int) -> tuple[Methods, Methods]:
        if address not in self._tables:
            original = Methods.from_address(address)
            patched = Methods.from_buffer_copy(original)
            ours = (CLOSE(self.close), WRITE(self.write), TRUNCATE(self.truncate), SYNC(self.sync))
            patched.xClose, patched.xWrite, patched.xTruncate, patched.xSync = ours
            self._kept += ours
            self._tables[address] = original, patched
        return self._tables[address]

    def delete(self, _vfs: int, name: bytes, sync_folder: int) -> int:
        path = Path(name.decode())
        tape, was_there = self.tapes.get(str(path.parent)), path.exists()
        result: int = self._original.contents.xDelete(cast(self._original, c_void_p), name, sync_folder)
        if tape is not None and was_there and result == OK:
            tape.events.append(Deleted(path.name, bool(sync_folder)))
        return result

    def close(self, file: int) -> int:
        _, _, original = self._files.pop(file)
        result: int = original.xClose(file)
        return result

    def write(self, file: int, data: int, amount: int, offset: int) -> int:
        tape, name, original = self._files[file]
        tape.events.append(Written(name, offset, ctypes.string_at(data, amount)))
        result: int = original.xWrite(file, data, amount, offset)
        return result

    def truncate(self, file: int, size: int) -> int:
        tape, name, original = self._files[file]
        tape.events.append(Truncated(name, size))
        result: int = original.xTruncate(file, size)
        return result

    def sync(self, file: int, _flags: int) -> int:
        tape, name, _ = self._files[file]
        time.sleep(SYNC_TAKES)
        tape.events.append(Synced(name))  # at its end: nothing was told meanwhile because of it
        return OK
