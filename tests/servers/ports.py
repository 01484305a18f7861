"""Ports for servers."""

import random
import socket

RANGE = range(12_000, 30_000)
"""Below those that the system gives to outgoing connections. Of one of these, a client that tries again and again while
the server is down would in the end be connected with itself, and the server would find its port taken.
"""


def free_port() -> int:
    """One that nobody listens on now."""
    for _ in range(100):
        port = random.choice(RANGE)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"No port of {RANGE} is free.")
