from pathlib import Path

import pytest

from tests.acceptance.nodes import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A folder for a database, a ledger, and gates."""
    site = Site(tmp_path)
    monkeypatch.setenv("LEDGER", site.environment["LEDGER"])  # for an engine in this process
    return site
