"""Any life in any order, in one storage after the other: what was carried is the same there, and goes on."""

from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from commandjobs.model.carried import Carried
from commandjobs.model.find import JobFilter
from commandjobs.model.outcome import Crashed
from commandjobs.moving.copying import copy
from commandjobs.moving.pieces import pieces
from commandjobs.storage import open_storage
from commandjobs.storage.base import Storage
from tests import postgres
from tests.storage.life import ending, node, swept
from tests.storage.test_lifecycle_machine import Lives


class LivesThatMove(Lives):
    """Each move is also the end of the process that was at work."""

    def __init__(self) -> None:
        super().__init__()
        self.moves = 0

    @rule(kind=st.sampled_from(["memory", "memory", "sqlite", "postgres"]))  # in order of what a step costs there
    def everything_moves(self, kind: str) -> None:
        self.node.stopped = self.now
        self.do(self.storage.heartbeat(self.node))
        unmarked = {id for id in self.started if not self._is_marked(id)}
        before = self.do(everything(self.storage))
        found = self.do(self.storage.find(JobFilter(), after=None, limit=1000))
        old, self.storage = self.storage, self._new(kind)
        self.do(self.storage.open(on_wake=lambda: None))
        self.do(copy(old, self.storage, of="here", to="there", progress=lambda *_: None))
        self.do(old.close())
        assert self.do(everything(self.storage)) == before
        assert self.do(self.storage.find(JobFilter(), after=None, limit=1000)) == found
        self._take_over(unmarked)

    def _take_over(self, unmarked: set[int]) -> None:
        """A process begins to work there, and rescues what was left behind."""
        self.node = node()
        self.do(self.storage.register(self.node))
        assert self.do(self.storage.try_execute())
        rescued = self.do(self.storage.rescue(now=self.now))
        assert {row.id for row in rescued.started} == self.started.keys() - unmarked
        assert rescued.released == len(self.claimed) + len(unmarked)
        self.claimed.clear()
        self.started.clear()
        self.bound.clear()
        for row in rescued.started:
            settlement = ending(row, Crashed("node"), now=self.now)
            assert self.do(self.storage.settle([settlement], now=self.now)).written == [True]

    def _new(self, kind: str) -> Storage:
        self.moves += 1
        if kind == "postgres":
            return open_storage(postgres.empty_url(f"{postgres.OTHER_SCHEMA}{self.moves % 2}"))
        if kind == "memory":
            return open_storage("memory://")
        return open_storage(Path(self.directory.name) / str(self.moves) / "jobs.db", durability="relaxed")


async def everything(storage: Storage) -> list[Carried]:
    """All that there is to carry."""
    await swept(storage)
    return [job async for piece in pieces(storage) for job in piece]


LivesThatMove.TestCase.settings = settings(stateful_step_count=25, max_examples=8)
TestLivesThatMove = LivesThatMove.TestCase
