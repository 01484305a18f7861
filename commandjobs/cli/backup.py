"""commandjobs backup DIR"""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from commandjobs.cli.options import DEFAULT_DB, Database, Json, opened


def backup(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to: a new or empty directory.")],
    db: Database = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Copy the jobs into a directory, beside the work."""
    with _progress(directory, shown=not as_json):
        files = asyncio.run(_backup(db, directory))
    sizes = {file: _size(Path(file)) for file in files}
    if as_json:
        written = [{"path": file, "bytes": size} for file, size in sizes.items()]
        typer.echo(json.dumps({"directory": str(directory), "files": written}))
    else:
        for file, size in sizes.items():
            typer.echo(f"{file}  {decimal(size)}")


async def _backup(db: str, directory: Path) -> list[str]:
    async with opened(db) as storage:
        return await storage.backup(str(directory))


def _progress(directory: Path, *, shown: bool) -> Progress:
    """On the error stream, so that the output can be piped on; nothing where nobody watches."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), _Written(directory), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal))
    progress.add_task(f"Copying to {directory}", total=None)
    return progress


class _Written(ProgressColumn):
    """What lies in the directory by now. How much it will be is only known to the storage."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    def render(self, task: Task) -> Text:
        files = list(self._directory.iterdir()) if self._directory.is_dir() else []
        return Text(decimal(sum(map(_size, files))))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # it has just got its name, or was cleared away
        return 0
