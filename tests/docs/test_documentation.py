"""The programs in README.md and docs/ run, and print what their pages show.

Every ```python block is run; the blocks of one page are one program, in order. A block that cannot run here is
preceded by `<!-- not run: reason -->`. A program sits at the lines of its page, so a traceback points into the page.

A program that asks for `JOBS_URL` gets the URL of a schema of its own on the tests' PostgreSQL.

What a page shows as output, in ```text title="Output" blocks and after `$ python …` in ```console blocks, is all that
its program prints, in order; `...` stands for anything.
"""

import os
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests import postgres

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"(?P<skip><!-- not run: [^\n]+ -->\s*)?^(?P<indent> *)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
OUTPUT = re.compile(
    r"^```(?:text title=\"Output\"|console\n\$ python \w+\.py)\n(?P<shown>.*?)^```$", re.MULTILINE | re.DOTALL
)


def program(page: Path) -> str:
    """The page with everything but its code blanked."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * text.count("\n")
    for block in BLOCK.finditer(text):
        if not block["skip"]:
            first = text.count("\n", 0, block.start("code"))
            code = [line.removeprefix(block["indent"]) for line in block["code"].splitlines()]
            lines[first : first + len(code)] = code
    return "\n".join(lines).rstrip("\n")


PROGRAMS = {
    page.relative_to(ROOT).as_posix(): code
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if (code := program(page))
}


PAGES = [pytest.param(page, marks=pytest.mark.postgres if "JOBS_URL" in PROGRAMS[page] else ()) for page in PROGRAMS]


def run(code: str, page: str, folder: Path) -> str:
    script = folder / Path(page).with_suffix(".py").name
    script.write_text(code + "\n", encoding="utf-8")
    command = [sys.executable, "-W", "error", script.name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # also in a checkout that is not installed
    with own_schema() if "JOBS_URL" in code else nullcontext("") as url:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**environment, "JOBS_URL": url},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert done.returncode == 0, f"{page}, by the line numbers of the page:\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def own_schema() -> Generator[str]:
    """The URL of a queue that nobody else uses, and that is gone afterwards."""
    schema = f"{postgres.SCHEMA}_docs"
    postgres.execute(f"drop schema if exists {schema} cascade")
    yield postgres.url(schema)
    postgres.execute(f"drop schema if exists {schema} cascade")


@pytest.mark.parametrize("page", PAGES)
def test_page_runs_and_prints_what_it_shows(page: str, tmp_path: Path) -> None:
    shown = "".join(OUTPUT.findall((ROOT / page).read_text(encoding="utf-8")))

    printed = run(PROGRAMS[page], page, tmp_path)

    if shown and not fits(printed, shown):
        assert printed == shown


def fits(printed: str, shown: str) -> bool:
    return re.fullmatch(".*?".join(map(re.escape, shown.split("..."))), printed, re.DOTALL) is not None


def test_readme_prints_what_it_shows(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"^\$ python welcome\.py\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    first = BLOCK.search(readme)
    assert shown is not None
    assert first is not None

    printed = run(first["code"], "welcome.md", tmp_path)

    assert printed == shown[1]


def test_readme_and_front_page_show_the_same_program() -> None:
    readme, front = (BLOCK.search((ROOT / page).read_text(encoding="utf-8")) for page in ("README.md", "docs/index.md"))

    assert readme is not None
    assert front is not None
    assert readme["code"] == front["code"]
