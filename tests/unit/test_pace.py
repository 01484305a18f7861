"""When the loop may wait for the disk."""

import pytest

from commandjobs.storage.sqlite.inline import PAUSE, PROMPT, SLOW, Pace


def paced(*commits: float) -> Pace:
    pace = Pace()
    for took in commits:
        pace.note(took, now=100.0)
    return pace


@pytest.mark.parametrize(
    ("commits", "prompt"),
    [
        ([], False),
        ([PROMPT / 5], False),
        ([PROMPT / 5] * 8, True),
        ([PROMPT * 1.5] * 100, False),
        ([PROMPT / 5] * 100 + [SLOW * 0.9], True),
        ([PROMPT / 5] * 100 + [SLOW * 0.9] * 8, False),
        ([PROMPT / 5] * 100 + [SLOW * 1.1], False),
    ],
)
def test_the_disk_is_prompt_if_its_commits_were(commits: list[float], *, prompt: bool) -> None:
    assert paced(*commits).is_prompt(now=100.0) is prompt


def test_a_stall_is_paid_for_by_many_times_as_long_without_the_next() -> None:
    pace = paced(*[PROMPT / 5] * 100, 0.2)

    assert not pace.is_prompt(now=100.0 + PAUSE * 0.2 - 0.1)
    assert pace.is_prompt(now=100.0 + PAUSE * 0.2 + 0.1)
