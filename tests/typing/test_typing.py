"""What type checkers must accept and refuse in code that uses the library.

`accepts_*.py` must be clean; in `rejects_*.py` each line marked `# E: why` must be an error, and no other line.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = sorted(file.name for file in HERE.glob("*_*.py") if file.name.startswith(("accepts_", "rejects_")))

Errors = dict[tuple[str, int], str]
"""File name and line → what the checker said."""

pytestmark = pytest.mark.timeout(300)


def run(*command: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout


def mypy_errors() -> Errors:
    report = run("mypy", "--no-error-summary", *(f"tests/typing/{name}" for name in FILES))
    found = re.findall(r"^tests/typing/(\w+\.py):(\d+): error: (.*)$", report, re.MULTILINE)
    return {(name, int(line)): message for name, line, message in found}


def pyright_errors(tmp_path: Path) -> Errors:
    """With a configuration of its own: that of the project leaves out the files that must fail."""
    files = [os.path.relpath(HERE / name, tmp_path) for name in FILES]  # it ignores absolute ones
    settings = {"include": files, "extraPaths": [str(ROOT)], "stubPath": str(ROOT / "stubs")}
    config = tmp_path / "pyrightconfig.json"
    config.write_text(json.dumps({**settings, "typeCheckingMode": "strict", "pythonVersion": "3.11"}))
    report = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(config)))
    assert report["summary"]["filesAnalyzed"] >= len(FILES)
    return {
        (Path(found["file"]).name, found["range"]["start"]["line"] + 1): found["message"]
        for found in report["generalDiagnostics"]
        if found["severity"] == "error"
    }


def marked_lines() -> set[tuple[str, int]]:
    return {
        (name, number)
        for name in FILES
        for number, line in enumerate((HERE / name).read_text(encoding="utf-8").splitlines(), start=1)
        if "# E: " in line
    }


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_exactly_the_marked_lines_are_errors(checker: str, tmp_path: Path) -> None:
    check: dict[str, Callable[[], Errors]] = {"mypy": mypy_errors, "pyright": lambda: pyright_errors(tmp_path)}
    errors = check[checker]()

    assert {place: told for place, told in errors.items() if place not in marked_lines()} == {}
    assert marked_lines() - set(errors) == set()
