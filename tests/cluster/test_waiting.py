"""Waiting in one node for what another one does."""

from collections.abc import AsyncIterator

import pytest

from commandjobs import BackgroundJobs
from tests.cluster.cluster import Cluster
from tests.faults.commands import Errand, FaultAsync


@pytest.fixture
async def onlooker(cluster: Cluster) -> AsyncIterator[BackgroundJobs]:
    """A node that executes, and serves another queue."""
    async with BackgroundJobs(cluster.url, queues={"another": 1}) as jobs:
        yield jobs


async def test_d29_a_node_that_executes_sees_the_end_of_a_job_that_another_node_runs(
    cluster: Cluster, onlooker: BackgroundJobs
) -> None:
    (node,) = cluster.nodes("other")

    ref = await onlooker.enqueue_command(FaultAsync, Errand(key="one", kind="plain", pause=0.2))

    assert await ref.result(30) == "one"
    assert {entry.pid for entry in cluster.ledger.read() if entry.did == "end"} == {node.pid}
    node.kill()
