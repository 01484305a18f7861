"""What a storage must do: small Protocols in the order of a job's life, in bulk, at the altitude of jobs.

**Rules stay out of storage.** What an outcome means, whether a dependent goes on, when a job is retried: decided by
`model.settle`, handed in as values. A storage writes them, guarded, and tells what became runnable by it.

**Who waits for what.** A waiting job (state Queued, or Executed with a callback to run) that nobody owns is either
*claimable* or parked by its `hold`: PARENTS, TIME or LANE (`model.state.hold_for`). Only claimable rows are in the
claim index. A *lane* is a named worker (`row.lane`) or a concurrency key (`row.lane_key`); a job may need both. In
each lane at most one job is claimable or owned at any time. The write that frees a lane (settle, cancel, release,
promotion of something better) *elects* the next in the same transaction: the best waiting job by (priority descending,
id ascending) whose other lane is free too; over all lanes that one write frees, the best comes first. A claimable job
that nobody owns yet gives way to a better one that arrives (by insert, its time, its last parent, an update): it is
parked, and its other lane elects. So no job is parked by LANE while all its lanes are free.

**Claims.** Wherever a method takes `claim`, jobs that become runnable by the write and fit the claim are owned by this
node at once (`row.owner` = its node number: the one that was registered last) and returned, so that they start without
another round trip. `claim=None` leaves them claimable for whoever calls `claim()`. What a write makes claimable and its
answer has no place for (a lane neighbour in `insert`, all of `cancel`, `update` and `release`) is never claimed by it;
`on_wake` is called instead.

**Rows** are copied at the border: what a caller does later to a row that he gave or got is not seen. Only `insert` and
`reinsert` write into the caller's rows, and `settle` where a cancellation came between.

**Guards.** Every change of an owned job repeats its owner; a late writer changes nothing and is told.

**Atomic, shared, apart.** Each call is one atomic unit. Calls made at the same time share commits; one that fails never
fails or delays another's. When a call returns, what it wrote is durable (SQLite: an fdatasync has returned).

Errors: driver errors leave a storage only as `StorageUnavailable`, `StorageFull` or `StorageCorrupt`.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Any, Literal, Protocol

from commandjobs.errors import StorageUnavailable
from commandjobs.model.carried import Carried
from commandjobs.model.find import JobFilter
from commandjobs.model.job import LogLine
from commandjobs.model.node import NodeRow
from commandjobs.model.row import JobRow, LogRow, ProgressRow, SummaryRow
from commandjobs.model.settle import Settlement
from commandjobs.model.state import JobState
from commandjobs.model.stats import Tallies


@dataclass(frozen=True, slots=True)
class Claim:
    """What this node may own: jobs of commands it knows, in queues it serves."""

    commands: frozenset[str]
    queues: frozenset[str] | None = None
    """None: every queue."""

    def fits(self, row: JobRow) -> bool:
        """Whether the row's next step (its callback's once Executed) is for this node."""
        if row.state is JobState.EXECUTED:
            return row.callback in self.commands and self.serves(row.callback_queue or row.queue)
        return row.command in self.commands and self.serves(row.queue)

    def serves(self, queue: str) -> bool:
        """Whether the queue is one of those that this node serves."""
        return self.queues is None or queue in self.queues


@dataclass(slots=True)
class Inserted:
    """What became of one row. `id` and `ref_id` are those of the new job, or of the one that was in its way."""

    id: int
    ref_id: str
    conflict: Literal["ref_id", "unique_key"] | None = None
    """Set: nothing was written for this row, since a job with that ref id exists, or an unfinished one holds the
    key."""
    claimed: bool = False
    """The row is owned by this node now: start it."""
    row: JobRow | None = None
    """The job that was in the way, where only the caller's transaction may see it."""


@dataclass(slots=True)
class Settled:
    """What a settling write did."""

    written: list[bool]
    """Per settlement, in order: False if the job no longer belonged to the settlement's owner (nothing was written)."""
    claimed: list[JobRow] = field(default_factory=list)
    """Dependents released and lane neighbours elected by it, owned by this node now."""
    ready: bool = False
    """Something became claimable that was not claimed here."""


Landed = Callable[[Sequence[JobRow], list[Inserted]], Any]
"""Called on the loop's thread with rows and what became of them when they are stored, also if their caller does not
wait any more: jobs that this node owns now must be started by somebody. What it returns is the caller's answer."""


