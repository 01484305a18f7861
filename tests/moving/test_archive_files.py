"""Archive files: everything, or one month, out of one storage and into another."""

import gzip
import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from commandjobs.errors import InvalidOption, StorageUnavailable
from commandjobs.model.carried import Carried
from commandjobs.model.moment import to_moment
from commandjobs.model.state import JobState
from commandjobs.moving.exporting import export
from commandjobs.moving.importing import Imported, import_file
from commandjobs.moving.pieces import pieces
from commandjobs.storage.base import Storage
from tests.moving.test_copying import JOBS, Killed, fill, killed_at
from tests.storage.life import FATAL, finished, job, node, put, requeued, state

MAY = date(2026, 5, 1)
IN_MAY = to_moment(datetime(2026, 5, 17, tzinfo=UTC))


async def exported(source: Storage, path: Path, month: date | None = None) -> int:
    return await export(source, path, of="the old", month=month, progress=lambda *_: None)


async def imported(target: Storage, path: Path) -> Imported:
    return await import_file(target, path, to="the new", progress=lambda *_: None)


async def all_of(storage: Storage, month: date | None = None) -> list[Carried]:
    return [job async for piece in pieces(storage, month=month) for job in piece]


async def history(source: Storage) -> None:
    """Two finished jobs of May, and others."""
    await source.register(node())
    assert await source.try_execute()
    await finished(source)
    await finished(source, job(created=IN_MAY), FATAL)
    await put(source, job(created=IN_MAY))
    await finished(source, job(created=IN_MAY))


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
async def test_everything_goes_through_a_file(source: Storage, target: Storage, tmp_path: Path, name: str) -> None:
    await fill(source)

    assert await exported(source, tmp_path / name) == JOBS
    assert await imported(target, tmp_path / name) == Imported(JOBS, 0)

    assert await all_of(target) == await all_of(source)
    assert await target.tallies(since=0) == await source.tallies(since=0) != {}
    assert await target.try_execute()
    assert await put(target, job()) == JOBS + 1


async def test_a_file_is_a_job_a_line(source: Storage, tmp_path: Path) -> None:
    await fill(source)
    path = tmp_path / "all.jsonl.gz"
    await exported(source, path)

    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]

    kinds = [next(iter(line)) for line in lines]
    assert kinds == ["commandjobs", *["job"] * JOBS, "tally", "end"]
    assert (lines[0]["jobs"], lines[-1]["jobs"]) == (JOBS, JOBS)


async def test_only_its_owner_reads_a_file(source: Storage, tmp_path: Path) -> None:
    await exported(source, tmp_path / "all.jsonl")

    assert (tmp_path / "all.jsonl").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("number", [1, 2])
async def test_an_import_that_was_killed_goes_on(
    source: Storage, target: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, written: bool
) -> None:
    await fill(source)
    await exported(source, tmp_path / "all.jsonl")
    with monkeypatch.context() as patched:
        killed_at(target, patched, number, written=written)
        with pytest.raises(Killed):
            await imported(target, tmp_path / "all.jsonl")
    there = len(await all_of(target))
    if (number, written) != (2, True):
        with pytest.raises(StorageUnavailable, match="holds only a part of the archive file"):
            await target.try_execute()

    assert await imported(target, tmp_path / "all.jsonl") == Imported(JOBS - there, there)

    assert await all_of(target) == await all_of(source)
    assert await target.try_execute()


async def test_a_month_holds_its_finished_jobs(source: Storage, target: Storage, tmp_path: Path) -> None:
    await history(source)

    assert await exported(source, tmp_path / "may.jsonl", MAY) == 2
    assert await imported(target, tmp_path / "may.jsonl") == Imported(2, 0)

    assert await all_of(target) == await all_of(source, MAY)


async def test_a_dropped_month_comes_back(source: Storage, tmp_path: Path) -> None:
    await history(source)
    before = await all_of(source)
    await exported(source, tmp_path / "may.jsonl.gz", MAY)
    assert await source.drop_month(MAY) == 2

    assert await imported(source, tmp_path / "may.jsonl.gz") == Imported(2, 0)

    assert await all_of(source) == before
    assert await imported(source, tmp_path / "may.jsonl.gz") == Imported(0, 2)


