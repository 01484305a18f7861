"""commandjobs copy FROM TO"""

import asyncio
import json
import time
from typing import Annotated

import typer

from commandjobs.cli.options import Json, opened
from commandjobs.cli.progress import bar
from commandjobs.errors import InvalidOption
from commandjobs.moving.copying import Copied, Progress, copy
from commandjobs.storage import without_password

From = Annotated[str, typer.Argument(metavar="FROM", help="The database that the jobs are in, as a URL.")]
To = Annotated[str, typer.Argument(metavar="TO", help="Where to: a database without jobs, or this copy begun before.")]


def copy_jobs(source: From, target: To, as_json: Json = False) -> None:
    """Copy everything into another database: jobs, history, logs, counts. Run again after a kill, it goes on."""
    if source == target:
        raise InvalidOption(f"FROM and TO are both {without_password(source)}: name another database to copy to.")
    began = time.monotonic()
    with bar(f"Copying to {without_password(target)}", shown=not as_json) as progress:
        copied = asyncio.run(_copy(source, target, progress))
    seconds = time.monotonic() - began
    if as_json:
        done = {
            "from": without_password(source),
            "to": without_password(target),
            "jobs": copied.total,
            "copied": copied.jobs,
        }
        typer.echo(json.dumps({**done, "seconds": round(seconds, 3)}))
    else:
        before = copied.total - copied.jobs
        note = f" ({before:,} more were there from an earlier run)" if before > 0 else ""
        typer.echo(f"{copied.jobs:,} jobs copied to {without_password(target)} in {seconds:.1f} s{note}")


async def _copy(source: str, target: str, progress: Progress) -> Copied:
    async with opened(source, hint=None) as here, opened(target, made=True) as there:
        return await copy(here, there, of=without_password(source), to=without_password(target), progress=progress)
