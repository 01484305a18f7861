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
async def opened(url: str) -> AsyncGenerator[Storage]:
    """The storage at that URL, open, and not executing."""
    _check_exists(url)
    storage = open_storage(url)
    await storage.open(on_wake=_ignore)
    try:
        yield storage
    finally:
        await storage.close()


def _check_exists(url: str) -> None:
    """Opening a SQLite queue makes it: right for an application, and for a mistyped option the wrong answer."""
    file = Path(unquote(url.removeprefix("sqlite:///")))
    if url.startswith("sqlite:///") and not file.is_file():
        raise InvalidOption(f"There is no queue at {url}: {file.absolute()} does not exist. Name another with --db.")


def _ignore() -> None:
    """Nothing waits for jobs here."""
