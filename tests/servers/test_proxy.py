"""The proxy's faults, as a client and a server see them."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.servers.proxy import Proxy


class Echo(socketserver.BaseRequestHandler):
    """Answers each piece with itself, and says when its client has gone."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, EchoServer)
        server.ports.append(self.client_address[1])
        while piece := self.request.recv(1024):
            server.heard.append(piece)
            self.request.sendall(piece)
        server.gone.set()


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.heard = list[bytes]()
        self.ports = list[int]()
        self.gone = threading.Event()

    @property
    def url(self) -> str:
        return f"echo://somebody@127.0.0.1:{self.server_address[1]}/test"


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(server: EchoServer) -> Iterator[Proxy]:
    with Proxy(server.url) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connect(proxy) as client:
        assert ask(client, b"are you there?") == b"are you there?"
        yield client


def connect(proxy: Proxy, within: float = 30.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=within)


def ask(client: socket.socket, question: bytes) -> bytes:
    client.sendall(question)
    return client.recv(1024)


def is_silent(client: socket.socket) -> bool:
    """Whether nothing comes, and not an end either."""
    client.settimeout(0.2)
    try:
        client.recv(1024)
    except TimeoutError:
        return True
    finally:
        client.settimeout(30)
    return False


def test_url_is_that_of_the_server_with_the_proxys_port(proxy: Proxy) -> None:
    assert proxy.url == f"echo://somebody@127.0.0.1:{proxy.port}/test"


def test_a_client_talks_with_the_server(proxy: Proxy, client: socket.socket) -> None:
    assert proxy.connections == 1


def test_the_server_sees_that_a_client_has_gone(server: EchoServer, client: socket.socket) -> None:
    client.close()

    assert server.gone.wait(30)


def test_slow_answers_come_later(proxy: Proxy, client: socket.socket) -> None:
    proxy.slow(0.1, loss=1.0)

    began = time.monotonic()
    assert ask(client, b"slow") == b"slow"

    assert time.monotonic() - began > 2 * (0.1 + 0.4)


def test_cut_connections_are_reset_and_new_ones_are_taken(proxy: Proxy, client: socket.socket) -> None:
    proxy.cut()

    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with connect(proxy) as another:
        assert ask(another, b"new") == b"new"


def test_stalled_connections_say_nothing_and_go_on(proxy: Proxy, server: EchoServer, client: socket.socket) -> None:
    proxy.stall()
    with connect(proxy) as another:
        another.sendall(b"another")
        client.sendall(b"one")
        assert is_silent(client)
        assert is_silent(another)
        assert server.heard == [b"are you there?"]

        proxy.heal()

        assert client.recv(1024) == b"one"
        assert another.recv(1024) == b"another"


def test_a_stalled_connection_can_be_cut_and_others_stay_stalled(proxy: Proxy, client: socket.socket) -> None:
    proxy.stall()
    proxy.cut()
    with connect(proxy) as another:
        another.sendall(b"another")

        assert is_silent(another)


def test_a_mute_server_hears_and_its_answers_are_lost(proxy: Proxy, server: EchoServer, client: socket.socket) -> None:
    proxy.mute()
    client.sendall(b"do it")
    assert is_silent(client)
    proxy.heal()

    assert ask(client, b"done?") == b"done?"
    assert b"do it" in server.heard


def test_of_an_abandoned_connection_only_the_server_hears(
    proxy: Proxy, server: EchoServer, client: socket.socket
) -> None:
    proxy.abandon()

    assert server.gone.wait(30)
    client.sendall(b"hello?")
    assert is_silent(client)
    with connect(proxy) as another:
        assert ask(another, b"new") == b"new"


def test_one_connection_can_be_abandoned_among_others(proxy: Proxy, server: EchoServer, client: socket.socket) -> None:
    with connect(proxy) as another:
        assert ask(another, b"second") == b"second"

        proxy.abandon(server.ports[0])

        assert server.gone.wait(30)
        client.sendall(b"hello?")
        assert is_silent(client)
        assert ask(another, b"still there") == b"still there"


def test_who_is_refused_is_told_at_once(proxy: Proxy, client: socket.socket) -> None:
    proxy.refuse()

    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as another:
        assert ask(another, b"new") == b"new"


def test_who_calls_into_a_black_hole_gets_no_answer(proxy: Proxy, client: socket.socket) -> None:
    proxy.swallow()

    with pytest.raises(TimeoutError):
        connect(proxy, within=0.2)
    client.sendall(b"one")
    assert is_silent(client)
    proxy.heal()
    assert client.recv(1024) == b"one"
    with connect(proxy) as another:
        assert ask(another, b"new") == b"new"


def test_a_failover_leads_new_connections_elsewhere(proxy: Proxy, server: EchoServer) -> None:
    with EchoServer() as replica:
        threading.Thread(target=replica.serve_forever, args=(0.01,), daemon=True).start()
        proxy.target = ("127.0.0.1", replica.server_address[1])

        with connect(proxy) as client:
            assert ask(client, b"who?") == b"who?"

        replica.shutdown()
    assert (server.heard, replica.heard) == ([], [b"who?"])
