from collections.abc import Iterator

import pytest

from tests.servers.run import VARIABLE, Run


@pytest.fixture
def another_run(servers: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """The folder of a test run that has nothing yet."""
    monkeypatch.delenv(VARIABLE)
    run = Run()
    servers.keep(run)
    yield run
    run.close()
