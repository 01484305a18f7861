"""The processes that run or enqueue jobs, as the storage knows them."""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class NodeRow:
    """One start of one process; `number` is the owner written into the jobs it claims (0: not yet registered)."""

    id: str
    """Random per process start."""
    name: str
    pid: int
    version: str
    started: int
    heartbeat: int
    number: int = 0
    stopped: int | None = None
    draining: bool = False
    executing: bool = False
    """Whether it runs jobs (on SQLite: holds the executor's lock)."""
    standby: bool = False
    """Whether it would run jobs if the executing process went away."""
    running: int = 0
    concurrency: int = 0
    queues: tuple[str, ...] = ()
    """Queues it serves; empty: all."""
    commands: tuple[str, ...] = ()
