"""What a new connection costs: nothing is asked again that every connection is told the same of."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from shared.infrastructure.database import create_engine
from shared.infrastructure.database.engine import PreludeConnection
from shared.kernel.ids import new_id

pytestmark = pytest.mark.postgres

KINDS = {
    "uuid": [new_id(), None],
    "text": ["a", '"{,}\\', None],
    "smallint": [1, -1],
    "integer": [2**31 - 1],
    "bigint": [2**63 - 1],
    "boolean": [True, False],
    "timestamptz": [datetime(2026, 11, 28, 12, tzinfo=UTC)],
    "bytea": [b"\0x"],
}


@pytest.fixture
def asked(monkeypatch) -> list[Any]:
    """The types that PostgreSQL was asked about since `clear`."""
    kinds: list[Any] = []
    ask = asyncpg.Connection._introspect_types

    async def watched(connection, typeoids, timeout):  # noqa: ASYNC109  # asyncpg's own
        kinds.append(typeoids)
        return await ask(connection, typeoids, timeout)

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", watched)
    monkeypatch.setattr(PreludeConnection, "_types", {})
    return kinds


async def round_trip(engine) -> dict[str, Any]:
    """An array of each kind, as PostgreSQL gives it back on a connection of its own."""
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        return {
            kind: await driver.fetchval(f"SELECT $1::{kind}[]", values)
            for kind, values in KINDS.items()
        }


@pytest.mark.parametrize("pgbouncer", [False, True])
async def test_what_types_are_made_of_is_asked_once_for_all_connections(
    database, asked, pgbouncer
) -> None:
    for turn in range(3):
        engine = create_engine(database.url("tellwire_app"), pgbouncer=pgbouncer)
        try:
            assert await round_trip(engine) == KINDS
        finally:
            await engine.dispose()
        assert bool(asked) == (turn == 0)
        asked.clear()


async def test_a_type_that_the_database_made_is_asked_for_on_each_connection(
    database, asked
) -> None:
    for labels in ("'low'", "'low', 'high'"):
        owner = create_engine(database.superuser_url)
        async with owner.begin() as connection:
            await connection.execute(text("DROP TYPE IF EXISTS level"))
            await connection.execute(text(f"CREATE TYPE level AS ENUM ({labels})"))
            driver = (await connection.get_raw_connection()).driver_connection
            wanted = labels.replace("'", "").split(", ")
            assert await driver.fetchval("SELECT $1::level[]", wanted) == wanted
        await owner.dispose()
        assert len(asked) == 1
        asked.clear()


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({}, "auto"),
        ({"plans_once": True}, "force_generic_plan"),
        ({"plans_once": True, "pgbouncer": True}, "auto"),
    ],
)
async def test_plans_are_made_once_for_who_wants_it_and_has_connections_to_keep_them(
    database, given, mode
) -> None:
    engine = create_engine(database.url("tellwire_app"), **given)
    try:
        async with engine.connect() as connection:
            assert await connection.scalar(text("SHOW plan_cache_mode")) == mode
    finally:
        await engine.dispose()


@pytest.mark.parametrize("pgbouncer", [False, True])
async def test_an_engine_has_no_more_connections_than_it_may(
    database, superuser, pgbouncer
) -> None:
    url = database.url("tellwire_app")
    engine = create_engine(url, pool_size=2, max_overflow=0, pgbouncer=pgbouncer)
    arrived, leave = asyncio.Semaphore(0), asyncio.Event()

    async def hold() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            arrived.release()
            await leave.wait()

    async with asyncio.timeout(30), asyncio.TaskGroup() as holders:
        for _ in range(6):
            holders.create_task(hold())
        for _ in range(2):
            await arrived.acquire()
        # The others would have come by now: nothing is between them and the server.
        await asyncio.sleep(0.5)
        seen = await superuser.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = 'tellwire_app'"
        )
        leave.set()
    await engine.dispose()
    assert seen == 2