class Cancelling(Enum):
    """What a cancellation met."""

    CANCELLED = "cancelled"
    """The job was waiting and is over."""
    REQUESTED = "requested"
    """The job is owned by a node: `cancel_requested` is stored for it."""
    FINISHED = "finished"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Promoted:
    """What time brought about: `next_at` is the earliest moment at which calling again can change anything."""

    next_at: int | None
    promoted: int = 0
    expired: list[JobRow] = field(default_factory=list)
    """Jobs cancelled since their `expires` has passed."""
    claimed: list[JobRow] = field(default_factory=list)


@dataclass(slots=True)
class Rescued:
    """What dead owners have left: jobs they had started (to be settled as crashed, guarded by the old owner), and how
    many they had only claimed (these were released, as suspects).
    """

    started: list[JobRow]
    released: int


@dataclass(slots=True)
class Found:
    """A job: its summary, and its full row if that is still somewhere."""

    summary: SummaryRow
    row: JobRow | None


@dataclass(slots=True)
class LaneCount:
    """Live jobs of one (queue, worker)."""

    queue: str
    worker: str | None
    waiting: int
    """All that do not run, those with a date or unfinished parents included."""
    due: int
    """Those of them that wait for nothing but their turn."""
    running: int
    oldest: int | None
    """Since when the oldest that is due could have run: its `run_after`, else its creation."""


@dataclass(slots=True)
class MonthInfo:
    """One archive month: its first day, and the newest end (`last_activity`) of a job in it (None: no job in it has
    ended).
    """

    month: date
    newest_end: int | None


@dataclass(frozen=True, slots=True)
class Intent:
    """A change asked for by another process, for the one that may make it."""

    id: int
    action: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a storage can and cannot do, so that nobody asks which one it is."""

    transactional_enqueue: bool = False
    """`connection=` works: the enqueue is part of the caller's own transaction."""
    single_executor: bool = False
    """One process executes at a time; the others steer it through intents and stand by."""
    many_nodes: bool = False
    """Several processes execute at the same time, each under a lease: they leave room for each other, and look for what
    dead ones have left."""
    durable: bool = True
    """Jobs outlive the process."""
    backup: bool = False
    """`backup` writes a copy; a server's database is saved by the server's own tools."""


