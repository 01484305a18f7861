"""An archive file, brought into a storage.

A file of one month adds finished jobs to whatever is there; those that are known are left as they are, so it may be
brought twice. A file of everything needs an empty storage, as a copy does (`copying`), and goes on where a run was
killed.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex
from typing import TextIO

from commandjobs.errors import InvalidOption
from commandjobs.model.archive_line import End, Header, Line, parse
from commandjobs.model.carried import Carried
from commandjobs.model.stats import Tallies
from commandjobs.moving.archive_file import reading
from commandjobs.moving.copying import Progress, refuse_filled, refuse_used
from commandjobs.moving.pieces import MOST, MOST_BYTES
from commandjobs.storage.base import Copying, Storage


@dataclass(frozen=True, slots=True)
class Imported:
    """What a run of an import has done."""

    jobs: int
    """Stored by this run..."""
    known: int
    """...and there already."""


class Lines:
    """The lines of a file after its first: jobs, and when there are none any more, what else was in it."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self.seen = 0
        """Jobs that were read."""
        self.tallies: Tallies = {}
        self._end: End | None = None
        self._path = path
        self._lines = _parsed(file, path)
        first = next(self._lines, None)
        if not isinstance(first, Header):
            raise InvalidOption(f"{path} is no archive file: its first line does not say so.")
        self.header = first

    @property
    def share(self) -> float:
        """How far it was read, about."""
        return min(1.0, self.seen / max(1, self.header.jobs))

    async def jobs(self) -> list[Carried]:
        """The next jobs; empty: there are no more, and nothing is missing."""
        piece = await asyncio.to_thread(self._piece)
        self.seen += len(piece)
        if not piece and (self._end is None or self._end.jobs != self.seen):
            raise InvalidOption(f"{self._path} is cut off: it has {self.seen:,} jobs, and no proper last line.")
        return piece

    def _piece(self) -> list[Carried]:
        jobs: list[Carried] = []
        size = 0
        for line in self._lines:
            match line:
                case Carried():
                    jobs.append(line)
                    size += line.size
                    if len(jobs) >= MOST or size >= MOST_BYTES:
                        break
                case (key, tally):
                    self.tallies[key] = tally
                case End():
                    self._end = line
                case Header():
                    raise InvalidOption(f"{self._path} has a second first line: two files lie in one.")
        return jobs


async def import_file(target: Storage, path: Path, *, to: str, progress: Progress) -> Imported:
    """Bring a file in. to: what the target is called in errors."""
    with reading(path) as file:
        lines = Lines(file, path)
        if lines.header.month is None:
            return await _bring_all(target, lines, to=to, progress=progress)
        if target.capabilities.single_executor:
            await target.hold_still()
        return await _add(target, lines, path, progress)


async def _add(target: Storage, lines: Lines, path: Path, progress: Progress) -> Imported:
    """Add finished jobs to what is there."""
    stored = 0
    while jobs := await lines.jobs():
        for job in jobs:
            if not job.is_over:
                raise InvalidOption(f"Job {job.row.id} in {path} has not ended, and this is a file of finished jobs.")
        stored += await target.take_in(jobs)
        progress(stored, lines.share)
    return Imported(stored, lines.seen - stored)


async def _bring_all(target: Storage, lines: Lines, *, to: str, progress: Progress) -> Imported:
    """Bring everything into an empty storage."""
    await target.hold_still()
    copying = await _planned(target, lines.header, to=to)
    await target.begin_copy(copying)
    stored = 0
    while jobs := await lines.jobs():
        new = [job for job in jobs if job.row.id > copying.after]
        if new:
            copying = replace(copying, after=new[-1].row.id, ref_id=new[-1].row.ref_id)
            stored += await target.take_in(new, copying=copying)
        progress(stored, lines.share)
    done = replace(copying, done=True, target_node=(await target.contents()).last_node)
    await target.take_in([], copying=done, tallies=lines.tallies)
    return Imported(stored, lines.seen - stored)


async def _planned(target: Storage, header: Header, *, to: str) -> Copying:
    begun, there = await target.copying(), await target.contents()
    new = Copying(
        source=f"the archive file {header.id}",
        run=token_hex(8),
        last_id=header.last_id,
        source_node=0,
        target_node=there.last_node,
    )
    if begun is None:
        refuse_filled(there, to=to)
        return new
    refuse_used(begun, there, to=to)
    if begun.source != new.source:
        raise InvalidOption(f"{to} holds a copy of {begun.source}, not of {new.source}. Name an empty one.")
    return replace(new, after=begun.after, ref_id=begun.ref_id)


def _parsed(file: TextIO, path: Path) -> Iterator[Line]:
    for number, text in enumerate(file, start=1):
        try:
            yield parse(text)
        except ValueError as error:
            raise InvalidOption(f"Line {number} of {path} cannot be read: {error}.") from error
