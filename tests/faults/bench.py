"""The bench: real processes on one folder, killed from within or without, and what the audit says afterwards.

Processes are forked from one that has imported everything, since a hundred of them start and die in a quick round.
"""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from tests.faults.audit import audit
from tests.faults.ledger import Entry, Ledger
from tests.faults.workload import DATABASE, ERRORS, LEDGER, PASSED, Plan, live

T = TypeVar("T")

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
    def name(self) -> str:
        return self._plan.name

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None
        return pid

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    @property
    def has_failed(self) -> bool:
        """Whether it has ended, neither well nor killed."""
        return self._process.exitcode not in (None, 0, -signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def suspend(self) -> None:
        """SIGSTOP: it does nothing, and does not know that time passes."""
        self.signal(signal.SIGSTOP)
        while Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)

    def resume(self, *, fenced: bool = False) -> None:
        """SIGCONT. fenced: it was gone for so long that others have its jobs; what it had begun counts for nothing."""
        if fenced:
            self._ledger.write("fenced", pid=self.pid)
        self.signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, and wait for a good end."""
        self.signal(signal.SIGTERM)
        assert not self.ended()

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

    def __init__(self, folder: Path, **plan: Any) -> None:
        """plan: what the plans of all its processes have in common, unless they say otherwise."""
        self.folder = folder
        self.database = folder / DATABASE
        self._plan = plan
        self.ledger = Ledger(folder / LEDGER)
        self._lives = list[Life]()

    def start(self, plan: Plan) -> Life:
        """A process that lives as planned."""
        usual = Plan("")
        unsaid = {name for name in self._plan if getattr(plan, name) == getattr(usual, name)}
        plan = replace(plan, **{name: self._plan[name] for name in unsaid})
        process = _context.Process(target=live, args=(str(self.folder), plan), daemon=True)
        process.start()
        self._lives.append(Life(process, plan, self.ledger))
        return self._lives[-1]

    def run(self, plan: Plan) -> bool:
        """The same, to its end; whether it was killed."""
        return self.start(plan).ended()

    def until(self, *did: str, key: str = "", besides: int = 0, after: int = 0, within: float = PATIENCE) -> Entry:
        """Wait until something is in the ledger, after so many bytes of it and not by the process `besides`."""

        def found() -> Entry | None:
            for entry in self.ledger.read(after):
                if entry.did in did and key in ("", entry.key) and entry.pid != besides:
                    return entry
            return None

        return self.eventually(found, f"No {' or '.join(did)} {key}".rstrip(), within)

    def eventually(self, look: Callable[[], T | None], otherwise: str, within: float = PATIENCE) -> T:
        """Look until something is there. What is not there in time is told in a sentence."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if (found := look()) is not None:
                return found
            failed = [life.name for life in self._lives if life.has_failed]
            assert not failed, f"{otherwise}, and {failed} have failed: {self.errors()}"
            time.sleep(0.02)
        raise AssertionError(f"{otherwise} within {within} s: {self.errors()}")

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
