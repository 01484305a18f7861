"""Waking the process that executes, from another one that has written something for it.

**The idea.** The executing process binds a datagram socket at an address that follows from the queue's path; the others
send an empty datagram there after their commit. It is a hint and carries nothing: whoever is woken looks into the
queue. It may get lost (nobody listens, the buffer is full, another user's temporary directory), so a slow poll stands
behind it, and nothing here ever raises for lack of a socket.

    jobs.db.wake                          the socket, beside the queue file
    <tmp>/commandjobs-<hash>.wake         the same where that path is too long for a socket's address
    jobs.db.wake, holding a port number   a UDP socket of 127.0.0.1, on systems without Unix sockets

inotify on the write-ahead log is no alternative: it reports the write before the commit can be seen, and not after.
"""

import contextlib
import hashlib
import os
import socket
import sys
import tempfile
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

_LONGEST_ADDRESS: Final = 100
"""Bytes, exclusive. Linux allows 108 for a Unix socket's path, macOS 104, both with a closing zero."""
_SILENCE: Final = 0.005
"""Seconds without ringing when nobody was there: to find that out takes 20 us, a tenth of a commit."""


class Wakeup:
    """The bell of one queue file: one process listens, any may ring."""

    def __init__(self, path: str) -> None:
        self._bell: _Bell = _open_bell(os.path.realpath(path))
        self._silent_until = 0.0

    def listen(self, loop: AbstractEventLoop, callback: Callable[[], None]) -> bool:
        """Call back on the loop's thread after one or more datagrams. Only for the process that executes: it takes the
        address over from whoever had it. False: there is no socket to be had here, and only polling wakes.
        """
        self._bell.mute()
        with contextlib.suppress(OSError):
            self._bell.listen(loop, callback)
            return True
        return False

    def mute(self) -> None:
        """Stop listening, on the loop's thread; `send` still works."""
        self._bell.mute()

    def send(self) -> None:
        """Wake the listener, if there is one. From any thread; never waits, never raises."""
        if time.monotonic() < self._silent_until:
            return
        try:
            self._bell.ring()
        except BlockingIOError:
            return  # full of rings that nobody has heard yet: it will look anyway
        except (OSError, ValueError):
            self._silent_until = time.monotonic() + _SILENCE

    def close(self) -> None:
        """Stop listening and sending, on the loop's thread; safe to call twice, and in a forked child."""
        self._bell.mute()
        self._bell.close()


class _Bell(Protocol):
    def listen(self, loop: AbstractEventLoop, callback: Callable[[], None]) -> None: ...
    def mute(self) -> None: ...
    def ring(self) -> None: ...
    def close(self) -> None: ...


def _open_bell(queue_path: str) -> _Bell:
    if sys.platform == "win32":
        return LoopbackBell(queue_path)
    else:
        return UnixBell(queue_path)


if sys.platform != "win32":

    class UnixBell:
        """A Unix datagram socket, read by the loop itself."""

        def __init__(self, queue_path: str) -> None:
            self._queue = Path(queue_path)
            self._address = _unix_address(queue_path)
            self._name = str(self._address)
            self._sender = _unix_socket()
            self._ear: _Ear | None = None

        def listen(self, loop: AbstractEventLoop, callback: Callable[[], None]) -> None:
            ear = _unix_socket()
            try:
                self._bind(ear)
                loop.add_reader(ear, _drain, ear, callback)
            except BaseException:
                ear.close()
                raise
            self._ear = _Ear(ear, loop, _identity(self._address), os.getpid())

        def _bind(self, ear: socket.socket) -> None:
            if self._address.is_socket():  # left by a process that is dead, or has handed over
                self._address.unlink(missing_ok=True)
            ear.bind(self._name)
            with contextlib.suppress(OSError):  # who may write the queue may ring
                self._address.chmod(self._queue.stat().st_mode & 0o666)

        def mute(self) -> None:
            ear, self._ear = self._ear, None
            if ear is None:
                return
            if ear.pid == os.getpid():  # a forked child shares the loop's selector and the address with its parent
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    ear.loop.remove_reader(ear.socket)
                if _identity(self._address) == ear.identity:  # not if somebody has taken over since
                    self._address.unlink(missing_ok=True)
            ear.socket.close()

        def ring(self) -> None:
            self._sender.sendto(b"", self._name)

        def close(self) -> None:
            self._sender.close()

    class _Ear(NamedTuple):
        socket: socket.socket
        loop: AbstractEventLoop
        identity: tuple[int, int] | None
        pid: int

    def _unix_address(queue_path: str) -> Path:
        beside = f"{queue_path}.wake"
        if len(os.fsencode(beside)) < _LONGEST_ADDRESS:
            return Path(beside)
        digest = hashlib.sha256(os.fsencode(queue_path)).hexdigest()[:16]
        return Path(tempfile.gettempdir(), f"commandjobs-{digest}.wake")

    def _unix_socket() -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.setblocking(False)
        return made

    def _identity(address: Path) -> tuple[int, int] | None:
        with contextlib.suppress(FileNotFoundError):
            status = address.stat()
            return status.st_dev, status.st_ino
        return None


def _drain(ear: socket.socket, callback: Callable[[], None]) -> None:
    """All that has arrived is one call. Bounded, so that nobody who sends without end holds the loop."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(1000):
            ear.recv(1)
    callback()


class LoopbackBell:
    """A UDP socket of 127.0.0.1, read by a thread: the loop of Windows cannot watch a socket that it did not make."""

    def __init__(self, queue_path: str) -> None:
        self._port_file = Path(f"{queue_path}.wake")
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._listener: _Listener | None = None

    def listen(self, loop: AbstractEventLoop, callback: Callable[[], None]) -> None:
        listener = _Listener(loop, callback)
        try:
            new = self._port_file.with_suffix(f".wake-{os.getpid()}")
            new.write_text(str(listener.port), encoding="ascii")
            new.replace(self._port_file)  # whole or not at all: a sender may be reading it
        except BaseException:
            listener.stop()
            raise
        self._listener = listener

    def mute(self) -> None:
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with contextlib.suppress(OSError, ValueError):
            if self._port() == listener.port:
                self._port_file.unlink()
        listener.stop()

    def ring(self) -> None:
        self._sender.sendto(b"", ("127.0.0.1", self._port()))

    def _port(self) -> int:
        return int(self._port_file.read_text(encoding="ascii"))

    def close(self) -> None:
        self._sender.close()


class _Listener:
    """A thread that waits for datagrams and calls the loop."""

    def __init__(self, loop: AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._called = False
        self._stopped = False
        self._ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._ear.bind(("127.0.0.1", 0))
        self.port: int = self._ear.getsockname()[1]
        self._thread = threading.Thread(target=self._listen, name="commandjobs wakeup", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._ear.sendto(b"", ("127.0.0.1", self.port))  # closing it does not end a `recv` on every system
        self._thread.join(timeout=1)
        self._ear.close()

    def _listen(self) -> None:
        with contextlib.suppress(RuntimeError, OSError):  # the loop or the socket is closed
            while not self._stopped:
                self._ear.recv(1)
                if not self._called and not self._stopped:
                    self._called = True  # what arrives until the loop gets to it is part of the same call
                    self._loop.call_soon_threadsafe(self._call)

    def _call(self) -> None:
        self._called = False
        if not self._stopped:
            self._callback()
