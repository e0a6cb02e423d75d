import asyncio

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from shared.infrastructure.database import Base
from shared.kernel.errors import Misconfigured
from tellwire.database import alembic_config, load_models, migrate_async, refuse_other_schema

ADVISORY_LOCK = 0x7E11_317E
# Longer than a migration waits for a lock of a table.
WAITS_LONG = """
    SELECT EXISTS (
        SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE locktype = 'advisory' AND NOT granted AND clock_timestamp() - query_start > '6 s'
    )
"""


async def test_the_models_and_the_migrations_describe_the_same_schema(database) -> None:
    load_models()
    engine = create_async_engine(database.url("tellwire_owner"))

    async with engine.connect() as connection:
        drift = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(sync, opts={"compare_type": True}), Base.metadata
            )
        )
    await engine.dispose()

    assert drift == []


async def test_migrating_again_changes_nothing(database) -> None:
    await migrate_async(database.url("tellwire_owner"))


def test_migrations_can_be_undone(database) -> None:
    config = alembic_config(database.url("tellwire_owner"))

    command.downgrade(config, "base")
    command.upgrade(config, "head")


async def test_who_migrates_beside_a_migration_that_takes_long_waits_for_it(database) -> None:
    engine = create_async_engine(database.superuser_url)
    async with engine.connect() as other, engine.connect() as watcher:
        await other.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": ADVISORY_LOCK})
        migrating = asyncio.create_task(migrate_async(database.url("tellwire_owner")))
        async with asyncio.timeout(60):
            while not migrating.done() and not await watcher.scalar(text(WAITS_LONG)):
                await watcher.rollback()
                await asyncio.sleep(0.1)
        assert not migrating.done(), "it gave up"

        await other.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": ADVISORY_LOCK})
        await migrating
    await engine.dispose()


async def test_a_process_refuses_to_start_on_a_schema_that_is_not_its_own(database) -> None:
    engine = create_async_engine(database.url("tellwire_app"))
    await refuse_other_schema(engine)

    config = alembic_config(database.url("tellwire_owner"))
    await asyncio.to_thread(command.downgrade, config, "base")

    with pytest.raises(Misconfigured, match="run tellwire migrate"):
        await refuse_other_schema(engine)
    await engine.dispose()
