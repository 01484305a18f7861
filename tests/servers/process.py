"""A server process, and what can happen to one."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.servers.account import server_account

PATIENCE = 120.0
"""Seconds for a server to start or stop; it takes two, on a machine with nothing else to do."""


class ServerProcess:
    """It can be started again in the same place after whatever its end was.

    All methods block, for seconds even. On a loop: `await asyncio.to_thread(server.restart)`.
    """

    def __init__(self, folder: Path, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """folder: with its log, and a file with its process id for the guard."""
        self._folder = folder
        self._argv = argv
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has said, in all its lives."""
        file = self._folder / "server.log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def start(self, is_ready: Callable[[], bool]) -> None:
        """Start it, and wait until it serves."""
        assert not self.is_running
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, env={**os.environ, **(self._environment or {})}, cwd=self._folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **server_account(),
            )  # fmt: skip
        (self._folder / "server.pid").write_text(f"{self.pid}")
        self.until(lambda: is_ready() or not self.is_running)
        if not self.is_running:
            raise ChildProcessError(f"{self._argv[0]} has ended with {self._process.returncode}: {self.log[-2000:]}")

    def until(self, condition: Callable[[], bool], within: float = PATIENCE) -> None:
        """Wait for something that the server does."""
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._argv[0]} has not come so far within {within} s: {self.log[-2000:]}")
            time.sleep(0.01)

    def tell(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self, number: signal.Signals) -> None:
        """Tell it to end, and wait for that."""
        if self.is_running:
            self.tell(number)
            assert self._process is not None
            self._process.wait(PATIENCE)
        self._forget()

    def kill(self) -> None:
        """`kill -9` of all its processes."""
        if not self.is_running:
            return self._forget()
        self.tell(signal.SIGSTOP)  # so that it starts no new ones, and does not notice that they end
        family = family_of(self.pid)
        send(signal.SIGKILL, *reversed(family))
        assert self._process is not None
        self._process.wait(PATIENCE)
        self.until(lambda: not any(is_alive(pid) for pid in family[1:]))
        return self._forget()

    def suspend(self) -> None:
        """SIGSTOP to all its processes: its connections stay open, and nobody answers."""
        send(signal.SIGSTOP, *family_of(self.pid))

    def resume(self) -> None:
        """SIGCONT to all its processes."""
        send(signal.SIGCONT, *family_of(self.pid))

    def _forget(self) -> None:
        (self._folder / "server.pid").unlink(missing_ok=True)


def run_program(argv: list[str], text: str = "", *, temporary: Path | None = None) -> None:
    """Run a program of the server to its end. temporary: its own folder for files that it needs for a while."""
    environment = None if temporary is None else {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(
        argv, input=text, env=environment, capture_output=True, text=True, check=False, **server_account()
    )
    if done.returncode:
        raise ChildProcessError(f"{argv[0]} has ended with {done.returncode}: {done.stdout}{done.stderr}")


def family_of(pid: int) -> list[int]:
    """A process and all below it, where /proc tells; else the process alone."""
    found = [pid]
    for parent in found:
        with suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return found


def send(number: signal.Signals, *pids: int) -> None:
    """Signal those that are there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def is_alive(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be forgotten by its parent."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
