"""Processes as the storage knows them, and what a storage is."""

from dataclasses import replace
from pathlib import Path

import pytest

from commandjobs.errors import InvalidOption
from commandjobs.storage.base import Storage
from tests.storage.life import ANY, DAY, NOW, SECOND, job, node, put


async def test_l12_a_registered_node_has_a_number(storage: Storage) -> None:
    first, second = node("a"), node("b")

    await storage.register(first)
    await storage.register(second)

    assert 0 < first.number < second.number


async def test_l12_a_node_is_read_back_as_it_was_given(storage: Storage) -> None:
    given = node("web-1", executing=True, running=3, concurrency=100, queues=("mails",), commands=("Work", "Other"))

    await storage.register(given)

    assert [known for known in await storage.nodes() if known.name == "web-1"] == [given]


async def test_l12_a_heartbeat_stores_the_present_values(storage: Storage) -> None:
    given = node("web-1")
    await storage.register(given)

    given.heartbeat, given.running, given.draining, given.standby = NOW + SECOND, 7, True, True
    await storage.heartbeat(given)

    assert [known for known in await storage.nodes() if known.name == "web-1"] == [given]


async def test_l12_a_stopped_node_stays_known_for_a_while(storage: Storage) -> None:
    given = node("old")
    await storage.register(given)
    await storage.heartbeat(replace(given, stopped=NOW + SECOND))

    await storage.register(node("new", started=NOW + DAY - SECOND, heartbeat=NOW + DAY - SECOND))

    assert {known.name for known in await storage.nodes()} >= {"old", "new"}


async def test_l12_nodes_stopped_or_silent_for_a_day_are_forgotten(storage: Storage) -> None:
    stopped = node("stopped")
    await storage.register(stopped)
    await storage.heartbeat(replace(stopped, stopped=NOW + SECOND))
    await storage.register(node("silent"))
    later = NOW + DAY + 2 * SECOND

    await storage.register(node("new", started=later, heartbeat=later))

    assert {known.name for known in await storage.nodes()} == {"new"}


async def test_l02_a_node_that_still_owns_jobs_is_not_forgotten(storage: Storage) -> None:
    [owner] = await storage.nodes()
    id = await put(storage, job(), claim=ANY)
    await storage.heartbeat(replace(owner, stopped=NOW))

    await storage.register(node("new", started=NOW + 2 * DAY, heartbeat=NOW + 2 * DAY))
    rescued = await storage.rescue(now=NOW + 2 * DAY)

    assert rescued.released == 1
    found = await storage.job(id)
    assert found is not None
    assert found.row is not None
    assert found.row.suspect


async def test_what_the_caller_changes_in_a_node_is_not_stored(storage: Storage) -> None:
    given = node("web-1")
    await storage.register(given)

    given.running = 99

    assert [known.running for known in await storage.nodes()] == [0, 0]


async def test_a_node_executes_until_it_resigns(storage: Storage) -> None:
    seen = [storage.executes, await storage.try_execute(), storage.executes]
    await storage.resign()
    seen.append(storage.executes)

    assert seen == [True, True, True, False]
    assert await storage.try_execute()


async def test_nobody_has_asked_for_anything(storage: Storage) -> None:
    assert await storage.intents() == []


async def test_nothing_is_wrong_with_a_new_storage(storage: Storage) -> None:
    assert await storage.check() == []


async def test_closing_twice_is_closing(storage: Storage) -> None:
    await storage.close()
    await storage.close()


async def test_a_backup_is_written_or_refused_with_a_reason(storage: Storage, tmp_path: Path) -> None:
    await put(storage, job())

    if storage.capabilities.backup:
        assert await storage.backup(str(tmp_path / "copy"))
    else:
        with pytest.raises(InvalidOption, match="cop"):
            await storage.backup(str(tmp_path / "copy"))
