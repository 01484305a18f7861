"""What a test can do to a MariaDB server of its own."""

from typing import Any

import pytest
from asyncmy.errors import OperationalError

from tests.servers.mariadb import PrivateMariaDB
from tests.servers.sql import ask_mysql as ask


async def test_the_shared_server_answers(mysql_url: str) -> None:
    assert await ask(mysql_url, "select 1") == 1


async def test_a_private_server_is_empty_and_answers(private_mariadb: PrivateMariaDB) -> None:
    assert await ask(private_mariadb.url, "show tables") is None


@pytest.mark.parametrize("end", [PrivateMariaDB.stop, PrivateMariaDB.kill])
async def test_it_can_be_started_again_and_keeps_what_was_committed(private_mariadb: PrivateMariaDB, end: Any) -> None:
    await ask(private_mariadb.url, "create table kept (one int)")
    await ask(private_mariadb.url, "insert into kept values (1)")

    end(private_mariadb)
    with pytest.raises(OperationalError):
        await ask(private_mariadb.url, "select 1")
    private_mariadb.start()

    assert await ask(private_mariadb.url, "show tables") == "kept"


async def test_a_read_only_server_refuses_writes_until_it_takes_them_again(private_mariadb: PrivateMariaDB) -> None:
    private_mariadb.read_only()
    with pytest.raises(OperationalError, match="read-only"):
        await ask(private_mariadb.url, "create table refused (one int)")

    private_mariadb.read_only(on=False)

    await ask(private_mariadb.url, "create table taken (one int)")
