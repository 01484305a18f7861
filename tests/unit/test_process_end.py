"""Hearing of another process's end."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest

from commandjobs.storage.sqlite import process_end
from commandjobs.storage.sqlite.process_end import ProcessEnd

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of another process's end")


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.fixture
async def end() -> ProcessEnd:
    return ProcessEnd()


async def test_process_that_is_killed_is_heard_of(end: ProcessEnd, other: subprocess.Popen[bytes]) -> None:
    ended = asyncio.Event()
    end.watch(other.pid, ended.set)
    await asyncio.sleep(0)
    assert not ended.is_set()

    other.kill()

    async with asyncio.timeout(10):
        await ended.wait()


async def test_process_that_is_gone_already_is_left_to_whoever_polls(
    end: ProcessEnd, other: subprocess.Popen[bytes]
) -> None:
    other.kill()
    other.wait()
    ended = asyncio.Event()

    end.watch(other.pid, ended.set)
    await asyncio.sleep(0)

    assert not ended.is_set()


async def test_process_that_is_no_longer_watched_is_not_heard_of(
    end: ProcessEnd, other: subprocess.Popen[bytes]
) -> None:
    first, second, witness = asyncio.Event(), asyncio.Event(), ProcessEnd()
    end.watch(other.pid, first.set)
    end.watch(None, first.set)
    witness.watch(other.pid, second.set)

    other.kill()

    async with asyncio.timeout(10):
        await second.wait()
    assert not first.is_set()


async def test_nothing_happens_where_the_system_cannot_tell(
    end: ProcessEnd, other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_: int) -> int:
        raise NotImplementedError

    monkeypatch.setattr(process_end, "_pidfd_open", unknown)
    end.watch(other.pid, lambda: pytest.fail("nobody can know"))
    end.close()


async def test_process_that_is_watched_already_goes_on_being_watched(
    end: ProcessEnd, other: subprocess.Popen[bytes]
) -> None:
    ended = asyncio.Event()
    end.watch(other.pid, ended.set)
    end.watch(other.pid, ended.set)

    other.kill()

    async with asyncio.timeout(10):
        await ended.wait()
