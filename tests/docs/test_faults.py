"""The list of faults names tests that exist, and leaves no number out."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / "docs" / "explanation" / name).read_text(encoding="utf-8") for name in ("faults.md", "guarantees.md")
}
NUMBERS = [*range(1, 30), 31, 32, 33, 34, 35, 37, 38, 39, 40, 41, 42, 44, *range(45, 58)]
"""Those that are missing were merged into others before the list was published."""
NAMED = sorted({test for page in PAGES.values() for test in re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", page)})
ROWS = re.findall(r"^\| (\d+) \| (.+) \|$", PAGES["faults.md"], re.MULTILINE)


@pytest.mark.parametrize("test", NAMED)
def test_named_test_exists(test: str) -> None:
    file, _, name = test.partition("::")

    text = (ROOT / file).read_text(encoding="utf-8")

    assert re.search(rf"^(async def {name}\(|def {name}\(|class {name}\b|{name} = )", text, re.MULTILINE) or not name


def test_every_fault_is_listed_once_and_in_order() -> None:
    assert [int(number) for number, _ in ROWS] == NUMBERS


@pytest.mark.parametrize(("number", "row"), ROWS)
def test_fault_has_a_state(number: str, row: str) -> None:
    assert re.search(r"`tests/\w+/test_\w+\.py::\w+`|comes with|`make soak`", row.rpartition(" | ")[2])
