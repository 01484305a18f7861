"""Jobs are cancelled, requeued and watched from another node than the one that runs them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from commandjobs import BackgroundJobs, JobState
from tests.cluster.cluster import Cluster
from tests.faults.commands import Errand, FaultAsync


@pytest.fixture
async def jobs(cluster: Cluster) -> AsyncIterator[BackgroundJobs]:
    """A node that does not execute."""
    async with BackgroundJobs(cluster.url, execute=False) as jobs:
        yield jobs


async def test_r12_a_running_job_is_cancelled_from_another_node(cluster: Cluster, jobs: BackgroundJobs) -> None:
    (node,) = await asyncio.to_thread(cluster.nodes, "a")
    ref = await jobs.enqueue_command(FaultAsync, Errand(key="held", kind="plain", held=True))
    after = await jobs.enqueue_command(FaultAsync, Errand(key="after", kind="plain"), depends_on=ref)
    await asyncio.to_thread(cluster.until, "start")

    assert await ref.cancel()

    assert (await ref.wait(60)).summary.state is JobState.CANCELLED
    assert (await after.wait(60)).summary.error_code == "ParentFailed"
    assert cluster.ledger.count("cut") == 1
    await asyncio.to_thread(node.stop)


async def test_r12_a_cancelled_job_of_a_node_that_has_died_meanwhile_does_not_run_again(
    cluster: Cluster, jobs: BackgroundJobs
) -> None:
    first, second = await asyncio.to_thread(cluster.nodes, "first", "second")
    ref = await jobs.enqueue_command(FaultAsync, Errand(key="held", kind="plain", held=True))
    pid = (await asyncio.to_thread(cluster.until, "start")).pid
    runs, other = (first, second) if first.pid == pid else (second, first)

    runs.suspend()
    assert await ref.cancel()
    await asyncio.to_thread(runs.kill)

    assert (await ref.wait(60)).summary.state is JobState.CANCELLED
    assert cluster.ledger.count("start") == 1
    await asyncio.to_thread(other.stop)


async def test_l12_every_node_is_listed_and_a_dead_one_is_not_called_alive(
    cluster: Cluster, jobs: BackgroundJobs
) -> None:
    first, second = await asyncio.to_thread(cluster.nodes, "first", "second")
    await asyncio.to_thread(first.kill)

    async with asyncio.timeout(60):
        while await alive(jobs) != {"second"}:  # noqa: ASYNC110  another process finds out
            await asyncio.sleep(0.05)

    await asyncio.to_thread(second.stop)


async def alive(jobs: BackgroundJobs) -> set[str]:
    """Those that execute."""
    return {node.name for node in await jobs.get_nodes() if node.stopped is None}
