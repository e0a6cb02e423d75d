import asyncio
from datetime import datetime

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

from shared.infrastructure.database import Base
from shared.kernel.errors import Misconfigured
from tellwire.database import alembic_config, load_models, migrate_async, refuse_other_schema

ADVISORY_LOCK = 0x7E11_317E
INDEX = "ix_whatsapp_outbound_messages_thread"
ENDS_OF_ITS_TRANSACTIONS = """
    SELECT state_change FROM pg_stat_activity
    WHERE datname = current_database() AND usename = 'tellwire_owner'
      AND state = 'idle' AND query LIKE 'ROLLBACK%'
"""
WAITS_FOR_A_TRANSACTION = """
    SELECT EXISTS (
        SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE datname = current_database() AND NOT granted
    )
"""


async def seen(connection, statement) -> None:
    """Wait until `statement` is true."""
    async with asyncio.timeout(60):
        while not await connection.scalar(text(statement)):  # noqa: ASYNC110  # the server's state
            await asyncio.sleep(0.05)


async def has_asked_for_a_turn(connection) -> None:
    """Wait until the one that migrates was refused a turn; the question itself is gone at once.

    It ends its transaction and pauses then; the first to end is one in which SQLAlchemy asks a new
    server what it is.
    """
    ends = set[datetime]()
    async with asyncio.timeout(60):
        while len(ends) < 2:
            ends.update(await connection.scalars(text(ENDS_OF_ITS_TRANSACTIONS)))
            await asyncio.sleep(0.05)


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
    # Without a pool the turn is given up with the connection, whatever happens: else whoever waits
    # for it would do so for ever.
    engine = create_async_engine(
        database.superuser_url, isolation_level="AUTOCOMMIT", poolclass=NullPool
    )
    async with engine.connect() as other, engine.connect() as watcher:
        await other.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": ADVISORY_LOCK})
        migrating = asyncio.create_task(migrate_async(database.url("tellwire_owner")))
        await has_asked_for_a_turn(watcher)

        # Who has the turn would wait for a transaction that waits for the turn.
        await other.execute(text("SET statement_timeout = '30s'"))
        await other.execute(text("CREATE INDEX CONCURRENTLY beside ON tenants (name)"))
        assert not migrating.done(), "it gave up"

        await other.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": ADVISORY_LOCK})
        await migrating


@pytest.mark.parametrize("step", [command.downgrade, command.upgrade])
async def test_messages_flow_while_the_index_of_threads_is_made_anew(database, step) -> None:
    config = alembic_config(database.url("tellwire_owner"))
    before, after = ("0018", "0019") if step is command.upgrade else ("0019", "0018")
    if before == "0018":
        await asyncio.to_thread(command.downgrade, config, before)
    superuser = create_async_engine(database.superuser_url)
    async with superuser.connect() as sending, superuser.connect() as watcher:
        await sending.execute(text("LOCK whatsapp_outbound_messages IN ROW EXCLUSIVE MODE"))
        # What a run that was cut off left behind is in nobody's way.
        await watcher.execution_options(isolation_level="AUTOCOMMIT")
        await watcher.execute(text(f"ALTER INDEX {INDEX} RENAME TO {INDEX}_beside"))
        migrating = asyncio.create_task(asyncio.to_thread(step, config, after))
        await seen(watcher, WAITS_FOR_A_TRANSACTION)

        await watcher.execute(text("SET lock_timeout = '1s'"))
        await watcher.execute(text("DELETE FROM whatsapp_outbound_messages"))
        await sending.commit()
        await migrating

        made = await watcher.scalar(
            text("SELECT pg_get_indexdef(CAST(:i AS regclass))"), {"i": INDEX}
        )
        assert made is not None
        assert ("WHERE" in made) is (after == "0019")
        assert not await watcher.scalar(text("SELECT count(*) FROM pg_index WHERE NOT indisvalid"))
    await superuser.dispose()


async def test_a_process_refuses_to_start_on_a_schema_that_is_not_its_own(database) -> None:
    engine = create_async_engine(database.url("tellwire_app"))
    await refuse_other_schema(engine)

    config = alembic_config(database.url("tellwire_owner"))
    await asyncio.to_thread(command.downgrade, config, "base")

    with pytest.raises(Misconfigured, match="run tellwire migrate"):
        await refuse_other_schema(engine)
    await engine.dispose()


async def test_a_process_of_an_older_release_is_not_sent_to_a_command_that_cannot_help(
    database,
) -> None:
    engine = create_async_engine(database.url("tellwire_app"))
    owner = create_async_engine(database.superuser_url)
    async with owner.begin() as connection:
        was = await connection.scalar(text("SELECT version_num FROM alembic_version"))
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        with pytest.raises(Misconfigured, match=r"9999, .* start the release that migrated it"):
            await refuse_other_schema(engine)
    finally:
        async with owner.begin() as connection:
            back = text("UPDATE alembic_version SET version_num = :was")
            await connection.execute(back, {"was": was})
        await owner.dispose()
        await engine.dispose()
