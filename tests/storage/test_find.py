"""Looking for jobs: every filter, pages, counts."""

from collections.abc import Mapping
from typing import Any

import pytest

from commandjobs.model.find import JobFilter
from commandjobs.model.state import JobState
from commandjobs.storage.base import Storage
from tests.storage.life import (
    ANY,
    DAY,
    FATAL,
    HOUR,
    NOW,
    child,
    claim_one,
    end,
    executed,
    finished,
    job,
    put,
    put_all,
    running,
    stored,
)


async def found(storage: Storage, **wanted: Any) -> list[int]:
    """Ids of all jobs that match."""
    matching = [row.id for row in await storage.find(JobFilter(**wanted), after=None, limit=100)]
    assert await storage.count(JobFilter(**wanted), limit=100) == len(matching)
    return matching


async def test_the_newest_job_comes_first(storage: Storage) -> None:
    ids = await put_all(storage, job(), job(), job())

    assert await found(storage) == ids[::-1]


async def test_live_and_finished_jobs_are_found_in_one_order(storage: Storage) -> None:
    ids = [await finished(storage), await put(storage, job()), await finished(storage, outcome=FATAL)]
    ids.append((await running(storage)).id)

    assert await found(storage) == ids[::-1]


async def test_a_page_ends_at_its_limit_and_the_next_goes_on(storage: Storage) -> None:
    ids = [*await put_all(storage, *(job() for _ in range(7))), await finished(storage)]
    pages, after = [], None

    while page := await storage.find(JobFilter(), after=after, limit=3):
        pages.append([row.id for row in page])
        after = page[-1].id

    assert pages == [ids[:-4:-1], ids[-4:-7:-1], ids[1::-1]]


async def test_pages_of_a_filter_skip_what_does_not_match(storage: Storage) -> None:
    rows = [job(tags=("even",)) if number % 2 == 0 else job() for number in range(20)]
    ids = await put_all(storage, *rows)

    first = await storage.find(JobFilter(tag="even"), after=None, limit=4)
    second = await storage.find(JobFilter(tag="even"), after=first[-1].id, limit=4)

    assert [row.id for row in (*first, *second)] == ids[::2][::-1][:8]


async def test_a_count_stops_at_its_limit(storage: Storage) -> None:
    await put_all(storage, *(job() for _ in range(20)))

    assert await storage.count(JobFilter(), limit=7) == 7
    assert await storage.count(JobFilter(), limit=50) == 20


async def test_nothing_is_found_in_an_empty_storage(storage: Storage) -> None:
    assert await found(storage) == []


async def test_a_summary_tells_what_the_row_says(storage: Storage) -> None:
    row = job(
        worker="smtp", queue="mails", tags=("a", "b"), batch_id="b", created_by="anna", user_id="7", retry_limit=0
    )
    await finished(storage, row, FATAL)

    [summary] = await storage.find(JobFilter(), after=None, limit=1)

    kept = await stored(storage, row.id)
    assert {name: getattr(summary, name) for name in summary.__dataclass_fields__} == {
        name: getattr(kept, name) for name in summary.__dataclass_fields__
    }
    assert (summary.tags, summary.queue, summary.error_code) == (("a", "b"), "mails", "ValueError")


async def test_jobs_are_found_by_state(storage: Storage) -> None:
    waiting = await put(storage, job(run_after=NOW + HOUR))
    started = (await running(storage)).id
    done = await executed(storage)
    completed, failed = await finished(storage), await finished(storage, outcome=FATAL)

    assert await found(storage, states=(JobState.QUEUED,)) == [waiting]
    assert await found(storage, states=(JobState.STARTED,)) == [started]
    assert await found(storage, states=(JobState.EXECUTED,)) == [done]
    assert await found(storage, states=(JobState.COMPLETED, JobState.FAILED)) == [failed, completed]
    assert await found(storage, states=(JobState.STARTED, JobState.FAILED)) == [failed, started]
    assert await found(storage, states=(JobState.CANCELLED,)) == []


async def test_jobs_are_found_by_ids(storage: Storage) -> None:
    first, _, third = [await finished(storage), *await put_all(storage, job(), job())]

    assert await found(storage, ids=(third, first, 4711)) == [third, first]


