"""What a URL of a SQL Server database says."""

from urllib.parse import quote

import pytest
from mssql_python.connection_string_parser import _ConnectionStringParser

from commandjobs.errors import InvalidOption, StorageUnavailable
from commandjobs.storage import open_storage
from commandjobs.storage.sqlserver.address import parse
from commandjobs.storage.sqlserver.storage import SqlServerStorage


def understood(connection: str) -> dict[str, str]:
    """What the driver reads in a connection string."""
    return _ConnectionStringParser(validate_keywords=True)._parse(connection)


def test_what_is_not_ours_in_a_url_is_the_drivers() -> None:
    address = parse("mssql://me:secret@db:1444/app?schema=jobs&migrate=false&TrustServerCertificate=yes")

    assert (address.schema, address.migrate) == ("jobs", False)
    assert address.place == "SQL Server at db:1444, database app (schema jobs)"
    assert understood(address.connection) == {
        "server": "db,1444", "database": "app", "uid": "me", "pwd": "secret", "trustservercertificate": "yes",
    }  # fmt: skip


def test_a_url_needs_no_more_than_a_database() -> None:
    address = parse("mssql:///app?Trusted_Connection=yes")

    assert understood(address.connection) == {
        "server": "localhost,1433", "database": "app", "trusted_connection": "yes",
    }  # fmt: skip
    assert (address.schema, address.migrate) == ("commandjobs", True)


@pytest.mark.parametrize("password", ["a;b", "{x}", "}=;{", "p%40ss w", "ż"])
def test_a_password_may_hold_anything(password: str) -> None:
    address = parse(f"mssql://me:{quote(password, safe='')}@db/app")

    assert understood(address.connection)["pwd"] == password


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("mssql://db", "must name one"),
        ("mssql://db/app?schema=a.b", "schema="),
        ("mssql://db/app?schema=", "schema="),
        ("mssql://db/app?migrate=1", "migrate="),
        ("mssql://db/app?database=other", "database="),
        ("mssql://db:none/app", "none"),
    ],
)
def test_a_url_that_cannot_be_is_refused(url: str, named: str) -> None:
    with pytest.raises(InvalidOption, match=named):
        open_storage(url)


async def test_a_parameter_that_the_driver_does_not_know_is_refused() -> None:
    storage = open_storage("mssql://me:secret@127.0.0.1/app?Encryption=no")

    with pytest.raises(InvalidOption, match=r"(?s)understand the URL.*encryption") as refused:
        await storage.open(on_wake=lambda: None)

    assert "secret" not in str(refused.value)


async def test_a_server_that_is_not_there_is_told_within_the_deadline() -> None:
    storage = SqlServerStorage("mssql://me:secret@127.0.0.1:9/app?Encrypt=no", deadline=0.2)

    with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1:9") as away:
        await storage.open(on_wake=lambda: None)

    assert "secret" not in str(away.value)
