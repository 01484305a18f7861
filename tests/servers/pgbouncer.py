"""A real pgbouncer before a PostgreSQL server, from Debian's package."""

import os
import shutil
import signal
import socket
from urllib.parse import urlsplit

from tests.servers.ports import free_port
from tests.servers.process import ServerProcess
from tests.servers.run import Run

ADVICE = "Install Debian's package pgbouncer."
SETTINGS = """
[databases]
{database} = host={host} port={server_port} user={user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 500
server_login_retry = 1
"""


class PgBouncer:
    """One for a single test."""

    def __init__(self, run: Run, server_url: str, *, mode: str = "transaction", size: int = 10) -> None:
        """size: connections to the server that its clients share."""
        self._folder = run.server_folder("pgbouncer")
        self._server = urlsplit(server_url)
        self.port = free_port()
        settings = SETTINGS.format(
            database=self._server.path[1:], host=self._server.hostname, server_port=self._server.port or 5432,
            user=self._server.username, port=self.port, mode=mode, size=size,
        )  # fmt: skip
        file = self._folder / "pgbouncer.ini"
        file.write_text(settings)
        self.process = ServerProcess(self._folder, [pgbouncer_program(), str(file)])

    @property
    def url(self) -> str:
        """That of the server, with the bouncer's port."""
        return self._server._replace(netloc=f"{self._server.username}@127.0.0.1:{self.port}").geturl()

    @property
    def log(self) -> str:
        return self.process.log

    def start(self) -> None:
        self.process.start(self._is_ready)

    def stop(self) -> None:
        """At once, cutting off its clients."""
        self.process.stop(signal.SIGTERM)

    def remove(self) -> None:
        self.process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True


def pgbouncer_program() -> str:
    """Where it lies. Raises `LookupError` with what to do about it."""
    if (found := shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")) is None:
        raise LookupError(f"There is no pgbouncer on this machine. {ADVICE}")
    return found
