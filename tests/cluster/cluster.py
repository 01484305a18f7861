"""Several processes on one database, what happens to them, and what the audit says afterwards."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.cluster.audit import audit
from tests.faults.bench import Bench, Life
from tests.faults.workload import Plan

LEASE = 1.5
"""Seconds. A node that is silent for so long has lost its jobs: the default of 30 would make every test as long."""


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

    def wait_for(self, did: str, count: int, after: int = 0) -> None:
        """Until something was done so many times, after so many bytes of the ledger."""
        self.eventually(lambda: self.ledger.count(did, after) >= count or None, f"Not {count} times {did}")

    def audit(self) -> list[str]:
        """What is wrong, in sentences."""
        return audit(self.url, self.folder, self.ledger.read())
