"""What was executed, counted: by the hour for the storage, and in memory for commands and workers of this process."""

from collections import deque
from dataclasses import dataclass, field
from statistics import quantiles

from commandjobs.model.row import JobRow
from commandjobs.model.stats import HOUR, Tallies, Tally, TallyKey

RECENT = 1000
"""Durations kept per command."""


@dataclass(slots=True)
class CommandStats:
    """Executions of one command. `durations` holds the newest thousand, in milliseconds."""

    runs: int = 0
    failures: int = 0
    retries: int = 0
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    last_error: str | None = None

    def quantile(self, share: float) -> float | None:
        """The duration within which this share of the newest executions stayed, two decimals."""
        if not self.durations:
            return None
        if len(self.durations) == 1:
            return round(self.durations[0], 2)
        cuts = quantiles(self.durations, n=100, method="inclusive")
        return round(cuts[round(share * 100) - 1], 2)


@dataclass(slots=True)
class WorkerCounts:
    """Jobs of one named worker in this process."""

    received: int = 0
    completed: int = 0
    failed: int = 0
    retries: int = 0
    running_job: int | None = None
    running_since: int | None = None


@dataclass(slots=True)
class Usual:
    """How many executions have completed, and how long they took."""

    count: int = 0
    time_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Account:
    """Where executions of one kind are counted."""

    stats: CommandStats
    tally: Tally
    usual: tuple[Usual, Usual]


class Statistics:
    """Counts every execution once, durable or transient."""

    def __init__(self) -> None:
        """Nothing was executed yet."""
        self.commands: dict[str, CommandStats] = {}
        self.workers: dict[str, WorkerCounts] = {}
        self._usual: dict[tuple[str, str], Usual] = {}
        """By command and worker; "*": all."""
        self._loaded = False
        self._pending: Tallies = {}
        self._accounts: dict[tuple[int, str, str | None, str, str], Account] = {}

    def load(self, tallies: Tallies) -> None:
        """Take what was counted before this process: usual durations and totals go on after a restart. Counts once."""
        if self._loaded:
            return
        self._loaded = True
        for key, tally in tallies.items():
            stats = self.commands.setdefault(key.command, CommandStats())
            stats.runs += tally.count
            if key.outcome == "Failed":
                stats.failures += tally.count
            elif key.outcome == "Retried":
                stats.retries += tally.count
            elif key.outcome == "Completed":
                for worker in (key.worker, "*"):
                    usual = self._usual_of(key.command, worker)
                    usual.count += tally.count
                    usual.time_ms += tally.time_ms

    def usual_ms(self, command: str, worker: str | None) -> float | None:
        """How long such a job usually takes: of this command on this worker, else of this command; None: unknown."""
        for key in ((command, worker or ""), (command, "*")):
            usual = self._usual.get(key)
            if usual is not None and usual.count:
                return usual.time_ms / usual.count
        return None

    def started(self, lane: str, row: JobRow) -> None:
        """A job of a named worker has started."""
        counts = self.workers.setdefault(lane, WorkerCounts())
        counts.received += 1
        counts.running_job, counts.running_since = row.id, row.started

    def given_back(self, lane: str | None) -> None:
        """A job that had started waits again, as if it had not been tried."""
        if lane is not None:
            self._worker_ended(lane, "")

    def ended(self, row: JobRow, *, command: str, outcome: str, duration_ms: float, now: int, lane: str | None) -> None:
        """An execution has ended; `outcome` is Completed, Failed, Retried or Cancelled."""
        account = self._account(row, command, outcome, now)
        account.tally.add(duration_ms)
        stats = account.stats
        stats.runs += 1
        stats.durations.append(duration_ms)
        if outcome == "Completed":
            for usual in account.usual:
                usual.count += 1
                usual.time_ms += duration_ms
        elif outcome == "Failed":
            stats.failures += 1
            stats.last_error = row.error_message
        elif outcome == "Retried":
            stats.retries += 1
            stats.last_error = row.error_message
        if lane is not None:
            self._worker_ended(lane, outcome)

    def take(self) -> Tallies | None:
        """What was counted since the last time, for the next settling write; None: nothing."""
        taken, self._pending, self._accounts = self._pending, {}, {}
        return taken or None

    def _account(self, row: JobRow, command: str, outcome: str, now: int) -> Account:
        # One look-up for all that is counted; a tuple is hashed in half the time of the frozen dataclass.
        short = (now // HOUR, command, row.worker, row.queue, outcome)
        account = self._accounts.get(short)
        if account is None:
            worker = row.worker or ""
            key = TallyKey(now // HOUR * HOUR, row.request_type, command, worker, row.queue, outcome)
            account = self._accounts[short] = Account(
                stats=self.commands.setdefault(command, CommandStats()),
                tally=self._pending.setdefault(key, Tally()),
                usual=(self._usual_of(command, worker), self._usual_of(command, "*")),
            )
        return account

    def _worker_ended(self, lane: str, outcome: str) -> None:
        counts = self.workers.setdefault(lane, WorkerCounts())
        counts.running_job = counts.running_since = None
        if outcome == "Completed":
            counts.completed += 1
        elif outcome == "Failed":
            counts.failed += 1
        elif outcome == "Retried":
            counts.retries += 1

    def _usual_of(self, command: str, worker: str) -> Usual:
        return self._usual.setdefault((command, worker), Usual())
