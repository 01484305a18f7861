"""What all processes of a test run share: `pytest -n 2` is three of them."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

from tests.servers.account import hand_over

ROOT = Path(__file__).parents[2]
VARIABLE = "COMMANDJOBS_TEST_RUN"


class Run:
    """A folder in which servers live for as long as the run: its first process makes it, the environment tells others.

    It lies outside of pytest's folders: those belong to whoever runs the tests alone, and a server may run as another.
    """

    def __init__(self) -> None:
        """Make the folder, or find it."""
        self._lock: int | None = None
        if VARIABLE not in os.environ:
            os.environ[VARIABLE] = str(self._make())
        self.folder = Path(os.environ[VARIABLE])
        self._numbers = count(1)
        self._kept = list[object]()

    def _make(self) -> Path:
        """Locked by this process: who waits for the lock waits for its end."""
        folder = Path(tempfile.mkdtemp(prefix="commandjobs-"))
        folder.chmod(0o755)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return folder

    def once(self, name: str, make: Callable[[], str]) -> str:
        """What `make` returns to the first process that asks; the others wait for it."""
        file = self.folder / name
        with (self.folder / f"{name}.once").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                file.write_text(make())
        return file.read_text()

    def server_folder(self, name: str) -> Path:
        """A new folder for a server, which from now on is guarded: nothing outlives the run, however it ends."""
        self.once("guarded", self._guard)
        return hand_over(self.folder / f"{name}-{os.getpid()}-{next(self._numbers)}")

    def _guard(self) -> str:
        guard = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.guard", str(self.folder)], cwd=ROOT, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.keep(guard)
        return str(guard.pid)

    def keep(self, process: object) -> None:
        """Until our end: Python warns of a process that runs and that nobody refers to."""
        self._kept.append(process)

    def close(self) -> None:
        """Let go, if it is ours: what lives there is ended by the guard."""
        if self._lock is not None:
            if not (self.folder / "guarded").exists():
                shutil.rmtree(self.folder)
            os.close(self._lock)
            self._lock = None
            if os.environ.get(VARIABLE) == str(self.folder):
                del os.environ[VARIABLE]
