"""Several processes on one database, what happens to them, and what the audit says afterwards."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.cluster.audit import audit, gather
from tests.faults import commands
from tests.faults.audit import Evidence
from tests.faults.bench import Bench, Life
from tests.faults.workload import Plan
from tests.servers.sql import ask_postgres, blocking

LEASE = 1.5
"""Seconds. A node that is silent for so long has lost its jobs: the default of 30 would make every test as long."""


NOW = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"


class Cluster(Bench):
    """Nodes that have a database, a ledger and a lease in common."""

    def __init__(self, folder: Path, url: str, *, lease: float = LEASE, **plan: Any) -> None:
        super().__init__(folder, url=url, lease=lease, **plan)
        self.url = url

    def node(self, name: str, **plan: Any) -> Life:
        """A process that runs jobs until somebody ends it; it enqueues none unless its plan says so."""
        return self.start(replace(Plan(name, each=0, then="stay"), **plan))

    def nodes(self, *names: str, **plan: Any) -> list[Life]:
        """Several, all of them ready."""
        lives = [self.node(name, **plan) for name in names]
        for name in names:
            self.until("ready", key=name)
        return lives

    def enqueue(self, name: str, **plan: Any) -> None:
        """A process that enqueues, runs nothing, and ends."""
        assert not self.run(replace(Plan(name, execute=False), **plan))

    def wait_for(self, did: str, count: int, after: int = 0) -> None:
        """Until something was done so many times, after so many bytes of the ledger."""
        self.eventually(lambda: self.ledger.count(did, after) >= count or None, f"Not {count} times {did}")

    def wait_until_done(self) -> None:
        """Until nothing is left to do now; what waits for a date may wait on."""
        sql = "select not exists (select from job where run_after is null or run_after < last_activity + 60000000)"
        self.eventually(lambda: blocking(ask_postgres(self.url, sql)) or None, "Not everything was done")

    def wait_until_busy(self, lines: int) -> None:
        """Until so much more is in the ledger, or for a moment."""
        wanted, deadline = self.ledger.size + 150 * lines, time.monotonic() + 3
        while self.ledger.size < wanted and time.monotonic() < deadline:
            time.sleep(0.002)

    @contextmanager
    def outage(self, name: str) -> Generator[None]:
        """Something happens to the database or the way to it."""
        self.ledger.write("outage", key=name)
        yield
        self.ledger.write("healed", key=name)

    def open_gate(self) -> None:
        """Let jobs go on that are held."""
        (self.folder / commands.gate.name).touch()

    def wait_until_silent(self, name: str) -> None:
        """Until the database has heard nothing of a node for longer than its lease."""
        sql = f"select seen + lease < {NOW} from node where name = '{name}' order by number desc limit 1"
        self.eventually(lambda: blocking(ask_postgres(self.url, sql)) or None, f"Still signs of life of {name}")

    def evidence(self) -> Evidence:
        """What there is to look at."""
        return gather(self.url, self.folder, self.ledger.read())

    def audit(self) -> list[str]:
        """What is wrong, in sentences."""
        return audit(self.url, self.folder, self.ledger.read())
