"""The `commandjobs` program (extra `cli`).

`app` lists its commands, `options` has what they share; then one file a command.
Exit codes: 0 done, 1 it could not be done, 2 asked wrongly, 130 interrupted.
"""

import sys
from typing import NoReturn

from commandjobs.errors import CommandJobsError, InvalidOption


def main() -> None:
    """Run the program; also without the extra, to say that it is missing."""
    try:
        from commandjobs.cli.app import app  # noqa: PLC0415  needs the extra
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in {"rich", "typer"}:
            raise
        _fail('The commandjobs program comes with an extra: pip install "commandjobs[cli]"', 2)
    try:
        app()
    except InvalidOption as error:
        _fail(f"Error: {error}", 2)
    except CommandJobsError as error:
        _fail(f"Error: {error}", 1)
    except KeyboardInterrupt:
        _fail("Interrupted.", 130)


def _fail(sentence: str, code: int) -> NoReturn:
    sys.stderr.write(f"{sentence}\n")
    sys.exit(code)
