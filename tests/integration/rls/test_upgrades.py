"""Rows of every table survive an upgrade from any earlier revision, and stay their tenants' own."""

import asyncio

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from tellwire.database import alembic_config

pytestmark = pytest.mark.postgres

REVISIONS = [
    script.revision for script in ScriptDirectory.from_config(alembic_config("")).walk_revisions()
]
"""The newest first."""
RIGHTS = """
    SELECT grantee::text, table_name::text, NULL, privilege_type::text
    FROM information_schema.table_privileges WHERE table_schema = 'public'
    UNION ALL
    SELECT grantee::text, table_name::text, column_name::text, privilege_type::text
    FROM information_schema.column_privileges WHERE table_schema = 'public'
"""


@pytest.fixture
async def superuser(database):
    connection = await asyncpg.connect(database.superuser_url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


async def counts(connection):
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {
        name: await connection.fetchval(f'SELECT count(*) FROM "{name}"')  # noqa: S608  # our own tables
        for (name,) in tables
    }


async def rights(connection):
    return {tuple(row) for row in await connection.fetch(RIGHTS)}


@pytest.mark.timeout(600)
async def test_rows_of_every_table_survive_an_upgrade_from_any_revision(
    database, rows, superuser, proofs
) -> None:
    config = alembic_config(database.url("tellwire_owner"))
    stored, granted = await counts(superuser), await rights(superuser)
    assert all(stored[table.name] >= len((rows.mine, rows.theirs)) for table in proofs.tables)

    for revision in REVISIONS[1:]:
        await asyncio.to_thread(command.downgrade, config, revision)
        before = await counts(superuser)
        await asyncio.to_thread(command.upgrade, config, "head")
        after = await counts(superuser)

        assert {name: after[name] for name in before} == before, revision
        assert await proofs.catalogue_violations(superuser) == [], revision
        assert await rights(superuser) == granted, revision
    assert before["whatsapp_outbound_messages"] == stored["whatsapp_outbound_messages"]
    assert len(before) < len(stored)