NOT_HERE = -1
"""The owner of a job that was claimed where it came from: no process here has that number, so it is rescued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What there is to carry."""

    jobs: int
    last_id: int
    """The highest id ever given."""
    last_node: int
    """The number of the process that was registered last: as long as it stays, nobody has begun to work here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copying:
    """A copy of another storage, as it is noted where it goes to: how far it has come."""

    source: str
    """What it is a copy of, in words."""
    run: str
    """Random: whoever makes the copy now. Anybody else who is still at it is refused."""
    last_id: int
    """New ids go on above this one."""
    source_node: int
    """`Contents.last_node` of the source when the copy began: if it has changed, the source has been worked on."""
    target_node: int
    """The same of the storage that the copy goes to."""
    after: int = 0
    """All jobs up to this id are here..."""
    ref_id: str | None = None
    """...and that is the ref id of the last one, by which the source is known again."""
    done: bool = False

    def check_done(self, place: str) -> None:
        """Raise `StorageUnavailable` while jobs are still missing: nobody may execute those that are there."""
        if not self.done:
            raise StorageUnavailable(
                f"{place} holds only a part of {self.source}: the jobs up to id {self.after} were brought here, and "
                "nothing is executed before the others are. Run the same command again; it goes on where it stopped."
            )


def in_the_way(id: int, ref_id: str) -> str:
    """Why a job cannot be taken in: this one is there, and is another."""
    return (
        f"Job {id} with the ref id {ref_id!r} is there already, and another job of that id or ref id was to come: the "
        "two storages have had lives of their own."
    )


class NobodyExecutes(Exception):
    """No process executes, so nobody would answer an intent: become the executing one and do it yourself."""


class JobStore(Protocol):
    """A job's life, in its order."""

    def insert(
        self, rows: Sequence[JobRow], *, now: int, claim: Claim | None = None, landed: Landed | None = None
    ) -> Awaitable[Any]:
        """Store new jobs, all of them or none, and give each the next id, in order; ids never repeat.

        Returns what became of each (a list of `Inserted`), or what `landed` has made of that.

        Sets `id`, `hold`, `parents_left`, `parent_id` (if None and there are parents: the first), and `owner` of each
        row. Parents (`depends_on`) that have ended are looked up by `RELEASED_BY`: satisfied, or the row ends Cancelled
        at once (`cancel_waiting` with `PARENT_FAILED`). Raises `UnknownDependency` naming the ids that do not exist.
        A row whose `ref_id` exists (live or finished, unless that one was cancelled with AttemptFailed) or whose
        (command, unique_key) is held by an unfinished job is not written: `conflict` says so; other rows are. The rows
        of one call count for each other. A row whose `bound_attempt` is over without success (`attempt_is_lost`; it is
        an attempt of the first of `depends_on`) ends Cancelled at once, with ATTEMPT_FAILED.
        """
        ...

    async def insert_within(
        self, rows: Sequence[JobRow], *, connection: Any, blocking: bool, now: int
    ) -> list[Inserted]:
        """Store new jobs as `insert` does, but on a connection of the caller's and in the transaction that is open on
        it: they are there when that commits, and nothing is left of them if it does not (but their ids are spent).
        Nobody owns them by it. Needs `transactional_enqueue`.

        blocking: this is called by the thread that uses the connection, which need not be that of the loop; nothing
        suspends then. Locks nothing that others need: only who wants one of the same keys waits for the commit.
        Raises `InvalidOption` for a connection that cannot be used, after which its transaction is as it was before.
        """
        ...

    async def claim(self, room: Mapping[str, int], other: int, *, claim: Claim, now: int) -> list[JobRow]:
        """Own claimable jobs and return them with all columns, best first per queue by (priority descending, id).

        room: how many per queue; other: how many of each queue not named there (0: none). A job that waits in
        Executed counts for its `callback_queue`. Costs the same however many jobs are parked, unknown or of other
        queues.
        """
        ...

    def mark_started(self, rows: Sequence[JobRow]) -> Awaitable[list[bool]]:
        """Write the start marks (`model.settle.begin` has set the values): state, attempts, callback_attempts, started,
        last_activity, node, suspect, progress, status. Frees `unique_key` where `unique_until="start"`. Guarded by
        owner; False: no longer ours. The values are taken when called. It may be called and not awaited: it keeps its
        order among the calls of this node, and may be dropped if the job has ended when its turn comes.
        """
        ...

    async def settle(
        self, settlements: Sequence[Settlement], *, now: int, claim: Claim | None = None, tallies: Tallies | None = None
    ) -> Settled:
        """Write what attempts have led to, guarded by owner, in one transaction.

        Not final: the row's new values (a retry, a snooze, a hand-back, Executed), its lane freed or changed.
        Final: the job leaves for the archive of the month it was created in, its summary is kept, its lane, keys and
        claim are free, its dependents (`dependents of row.id`) are released where `RELEASED_BY[state]` has their
        policy, else cancelled with PARENT_FAILED, recursively: up to 1,000 jobs here, more from a durable marker by
        `sweep`. `failed_attempt`: jobs with that `bound_attempt` among its dependents are cancelled with
        ATTEMPT_FAILED, and no longer hold ref id or unique key; all of them here, however many, since the next attempt
        may use the same keys. Only the first of a job's `depends_on` can be the one whose attempt it is bound to.
        A job that would wait again although its cancellation has been asked for meanwhile ends (`heed_cancellation`),
        and the settlement's row says so. Tallies are added in the same transaction.
        In this order: each job's own change and its attempt-bound jobs, then dependents, then lanes.
        """
        ...

    async def release(self, rows: Sequence[JobRow], *, now: int) -> None:
        """Hand back claims that were never started: waiting again, no attempt used; guarded by owner. One whose
        cancellation was asked for ends (`heed_cancellation`).
        """
        ...

    async def cancel(
        self, ids: Sequence[int], *, by: str | None, now: int, claim: Claim | None = None
    ) -> list[Cancelling]:
        """Cancel waiting jobs with everything a final settlement does; ask for it where a node owns the job
        (`request_cancellation` decides). Each job asked for is cancelled itself before dependents are looked at.
        Nothing is claimed by it, whatever `claim` says, since the answer has no place for rows.
        """
        ...

    async def update(
        self, id: int, *, now: int, run_after: int | None = None, priority: int | None = None, queue: str | None = None
    ) -> bool:
        """Change a waiting job that nobody owns and that is Queued; None leaves a value. False: there is none such."""
        ...

    async def reinsert(self, rows: Sequence[JobRow], *, now: int, claim: Claim | None = None) -> list[Inserted | None]:
        """Store requeued jobs (`model.settle.requeue`) again under their ids, if each is still finished with the run
        before; None: it is not. `conflict="unique_key"`: another job holds its key; `"ref_id"`: another one took it
        over. Parents count as in `insert`, in any order of rows, but not for a job that goes back to Executed, and one
        that is no longer known counts as satisfied.
        """
        ...

    async def promote_due(self, *, now: int, claim: Claim | None = None, limit: int = 1000) -> Promoted:
        """Wake jobs whose `run_after` has come; cancel (EXPIRED) waiting, never started ones (`can_expire`) whose
        `expires` has passed, dependents and all.
        """
        ...

    async def rescue(self, *, now: int, limit: int = 1000) -> Rescued:
        """Look for jobs owned by nodes that are dead. Released ones become suspects, claimable again, or end where
        their cancellation was asked for (`heed_cancellation`).
        """
        ...

    async def sweep(self, *, now: int, claim: Claim | None = None) -> Settled:
        """Go on with what one transaction could not hold (dependents by the thousand, moves to an archive that was
        away). `written` has one True per unit of work done; empty: nothing is left.
        """
        ...

    async def report(self, rows: Sequence[ProgressRow]) -> None:
        """Keep the newest progress, status and sign of life of running jobs; guarded by owner."""
        ...

    async def append_logs(self, rows: Sequence[LogRow]) -> None:
        """Append to the jobs' logs; each line gets the next sequence number of its job."""
        ...


