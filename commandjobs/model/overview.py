"""The public records of what surrounds jobs: workers, queues, nodes, commands, health."""

from datetime import datetime
from typing import Any, Literal

from commandjobs.model.job import Record


class WorkerStats(Record):
    """A named worker: what waits for it, and what it has done in this process."""

    name: str
    node: str
    queued: int
    received: int
    completed: int
    failed: int
    retries: int
    running_job: int | None
    running_seconds: float | None


class QueueInfo(Record):
    """A queue: what waits and runs in it. Pauses and limits of its own come with queue control."""

    name: str
    paused: bool
    concurrency: int | None
    rate_limit: int | None
    rate_limit_seconds: float | None
    queued: int
    running: int
    oldest_queued: datetime | None
    changed: datetime | None
    changed_by: str | None


class NodeInfo(Record):
    """One start of one process; `id` is random per start."""

    id: str
    name: str
    pid: int
    version: str
    started: datetime
    heartbeat: datetime
    stopped: datetime | None
    draining: bool
    running: int
    concurrency: int
    queues: list[str]
    commands: list[str]


class CommandInfo(Record):
    """A registered command, and how its executions went."""

    name: str
    kind: Literal["CMD", "API"]
    tags: list[str]
    worker: str | None
    doc: str | None
    request_schema: dict[str, Any] | None
    result_schema: dict[str, Any] | None
    runs: int
    failures: int
    retries: int
    min_ms: float | None
    median_ms: float | None
    p95_ms: float | None
    max_ms: float | None
    last_error: str | None


class Health(Record):
    """How the engine is, with a sentence for each thing that is wrong."""

    status: Literal["healthy", "degraded", "unhealthy"]
    reasons: list[str]