EXACT: list[Mapping[str, Any]] = [
    {"command": "Other"},
    {"ref_id": "the-one"},
    {"parent_id": 815},
    {"worker": "smtp"},
    {"queue": "mails"},
    {"batch_id": "batch-1"},
    {"created_by": "anna"},
    {"user_id": "7"},
    {"tenant_id": "acme"},
]


@pytest.mark.parametrize("columns", EXACT, ids=lambda columns: str(next(iter(columns))))
@pytest.mark.parametrize("over", [False, True], ids=["live", "finished"])
async def test_jobs_are_found_by_what_they_were_given(storage: Storage, columns: Mapping[str, Any], over: bool) -> None:
    await put(storage, job())
    await finished(storage)
    row = job(**columns)

    id = await finished(storage, row) if over else await put(storage, row)

    assert await found(storage, **columns) == [id]
    [(name, value)] = columns.items()
    assert await found(storage, **{name: value + 1 if isinstance(value, int) else value + "x"}) == []


async def test_jobs_are_found_by_their_first_parent(storage: Storage) -> None:
    parent = await put(storage, job())
    ids = await put_all(storage, child(parent), child(parent))

    assert await found(storage, parent_id=parent) == ids[::-1]


async def test_p08_jobs_are_found_by_each_of_their_tags(storage: Storage) -> None:
    both = await finished(storage, job(tags=("red", "green")))
    one = await put(storage, job(tags=("green",)))
    await put_all(storage, job(tags=("greenish",)), job())

    assert await found(storage, tag="green") == [one, both]
    assert await found(storage, tag="red") == [both]
    assert await found(storage, tag="re") == []


async def test_jobs_are_found_by_error_code(storage: Storage) -> None:
    parent = await running(storage)
    await put(storage, job())
    cancelled = await put(storage, child(parent.id))
    await end(storage, parent, FATAL)

    assert await found(storage, error_code="ParentFailed") == [cancelled]
    assert await found(storage, error_code="ValueError") == [parent.id]


async def test_jobs_are_found_by_args(storage: Storage) -> None:
    both = await put(storage, job(args={"a": "1", "b": "2"}))
    one = await finished(storage, job(args={"a": "1", "b": "3"}))
    await put(storage, job())

    assert await found(storage, args={"a": "1"}) == [one, both]
    assert await found(storage, args={"a": "1", "b": "2"}) == [both]
    assert await found(storage, args={"a": "2"}) == []
    assert await found(storage, args={"c": "1"}) == []


async def test_jobs_are_found_by_when_they_were_created(storage: Storage) -> None:
    first, second, third = await put_all(storage, *(job(created=NOW + hours * HOUR) for hours in (0, 1, 2)))

    assert await found(storage, since=NOW + HOUR) == [third, second]
    assert await found(storage, until=NOW + HOUR) == [first]
    assert await found(storage, since=NOW + HOUR, until=NOW + 2 * HOUR) == [second]


async def test_jobs_of_several_months_are_found_together(storage: Storage) -> None:
    ids = [await finished(storage, job(created=NOW - months * 31 * DAY)) for months in (3, 2, 1, 0)]

    assert await found(storage) == ids[::-1]
    assert await found(storage, until=NOW - 40 * DAY) == [ids[1], ids[0]]


@pytest.mark.parametrize(
    "columns",
    [{"ref_id": "xx-Needle-xx"}, {"command": "FindNEEDLE"}, {"tags": ("hay", "needles")}, {"worker": "the needle"}],
    ids=lambda columns: str(next(iter(columns))),
)
@pytest.mark.parametrize("over", [False, True], ids=["live", "finished"])
async def test_jobs_are_found_by_part_of_a_text(storage: Storage, columns: Mapping[str, Any], over: bool) -> None:
    await put_all(storage, job(), job(queue="needle", created_by="needle", request_body="needle"))
    row = job(**columns)

    if over:
        id = await put(storage, row)
        await storage.cancel([id], by=None, now=NOW)
    else:
        id = await put(storage, row)

    assert await found(storage, text="nEEdle") == [id]


async def test_jobs_are_found_by_part_of_their_error(storage: Storage) -> None:
    id = await finished(storage, outcome=FATAL)
    await finished(storage)

    assert await found(storage, text="BOO") == [id]


