"""What the proofs are worth: each is run against databases that somebody broke, and must object."""

import pytest

pytestmark = pytest.mark.postgres


async def _policies(superuser, table):
    return await superuser.fetch(
        "SELECT policyname AS name, cmd, qual, with_check FROM pg_policies"
        " WHERE tablename = $1 AND 'tellwire_app' = ANY(roles)",
        table.name,
    )


def _clauses(policy, using, check):
    """`using` and `check` where this policy has such a clause; an INSERT policy has only one."""
    parts = []
    if policy["qual"] is not None:
        parts.append(f"USING ({using or policy['qual']})")
    if policy["with_check"] is not None:
        parts.append(f"WITH CHECK ({check or policy['with_check']})")
    return " ".join(parts)


def _altered(table, policy, using=None, check=None):
    head = f"ALTER POLICY {policy['name']} ON {table.name} "
    return head + _clauses(policy, using, check), head + _clauses(policy, None, None)


def disabled(table, _policy, _owner):
    statement = f"ALTER TABLE {table.name} {{}} ROW LEVEL SECURITY"
    return statement.format("DISABLE"), statement.format("ENABLE")


def not_forced(table, _policy, _owner):
    statement = f"ALTER TABLE {table.name} {{}} FORCE ROW LEVEL SECURITY"
    return statement.format("NO"), statement.format("")


def dropped(table, policy, _owner):
    made = (
        f"CREATE POLICY {policy['name']} ON {table.name} FOR {policy['cmd']} TO tellwire_app "
        + _clauses(policy, None, None)
    )
    return f"DROP POLICY {policy['name']} ON {table.name}", made


def using_true(table, policy, _owner):
    return _altered(table, policy, using="true")


def check_true(table, policy, _owner):
    return _altered(table, policy, check="true")


def without_nullif(table, policy, owner):
    bare = f"{owner} = current_setting('app.jwt_tenant', true)::uuid"
    return _altered(table, policy, bare, bare)


def with_an_immutable_function(table, policy, owner):
    function = f"{owner} = frozen_tenant()"
    return _altered(table, policy, function, function)


def with_a_second_policy(table, _policy, owner):
    return (
        f"CREATE POLICY second ON {table.name} USING ({owner} IS NOT NULL)",
        f"DROP POLICY second ON {table.name}",
    )


MUTATIONS = [
    disabled,
    not_forced,
    dropped,
    using_true,
    check_true,
    without_nullif,
    with_an_immutable_function,
    with_a_second_policy,
]


@pytest.mark.soak
async def test_the_matrix_objects_to_every_table_with_a_broken_policy(matrix, superuser, proofs):
    await superuser.execute(
        "CREATE FUNCTION frozen_tenant() RETURNS uuid LANGUAGE sql IMMUTABLE AS"
        " $$ SELECT nullif(current_setting('app.jwt_tenant', true), '')::uuid $$"
    )
    survivors = []
    for table in proofs.tables:
        for policy in await _policies(superuser, table):
            for mutation in MUTATIONS:
                if mutation is check_true and policy["with_check"] is None:
                    continue
                if mutation is using_true and policy["qual"] is None:
                    continue
                broken, mended = mutation(table, policy, proofs.owner_column(table))
                await superuser.execute(broken)
                if not await matrix.violations([table], ["fresh", "after commit"]):
                    survivors.append((table.name, mutation.__name__))
                await superuser.execute(mended)

    assert survivors == []
    assert await matrix.violations(pasts=["fresh"]) == []


BROKEN_CATALOGUES = [
    "ALTER TABLE whatsapp_channels NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE webhook_inbox DISABLE ROW LEVEL SECURITY",
    "CREATE TABLE notes (tenant_id uuid, id uuid, PRIMARY KEY (tenant_id, id))",
    "CREATE TABLE notes (id uuid PRIMARY KEY)",
    (
        "CREATE TABLE notes (tenant_id uuid, id uuid, PRIMARY KEY (tenant_id, id))"
        " PARTITION BY HASH (tenant_id);"
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; ALTER TABLE notes FORCE ROW LEVEL SECURITY;"
        "CREATE POLICY tenant ON notes TO tellwire_app USING (tenant_id IS NOT NULL);"
        "CREATE TABLE notes_0 PARTITION OF notes FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
    ),
    "DROP POLICY tenant ON api_keys",
    "ALTER POLICY tenant ON api_keys TO PUBLIC",
    "ALTER POLICY tenant ON api_keys USING (true)",
    "ALTER POLICY tenant ON api_keys WITH CHECK (true)",
    "ALTER POLICY tenant ON api_keys USING (tenant_id IS NOT NULL)",
    "ALTER POLICY tenant ON api_keys USING (tenant_id = (SELECT id FROM tenants LIMIT 1))",
    "CREATE POLICY second ON api_keys FOR SELECT TO tellwire_app USING (name <> '')",
    (
        "CREATE FUNCTION tenant() RETURNS uuid LANGUAGE sql IMMUTABLE AS"
        " $$ SELECT current_setting('app.jwt_tenant')::uuid $$;"
        "ALTER POLICY tenant ON api_keys USING (tenant_id = tenant())"
    ),
    "CREATE VIEW all_keys AS SELECT * FROM api_keys",
    "CREATE MATERIALIZED VIEW all_keys AS SELECT * FROM api_keys",
    "CREATE FUNCTION peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT 1 $$",
    "CREATE SEQUENCE volume",
    (
        "CREATE FUNCTION copy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;"
        "CREATE TRIGGER copy BEFORE INSERT ON api_keys FOR EACH ROW EXECUTE FUNCTION copy()"
    ),
    "CREATE RULE also AS ON DELETE TO api_keys DO ALSO NOTIFY deleted",
    "ALTER TABLE whatsapp_outbound_messages ADD UNIQUE (wamid)",
    "CREATE UNIQUE INDEX wamid_once ON whatsapp_outbound_messages (wamid)",
    (
        "CREATE UNIQUE INDEX message_once ON whatsapp_outbound_messages (id);"
        "ALTER TABLE whatsapp_message_attempts ADD FOREIGN KEY (message_id)"
        " REFERENCES whatsapp_outbound_messages (id)"
    ),
    "CREATE INDEX by_status ON whatsapp_outbound_messages (status)",
    (
        "CREATE TYPE mood AS ENUM ('good', 'bad');"
        "ALTER TABLE api_keys ADD mood mood;"
        "CREATE INDEX by_mood ON api_keys (tenant_id, mood)"
    ),
]


async def test_the_catalogue_holds_nothing_that_reaches_across_tenants(superuser, proofs):
    assert await proofs.catalogue_violations(superuser) == []


async def test_the_catalogue_sweep_objects_to_every_way_around_the_policies(superuser, proofs):
    unseen = []
    for broken in BROKEN_CATALOGUES:
        transaction = superuser.transaction()
        await transaction.start()
        await superuser.execute(broken)
        if not await proofs.catalogue_violations(superuser):
            unseen.append(broken)
        await transaction.rollback()

    assert unseen == []
