"""One process rings, the other is woken: on both kinds of sockets, and on both event loops."""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from commandjobs.storage.sqlite import wakeup
from commandjobs.storage.sqlite.wakeup import LoopbackBell, Wakeup
from tests.conftest import until

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has only one of the two kinds")

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop]
if sys.platform != "win32":
    import uvloop

    LOOPS.append(uvloop.new_event_loop)

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=LOOPS, ids=lambda factory: factory.__module__.partition(".")[0])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@pytest.fixture(params=["unix", "loopback"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "loopback":
        monkeypatch.setattr(wakeup, "_open_bell", LoopbackBell)
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "jobs.db")


class Listener:
    """A wakeup that listens, and what it has heard."""

    def __init__(self, path: str) -> None:
        self.wakeup = Wakeup(path)
        self.calls = 0
        self.called = asyncio.Event()
        self.listens = self.wakeup.listen(asyncio.get_running_loop(), self._call)

    def _call(self) -> None:
        self.calls += 1
        self.called.set()

    async def hear(self) -> None:
        await asyncio.wait_for(self.called.wait(), timeout=10)
        self.called.clear()


@pytest.mark.usefixtures("kind")
def test_datagram_wakes(run: Run, path: str) -> None:
    async def main() -> None:
        listener, sender = Listener(path), Wakeup(path)

        for _ in range(3):
            sender.send()
            await listener.hear()

        assert listener.calls == 3
        listener.wakeup.close()
        sender.close()

    run(main())


@pytest.mark.usefixtures("kind")
def test_many_datagrams_are_few_calls(run: Run, path: str) -> None:
    async def main() -> None:
        listener, sender = Listener(path), Wakeup(path)

        for _ in range(10_000):  # more than a socket holds: what does not fit is dropped, and does not block
            sender.send()
        await listener.hear()

        assert listener.calls <= 2
        listener.wakeup.close()
        sender.close()

    run(main())


@pytest.mark.usefixtures("kind")
def test_who_has_rung_too_often_rings_again_as_soon_as_there_is_room(run: Run, path: str) -> None:
    async def main() -> None:
        listener, sender = Listener(path), Wakeup(path)
        for _ in range(1_000):
            sender.send()
        await listener.hear()
        await asyncio.sleep(0)
        calls = listener.calls

        sender.send()
        await until(lambda: listener.calls > calls)
        listener.wakeup.close()
        sender.close()

    run(main())


@pytest.mark.usefixtures("kind")
def test_sending_to_nobody_is_fine(path: str) -> None:
    sender = Wakeup(path)

    sender.send()
    sender.close()
    sender.close()
    sender.send()


@pytest.mark.usefixtures("kind")
def test_next_process_takes_the_address_over(run: Run, path: str) -> None:
    async def main() -> None:
        first, second, sender = Listener(path), Listener(path), Wakeup(path)
        assert second.listens

        first.wakeup.close()  # leaves what is no longer its own
        sender.send()
        await second.hear()

        assert first.calls == 0
        second.wakeup.close()
        sender.close()

    run(main())


@pytest.mark.usefixtures("kind")
def test_address_of_a_killed_process_is_replaced(run: Run, path: str) -> None:
    program = """if True:
        import asyncio, os, sys
        from commandjobs.storage.sqlite.wakeup import Wakeup
        wakeup = Wakeup(sys.argv[1])
        assert wakeup.listen(asyncio.new_event_loop(), print)
        os._exit(9)
    """
    subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, check=False, timeout=100)

    async def main() -> None:
        sender = Wakeup(path)
        sender.send()  # nobody is there, so it is silent for a moment
        listener = Listener(path)
        async with asyncio.timeout(30):
            while not listener.calls:
                sender.send()
                await asyncio.sleep(0.001)
        listener.wakeup.close()
        sender.close()

    run(main())


@pytest.mark.usefixtures("kind")
def test_close_leaves_nothing_behind(run: Run, tmp_path: Path, path: str) -> None:
    async def main() -> None:
        listener = Listener(path)
        assert (tmp_path / "jobs.db.wake").exists()

        listener.wakeup.close()
        listener.wakeup.close()

    run(main())

    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("kind")
def test_muted_listener_hears_no_more_and_still_sends(run: Run, path: str) -> None:
    async def main() -> None:
        first, second = Listener(path), Wakeup(path)
        first.wakeup.mute()

        second.send()
        other = Listener(path)
        first.wakeup.send()
        await other.hear()

        assert first.calls == 0
        for each in (first.wakeup, second, other.wakeup):
            each.close()

    run(main())


@pytest.mark.usefixtures("kind")
def test_close_after_the_loop(path: str) -> None:
    loop = asyncio.new_event_loop()
    listening = Wakeup(path)
    listening.listen(loop, lambda: None)
    loop.close()

    listening.close()

    assert not Path(f"{path}.wake").exists()


def test_another_process_wakes(run: Run, path: str) -> None:
    program = "import sys; from commandjobs.storage.sqlite.wakeup import Wakeup; Wakeup(sys.argv[1]).send()"

    async def main() -> None:
        listener = Listener(path)
        process = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program, path], cwd=ROOT, check=False, timeout=100
        )
        assert process.returncode == 0
        await listener.hear()
        listener.wakeup.close()

    run(main())


def test_fork_leaves_its_parents_socket_alone(run: Run, path: str) -> None:
    program = """if True:
        import asyncio, os, sys
        from commandjobs.storage.sqlite.wakeup import Wakeup

        async def main():
            called = asyncio.Event()
            wakeup = Wakeup(sys.argv[1])
            wakeup.listen(asyncio.get_running_loop(), called.set)
            if os.fork() == 0:
                wakeup.close()
                os._exit(0)
            os.wait()
            Wakeup(sys.argv[1]).send()
            await asyncio.wait_for(called.wait(), 10)

        asyncio.run(main())
    """

    done = subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, check=False, timeout=100)

    assert done.returncode == 0


def test_address_that_is_too_long_moves_to_the_temporary_directory(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # pytest's own is long itself
        monkeypatch.setattr(tempfile, "tempdir", short)
        deep = tmp_path / ("d" * 100)
        deep.mkdir()
        found: list[str] = []

        async def main() -> None:
            listener, sender = Listener(str(deep / "jobs.db")), Wakeup(str(deep / "jobs.db"))
            sender.send()
            await listener.hear()
            found.extend(names(Path(short)))
            listener.wakeup.close()
            sender.close()

        run(main())

    assert [name.partition("-")[0] for name in found] == ["commandjobs"]


def test_who_may_write_the_queue_may_ring(run: Run, path: str) -> None:
    Path(path).touch()
    Path(path).chmod(0o660)
    rights: list[int] = []

    async def main() -> None:
        listener = Listener(path)
        rights.append(mode(f"{path}.wake"))
        listener.wakeup.close()

    run(main())

    assert rights == [0o660]


def test_without_a_socket_only_polling_wakes(run: Run, path: str) -> None:
    Path(f"{path}.wake").write_text("somebody's file", encoding="utf-8")

    async def main() -> None:
        listener = Listener(path)
        assert not listener.listens
        listener.wakeup.send()
        listener.wakeup.close()

    run(main())

    assert Path(f"{path}.wake").read_text(encoding="utf-8") == "somebody's file"


def names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


def mode(path: str) -> int:
    return Path(path).stat().st_mode & 0o777
