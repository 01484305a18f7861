"""`kill -9` at any moment while jobs of all kinds are enqueued and run."""

import random
import sqlite3
from collections import Counter
from contextlib import closing

from commandjobs import BackgroundJobs, JobState
from tests.acceptance.nodes import Site
from tests.conftest import until

ROUNDS = 5


async def test_x04_l02_nothing_promised_is_lost_whenever_the_process_is_killed(site: Site) -> None:
    for number in range(ROUNDS):
        await run_and_kill(site, str(number))

    async with site.program("load.py", "end", "0") as node, site.outside() as jobs:
        assert await node.line() == "ready", node.errors
        assert await node.line() == "idle", node.errors
        promised = {int(line.split()[0]): line.split()[1] for line in written(site, "promised")}
        condemned = await see_that_all_have_ended(jobs, promised)
        assert await node.stop() == 0

    ran, replied = Counter(written(site, "ran")), Counter(written(site, "replied"))
    assert set(promised.values()) - condemned <= ran.keys()
    assert set(written(site, "promised callbacks")) - condemned <= replied.keys()
    assert max(ran.values()) <= 1 + ROUNDS
    assert ids_of(site, "jobs.db") == []
    archived = Counter(id for month in site.folder.glob("jobs_*.db") for id in ids_of(site, month.name))
    assert promised.keys() <= archived.keys()
    assert set(archived.values()) == {1}


async def run_and_kill(site: Site, name: str) -> None:
    promises = site.folder / "promised"
    promises.touch()
    enough = promises.stat().st_size + random.randint(1, 6000)  # of some twelve bytes each
    async with site.program("load.py", name, "1000") as node:
        assert await node.line() == "ready", node.errors
        await until(lambda: promises.stat().st_size > enough, within=100)
        await node.kill()


async def see_that_all_have_ended(jobs: BackgroundJobs, promised: dict[int, str]) -> set[str]:
    """Completed, all of them, but for those that were running at three kills (and what depends on them).

    From its third kill on a job runs alone among such jobs, so it is one for each kill at most.
    """
    results = {result.job.id: result for result in await jobs.get_jobs(list(promised))}
    assert results.keys() == promised.keys()
    crashed = {id for id, result in results.items() if result.summary.error_code == "WorkerCrashed"}
    assert all(results[id].job.crashes == 3 for id in crashed)
    assert len(crashed) <= ROUNDS - 2
    spoilt = crashed | {id for id, result in results.items() if crashed & set(result.job.depends_on)}
    for id in promised.keys() - spoilt:
        assert results[id].summary.state is JobState.COMPLETED, results[id].job
        assert results[id].job.response_body == f'"{promised[id]}"'
    return {promised[id] for id in spoilt}


def written(site: Site, name: str) -> list[str]:
    path = site.folder / name
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def ids_of(site: Site, name: str) -> list[int]:
    with closing(sqlite3.connect(site.folder / name)) as connection:
        return [id for (id,) in connection.execute("select id from job")]
