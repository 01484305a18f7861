"""What surrounds jobs, for operators: workers, queues, nodes, commands, health."""

from __future__ import annotations

from typing import TYPE_CHECKING

from commandjobs.clock import Clock
from commandjobs.model.moment import to_datetime
from commandjobs.model.node import NodeRow
from commandjobs.model.overview import CommandInfo, Health, NodeInfo, QueueInfo, WorkerStats
from commandjobs.model.stats import Tally
from commandjobs.runtime.statistics import CommandStats, WorkerCounts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from commandjobs.definition import CommandDefinition
    from commandjobs.runtime.engine import Engine
    from commandjobs.storage.base import LaneCount

DEGRADED_WAITING, UNHEALTHY_WAITING = 1_000, 10_000
DEGRADED_AGE, UNHEALTHY_AGE = 300.0, 1_800.0
"""Seconds that the oldest waiting job has waited."""
SILENT_AFTER = 60.0
"""Seconds without a heartbeat."""


class Overview:
    """Looks at an engine and its storage."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """What it looks at."""
        self._engine = engine
        self._clock = clock

    async def workers(self) -> list[WorkerStats]:
        """Named workers that have jobs, or had some in this process."""
        lanes = await self._engine.storage.lanes()
        queued: dict[str, int] = {}
        for lane in lanes:
            if lane.worker is not None:
                queued[lane.worker] = queued.get(lane.worker, 0) + lane.waiting
        counts = self._engine.statistics.workers
        return [self._worker(name, queued.get(name, 0), counts.get(name)) for name in sorted({*queued, *counts})]

    async def queues(self) -> list[QueueInfo]:
        """Queues that have jobs, those this node serves, and the default one."""
        by_queue: dict[str, list[LaneCount]] = {"default": []}
        for name in self._engine.settings.queues or ():
            by_queue.setdefault(name, [])
        for lane in await self._engine.storage.lanes():
            by_queue.setdefault(lane.queue, []).append(lane)
        return [self._queue(name, lanes) for name, lanes in sorted(by_queue.items())]

    async def nodes(self) -> list[NodeInfo]:
        """Processes, newest first."""
        rows = sorted(await self._engine.storage.nodes(), key=lambda row: -row.started)
        return [
            NodeInfo(
                id=row.id,
                name=row.name,
                pid=row.pid,
                version=row.version,
                started=to_datetime(row.started),
                heartbeat=to_datetime(row.heartbeat),
                stopped=None if row.stopped is None else to_datetime(row.stopped),
                draining=row.draining,
                running=row.running,
                concurrency=row.concurrency,
                queues=list(row.queues),
                commands=list(row.commands),
            )
            for row in rows
        ]

    async def commands(self) -> list[CommandInfo]:
        """Registered commands, with counts of all processes and durations of this one (else from the roll-ups)."""
        stored: dict[str, Tally] = {}
        counts: dict[tuple[str, str], int] = {}
        for key, tally in (await self._engine.storage.tallies(since=0)).items():
            stored.setdefault(key.command, Tally()).merge(tally)
            counts[key.command, key.outcome] = counts.get((key.command, key.outcome), 0) + tally.count
        here = self._engine.statistics.commands
        return [
            _command(
                definition, here.get(definition.name, CommandStats()), stored.get(definition.name, Tally()), counts
            )
            for definition in self._engine.commands.all()
        ]

    async def health(self) -> Health:
        """How the engine is."""
        bad, worrying = list(await self._engine.storage.check()), self._worries()
        lanes = await self._engine.storage.lanes()
        waiting = sum(lane.due for lane in lanes)
        age = (self._clock.now() - min((lane.oldest for lane in lanes if lane.oldest), default=self._clock.now())) / 1e6
        for value, degraded, unhealthy, what in (
            (waiting, DEGRADED_WAITING, UNHEALTHY_WAITING, f"{waiting:,} jobs wait"),
            (age, DEGRADED_AGE, UNHEALTHY_AGE, f"The oldest waiting job has waited for {age:,.0f} s"),
        ):
            if value >= degraded:
                (bad if value >= unhealthy else worrying).append(f"{what}.")
        nodes = [node for node in await self._engine.storage.nodes() if node.stopped is None]
        worrying += await self._strangers(nodes)
        if waiting and not any(node.executing for node in nodes):
            bad.append("Jobs wait and no process executes.")
        status = "unhealthy" if bad else "degraded" if worrying else "healthy"
        return Health(status=status, reasons=[*bad, *worrying])

    def _worries(self) -> list[str]:
        reasons = [
            f"Job {one.row.id} ({one.row.command}) was ended and its code still runs."
            for one in self._engine.dispatcher.overrunning()
        ]
        if self._engine.completer.trouble is not None:
            reasons.append(f"Outcomes cannot be written: {self._engine.completer.trouble}")
        return reasons

    async def _strangers(self, nodes: list[NodeRow]) -> list[str]:
        """Commands that wait and that the executing process does not know; an executor that is silent."""
        executing = [node for node in nodes if node.executing]
        reasons = [
            f"Executor pid {node.pid} ({node.name}) has been silent for {silence:.0f} s."
            for node in executing
            if (silence := (self._clock.now() - node.heartbeat) / 1e6) > SILENT_AFTER
        ]
        unknown = await self._engine.storage.pending_commands()
        for node in executing:
            unknown = unknown - set(node.commands)
        if executing and unknown:
            names = ", ".join(sorted(unknown))
            who = ", ".join(f"pid {node.pid} ({node.name})" for node in executing)
            reasons.append(f"Jobs wait whose command the executing process, {who}, does not know: {names}.")
        return reasons

    def _worker(self, name: str, queued: int, counts: WorkerCounts | None) -> WorkerStats:
        counts = counts or WorkerCounts()
        since = counts.running_since
        return WorkerStats(
            name=name,
            node=self._engine.node.name,
            queued=queued,
            received=counts.received,
            completed=counts.completed,
            failed=counts.failed,
            retries=counts.retries,
            running_job=counts.running_job,
            running_seconds=None if since is None else max(0.0, (self._clock.now() - since) / 1e6),
        )

    def _queue(self, name: str, lanes: Iterable[LaneCount]) -> QueueInfo:
        lanes = list(lanes)
        oldest = min((lane.oldest for lane in lanes if lane.oldest is not None), default=None)
        served = self._engine.settings.queues
        return QueueInfo(
            name=name,
            paused=False,
            concurrency=self._engine.settings.concurrency if served is None else served.get(name),
            rate_limit=None,
            rate_limit_seconds=None,
            queued=sum(lane.waiting for lane in lanes),
            running=sum(lane.running for lane in lanes),
            oldest_queued=None if oldest is None else to_datetime(oldest),
            changed=None,
            changed_by=None,
        )


def _command(
    definition: CommandDefinition, here: CommandStats, stored: Tally, counts: dict[tuple[str, str], int]
) -> CommandInfo:
    durations = here.durations
    request, result = definition.request_codec, definition.result_codec
    return CommandInfo(
        name=definition.name,
        kind="CMD",
        tags=list(definition.tags),
        worker=definition.worker,
        doc=definition.doc,
        request_schema=request.json_schema() if request is not None else None,
        result_schema=result.json_schema() if result is not None else None,
        runs=max(here.runs, stored.count),
        failures=max(here.failures, counts.get((definition.name, "Failed"), 0)),
        retries=max(here.retries, counts.get((definition.name, "Retried"), 0)),
        min_ms=round(min(durations), 2) if durations else None,
        median_ms=here.quantile(0.5) or stored.quantile_ms(0.5),
        p95_ms=here.quantile(0.95) or stored.quantile_ms(0.95),
        max_ms=round(max(durations), 2) if durations else stored.quantile_ms(1.0),
        last_error=here.last_error,
    )
