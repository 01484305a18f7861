"""A TCP proxy before a server, with faults that a test switches on and off while connections are open."""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

from tests.servers.ports import free_port

CHUNK = 1 << 20
RETRANSMISSION = 0.4
"""Seconds that a lost packet comes later, about: TCP makes of loss a delay."""


class Proxy:
    """It runs in a thread of its own, so a test may block while it works."""

    def __init__(self, server_url: str) -> None:
        self._server = urlsplit(server_url)
        self.target = (self._server.hostname or "127.0.0.1", self._server.port or 5432)
        """Where new connections lead. May be changed: that is what a fail-over looks like to a client."""
        self.port = free_port()
        self._links = set[Link]()
        self._orphans = list[asyncio.StreamWriter]()
        self._listener: asyncio.Server | None = None
        self._hole: list[socket.socket] = []
        self._flows = asyncio.Event()
        self._flows.set()
        self._is_mute = False
        self._latency = self._loss = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._do(self._listen)

    @property
    def url(self) -> str:
        """That of the server, with the proxy's address."""
        account = self._server.netloc.rpartition("@")[0]
        return self._server._replace(netloc=f"{account}@127.0.0.1:{self.port}").geturl()

    @property
    def connections(self) -> int:
        """How many lead through it now."""
        return len(self._links)

    # ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def heal(self) -> None:
        """Forward as if nothing had been; what was stalled goes on."""
        self._do(self._heal)

    def slow(self, latency: float, loss: float = 0.0) -> None:
        """Every piece takes `latency` seconds longer; that share of them is lost at first and comes later."""
        self._latency, self._loss = latency, loss

    def cut(self) -> None:
        """Reset all connections; new ones are taken."""
        self._do(self._cut)

    def stall(self) -> None:
        """Take connections, and forward nothing until healed."""
        self._do(self._stall)

    def mute(self) -> None:
        """Forward to the server what clients say, and drop what it answers."""
        self._is_mute = True

    def abandon(self, *ports: int) -> None:
        """Leave connections half open: the server's end is gone, and clients are not told. New ones are taken.

        ports: those by which the server knows them; none: all.
        """
        self._do(lambda: self._abandon(ports))

    def refuse(self) -> None:
        """Reset all connections, and take none."""
        self._do(self._refuse)

    def swallow(self) -> None:
        """A black hole: nothing is forwarded, and nobody answers those who want to connect."""
        self._do(self._swallow)

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut everything, and end."""
        self._do(self._refuse)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, step: Callable[[], Awaitable[None]]) -> None:
        async def done() -> None:
            await step()

        asyncio.run_coroutine_threadsafe(done(), self._loop).result(20)

    # ── on the proxy's loop ─────────────────────────────────────────────────────────────────────────────────────────

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=CHUNK)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Link(self, reader, writer).live()

    async def _heal(self) -> None:
        self._latency = self._loss = 0.0
        self._is_mute = False
        self._close_hole()
        await self._listen()
        self._flows.set()

    async def _cut(self) -> None:
        for writer in self._orphans:
            reset(writer)
        self._orphans.clear()
        for link in self._links:
            link.cut()
        while self._links:  # noqa: ASYNC110  each takes its leave
            await asyncio.sleep(0)

    async def _stall(self) -> None:
        self._flows.clear()

    async def _abandon(self, ports: tuple[int, ...]) -> None:
        for link in [link for link in self._links if not ports or link.port in ports]:
            self._orphans.append(link.abandon())

    async def _refuse(self) -> None:
        self._close_listener()
        self._close_hole()
        await self._cut()

    async def _swallow(self) -> None:
        """Of a socket that takes no more than one connection and does not look at it, Linux ignores the second."""
        self._flows.clear()
        self._close_listener()
        hole = socket.socket()
        self._hole.append(hole)
        hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        hole.bind(("127.0.0.1", self.port))
        hole.listen(0)
        for _ in range(2):
            filling = socket.socket()
            self._hole.append(filling)
            filling.setblocking(False)
            with suppress(BlockingIOError):
                filling.connect(("127.0.0.1", self.port))

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _close_hole(self) -> None:
        for one in self._hole:
            one.close()
        self._hole.clear()

    async def passage(self, *, to_client: bool) -> bool:
        """Wait until a piece may go on; whether it may."""
        if self._latency:
            lost = RETRANSMISSION if random.random() < self._loss else 0.0
            await asyncio.sleep(self._latency + lost)
        await self._flows.wait()
        return not (to_client and self._is_mute)

    def welcome(self, link: "Link") -> None:
        self._links.add(link)

    def dismiss(self, link: "Link") -> None:
        self._links.discard(link)


class Link:
    """A connection of a client, and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = (reader, writer)
        self._writers = [writer]
        self._task = asyncio.current_task()
        self._is_abandoned = False

    @property
    def port(self) -> int | None:
        """By which the server knows it."""
        return self._writers[1].get_extra_info("sockname")[1] if len(self._writers) > 1 else None

    async def live(self) -> None:
        """Forward until either end has gone; then cut off the other."""
        self._proxy.welcome(self)
        try:
            await self._proxy.passage(to_client=False)
            reader, writer = await asyncio.open_connection(*self._proxy.target, limit=CHUNK)
            self._writers.append(writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward(self._client[0], writer, to_client=False))
                both.create_task(self._forward(reader, self._client[1], to_client=True))
        except* (OSError, asyncio.CancelledError):
            pass  # an end that has gone, or a fault of ours
        finally:
            self._proxy.dismiss(self)
            for writer in self._writers[1:] if self._is_abandoned else self._writers:
                writer.close()

    def cut(self) -> None:
        """Reset both ends."""
        for writer in self._writers:
            reset(writer)
        self._end()

    def abandon(self) -> asyncio.StreamWriter:
        """Forward nothing more; give away the client's end, for it to stay open."""
        self._is_abandoned = True
        self._end()
        return self._client[1]

    def _end(self) -> None:
        assert self._task is not None
        self._task.cancel()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_client: bool) -> None:
        while piece := await reader.read(CHUNK):
            if await self._proxy.passage(to_client=to_client):
                writer.write(piece)
                await writer.drain()
        raise ConnectionResetError  # neither protocol has half-closed connections


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection so that the other side sees a reset and not an end."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
