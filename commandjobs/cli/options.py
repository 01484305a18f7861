"""What the commands have in common: their options, and the storage they work on."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import unquote

import typer

from commandjobs.errors import InvalidOption
from commandjobs.storage import open_storage
from commandjobs.storage.base import Storage

DEFAULT_DB: Final = "sqlite:///jobs.db"

Database = Annotated[str, typer.Option("--db", metavar="URL", help="The database that the jobs are in.")]
Json = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]


@asynccontextmanager
async def opened(
    url: str, *, made: bool = False, hint: str | None = "Name another with --db."
) -> AsyncGenerator[Storage]:
    """The storage at that URL, open, and not executing.

    made: it may be new. hint: what to do if it is not there.
    """
    if not made:
        _check_exists(url, hint)
    if url == "memory://":
        raise InvalidOption(
            "memory:// is a queue within one process: there is nothing in it that could be reached here."
        )
    storage = open_storage(url)
    await storage.open(on_wake=_ignore)
    try:
        yield storage
    finally:
        await storage.close()


def _check_exists(url: str, hint: str | None) -> None:
    """Opening a SQLite queue makes it: right for an application, and for a mistyped option the wrong answer."""
    file = Path(unquote(url.removeprefix("sqlite:///")))
    if url.startswith("sqlite:///") and not file.is_file():
        sentences = [f"There is no queue at {url}: {file.absolute()} does not exist.", *([hint] if hint else [])]
        raise InvalidOption(" ".join(sentences))


def _ignore() -> None:
    """Nothing waits for jobs here."""
