"""Plans that PostgreSQL makes once for all tenants must also serve the largest of them.

After five executions a prepared statement may get such a plan, and it takes a channel for as large
as the average. What a statement reads is counted in rows and index entries, not in time.
"""

import time
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from whatsapp.domain.send_queue import LANES
from whatsapp.infrastructure.persistence.repositories import (
    message_statements,
    queue_statements,
    report_statements,
    retry_statements,
)

LARGE, SMALL = 20_000, 300
TENANT, CHANNEL = new_id(), new_id()
LOAD = (
    "SET session_replication_role = replica",  # Foreign keys are not what is tested here.
    f"""
    CREATE TEMP TABLE owner AS
    SELECT '{TENANT}'::uuid AS tenant, '{CHANNEL}'::uuid AS channel, {LARGE} AS messages
    UNION ALL SELECT uuidv7(), uuidv7(), 1 FROM generate_series(1, {SMALL})
    """,  # noqa: S608  # our own ids and numbers
    "INSERT INTO tenants (id, name) SELECT tenant, 'Somebody' FROM owner",
    """
    INSERT INTO whatsapp_channels
        (tenant_id, id, name, phone_number_id, access_token, status, messages_per_second)
    SELECT tenant, channel, 'Main', '1', '', 'active', 80 FROM owner
    """,
    """
    INSERT INTO whatsapp_outbound_messages
        (tenant_id, id, channel_id, recipient, type, body, idempotency_key, digest, status, lane,
         details, attempts, created_at, status_at)
    SELECT tenant, uuidv7(), channel, '+4915' || i, 'text', '{"body": "Hello"}', i::text, '',
           'queued', 1, '{}', 0, now(), now()
    FROM owner CROSS JOIN generate_series(1, messages) AS i
    """,
    """
    INSERT INTO whatsapp_send_queue
        (tenant_id, id, channel_id, recipient_key, lane, state, due_at, attempt)
    SELECT tenant_id, id, channel_id, hashtextextended(recipient, 0), 1, 'ready', now(), 0
    FROM whatsapp_outbound_messages
    """,
    "VACUUM (ANALYZE) whatsapp_channels",
    "VACUUM (ANALYZE) whatsapp_outbound_messages",
    "VACUUM (ANALYZE) whatsapp_send_queue",
)


ENTRIES_READ = """
    SELECT sum(pg_stat_get_xact_tuples_returned(oid)) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
"""
REPORTS = 20
TOLD = {
    "channel": CHANNEL,
    "event_ids": [new_id() for _ in range(REPORTS)],
    "message_ids": [new_id() for _ in range(REPORTS)],
    "wamids": [f"wamid.{i}" for i in range(REPORTS)],
    "statuses": ["sent"] * REPORTS,
    "attempts": [1] * REPORTS,
    "seconds": [time.time()] * REPORTS,
} | {name: [None] * REPORTS for name in ("errors", "pricing", "codes", "titles", "details")}
STATEMENTS = {
    "claim": (
        "tellwire_dispatch",
        queue_statements.CLAIM,
        {
            "channels": [CHANNEL],
            "lanes": [",".join(map(str, LANES))],
            "limits": [50],
            "in_order": [True],
            "tokens": [new_id()],
            "lease": timedelta(minutes=1),
        },
    ),
    "failed for retry": ("tellwire_app", message_statements.FAILED_FOR_RETRY, {"limit": 50}),
    "requeue due": (
        "tellwire_app",
        retry_statements.REQUEUE_DUE,
        {"limit": 50, "at": utc_now()},
    ),
    "record statuses": ("tellwire_app", report_statements.RECORD_STATUSES, TOLD),
    "record new statuses": ("tellwire_app", report_statements.RECORD_NEW_STATUSES, TOLD),
}


@pytest.fixture
async def large_tenant(database):
    # Only a superuser may write the rows of many tenants at once.
    connection = await asyncpg.connect(database.superuser_url.replace("+asyncpg", ""))
    for statement in LOAD:
        await connection.execute(statement)
    await connection.close()
    return database


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_plan_made_for_all_tenants_does_not_read_the_whole_queue_of_the_largest(
    large_tenant, name
):
    role, statement, parameters = STATEMENTS[name]
    compiled = statement.compile(dialect=PGDialect_asyncpg())
    given = {"tenant": TENANT} | parameters
    connection = await asyncpg.connect(large_tenant.url(role).replace("+asyncpg", ""))
    await connection.execute(f"SELECT set_config('app.jwt_tenant', '{TENANT}', false)")
    await connection.execute("SET plan_cache_mode = force_generic_plan")

    async with connection.transaction():
        await connection.fetch(str(compiled), *[given[key] for key in compiled.positiontup])
        read = await connection.fetchval(ENTRIES_READ)
    await connection.close()

    assert 0 < read < LARGE / 5
