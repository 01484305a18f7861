"""Tallies: counted with the settling write, by the hour."""

from commandjobs.model.outcome import Succeeded
from commandjobs.model.stats import HOUR, Tallies, Tally, TallyKey
from commandjobs.storage.base import Storage
from tests.storage.life import NOW, ending, finished, job, put, running

THIS_HOUR = NOW - NOW % HOUR


def key(outcome: str = "Succeeded", hour: int = THIS_HOUR, worker: str = "") -> TallyKey:
    return TallyKey(hour=hour, kind="CMD", command="Work", worker=worker, queue="default", outcome=outcome)


def counted(*durations: float) -> Tally:
    tally = Tally()
    for duration in durations:
        tally.add(duration)
    return tally


async def count(storage: Storage, tallies: Tallies) -> None:
    await storage.settle([], now=NOW, tallies=tallies)


async def test_a_new_storage_has_counted_nothing(storage: Storage) -> None:
    await finished(storage)

    assert await storage.tallies(since=0) == {}


async def test_u02_tallies_are_written_with_a_settlement(storage: Storage) -> None:
    row = await running(storage)
    settlement = ending(row, Succeeded())

    await storage.settle([settlement], now=NOW, tallies={key(): counted(1000)})

    assert await storage.tallies(since=0) == {key(): counted(1000)}


async def test_u02_tallies_of_one_key_add_up(storage: Storage) -> None:
    await count(storage, {key(): counted(1, 5)})
    await count(storage, {key(): counted(5, 900)})

    [tally] = (await storage.tallies(since=0)).values()
    assert (tally.count, tally.time_ms, tally.histogram) == (4, 911, counted(1, 5, 5, 900).histogram)


async def test_u02_tallies_of_different_keys_stay_apart(storage: Storage) -> None:
    given = {
        key(): counted(1),
        key("Failed"): counted(2),
        key(worker="smtp"): counted(3),
        key(hour=THIS_HOUR - HOUR): counted(4),
    }

    await count(storage, given)

    assert await storage.tallies(since=0) == given


async def test_u03_tallies_are_read_from_an_hour_on(storage: Storage) -> None:
    hours = [THIS_HOUR - number * HOUR for number in range(5)]
    await count(storage, {key(hour=hour): counted(1) for hour in hours})

    recent = await storage.tallies(since=hours[2])

    assert {each.hour for each in recent} == set(hours[:3])


async def test_c12_reading_tallies_does_not_alter_them(storage: Storage) -> None:
    await count(storage, {key(): counted(1)})

    read = await storage.tallies(since=0)
    read[key()].add(5)
    read.clear()

    assert await storage.tallies(since=0) == {key(): counted(1)}


async def test_tallies_given_are_not_kept_by_reference(storage: Storage) -> None:
    given = {key(): counted(1)}
    await count(storage, given)

    given[key()].add(5)
    await count(storage, {key(): counted(2)})

    assert given == {key(): counted(1, 5)}
    assert await storage.tallies(since=0) == {key(): counted(1, 2)}


async def test_tallies_outlive_the_jobs_they_count(storage: Storage) -> None:
    row = await running(storage, job())
    await storage.settle([ending(row, Succeeded())], now=NOW, tallies={key(): counted(1)})
    [month] = await storage.months()

    await storage.drop_month(month.month)

    assert await storage.tallies(since=0) == {key(): counted(1)}


async def test_hundreds_of_keys_are_written_at_once(storage: Storage) -> None:
    given = {key(worker=f"w{number}"): counted(number + 1) for number in range(500)}
    await put(storage, job())

    await count(storage, given)

    assert await storage.tallies(since=0) == given
