"""What each role may do, asked from the catalogue, and which roles Tellwire refuses to run as."""

import asyncio

import asyncpg
import pytest

from shared.infrastructure.database import create_engine, refuse_unsafe_role
from shared.infrastructure.database.driver_errors import DatabaseUnavailable, translate
from shared.kernel.errors import Misconfigured

pytestmark = pytest.mark.postgres

RUNTIME = ["tellwire_app", "tellwire_dispatch", "tellwire_intake", "tellwire_process"]
# asyncpg says it in any of these ways.
CUT_OFF = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
BY_NAME = {"SELECT", "INSERT", "UPDATE", "DELETE"}
# What the roles that work for all tenants may touch: nothing here is a payload, a phone number or
# a token. A wider right needs a line here, and so a reason.
ACROSS_TENANTS = {
    ("tellwire_dispatch", "whatsapp_send_queue", "SELECT"),
    ("tellwire_dispatch", "whatsapp_send_queue.state", "UPDATE"),
    ("tellwire_dispatch", "whatsapp_send_queue.attempt", "UPDATE"),
    ("tellwire_dispatch", "whatsapp_send_queue.lease_token", "UPDATE"),
    ("tellwire_dispatch", "whatsapp_send_queue.lease_until", "UPDATE"),
    # To put off a recipient at its limit.
    ("tellwire_dispatch", "whatsapp_send_queue.due_at", "UPDATE"),
    # To give out what waits for an earlier one where its channel keeps no order.
    ("tellwire_dispatch", "whatsapp_send_queue.lane", "UPDATE"),
    # Which endpoint is due; events, URLs and secrets are in other tables.
    ("tellwire_dispatch", "webhook_delivery_queue", "SELECT"),
    ("tellwire_dispatch", "webhook_delivery_queue.lease_token", "UPDATE"),
    ("tellwire_dispatch", "webhook_delivery_queue.lease_until", "UPDATE"),
    ("tellwire_intake", "webhook_inbox", "INSERT"),
    ("tellwire_intake", "webhook_digests", "INSERT"),
    ("tellwire_intake", "webhook_digests.digest", "SELECT"),
    ("tellwire_process", "webhook_digests", "SELECT"),
    ("tellwire_process", "webhook_digests", "DELETE"),
    ("tellwire_process", "webhook_inbox", "SELECT"),
    ("tellwire_process", "webhook_inbox", "DELETE"),
    # What was put aside goes back to be processed anew.
    ("tellwire_process", "webhook_inbox", "INSERT"),
    ("tellwire_process", "webhook_inbox.attempts", "UPDATE"),
    ("tellwire_process", "webhook_inbox.lease_token", "UPDATE"),
    ("tellwire_process", "webhook_inbox.lease_until", "UPDATE"),
    ("tellwire_process", "webhook_quarantine", "SELECT"),
    ("tellwire_process", "webhook_quarantine", "INSERT"),
    ("tellwire_process", "webhook_quarantine", "DELETE"),
    # To lock what is being requeued.
    ("tellwire_process", "webhook_quarantine.requeues", "UPDATE"),
    ("tellwire_process", "whatsapp_channels.tenant_id", "SELECT"),
    ("tellwire_process", "whatsapp_channels.id", "SELECT"),
    ("tellwire_process", "whatsapp_channels.phone_number_id", "SELECT"),
    ("tellwire_process", "whatsapp_channels.provider_account_id", "SELECT"),
    ("tellwire_process", "whatsapp_channels.app_id", "SELECT"),
    ("tellwire_process", "whatsapp_channels.verified_at", "SELECT"),
    ("tellwire_process", "tenants.id", "SELECT"),
    # Which file is to be moved for whom, by ids.
    ("tellwire_process", "whatsapp_media_jobs", "SELECT"),
    ("tellwire_process", "whatsapp_media_jobs.due_at", "UPDATE"),
    ("tellwire_process", "whatsapp_media_jobs.attempts", "UPDATE"),
    ("tellwire_process", "whatsapp_media_jobs.lease_token", "UPDATE"),
    # Whose files and events are old, by times; what they are about is not seen.
    ("tellwire_process", "whatsapp_media.tenant_id", "SELECT"),
    ("tellwire_process", "whatsapp_media.direction", "SELECT"),
    ("tellwire_process", "whatsapp_media.status", "SELECT"),
    ("tellwire_process", "whatsapp_media.used_at", "SELECT"),
    ("tellwire_process", "events.tenant_id", "SELECT"),
    ("tellwire_process", "events.number", "SELECT"),
    ("tellwire_process", "events.recorded_at", "SELECT"),
    ("tellwire_process", "webhook_deliveries.tenant_id", "SELECT"),
    ("tellwire_process", "webhook_deliveries.id", "SELECT"),
    ("tellwire_process", "webhook_deliveries.attempted_at", "SELECT"),
}
_RIGHTS = """
    SELECT coalesce(g.rolname, 'PUBLIC') AS role, o.object, a.privilege_type, a.is_grantable
    FROM (
        SELECT relname::text AS object, relacl AS acl FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
        UNION ALL
        SELECT c.relname || '.' || t.attname, t.attacl
        FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid
        WHERE c.relnamespace = 'public'::regnamespace AND t.attacl IS NOT NULL
    ) o CROSS JOIN aclexplode(o.acl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
    WHERE coalesce(g.rolname, '') <> 'tellwire_owner'
"""


