"""Alembic's environment: runs revisions as the owner, on a direct connection, one at a time."""

import asyncio

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

import tellwire.database
from shared.infrastructure.database import Base

LOCK_TIMEOUT = "5s"
"""A migration that would block traffic for longer gives up; run it again at a quieter time."""
ADVISORY_LOCK = 0x7E11_317E
"""Two processes that migrate at once take turns."""
TURN_PAUSE_SECONDS = 0.2
"""Between questions for a turn: a question that waited would hold up indexes made concurrently."""


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transaction_per_migration=True,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def _migrate() -> None:
    engine = create_async_engine(context.config.attributes["url"], poolclass=pool.NullPool)
    try:
        async with engine.connect() as connection:
            # A turn may take as long as the migration that has it; the bound is for tables alone.
            while not await connection.scalar(
                text(f"SELECT pg_try_advisory_lock({ADVISORY_LOCK})")
            ):
                await connection.rollback()
                await asyncio.sleep(TURN_PAUSE_SECONDS)
            await connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
            await connection.commit()
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


tellwire.database.load_models()
asyncio.run(_migrate())
