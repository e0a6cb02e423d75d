import asyncio

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from shared.infrastructure.database import Base
from shared.kernel.errors import Misconfigured
from tellwire.database import alembic_config, load_models, migrate_async, refuse_other_schema


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


async def test_a_process_refuses_to_start_on_a_schema_that_is_not_its_own(database) -> None:
    engine = create_async_engine(database.url("tellwire_app"))
    await refuse_other_schema(engine)

    config = alembic_config(database.url("tellwire_owner"))
    await asyncio.to_thread(command.downgrade, config, "base")

    with pytest.raises(Misconfigured, match="run tellwire migrate"):
        await refuse_other_schema(engine)
    await engine.dispose()
