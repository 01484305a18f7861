"""The database servers of a test run, as fixtures; the summary says which tests were left out for want of one."""

import json
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.servers.backends import MYSQL, POSTGRES, Backend
from tests.servers.mariadb import PrivateMariaDB, program
from tests.servers.pgbouncer import PgBouncer, pgbouncer_program
from tests.servers.postgres import PrivatePostgres, binaries
from tests.servers.run import Run

RUN = pytest.StashKey[Run]()


def shared(backend: Backend) -> Callable[[Run], str]:
    return lambda run: backend.find(run).missing


def private(find: Callable[[Run], object]) -> Callable[[Run], str]:
    def missing(run: Run) -> str:
        try:
            find(run)
        except LookupError as error:
            return str(error.args[0])
        return ""

    return missing


NEEDS: dict[str, Callable[[Run], str]] = {
    "postgres": shared(POSTGRES),
    "postgres_url": shared(POSTGRES),
    "mysql": shared(MYSQL),
    "mysql_url": shared(MYSQL),
    "private_postgres": private(binaries),
    "newest_postgres": private(lambda run: binaries(run, 17)),
    "private_mariadb": private(lambda run: program("mariadbd")),
    "make_pgbouncer": private(lambda run: pgbouncer_program()),
}
"""What a test may need, by the names of its marks, fixtures and parameters, and why it is not to be had here."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RUN] = Run()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[RUN].close()


@pytest.hookimpl(trylast=True)  # of what -k and -m have left over
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what cannot run here."""
    if config.option.collectonly:
        return
    run, left_out = config.stash[RUN], list[pytest.Item]()
    for need, missing in NEEDS.items():
        concerned = [item for item in items if is_needed(need, item)]
        if concerned and (reason := missing(run)):
            note = run.folder / f"{need}.missing"
            note.write_text(json.dumps([len(concerned), reason]))
            left_out += concerned
            items[:] = [item for item in items if item not in concerned]
    if left_out:
        config.hook.pytest_deselected(items=left_out)


def is_needed(need: str, item: pytest.Item) -> bool:
    fixtures: Sequence[str] = getattr(item, "fixturenames", ())
    parameters = (
        item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    )
    return need in fixtures or need in parameters or item.get_closest_marker(need) is not None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what could not run, and how to change that."""
    for note in sorted(config.stash[RUN].folder.glob("*.missing")):
        count, reason = json.loads(note.read_text())
        terminalreporter.section("left out")
        terminalreporter.write_line(f"{count} {'test' if count == 1 else 'tests'} could not run. {reason}", yellow=True)


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Run:
    """The folder in which servers live."""
    return pytestconfig.stash[RUN]


@pytest.fixture(scope="session")
def postgres_url(servers: Run) -> str:
    """The PostgreSQL server that all tests share; a test makes a schema or a database of its own there."""
    return POSTGRES.find(servers).url


@pytest.fixture(scope="session")
def mysql_url(servers: Run) -> str:
    """The MariaDB server that all tests share; a test makes a database of its own there."""
    return MYSQL.find(servers).url


@pytest.fixture
def private_postgres(servers: Run) -> Iterator[PrivatePostgres]:
    """A PostgreSQL server of the test's own, running, for it to restart, stop and kill."""
    server = PrivatePostgres(servers)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def newest_postgres(servers: Run) -> Iterator[PrivatePostgres]:
    """The same, of version 17 at least."""
    server = PrivatePostgres(servers, least=17)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def private_mariadb(servers: Run) -> Iterator[PrivateMariaDB]:
    """The same with MariaDB."""
    server = PrivateMariaDB(servers)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def make_pgbouncer(servers: Run) -> Iterator[Callable[..., PgBouncer]]:
    """`make_pgbouncer(url, size=5)` is a pgbouncer in transaction mode before that server, running."""
    made = list[PgBouncer]()

    def make(url: str, *, mode: str = "transaction", size: int = 10) -> PgBouncer:
        made.append(bouncer := PgBouncer(servers, url, mode=mode, size=size))
        bouncer.start()
        return bouncer

    yield make
    for bouncer in made:
        bouncer.remove()
