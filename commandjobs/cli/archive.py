"""commandjobs archive export FILE, commandjobs archive import FILE"""

import asyncio
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from commandjobs.cli.options import DEFAULT_DB, Database, Json, opened
from commandjobs.cli.progress import bar
from commandjobs.errors import InvalidOption
from commandjobs.moving.copying import Progress
from commandjobs.moving.exporting import export
from commandjobs.moving.importing import Imported, import_file
from commandjobs.storage import without_password

archive = typer.Typer(help="Write jobs into a file, and bring them back.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines, compressed if the name ends in .gz.")]
Month = Annotated[
    str | None, typer.Option("--month", metavar="YYYY-MM", help="Only the finished jobs created in this month (UTC).")
]


@archive.command("export")
def export_jobs(file: File, db: Database = DEFAULT_DB, month: Month = None, as_json: Json = False) -> None:
    """Write everything into a file, or the finished jobs of one month."""
    wanted = None if month is None else _month(month)
    with bar(f"Writing {file}", shown=not as_json) as progress:
        jobs = asyncio.run(_export(db, file, wanted, progress))
    if as_json:
        typer.echo(json.dumps({"file": str(file), "month": month, "jobs": jobs, "bytes": file.stat().st_size}))
    else:
        typer.echo(f"{jobs:,} jobs written to {file}")


@archive.command("import")
def import_jobs(file: File, db: Database = DEFAULT_DB, as_json: Json = False) -> None:
    """Bring a file's jobs in. Run again after a kill, it goes on."""
    with bar(f"Reading {file}", shown=not as_json) as progress:
        imported = asyncio.run(_import(db, file, progress))
    if as_json:
        typer.echo(json.dumps({"file": str(file), "jobs": imported.jobs, "known": imported.known}))
    else:
        note = f", {imported.known:,} were there" if imported.known else ""
        typer.echo(f"{imported.jobs:,} jobs brought to {without_password(db)}{note}")


async def _export(db: str, file: Path, month: date | None, progress: Progress) -> int:
    async with opened(db) as storage:
        return await export(storage, file, of=without_password(db), month=month, progress=progress)


async def _import(db: str, file: Path, progress: Progress) -> Imported:
    async with opened(db, made=True) as storage:
        return await import_file(storage, file, to=without_password(db), progress=progress)


def _month(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError as error:
        raise InvalidOption(f"--month must be a month such as 2026-01, got {text!r}.") from error
