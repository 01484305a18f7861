"""A power cut at any moment: what a client was told before it is true after it. See `power` for how that is done.

`POWER_IMAGES` and `POWER_SEED` in the environment make more images, or the same choices again.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from commandjobs.storage.sqlite.connection import open_for_writing
from tests.faults.disk import SECTOR, Disk
from tests.faults.power import RELAXED, cut_power, record, report
from tests.faults.promises import Ended, Requeued
from tests.faults.recording import Created, Deleted, Event, Synced, Told, Truncated, Written, recording, why_not

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=why_not() or ""),
    pytest.mark.timeout(600),
]

IMAGES = int(os.environ.get("POWER_IMAGES", "150"))
FEW = 15


@pytest.fixture
def seed() -> str:
    seed = os.environ.get("POWER_SEED") or str(Random().randrange(10**6))
    print(f"POWER_SEED={seed}")
    return seed


@pytest.fixture
def seeds(seed: str) -> list[str]:
    return [f"{seed}/{number}" for number in range(IMAGES)]


def test_f19_a_power_cut_takes_nothing_that_was_acknowledged(seeds: list[str]) -> None:
    tape = record()

    losses = cut_power(tape, seeds)

    assert not losses, report(tape, losses)


def test_f27_the_tape_is_of_two_months_and_every_kind_of_promise(tmp_path: Path) -> None:
    tape = record()

    promised = [event.fact for event in tape if isinstance(event, Told)]
    assert {event.file for event in tape if isinstance(event, Synced)} >= {"jobs_2026-11.db", "jobs_2026-12.db"}
    assert {fact.state for fact in promised if isinstance(fact, Ended)} == {"Completed", "Failed", "Cancelled"}
    assert any(isinstance(fact, Requeued) for fact in promised)


def test_f19_with_relaxed_durability_a_power_cut_takes_no_job_that_was_said_to_have_ended(seeds: list[str]) -> None:
    tape = record(durability="relaxed")

    losses = cut_power(tape, seeds[: IMAGES // 4], kinds=RELAXED)

    assert not losses, report(tape, losses)


# ── the model can fail ──────────────────────────────────────────────────────────────────────────────────────────────


def open_unflushed(path: Path, *, autocheckpoint: int, **_: Any) -> sqlite3.Connection:
    return open_for_writing(path, synchronous="NORMAL", autocheckpoint=autocheckpoint)


def test_month_files_that_are_not_flushed_lose_jobs(seeds: list[str]) -> None:
    tape = record(open_month=open_unflushed)

    losses = cut_power(tape, seeds[:FEW])

    assert any("was told, and there is None" in sentence for loss in losses for sentence in loss.wrong)


def test_a_queue_file_that_is_not_flushed_loses_enqueues(seeds: list[str]) -> None:
    tape = record(durability="relaxed")

    losses = cut_power(tape, seeds[:FEW])

    assert any("is gone" in sentence for loss in losses for sentence in loss.wrong)


# ── the tape and the drive ──────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_recorded_is_what_is_in_the_file(tmp_path: Path) -> None:
    with recording(tmp_path) as tape, closing(sqlite3.connect(tmp_path / "file.db")) as file:
        file.execute("pragma journal_mode = wal")
        file.execute("create table t (x)")
        file.execute("insert into t values (zeroblob(20000))")
        file.commit()
    disk = Disk()
    disk.play(tape.events)

    assert disk.left(Random(1))["file.db"] == (tmp_path / "file.db").read_bytes()


def test_files_of_other_folders_are_not_recorded(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()

    with recording(tmp_path / "here") as tape, closing(sqlite3.connect(tmp_path / "file.db")) as file:
        file.execute("create table t (x)")

    assert tape.events == []


NEW, OLD = b"n" * SECTOR, b"o" * SECTOR


def left(*events: Event) -> set[bytes | None]:
    """What the file can be after a power cut."""
    disk = Disk()
    disk.play([Created("file"), *events])
    return {disk.left(Random(seed)).get("file") for seed in range(100)}


def test_what_was_synced_is_safe() -> None:
    assert left(Written("file", 0, OLD + NEW), Synced("file")) == {OLD + NEW}


def test_each_sector_that_was_not_synced_is_kept_or_lost_by_itself() -> None:
    synced = Written("file", 0, OLD + OLD), Synced("file")

    assert left(*synced, Written("file", 0, NEW + NEW)) == {OLD + OLD, NEW + OLD, OLD + NEW, NEW + NEW}


def test_a_sector_is_found_as_any_of_its_writes_has_left_it() -> None:
    synced = Written("file", 0, OLD), Synced("file")

    found = left(*synced, Written("file", 0, b"1"), Written("file", 1, b"2"))

    assert found == {OLD, b"1" + OLD[1:], b"12" + OLD[2:]}


def test_a_new_file_may_be_missing_until_its_first_sync() -> None:
    assert left(Written("file", 0, NEW)) == {None, bytes(SECTOR), NEW}


def test_a_truncated_file_may_have_its_old_length_until_it_is_synced() -> None:
    synced = Written("file", 0, OLD + OLD), Synced("file")

    assert left(*synced, Truncated("file", SECTOR)) == {OLD, OLD + OLD}


@pytest.mark.parametrize(("durably", "found"), [(True, {None}), (False, {None, OLD})])
def test_a_deleted_file_may_be_back_unless_its_folder_was_synced(durably: bool, found: set[bytes | None]) -> None:
    assert left(Written("file", 0, OLD), Synced("file"), Deleted("file", durably)) == found