class Reader(Protocol):
    """Looking; never waits behind writes."""

    async def job(self, id: int | str) -> Found | None:
        """A job by id, or by ref id if a str is given."""
        ...

    async def jobs(self, ids: Sequence[int]) -> list[Found]:
        """Several jobs, in the order asked for; unknown ones are left out."""
        ...

    async def runs(self, id: int) -> list[JobRow]:
        """The full rows of all runs of a job that are there, oldest first: archived ones, then the live one."""
        ...

    async def find(self, wanted: JobFilter, *, after: int | None, limit: int) -> list[SummaryRow]:
        """Matching jobs, live and finished, highest id first, below the id `after`."""
        ...

    async def count(self, wanted: JobFilter, *, limit: int) -> int:
        """How many match, counted up to `limit`."""
        ...

    async def logs(self, id: int, *, after: int, limit: int) -> list[LogLine]:
        """Log lines of a job with a sequence above `after`."""
        ...

    async def finished(self, ids: Collection[int]) -> set[int]:
        """Which of these jobs have ended."""
        ...

    async def cancelled_dependents(self, id: int) -> list[int]:
        """Jobs that were cancelled (ParentFailed) because this one, their direct parent, did not succeed; lowest id
        first. Those requeued since are left out.
        """
        ...

    async def lanes(self) -> list[LaneCount]:
        """Live jobs counted by queue and worker; one that is claimed and not yet started waits."""
        ...

    async def pending_commands(self) -> set[str]:
        """Commands of claimable jobs that nobody owns."""
        ...

    async def tallies(self, *, since: int) -> Tallies:
        """The roll-ups of the hours from `since` on."""
        ...

    async def months(self) -> list[MonthInfo]:
        """The archive months that exist, oldest first."""
        ...


class NodeStore(Protocol):
    """Processes."""

    async def register(self, node: NodeRow) -> None:
        """Store a new node and give it its `number`; forget nodes stopped or silent for a day."""
        ...

    async def heartbeat(self, node: NodeRow) -> None:
        """Store the node's present values."""
        ...

    async def nodes(self) -> list[NodeRow]:
        """All nodes known."""
        ...

    async def owned(self) -> set[int]:
        """Jobs that this node owns. Only asked with `many_nodes`, as is `disown`."""
        ...

    async def disown(self, ids: Collection[int]) -> None:
        """Give away jobs that this node owns and knows nothing of: the next `rescue` finds them, as a dead node's.
        A database that has lost its last commits says so of jobs whose ends were among them.
        """
        ...

    async def time(self) -> int | None:
        """The storage's own time, by which leases and dates are judged; None: that of any process is as good."""
        ...