async def test_a_job_that_was_requeued_since_is_left(source: Storage, tmp_path: Path) -> None:
    await history(source)
    await exported(source, tmp_path / "may.jsonl", MAY)
    await requeued(source, 2)

    assert await imported(source, tmp_path / "may.jsonl") == Imported(0, 2)

    assert await state(source, 2) is JobState.QUEUED


async def test_a_month_of_a_queue_with_another_life_is_refused(
    source: Storage, target: Storage, tmp_path: Path
) -> None:
    await history(source)
    await exported(source, tmp_path / "may.jsonl", MAY)
    for _ in range(3):
        await put(target, job())

    with pytest.raises(InvalidOption, match=r"Job 2 with the ref id .* is there already"):
        await imported(target, tmp_path / "may.jsonl")


async def test_everything_needs_an_empty_place(source: Storage, target: Storage, tmp_path: Path) -> None:
    await fill(source)
    await exported(source, tmp_path / "all.jsonl")
    await put(target, job())

    with pytest.raises(InvalidOption, match="the new is not empty"):
        await imported(target, tmp_path / "all.jsonl")


async def test_another_file_is_not_taken_for_the_one_that_was_begun(
    source: Storage, target: Storage, tmp_path: Path
) -> None:
    await fill(source)
    await exported(source, tmp_path / "one.jsonl")
    await exported(source, tmp_path / "two.jsonl")
    await imported(target, tmp_path / "one.jsonl")

    with pytest.raises(InvalidOption, match=r"the new holds a copy of the archive file .*, not of the archive file"):
        await imported(target, tmp_path / "two.jsonl")


async def test_a_file_that_is_there_is_not_written_over(source: Storage, tmp_path: Path) -> None:
    (tmp_path / "all.jsonl").write_text("mine")

    with pytest.raises(InvalidOption, match=r"all\.jsonl exists\. Name a new file, or delete that one first\."):
        await exported(source, tmp_path / "all.jsonl")

    assert (tmp_path / "all.jsonl").read_text() == "mine"


async def test_an_export_that_fails_leaves_nothing(
    source: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(source)
    carry = source.carry
    monkeypatch.setattr(source, "carry", lambda **wanted: carry(**wanted) if not wanted["after"] else fail())

    with pytest.raises(StorageUnavailable):
        await exported(source, tmp_path / "all.jsonl.gz")

    assert names_in(tmp_path) == ["source"]


async def fail() -> list[Carried]:
    raise StorageUnavailable("gone")


async def test_a_folder_that_is_not_there_is_one_sentence(source: Storage, tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match=r"nowhere/all\.jsonl cannot be written: No such file or directory\."):
        await exported(source, tmp_path / "nowhere" / "all.jsonl")


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
async def test_a_file_that_was_cut_off_is_noticed(source: Storage, target: Storage, tmp_path: Path, name: str) -> None:
    await fill(source)
    path = tmp_path / name
    await exported(source, path)
    path.write_bytes(path.read_bytes()[:-60])

    with pytest.raises(InvalidOption, match=r"cut off|cannot be read"):
        await imported(target, path)

    with pytest.raises(StorageUnavailable):
        await target.try_execute()


async def test_a_file_whose_end_is_missing_is_noticed(source: Storage, target: Storage, tmp_path: Path) -> None:
    await fill(source)
    path = tmp_path / "all.jsonl"
    await exported(source, path)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")

    with pytest.raises(InvalidOption, match=f"is cut off: it has {JOBS} jobs, and no proper last line"):
        await imported(target, path)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "its first line does not say so"),
        (b'{"end": true, "jobs": 0}\n', "its first line does not say so"),
        (b"hello\n", "Line 1 of .*file cannot be read: Expecting value"),
        (b"\x80\x81", "it holds something else than text"),
        (b'{"commandjobs": "archive", "version": 9}', "it is version 9"),
    ],
)
async def test_what_is_no_archive_file_is_refused(source: Storage, tmp_path: Path, content: bytes, wrong: str) -> None:
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(InvalidOption, match=wrong):
        await imported(source, tmp_path / "file")


async def test_a_missing_file_is_one_sentence(source: Storage, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"file cannot be read: No such file or directory\."):
        await imported(source, tmp_path / "file")


async def test_what_is_not_compressed_is_one_sentence(source: Storage, tmp_path: Path) -> None:
    (tmp_path / "file.gz").write_bytes(b"plain")

    with pytest.raises(InvalidOption, match="is damaged or cut off: Not a gzipped file"):
        await imported(source, tmp_path / "file.gz")


def names_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]
