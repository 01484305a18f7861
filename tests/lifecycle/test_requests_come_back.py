"""Requests and results of every kind: refused before anything is written, or back exactly, by way of the disk."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from commandjobs import AsyncCommandWithResult, BackgroundJobs, InvalidRequest
from tests.lifecycle.commands import count


class Parcel(BaseModel):
    text: str = ""
    number: int = 0
    ratio: float = 0.0
    price: Decimal = Decimal(0)
    raw: bytes = b""
    anything: Any = None


class ReturnParcel(AsyncCommandWithResult[Parcel, Parcel]):
    """Returns what it was given, so that it takes the same way again."""

    async def run(self, request: Parcel) -> Parcel:
        return request


class Courier:
    """Sends parcels through one engine that stays open for all examples."""

    def __init__(self, runner: asyncio.Runner, jobs: BackgroundJobs) -> None:
        self._runner = runner
        self._jobs = jobs

    def send(self, parcel: Parcel) -> Parcel | None:
        """What came back; None: it was refused, and nothing was written."""
        return self._runner.run(self._send(parcel))

    async def _send(self, parcel: Parcel) -> Parcel | None:
        before = await count(self._jobs)
        try:
            ref = await self._jobs.enqueue_command(ReturnParcel, parcel)
        except InvalidRequest:
            assert await count(self._jobs) == before
            return None
        return await ref.result()


@pytest.fixture(scope="module")
def courier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Courier]:
    database: Path = tmp_path_factory.mktemp("parcels") / "jobs.db"
    with asyncio.Runner() as runner:
        jobs = runner.run(BackgroundJobs(database).__aenter__())
        yield Courier(runner, jobs)
        runner.run(jobs.__aexit__(None, None, None))


texts = st.text(st.characters(exclude_categories=[]))  # NUL and lone surrogates too
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
trees = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)
parcels = st.builds(
    Parcel.model_construct,
    text=texts,
    number=st.integers(),
    ratio=st.floats(),
    price=st.decimals(),
    raw=st.binary(),
    anything=trees | st.binary() | st.decimals(),
)


@given(parcels)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(Parcel(number=2**63))
@example(Parcel(number=-(2**200)))
@example(Parcel(ratio=5e-324, price=Decimal("-0.00"), raw=b"\0\xff"))
@example(Parcel(text="🦊\u2028\U0010ffff\x7f"))
def test_a_parcel_is_refused_or_comes_back_exactly(courier: Courier, parcel: Parcel) -> None:
    back = courier.send(parcel)

    assert back is None or repr(back) == repr(parcel)


@pytest.mark.parametrize(
    "parcel",
    [
        Parcel(text="a\0b"),
        Parcel(text="\ud800"),
        Parcel(ratio=float("nan")),
        Parcel.model_construct(price=Decimal("NaN")),
        Parcel(anything={"deep": [float("inf")]}),
        Parcel(anything={"\udfff": 1}),
        Parcel(anything=2**20_000),
        Parcel().model_copy(update={"number": "1"}),
        Parcel(text="x" * 64_000_000),
    ],
    ids=["NUL", "surrogate", "NaN", "decimal NaN", "infinite", "key", "endless", "wrong", "64 MB"],
)
def test_what_would_not_come_back_is_refused(courier: Courier, parcel: Parcel) -> None:
    assert courier.send(parcel) is None


@pytest.mark.parametrize("depth", [10, 100, 1_000, 100_000])
def test_a_deep_tree_is_refused_or_comes_back(courier: Courier, depth: int) -> None:
    tree: Any = "leaf"
    for _ in range(depth):
        tree = [tree]

    back = courier.send(Parcel.model_construct(anything=tree))

    for _ in range(depth):
        if back is not None:
            back.anything = back.anything[0]
    assert back is None or back.anything == "leaf"
    assert back is not None or depth > 100
