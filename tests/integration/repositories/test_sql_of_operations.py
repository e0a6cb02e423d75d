"""The SQL that docs/operations.md gives to operators does what the page says."""

import re
from pathlib import Path

import asyncpg
import pytest

pytestmark = pytest.mark.postgres

PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text("utf-8")
BLOCKS = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def _block(containing: str) -> str:
    (found,) = [block for block in BLOCKS if containing in block]
    return found


async def _as(database, role: str) -> asyncpg.Connection:
    return await asyncpg.connect(database.url(role).replace("+asyncpg", ""))


@pytest.mark.parametrize(
    ("role", "containing"),
    [
        ("tellwire_dispatch", "FROM whatsapp_send_queue WHERE due_at"),
        ("tellwire_process", "FROM webhook_inbox"),
    ],
)
async def test_what_is_watched_may_be_seen_by_the_role_that_is_named(
    database, role, containing
) -> None:
    connection = await _as(database, role)
    try:
        for statement in _block(containing).split(";\n"):
            await connection.fetch(statement or "SELECT")
    finally:
        await connection.close()


async def test_the_role_for_backups_sees_all_tenants_and_the_owner_dumps_nothing(
    database, ana, bea, at, message, superuser
) -> None:
    for customer in (ana, bea):
        async with at(customer) as desk:
            await desk.messages.save_outbound(message(customer))
    count = "SELECT count(*) FROM whatsapp_outbound_messages"
    name = await superuser.fetchval("SELECT quote_ident(current_database())")

    # A role belongs to the whole server, on which other tests run: nothing of it stays.
    attempt = superuser.transaction()
    await attempt.start()
    try:
        made = _block("CREATE ROLE tellwire_backup").replace(
            "DATABASE tellwire", f"DATABASE {name}"
        )
        await superuser.execute(f"{made}; SET LOCAL ROLE tellwire_backup; SET row_security = off")
        assert await superuser.fetchval(count) == 2
    finally:
        await attempt.rollback()

    owner = await _as(database, "tellwire_owner")
    try:
        await owner.execute("SET row_security = off")  # As pg_dump does.
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await owner.fetchval(count)
    finally:
        await owner.close()


async def test_a_tenant_is_deleted_with_all_that_it_has_and_nobody_else(
    database, ana, bea, at, message, superuser
) -> None:
    for customer in (ana, bea):
        async with at(customer) as desk:
            await desk.messages.save_outbound(message(customer))
    app = await _as(database, "tellwire_app")
    try:
        await app.execute(_block("DELETE FROM tenants").replace("<tenant id>", str(ana.tenant_id)))
        assert await app.fetchval("SELECT count(*) FROM tenants") == 0  # No context is left.
    finally:
        await app.close()

    for table in ("whatsapp_outbound_messages", "whatsapp_send_queue", "whatsapp_channels"):
        owners = await superuser.fetch(f"SELECT DISTINCT tenant_id FROM {table}")  # noqa: S608  # ours
        assert [row["tenant_id"] for row in owners] == [bea.tenant_id], table
