"""The bench: real processes on one folder, killed from within or without, and what the audit says afterwards.

Processes are forked from one that has imported everything, since a hundred of them start and die in a quick round.
"""

import json
import multiprocessing
import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.faults.audit import audit
from tests.faults.ledger import Entry, Ledger
from tests.faults.workload import DATABASE, ERRORS, LEDGER, PASSED, Plan, live

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.faults.workload"])

PATIENCE = 150.0
"""Seconds for a process to do its work."""


class Life:
    """A process of the bench."""

    def __init__(self, process: BaseProcess, plan: Plan, ledger: Ledger) -> None:
        self._process = process
        self._plan = plan
        self._ledger = ledger

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None
        return pid

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """`kill -9`, from outside."""
        self._process.kill()
        self.ended()

    def ended(self, within: float = PATIENCE) -> bool:
        """Wait for its end; whether it was killed. Raises if it did not end, or not well."""
        self._process.join(within)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
            raise AssertionError(f"{self._plan} has not ended within {within} s.")
        if code == -signal.SIGKILL:
            self._ledger.write("killed", pid=self.pid)
        elif code != 0:
            raise AssertionError(f"{self._plan} has ended with {code}.")
        return code == -signal.SIGKILL


class Bench:
    """A folder with a database, its ledger, and the processes that work there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / DATABASE
        self.ledger = Ledger(folder / LEDGER)

    def start(self, plan: Plan) -> Life:
        """A process that lives as planned."""
        process = _context.Process(target=live, args=(str(self.folder), plan), daemon=True)
        process.start()
        return Life(process, plan, self.ledger)

    def run(self, plan: Plan) -> bool:
        """The same, to its end; whether it was killed."""
        return self.start(plan).ended()

    def until(self, *did: str, key: str = "", besides: int = 0, after: int = 0, within: float = PATIENCE) -> Entry:
        """Wait until something is in the ledger, after so many bytes of it and not by the process `besides`."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            for entry in self.ledger.read(after):
                if entry.did in did and key in ("", entry.key) and entry.pid != besides:
                    return entry
            time.sleep(0.02)
        raise AssertionError(f"Nobody {did} {key} within {within} s: {self.errors()}")

    def passed(self, name: str) -> dict[str, int]:
        """The points that a life has passed which ended well, and how often."""
        found: dict[str, int] = json.loads((self.folder / f"{PASSED}.{name}").read_text(encoding="utf-8"))
        return found

    def executing(self) -> int | None:
        """The process that has started a job last."""
        return next((entry.pid for entry in reversed(self.ledger.read()) if entry.did == "start"), None)

    def heal(self, **plan: Any) -> None:
        """A process that does all that is left."""
        assert not self.run(Plan("heal", each=0, **plan))

    def audit(self) -> list[str]:
        """What is wrong, in sentences."""
        return audit(self.folder, self.ledger.read())

    def errors(self) -> str:
        """What the processes have logged."""
        return "".join(file.read_text(encoding="utf-8") for file in sorted(self.folder.glob(f"{ERRORS}.*")))

    def close(self) -> None:
        self.ledger.close()
