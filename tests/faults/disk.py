"""What a drive holds while a tape is played, and what can be left of it when the power goes.

A file's synced content is safe. Of all that was written since, the drive may have taken any part, sector by sector:
each sector is found as it was at the last sync, or as any write since then has left it. That is harsher than most
drives, which keep some order. Sizes are kept, so a lost sector of a growing file reads as zeros.

Entries of the folder (that a file is there, or gone) are safe once the folder is synced. SQLite does that with the
first sync of a new log or journal, seldom after a deletion. The entry of a new file is also safe with the first sync of
the file itself: file systems of today do so. Until then a new file may be missing, a deleted one back.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.faults.recording import Created, Deleted, Event, Synced, Told, Truncated, Written

SECTOR = 512


@dataclass(slots=True)
class File:
    """One file: what is safe of it, and what the writes since have made of each sector."""

    safe: bytearray | None = None
    """None: there may be no such file."""
    now: bytearray = field(default_factory=bytearray)
    pending: dict[int, list[bytes]] = field(default_factory=dict)
    """By sector: its content after each write since the last sync."""
    was_cut: bool = False

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        self.now.extend(bytes(max(0, end - len(self.now))))
        self.now[offset:end] = data
        for sector in range(offset // SECTOR, (end + SECTOR - 1) // SECTOR):
            self.pending.setdefault(sector, []).append(bytes(self.now[sector * SECTOR : (sector + 1) * SECTOR]))

    def truncate(self, size: int) -> None:
        del self.now[size:]
        self.pending = {sector: kept for sector, kept in self.pending.items() if sector * SECTOR < size}
        self.was_cut = True

    def sync(self) -> None:
        self.safe = bytearray() if self.safe is None else self.safe
        _resize(self.safe, len(self.now))
        for sector in self.pending:
            part = slice(sector * SECTOR, (sector + 1) * SECTOR)
            self.safe[part] = self.now[part]
        self.pending.clear()
        self.was_cut = False

    def left(self, random: Random) -> bytes | None:
        """What is found after a power cut; None: no file."""
        if self.safe is None and random.random() < 0.5:
            return None
        content = bytearray(self.safe or b"")
        size = len(self.now)
        _resize(content, max(size, len(content)) if self.was_cut and random.random() < 0.5 else size)
        for sector, versions in self.pending.items():
            taken = random.randrange(len(versions) + 1)
            if taken:
                version = versions[taken - 1]
                content[sector * SECTOR : sector * SECTOR + len(version)] = version
        return bytes(content)


class Disk:
    """The files of one folder."""

    def __init__(self, found: dict[str, bytes] | None = None) -> None:
        """found: what is there, safely, before anything happens."""
        self._files = {name: File(bytearray(content), bytearray(content)) for name, content in (found or {}).items()}
        self._deleted: dict[str, File] = {}

    def play(self, events: Iterable[Event]) -> None:
        """Let these happen."""
        for event in events:
            self._play(event)

    def _play(self, event: Event) -> None:
        match event:
            case Written(name, offset, data):
                self._files[name].write(offset, data)
            case Synced(name):
                if self._files[name].safe is None and name.endswith(("-wal", "-journal")):
                    self._sync_folder()
                self._files[name].sync()
            case Truncated(name, size):
                self._files[name].truncate(size)
            case Created(name):
                self._files[name] = File()
            case Deleted(name, durably):
                self._deleted[name] = self._files.pop(name)
                if durably:
                    self._sync_folder()
            case Told():
                pass

    def _sync_folder(self) -> None:
        self._deleted.clear()
        for file in self._files.values():
            file.safe = bytearray() if file.safe is None else file.safe

    def left(self, random: Random) -> dict[str, bytes]:
        """What is found of it if the power goes now."""
        found: dict[str, bytes] = {}
        back = [(name, file) for name, file in self._deleted.items() if random.random() < 0.5]
        for name, file in [*back, *self._files.items()]:
            content = file.left(random)
            if content is not None:
                found[name] = content
        return found


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Put files into a new folder."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))