@pytest.fixture
def database(module_database):
    """Nothing here stores a row, so that one database does for all."""
    return module_database


async def rights(superuser):
    return [tuple(row) for row in await superuser.fetch(_RIGHTS)]


async def test_no_role_of_a_process_is_special_or_owns_anything(superuser):
    special = await superuser.fetch(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY($1) AND (rolsuper OR rolbypassrls"
        " OR rolreplication OR rolcreaterole OR rolcreatedb OR rolconfig IS NOT NULL"
        " OR EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid)"
        " OR EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid)"
        " OR EXISTS (SELECT FROM pg_proc WHERE proowner = pg_roles.oid)"
        " OR EXISTS (SELECT FROM pg_namespace WHERE nspowner = pg_roles.oid)"
        " OR EXISTS (SELECT FROM pg_database WHERE datdba = pg_roles.oid))",
        RUNTIME,
    )

    assert special == []


@pytest.mark.parametrize("role", RUNTIME)
async def test_a_transaction_that_stands_still_is_ended(database, superuser, role):
    connection = await asyncpg.connect(database.url(role).replace("+asyncpg", ""))
    try:
        assert await connection.fetchval("SHOW transaction_timeout") == "1min"
        await connection.execute("SET transaction_timeout = '1s'")
        await connection.execute("BEGIN")
        await connection.execute("SELECT pg_advisory_xact_lock(1)")
        await connection.prepare("SELECT $1::int")
        # It is not idle in its transaction for PostgreSQL, which expects the rest of the statement.
        state = "SELECT state FROM pg_stat_activity WHERE pid = $1"
        assert await superuser.fetchval(state, connection.get_server_pid()) == "active"
        async with asyncio.timeout(10):
            await superuser.execute("SELECT pg_advisory_lock(1)")  # Whoever waits for it goes on.
        with pytest.raises(CUT_OFF) as ended:
            await connection.execute("SELECT 1")
    finally:
        await connection.close()
    assert isinstance(translate(ended.value, {}), DatabaseUnavailable)


@pytest.mark.parametrize("state", ["25P03", "25P04"])
def test_whose_transaction_was_ended_may_try_again(state):
    error = asyncpg.PostgresError.new({"C": state, "M": "terminating connection"})
    assert isinstance(translate(error, {}), DatabaseUnavailable)


async def test_migrations_may_take_their_time(database):
    connection = await asyncpg.connect(database.url("tellwire_owner").replace("+asyncpg", ""))
    try:
        assert await connection.fetchval("SHOW transaction_timeout") == "0"
    finally:
        await connection.close()


async def test_rights_are_given_to_our_roles_by_name_and_cannot_be_passed_on(superuser):
    found = await rights(superuser)

    assert {role for role, *_ in found} <= set(RUNTIME)
    assert {privilege for _, _, privilege, _ in found} <= BY_NAME
    assert not any(grantable for *_, grantable in found)


async def test_roles_that_work_for_all_tenants_have_the_rights_they_were_designed_with(superuser):
    found = {
        (role, object_, privilege)
        for role, object_, privilege, _ in await rights(superuser)
        if role != "tellwire_app"
    }

    assert found == ACROSS_TENANTS


async def test_the_application_may_do_anything_to_its_tables_but_rewrite_histories(
    superuser, proofs
):
    found = {
        (object_, privilege)
        for role, object_, privilege, _ in await rights(superuser)
        if role == "tellwire_app" and object_ != "alembic_version"
    }

    names = ["meta_apps", *(table.name for table in proofs.tables)]
    designed = {
        (name, privilege)
        for name in names
        for privilege in BY_NAME - set(proofs.histories.get(name, ("", None))[0].split())
    }
    designed |= {(f"{name}.{c}", "UPDATE") for name, (_, c) in proofs.histories.items() if c}
    assert found == designed


@pytest.mark.parametrize(
    "rewriting",
    [
        "UPDATE whatsapp_status_events SET status = 'delivered'",
        "UPDATE whatsapp_status_events SET errors = NULL",
        "UPDATE whatsapp_status_events SET occurred_at = now(), message_id = NULL",
        "DELETE FROM whatsapp_status_events",
        "TRUNCATE whatsapp_status_events",
        "SELECT FROM whatsapp_message_attempts FOR UPDATE",
        "UPDATE whatsapp_message_attempts SET outcome = 'accepted'",
        "DELETE FROM whatsapp_message_attempts",
        "UPDATE whatsapp_inbound_messages SET body = '{}'",
        "UPDATE events SET data = '{}'",
        "UPDATE webhook_deliveries SET outcome = 'delivered'",
    ],
)
async def test_postgresql_refuses_the_application_to_rewrite_what_has_happened(database, rewriting):
    app = await asyncpg.connect(database.url("tellwire_app").replace("+asyncpg", ""))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(rewriting)
    finally:
        await app.close()


@pytest.mark.parametrize(
    "loosened",
    [
        "GRANT TRUNCATE ON api_keys TO tellwire_app",
        "GRANT REFERENCES ON api_keys TO tellwire_app",
        "GRANT TRIGGER ON api_keys TO tellwire_app",
        "GRANT MAINTAIN ON api_keys TO tellwire_app",
        "GRANT SELECT ON api_keys TO PUBLIC",
        "GRANT SELECT ON api_keys TO tellwire_app WITH GRANT OPTION",
        "GRANT SELECT (access_token) ON whatsapp_channels TO tellwire_process",
        "GRANT SELECT ON whatsapp_outbound_messages TO tellwire_dispatch",
        "GRANT DELETE ON whatsapp_send_queue TO tellwire_dispatch",
        "GRANT SELECT ON events TO tellwire_dispatch",
        "GRANT SELECT (url) ON webhook_endpoints TO tellwire_dispatch",
        "GRANT DELETE ON webhook_delivery_queue TO tellwire_dispatch",
        "GRANT SELECT ON webhook_inbox TO tellwire_intake",
        "GRANT DELETE ON whatsapp_status_events TO tellwire_app",
        "GRANT UPDATE (status) ON whatsapp_status_events TO tellwire_app",
        "GRANT UPDATE ON whatsapp_message_attempts TO tellwire_app",
    ],
)
async def test_a_loosened_right_would_be_noticed(superuser, proofs, loosened):
    transaction = superuser.transaction()
    await transaction.start()
    await superuser.execute(loosened)
    with pytest.raises(AssertionError):
        await _all_rights_are_as_designed(superuser, proofs)
    await transaction.rollback()


@pytest.mark.parametrize("role", RUNTIME)
async def test_a_role_of_ours_is_accepted(database, role):
    await _start_as(database.url(role))


async def test_the_owner_of_the_tables_is_refused(database):
    with pytest.raises(Misconfigured, match="owns tables"):
        await _start_as(database.url("tellwire_owner"))


async def test_a_superuser_is_refused(database):
    with pytest.raises(Misconfigured, match=r"is a superuser and may bypass row-level security"):
        await _start_as(database.superuser_url)


@pytest.mark.parametrize(
    ("made_unsafe", "reason"),
    [
        ("GRANT tellwire_owner TO unsafe", "owns tables"),
        ("CREATE ROLE between; GRANT tellwire_owner TO between; GRANT between TO unsafe", "owns"),
        ("ALTER ROLE unsafe NOINHERIT; GRANT tellwire_owner TO unsafe", "owns tables"),
        ("ALTER ROLE unsafe BYPASSRLS", "bypass row-level security"),
        ("CREATE ROLE between BYPASSRLS; GRANT between TO unsafe", "bypass row-level security"),
        ("ALTER ROLE unsafe REPLICATION", "may replicate"),
        ("ALTER ROLE unsafe CREATEROLE", "may create roles"),
        ("GRANT pg_read_server_files TO unsafe", "server's files"),
        (
            "ALTER ROLE unsafe SET app.jwt_tenant = '01936f2e-0000-7000-8000-000000000001'",
            "as one tenant",
        ),
    ],
)
async def test_a_role_that_could_evade_the_policies_is_refused(
    database, superuser, made_unsafe, reason
):
    await superuser.execute("CREATE ROLE unsafe LOGIN")
    await superuser.execute(f"GRANT CONNECT ON DATABASE {database.name} TO unsafe")
    try:
        await superuser.execute(made_unsafe)
        with pytest.raises(Misconfigured, match=reason):
            await _start_as(database.url("unsafe"))
    finally:
        await superuser.execute("DROP OWNED BY unsafe; DROP ROLE unsafe")
        await superuser.execute("DROP ROLE IF EXISTS between")


async def test_a_role_that_postgresql_does_not_let_in_is_a_setting_to_mend(database):
    with pytest.raises(Misconfigured, match=r"does not let us in.*SQLSTATE 28"):
        await _start_as(database.url("nobody_of_that_name"))


async def _all_rights_are_as_designed(superuser, proofs):
    await test_the_application_may_do_anything_to_its_tables_but_rewrite_histories(
        superuser, proofs
    )
    await test_rights_are_given_to_our_roles_by_name_and_cannot_be_passed_on(superuser)
    await test_roles_that_work_for_all_tenants_have_the_rights_they_were_designed_with(superuser)


async def _start_as(url):
    engine = create_engine(url)
    try:
        await refuse_unsafe_role(engine)
    finally:
        await engine.dispose()
