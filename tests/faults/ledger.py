"""What clients were promised and what handlers did, written down where the system under test cannot reach it.

A file of lines that is only appended to. A line is the system's before whoever wrote it goes on, and so outlives any
process; what clients were promised and handlers have done is on disk by then. The order of the lines is the order in
which things happened, in all processes.
"""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ON_DISK = ("promised", "cancelled", "requeued", "end", "replied")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened.

    By clients: "asked" (before an enqueue), "promised" (it has returned `id`), "shared" (it has returned the job of
    another call), "refused" (nobody knows what has come of it), "cancelled", "requeued". By handlers: "start", and
    "end", "fail", "snooze" or "cut" (the attempt was cancelled). By callbacks: "reply", "replied". By the bench:
    "killed" (`pid` is dead), "fenced" (`pid` has lost what it had begun), "outage" (the database is away), "waits"
    (it is now at a point where it is to be killed).
    """

    did: str
    key: str = ""
    """Whose errand; each call of an enqueue has its own."""
    kind: str = ""
    id: int = 0
    attempt: int = 0
    lane: str = ""
    """What must not be done twice at once."""
    pid: int = 0
    at: float = 0.0


class Ledger:
    """The file, for those who write it and those who read it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, did: str, **fields: Any) -> None:
        """Write a line, in one piece."""
        fields.setdefault("pid", os.getpid())
        line = json.dumps(asdict(Entry(did, at=time.time(), **fields)), separators=(",", ":"))
        os.write(self._descriptor, f"{line}\n".encode())
        if did in ON_DISK:
            os.fsync(self._descriptor)

    def read(self, after: int = 0) -> list[Entry]:
        """All lines after so many bytes; one that was cut off by a kill was not written."""
        with self._path.open("rb") as file:
            file.seek(after)
            return [Entry(**json.loads(line)) for line in file if line.endswith(b"\n")]

    def count(self, did: str, after: int = 0) -> int:
        """How often something was done, without a look at all the rest."""
        with self._path.open("rb") as file:
            file.seek(after)
            return file.read().count(f'"did":"{did}"'.encode())

    @property
    def size(self) -> int:
        """Bytes."""
        return self._path.stat().st_size

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
