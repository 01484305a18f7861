"""Ref ids."""

import string

from commandjobs.runtime.ref_ids import RefIds

MILLISECOND = 1000


def test_e04_a_ref_id_has_32_hex_characters() -> None:
    ref_id = RefIds().next(1_767_225_600_000_000)

    assert len(ref_id) == 32
    assert set(ref_id) <= set(string.hexdigits.lower())


def test_e04_ref_ids_are_unique_and_in_the_order_of_their_making() -> None:
    ref_ids = RefIds()

    made = [ref_ids.next(1_767_225_600_000_000) for _ in range(200_000)]

    assert len(set(made)) == len(made)
    assert made == sorted(made)


def test_later_ref_ids_come_after_earlier_ones_even_if_the_clock_steps_back() -> None:
    ref_ids = RefIds()
    times = (5_000, 9_000, 2_000, 9_000, 10_000)

    made = [ref_ids.next(milliseconds * MILLISECOND) for milliseconds in times]

    assert made == sorted(made)


def test_two_processes_differ_by_64_random_bits() -> None:
    one, other = RefIds(), RefIds()

    assert one.next(MILLISECOND)[:16] == other.next(MILLISECOND)[:16]
    assert one.next(MILLISECOND)[16:] != other.next(MILLISECOND)[16:]


def test_random_bits_are_asked_for_by_the_block() -> None:
    asked = list[int]()

    def zeros(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    ref_ids = RefIds(random_bytes=zeros)
    for _ in range(300):
        ref_ids.next(0)

    assert asked == [2048, 2048]
