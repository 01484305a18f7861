"""An archive file of what a storage holds: everything, while nobody executes, or the finished jobs of one month, beside
the work.
"""

import asyncio
import time
from contextlib import aclosing
from datetime import date
from pathlib import Path
from secrets import token_hex
from typing import TextIO

from commandjobs.errors import StorageUnavailable
from commandjobs.model.archive_line import End, Header, end_line, header_line, job_line, tally_line
from commandjobs.model.carried import Carried
from commandjobs.moving.archive_file import writing
from commandjobs.moving.copying import Progress
from commandjobs.moving.pieces import pieces, sweep
from commandjobs.storage.base import Contents, Storage


async def export(source: Storage, path: Path, *, of: str, month: date | None, progress: Progress) -> int:
    """Write the file; how many jobs are in it. of: what the source is called in errors."""
    with writing(path) as file:
        if month is None:
            await source.hold_still()
            await sweep(source)
        contents = await source.contents(month=month)
        file.write(header_line(_header(contents, month)))
        jobs = await _write_jobs(source, file, contents.jobs, month, progress)
        if month is None:
            if (await source.contents()).last_node != contents.last_node:
                raise StorageUnavailable(f"A process has begun to use {of} meanwhile. Stop it, and run this again.")
            file.writelines(tally_line(key, tally) for key, tally in (await source.tallies(since=0)).items())
        file.write(end_line(End(jobs)))
    return jobs


def _header(contents: Contents, month: date | None) -> Header:
    return Header(
        id=token_hex(16), exported=time.time_ns() // 1000, month=month, last_id=contents.last_id, jobs=contents.jobs
    )


async def _write_jobs(source: Storage, file: TextIO, expected: int, month: date | None, progress: Progress) -> int:
    jobs = 0
    async with aclosing(pieces(source, month=month)) as following:
        async for piece in following:
            await asyncio.to_thread(_write, file, piece)
            jobs += len(piece)
            progress(jobs, min(1.0, jobs / max(1, expected)))
    return jobs


def _write(file: TextIO, piece: list[Carried]) -> None:
    file.writelines(job_line(job) for job in piece)