@pytest.mark.parametrize("text", ["100%", "a_b", "back\\slash", "quote'd", 'double"', "*", "[x]"])
async def test_a_text_is_taken_as_it_is(storage: Storage, text: str) -> None:
    id = await put(storage, job(worker=f"<{text}>"))
    await put_all(storage, job(worker="100 percent"), job(worker="axb"), job(worker="x"), job(worker="back/slash"))

    assert await found(storage, text=text) == [id]
    assert await found(storage, worker=f"<{text}>") == [id]


async def test_all_that_is_set_must_hold(storage: Storage) -> None:
    row = job(worker="smtp", queue="mails", tags=("t",), args={"a": "1"}, user_id="7")
    await put_all(storage, job(worker="smtp"), job(queue="mails", tags=("t",)), job(args={"a": "1"}))
    id = await put(storage, row)

    wanted: dict[str, Any] = {"worker": "smtp", "queue": "mails", "tag": "t", "args": {"a": "1"}, "user_id": "7"}

    assert await found(storage, **wanted, states=(JobState.QUEUED,), text="SMTP", since=NOW, ids=(id,)) == [id]
    assert await found(storage, **wanted, states=(JobState.FAILED,)) == []


async def test_x05_a_job_is_found_by_its_ref_id_wherever_it_is(storage: Storage) -> None:
    await put(storage, job(ref_id="live"))
    await finished(storage, job(ref_id="over"))

    live, over = await storage.job("live"), await storage.job("over")

    assert live is not None
    assert over is not None
    assert (live.summary.state, over.summary.state) == (JobState.QUEUED, JobState.COMPLETED)
    assert live.row is not None
    assert over.row is not None


async def test_x05_an_unknown_job_is_none(storage: Storage) -> None:
    assert await storage.job(4711) is None
    assert await storage.job("4711") is None


async def test_x05_a_ref_id_of_digits_is_no_id(storage: Storage) -> None:
    id = await put(storage, job())

    assert await storage.job(str(id)) is None


async def test_several_jobs_come_in_the_order_asked_for(storage: Storage) -> None:
    first, third = await put_all(storage, job(), job())
    second = await finished(storage, job())

    jobs = await storage.jobs([third, 4711, second, first])

    assert [each.summary.id for each in jobs] == [third, second, first]
    assert all(each.row is not None and each.row.id == each.summary.id for each in jobs)


async def test_finished_tells_which_have_ended(storage: Storage) -> None:
    over, failed = await finished(storage), await finished(storage, outcome=FATAL)
    waiting = await put(storage, job())
    started = (await running(storage)).id
    done = await executed(storage)

    assert await storage.finished([over, failed, waiting, started, done, 4711]) == {over, failed}
    assert await storage.finished([]) == set()


async def test_lanes_count_live_jobs_and_only_what_is_due_ages(storage: Storage) -> None:
    await running(storage, job(worker="smtp"))
    await put_all(storage, job(worker="smtp", created=NOW + 5), job(worker="smtp", created=NOW + 3))
    await put_all(storage, job(), job(queue="mails", created=NOW + 7, run_after=NOW + HOUR))
    await finished(storage, job(queue="empty"))

    lanes = {(lane.queue, lane.worker): lane for lane in await storage.lanes()}

    counts = {key: (lane.waiting, lane.running, lane.oldest) for key, lane in lanes.items()}
    assert counts == {
        ("default", "smtp"): (2, 1, NOW + 3),
        ("default", None): (1, 0, NOW),
        ("mails", None): (1, 0, None),
    }


async def test_a_claimed_job_still_waits(storage: Storage) -> None:
    await put(storage, job(), claim=ANY)

    [lane] = await storage.lanes()

    assert (lane.waiting, lane.running, lane.oldest) == (1, 0, NOW)


async def test_looking_changes_nothing(storage: Storage) -> None:
    id = await put(storage, job())
    before = await stored(storage, id)

    for _ in range(2):
        await storage.find(JobFilter(), after=None, limit=9)
        await storage.jobs([id])
        await storage.runs(id)

    assert await stored(storage, id) == before
    assert (await claim_one(storage)).id == id
