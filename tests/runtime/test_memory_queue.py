"""The order in which jobs in memory are drawn."""

from hypothesis import given
from hypothesis import strategies as some

from commandjobs.runtime.memory_queue import WINDOW, Line, MemoryQueue
from tests.runtime.attempts import job


def drawn(line: Line) -> list[int]:
    return [line.rows.pop().id for _ in range(len(line.rows))]


def test_the_highest_priority_comes_first_then_the_oldest_job() -> None:
    line = Line()
    line.add([job(1), job(2, priority=5), job(3)])
    line.add([job(4, priority=5)])
    line.add([job(5, priority=9), job(6, priority=-1)])

    assert drawn(line) == [5, 2, 4, 1, 3, 6]


@given(some.lists(some.lists(some.integers(-3, 3), min_size=1, max_size=5), max_size=10))
def test_the_order_does_not_depend_on_who_came_with_whom(arrivals: list[list[int]]) -> None:
    line, rows, id = Line(), [], 0
    for priorities in arrivals:
        arrived = [job(id + number, priority=priority) for number, priority in enumerate(priorities)]
        id += len(priorities)
        line.add(arrived)
        rows += arrived

    assert drawn(line) == [row.id for row in sorted(rows, key=lambda row: (-row.priority, row.id))]


def test_a_row_that_was_withdrawn_and_comes_back_stands_beside_its_old_self() -> None:
    line = Line()
    for _ in range(3):
        line.add([job(7)])

    assert drawn(line) == [7, 7, 7]


def test_a_queue_is_low_when_half_of_its_window_is_free_and_more_is_stored() -> None:
    queue = MemoryQueue("default", 10, limits_sync=False)
    queue.lines["async"].add([job(id) for id in range(WINDOW // 2)])
    assert (queue.room, queue.is_low) == (WINDOW // 2, False)

    queue.backlog = 0
    assert queue.is_low

    queue.lines["sync"].add([job(WINDOW)])
    assert not queue.is_low