class Steering(Protocol):
    """Who executes, and how the others make it act. With `single_executor` False everybody changes jobs himself, and
    only a running job's cancellation is left to its owner.
    """

    @property
    def executes(self) -> bool:
        """Whether this node may own jobs now."""
        ...

    async def try_execute(self) -> bool:
        """Become the executing process if there is none; returns at once. True also if it is already."""
        ...

    async def resign(self) -> None:
        """Stop being it. Everything owned must be settled or released before."""
        ...

    async def steer(self, action: str, arguments: dict[str, Any], *, timeout: float) -> Any:
        """Ask the executing process to do something; returns its answer. Raises `StorageUnavailable` after `timeout`
        seconds, naming the silent process, and `NobodyExecutes` (the intent is withdrawn) if there is none.
        """
        ...

    async def intents(self) -> list[Intent]:
        """Unanswered intents, oldest first: what others ask of the executing process, or that they want jobs of this
        node to end.
        """
        ...

    async def answer(self, intent: Intent, answer: Any) -> None:
        """Answer an intent; the answer is plain JSON data."""
        ...


class Transfer(Protocol):
    """Moving jobs as they are from one storage to another, while nobody executes on either."""

    async def hold_still(self) -> None:
        """Begin to carry from here or to take in here: from now until `close` nobody else executes here, if that can be
        seen to. Raises `StorageUnavailable` naming a process that executes now, or that still owns a job.
        """
        ...

    async def contents(self, *, month: date | None = None) -> Contents:
        """What there is: all jobs, or those that were created in a month and have ended."""
        ...

    async def carry(self, *, after: int, limit: int, month: date | None = None) -> list[Carried]:
        """Up to `limit` jobs with the next ids above `after`, in the order of ids; empty: there are no more. What is
        left to `sweep` is not carried: sweep before.

        month: only those that were created in it and have ended. They do not change, so that this may be asked for
        while others execute.
        """
        ...

    async def copying(self) -> Copying | None:
        """The copy that is being made here, or was; None: never was one."""
        ...

    async def begin_copy(self, copying: Copying) -> None:
        """Note that a copy begins, or goes on. Until it is `done`, `try_execute` raises `StorageUnavailable`."""
        ...

    async def take_in(
        self, carried: Sequence[Carried], *, copying: Copying | None = None, tallies: Tallies | None = None
    ) -> int:
        """Store jobs as they are, all of them or none; returns how many were stored. New ids go on above theirs.

        copying: they are part of this copy, noted in the same transaction. They replace what is there of the same ids,
        so that a piece may come twice. Raises `StorageUnavailable` if another process goes on with the copy now, or
        executes. `tallies` replace those that are there under the same keys.

        None: they are added to what is there; they all have ended. A job that is known here is left as it is. Raises
        `InvalidOption`, and stores nothing, if an id or a ref id is another job's.
        """
        ...


class Storage(JobStore, Reader, NodeStore, Steering, Transfer, Protocol):
    """Everything together, with a beginning and an end."""

    capabilities: Capabilities

    async def open(
        self,
        *,
        on_wake: Callable[[], None],
        on_ended: Callable[[Sequence[JobRow]], None] | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        """Open or create what is kept. `on_wake` is called on the loop's thread when another process has made jobs
        claimable, asked for something, or finished jobs, or when the one that executes has ended; also when a call of
        this one made jobs claimable that its answer did not tell of, let dependents go that now wait for their time, or
        left something to `sweep`.

        `on_ended` is called on the loop's thread with the final rows of jobs that a write of this process has ended
        without a settlement of their own: cancelled by request, expired, or because of a parent or an attempt.

        `on_lost` is called on the loop's thread when this node has lost its lease: others do its jobs again, and what
        it still writes of them is refused. It has to `register` anew. (Only where many nodes share a queue.)
        """
        ...

    async def close(self) -> None:
        """Write what is under way and close; safe to call twice."""
        ...

    async def drop_month(self, month: date) -> int:
        """Delete an archive month with its summaries, in small batches; unfinished jobs stay. Returns how many went."""
        ...

    async def backup(self, directory: str) -> list[str]:
        """Write a consistent copy into an empty or new directory, beside the work; returns the files written."""
        ...

    async def check(self) -> list[str]:
        """Sentences on what is wrong with the storage now; empty: nothing."""
        ...
