"""Named workers and keys of one process."""

from collections.abc import Callable

from commandjobs.runtime.worker import LocalLanes, lanes_of


class Queue:
    """Those who ask for lanes, and who has got them, in order."""

    def __init__(self) -> None:
        self.lanes = LocalLanes()
        self.got: list[str] = []
        self.left: set[str] = set()

    def ask(self, who: str, *lanes: str) -> bool:
        taken = self.lanes.take(lanes, self.granted(who))
        if taken:
            self.got.append(who)
        return taken

    def granted(self, who: str) -> Callable[[], bool]:
        def get() -> bool:
            if who not in self.left:
                self.got.append(who)
            return who not in self.left

        return get


def test_a_free_lane_is_taken_at_once() -> None:
    queue = Queue()

    assert queue.ask("a", "w")
    assert queue.ask("b", "x")


def test_t03_a_lane_goes_to_those_who_wait_in_the_order_of_asking() -> None:
    queue = Queue()
    for who in "abcd":
        queue.ask(who, "w")

    for _ in "abcd":
        queue.lanes.release(("w",))

    assert queue.got == ["a", "b", "c", "d"]


def test_t03_who_comes_when_a_lane_is_freed_does_not_overtake_those_who_wait() -> None:
    queue = Queue()
    queue.ask("a", "w")
    queue.ask("b", "w")

    queue.lanes.release(("w",))

    assert not queue.ask("late", "w")
    assert queue.got == ["a", "b"]


def test_who_does_not_want_a_lane_any_more_is_passed_over() -> None:
    queue = Queue()
    for who in "abc":
        queue.ask(who, "w")
    queue.left = {"b"}

    queue.lanes.release(("w",))

    assert queue.got == ["a", "c"]


def test_a_lane_nobody_wants_is_free_again() -> None:
    queue = Queue()
    queue.ask("a", "w")
    queue.ask("b", "w")
    queue.left = {"b"}

    queue.lanes.release(("w",))

    assert queue.ask("c", "w")


def test_who_needs_two_lanes_gets_both_or_none() -> None:
    queue = Queue()
    queue.ask("worker", "w")
    queue.ask("key", "k")
    queue.ask("both", "w", "k")

    queue.lanes.release(("w",))
    assert queue.got == ["worker", "key"]
    queue.lanes.release(("k",))

    assert queue.got == ["worker", "key", "both"]


def test_who_needs_two_lanes_does_not_hold_the_free_one_while_waiting() -> None:
    queue = Queue()
    queue.ask("key", "k")
    queue.ask("both", "w", "k")

    assert queue.ask("worker", "w")
    queue.lanes.release(("k",))
    queue.lanes.release(("w",))

    assert queue.got == ["key", "worker", "both"]


def test_a_lane_freed_twice_is_given_once() -> None:
    queue = Queue()
    queue.ask("a", "w", "k")
    queue.ask("b", "w")
    queue.ask("c", "w", "k")

    queue.lanes.release(("w", "k"))
    assert queue.got == ["a", "b"]
    queue.lanes.release(("w",))

    assert queue.got == ["a", "b", "c"]


def test_ten_thousand_who_wait_for_one_lane_cost_no_more_each() -> None:
    queue = Queue()
    names = [str(number) for number in range(10_000)]
    for who in names:
        queue.ask(who, "w")

    for _ in names:
        queue.lanes.release(("w",))

    assert queue.got == names


def test_a_worker_and_a_key_of_one_name_are_two_lanes() -> None:
    assert lanes_of("smtp", "smtp") == ("worker smtp", "key smtp")
    assert lanes_of(None, "k") == ("key k",)
    assert lanes_of(None, None) == ()
