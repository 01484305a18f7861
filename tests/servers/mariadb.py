"""MariaDB servers of our own, from Debian's package."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.servers.ports import free_port
from tests.servers.process import ServerProcess, run_program
from tests.servers.run import Run

ADVICE = "Install Debian's package mariadb-server."
PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin")
SETTINGS = (
    "--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=200",
    "--max-connect-errors=1000000",  # who only asks whether it listens counts as one
    "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--innodb-use-native-aio=OFF",
    "--innodb-flush-log-at-trx-commit=2",  # the system's memory outlives every process that a test kills
    "--innodb-fast-shutdown=2",
)  # fmt: skip
ACCOUNT = """
flush privileges;
create database if not exists test;
create user test@`127.0.0.1`;
grant all on test.* to test@`127.0.0.1`;
"""


class PrivateMariaDB:
    """One for a single test, which may do to it what it likes."""

    def __init__(self, run: Run) -> None:
        """It is a copy of an empty one that is made once for all tests."""
        self._folder = run.server_folder("mariadb")
        run_program(["cp", "-a", "--", template(run), str(self._folder / "data")])
        self.port = free_port()
        argv = [program("mariadbd"), *SETTINGS, *places(self._folder), f"--port={self.port}", "--pid-file=pid"]
        self.process = ServerProcess(self._folder, [*argv, f"--socket={self._folder}/socket"])

    @property
    def url(self) -> str:
        """For an account that may do everything in the database, and nothing to the server."""
        return f"mysql://test@127.0.0.1:{self.port}/test"

    @property
    def log(self) -> str:
        return self.process.log

    def start(self) -> None:
        self.process.start(lambda: greets(self.port))

    def stop(self) -> None:
        self.process.stop(signal.SIGTERM)

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()

    def read_only(self, on: bool = True) -> None:
        """Refuse writes, as a server does that was made a replica; or take them again."""
        self.execute(f"set global read_only = {on:d}")

    def execute(self, sql: str) -> str:
        """As root, who may do anything."""
        client = [program("mariadb"), "--no-defaults", "-h127.0.0.1", f"-P{self.port}", "-uroot", "-N", "-B", "-e", sql]
        return subprocess.run(client, check=True, capture_output=True, text=True, timeout=60).stdout

    def suspend(self) -> None:
        """SIGSTOP: nobody answers."""
        self.process.suspend()

    def resume(self) -> None:
        self.process.resume()

    def remove(self) -> None:
        """End it, and everything that it held."""
        self.process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def program(name: str) -> str:
    """Where it lies. Raises `LookupError` with what to do about it."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *PLACES))
    if (found := shutil.which(name, path=path)) is None:
        raise LookupError(f"There is no MariaDB on this machine. {ADVICE}")
    return found


def greets(port: int) -> bool:
    """Whether the server says its first words, version 10 of the protocol; until it can serve it does not listen."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            return client.recv(5)[4:] == b"\x0a"
    except OSError:
        return False


def template(run: Run) -> str:
    """The data of an empty server, made once in a run."""

    def make() -> str:
        folder = run.server_folder("mariadb-template")
        # It asks for no plugin that the package may lack, and knows no account by socket.
        install = [program("mariadb-install-db"), "--no-defaults", places(folder)[0], "--skip-test-db"]
        account = "--auth-root-authentication-method=normal"
        run_program([*install, account, "--innodb-log-file-size=16M"], temporary=folder)
        run_program([program("mariadbd"), *SETTINGS, *places(folder), "--bootstrap"], ACCOUNT)
        return str(folder / "data")

    return run.once("mariadb-data", make)


def places(folder: Path) -> tuple[str, str]:
    """The data, and temporary files: a server that starts removes those that it finds, be they another's."""
    return f"--datadir={folder}/data", f"--tmpdir={folder}"
