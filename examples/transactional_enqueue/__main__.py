"""Place two orders with each library: one that is rolled back, and one that is committed."""

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from urllib.parse import urlsplit

import asyncpg
import django
from django.conf import settings
from django.db import connections

from commandjobs import BackgroundJobs, JobRef, SyncJobRef
from examples.transactional_enqueue import with_asyncpg, with_django, with_psycopg, with_sqlalchemy

Ref = JobRef[None] | SyncJobRef[None]
Order = Callable[..., Awaitable[Ref]]
"""Takes the customer, and whether there is anything to sell."""


async def main(database: str) -> None:
    await open_shop(database)
    set_up_django(database)
    async with BackgroundJobs(f"{database}?schema=shop_jobs") as jobs:
        ways: dict[str, Order] = {
            "asyncpg": partial(with_asyncpg.place_order, jobs, database),
            "psycopg": in_thread(partial(with_psycopg.place_order, jobs, database)),
            "SQLAlchemy": partial(with_sqlalchemy.place_order, jobs, database),
            "Django": in_thread(partial(in_django, jobs)),
        }
        for name, place_order in ways.items():
            print(name, flush=True)
            with suppress(LookupError):
                await place_order(f"nobody, by {name}", in_stock=False)
            ref = await place_order(f"Ada, by {name}", in_stock=True)
            await jobs.ref(ref.id).wait(timeout=60)
        print((await jobs.find_jobs()).total, "jobs, none of them for nobody")


def in_thread(place_order: Callable[..., Ref]) -> Order:
    async def place(customer: str, *, in_stock: bool) -> Ref:
        return await asyncio.to_thread(place_order, customer, in_stock=in_stock)

    return place


def in_django(jobs: BackgroundJobs, customer: str, *, in_stock: bool) -> Ref:
    try:
        return with_django.place_order(jobs, customer, in_stock=in_stock)
    finally:
        connections.close_all()  # as Django does after each request


async def open_shop(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute(
        "drop schema if exists shop, shop_jobs cascade;"
        "create schema shop; create table shop.orders (id serial primary key, customer text)"
    )
    await connection.close()


def set_up_django(database: str) -> None:
    parts = urlsplit(database)
    default = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path[1:],
        "USER": parts.username or "",
        "PASSWORD": parts.password or "",
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
    }
    settings.configure(DATABASES={"default": default})
    django.setup()


if __name__ == "__main__":
    default = os.environ.get("DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/test")
    parser = argparse.ArgumentParser(prog="transactional_enqueue", description="Jobs as part of other transactions.")
    parser.add_argument("--database", default=default, help="where `shop` and `shop_jobs` are made anew (%(default)s)")
    asyncio.run(main(parser.parse_args().database))
