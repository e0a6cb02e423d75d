"""Every tenant table, every operation, every context, on fresh and on used connections."""

import asyncpg
import pytest

pytestmark = pytest.mark.postgres


async def test_nobody_reaches_another_tenants_row_whatever_the_connection_did_before(matrix):
    assert await matrix.violations() == []


async def test_no_row_of_ours_can_refer_to_a_row_of_another_tenant(connect, rows, proofs):
    app = await connect()
    accepted = []
    for table in proofs.tables:
        for key in table.foreign_key_constraints:
            if key.referred_table.name == "tenants":
                continue
            theirs = rows.stored[rows.theirs, key.referred_table.name]
            refers = proofs.reference(key, theirs)
            del refers["tenant_id"]
            row = rows.spare[rows.mine, table.name] | refers
            transaction = app.transaction()
            await transaction.start()
            await proofs.set_tenant(app, rows.mine)
            try:
                await proofs.insert_row(app, table, row)
                accepted.append(key.name)
            except asyncpg.ForeignKeyViolationError:
                pass
            finally:
                await transaction.rollback()

    assert accepted == []


async def test_equal_keys_of_two_tenants_are_not_in_each_others_way(connect, rows, proofs):
    """Neither may learn from a constraint that the other has the same number, key or wamid."""
    app = await connect()
    refused = []
    for table in proofs.tables:
        if table.name == "tenants":
            continue
        theirs = rows.stored[rows.theirs, table.name]
        references = {
            element.parent.name
            for key in table.foreign_key_constraints
            if not proofs.is_computed(key)
            for element in key.elements
        }
        row = theirs | {name: rows.spare[rows.mine, table.name][name] for name in references}
        transaction = app.transaction()
        await transaction.start()
        await proofs.set_tenant(app, rows.mine)
        try:
            await proofs.insert_row(app, table, row)
        except asyncpg.PostgresError as error:
            refused.append((table.name, error.sqlstate))
        finally:
            await transaction.rollback()

    assert refused == []


async def test_deleting_a_tenants_rows_leaves_the_other_tenants_rows(connect, rows, proofs):
    app = await connect()
    async with app.transaction():
        await proofs.set_tenant(app, rows.mine)
        await app.execute("DELETE FROM tenants")

    async with app.transaction():
        await proofs.set_tenant(app, rows.theirs)
        left = {t.name: await app.fetchval(f"SELECT count(*) FROM {t.name}") for t in proofs.tables}  # noqa: S608  # our tables

    assert all(left.values()), left


async def test_a_statement_planned_for_one_tenant_serves_the_next_with_their_own_rows(
    connect, rows, proofs
):
    app = await connect()
    prepared = await app.prepare("SELECT tenant_id FROM whatsapp_channels")
    seen = []
    for tenant in [rows.mine] * 9 + [rows.theirs, rows.mine, rows.theirs]:
        async with app.transaction():
            await proofs.set_tenant(app, tenant)
            seen.append({row["tenant_id"] for row in await prepared.fetch()} == {tenant})

    assert all(seen)
