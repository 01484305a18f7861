"""A copy of a whole storage in an empty one: all jobs under their ids, and what was counted.

**Whoever kills it may run it again.** Each piece is written with the note of how far the copy has come, in one
transaction; the next run goes on behind it. Nobody executes where the copy goes to before it is done, nor where it
comes from: if somebody has worked there in between, the next run goes over all jobs again, and replaces what has
changed.
"""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from secrets import token_hex

from commandjobs.errors import InvalidOption, StorageUnavailable
from commandjobs.moving.pieces import pieces, sweep
from commandjobs.storage.base import Contents, Copying, Storage


@dataclass(frozen=True, slots=True)
class Copied:
    """What a run of a copy has done."""

    jobs: int
    """Stored by this run..."""
    total: int
    """...out of so many in the source."""


Progress = Callable[[int, float], None]
"""Called with how many jobs this run has moved, and how far it has come, from 0 to 1."""


async def copy(source: Storage, target: Storage, *, of: str, to: str, progress: Progress) -> Copied:
    """Copy everything. of, to: what the two are called in errors, and in the note that is kept."""
    await target.hold_still()
    await source.hold_still()
    contents = await source.contents()
    copying = await _planned(source, target, contents, of=of, to=to)
    await sweep(source)
    await target.begin_copy(copying)
    stored = 0
    async with aclosing(pieces(source, after=copying.after)) as following:
        async for piece in following:
            last = piece[-1].row
            copying = replace(copying, after=last.id, ref_id=last.ref_id)
            stored += await target.take_in(piece, copying=copying)
            progress(stored, min(1.0, last.id / contents.last_id))
    if (await source.contents()).last_node != contents.last_node:
        raise StorageUnavailable(f"A process has begun to use {of} while it was copied. Stop it, and run this again.")
    done = replace(copying, done=True, target_node=(await target.contents()).last_node)
    await target.take_in([], copying=done, tallies=await source.tallies(since=0))
    return Copied(stored, contents.jobs)


async def _planned(source: Storage, target: Storage, contents: Contents, *, of: str, to: str) -> Copying:
    """A copy that begins, or how one goes on. Raises `InvalidOption` if the target is not for this copy."""
    begun, there = await target.copying(), await target.contents()
    new = Copying(
        source=of,
        run=token_hex(8),
        last_id=contents.last_id,
        source_node=contents.last_node,
        target_node=there.last_node,
    )
    if begun is None:
        refuse_filled(there, to=to)
        return new
    refuse_used(begun, there, to=to)
    if begun.after and not await _is_same(source, begun):
        raise InvalidOption(
            f"{to} holds a copy of {begun.source}, up to job {begun.after} ({begun.ref_id}), and {of} has no such job. "
            "Name the one it was copied from, or an empty storage to copy to."
        )
    if begun.source_node != contents.last_node:  # somebody may have changed jobs that were copied
        return new
    return replace(new, after=begun.after, ref_id=begun.ref_id)


def refuse_filled(there: Contents, *, to: str) -> None:
    """Raise `InvalidOption` unless a storage is empty."""
    if there.jobs:
        raise InvalidOption(
            f"{to} is not empty: {there.jobs:,} jobs are there, and ids are kept. Name another file, database or "
            "schema; it is made if it does not exist."
        )


def refuse_used(begun: Copying, there: Contents, *, to: str) -> None:
    """Raise `InvalidOption` if jobs may have run where a copy went to."""
    if begun.done and begun.target_node != there.last_node:
        raise InvalidOption(
            f"{to} holds a finished copy of {begun.source}, and has been used since. Going over it again could run "
            "jobs twice. Name an empty one to copy to."
        )


async def _is_same(source: Storage, begun: Copying) -> bool:
    found = await source.job(begun.after)
    return found is not None and found.summary.ref_id == begun.ref_id
