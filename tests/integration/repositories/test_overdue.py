"""Housekeeping finds the tenants with something old by one statement for a thousand of them."""

from datetime import timedelta

import pytest

from plans import catch
from shared.infrastructure.database import create_engine
from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyOverdue
from whatsapp.infrastructure.persistence.repositories.overdue import PAGE

pytestmark = pytest.mark.postgres

DAY, WEEK = timedelta(days=1), timedelta(days=7)
FILE = """
    INSERT INTO whatsapp_media (tenant_id, id, direction, kind, status, used_at)
    VALUES ($1, uuidv7(), $2, 'image', $3, $4)
"""
EVENT = """
    INSERT INTO events (tenant_id, id, number, type, attempt, data, occurred_at, recorded_at)
    VALUES ($1, uuidv7(), $2, 'channel.paused', 0, '{}', now(), $3)
"""
ENDPOINT = """
    INSERT INTO webhook_endpoints (tenant_id, id, url, description, event_types, channel_ids,
                                   format, secret, is_enabled)
    VALUES ($1, $1, 'https://a.example', '', '[]', '[]', 'tellwire', ''::bytea, true)
"""
DELIVERY = """
    INSERT INTO webhook_deliveries (tenant_id, id, endpoint_id, event_id, event_type, attempt,
                                    outcome, excerpt, took_ms, attempted_at)
    VALUES ($1, uuidv7(), $1, uuidv7(), 'channel.paused', 1, 'delivered', '', 1, $2)
"""


@pytest.fixture
async def process(database):
    engine = create_engine(database.url("tellwire_process"))
    yield engine
    await engine.dispose()


@pytest.fixture
def overdue(process):
    """Who has files that nobody used for a week, or uploads begun a day ago; and whose events."""

    async def overdue(*, keeps_files=False):
        asked, now = SQLAlchemyOverdue(process), utc_now()
        before = None if keeps_files else now - WEEK
        files = [one async for one in asked.of_files(before=before, begun_before=now - DAY)]
        return files, [one async for one in asked.of_events(before=now - WEEK)]

    return overdue


@pytest.mark.parametrize(
    ("direction", "status", "age", "is_due", "is_due_where_files_are_kept"),
    [
        ("inbound", "stored", timedelta(days=8), True, False),
        ("outbound", "stored", timedelta(days=8), True, False),
        ("inbound", "stored", timedelta(days=6), False, False),
        ("inbound", "removing", timedelta(), True, True),
        ("inbound", "removed", timedelta(days=8), False, False),
        ("inbound", "failed", timedelta(days=8), False, False),
        ("outbound", "pending", timedelta(days=2), True, True),
        ("outbound", "pending", timedelta(hours=2), False, False),
        ("inbound", "pending", timedelta(days=8), False, False),
    ],
)
async def test_whose_files_are_old(
    superuser, ana, bea, overdue, direction, status, age, is_due, is_due_where_files_are_kept
) -> None:
    await superuser.execute(FILE, bea.tenant_id, "inbound", "stored", utc_now())
    await superuser.execute(FILE, ana.tenant_id, direction, status, utc_now() - age)

    assert await overdue() == ([ana.tenant_id] if is_due else [], [])
    kept = [ana.tenant_id] if is_due_where_files_are_kept else []
    assert await overdue(keeps_files=True) == (kept, [])


@pytest.mark.parametrize("age", [timedelta(days=8), timedelta(days=6)])
async def test_whose_events_are_old(superuser, ana, bea, overdue, age) -> None:
    await superuser.execute(EVENT, bea.tenant_id, 1, utc_now())
    for number, recorded_at in enumerate((utc_now() - age, utc_now())):
        await superuser.execute(EVENT, ana.tenant_id, number, recorded_at)

    assert await overdue() == ([], [ana.tenant_id] if age > WEEK else [])


@pytest.mark.parametrize("age", [timedelta(days=8), timedelta(days=6)])
async def test_whose_deliveries_are_old(superuser, ana, bea, overdue, age) -> None:
    for customer, attempted_at in ((bea, utc_now()), (ana, utc_now() - age), (ana, utc_now())):
        await superuser.execute(f"{ENDPOINT} ON CONFLICT DO NOTHING", customer.tenant_id)
        await superuser.execute(DELIVERY, customer.tenant_id, attempted_at)

    assert await overdue() == ([], [ana.tenant_id] if age > WEEK else [])


async def test_a_thousand_tenants_with_nothing_old_cost_one_statement(
    superuser, process, overdue
) -> None:
    tenants = sorted(new_id() for _ in range(2 * PAGE + 3))
    await superuser.execute(
        "INSERT INTO tenants (id, name) SELECT unnest($1::uuid[]), 'A tenant'", tenants
    )
    due = [tenants[0], tenants[PAGE - 1], tenants[PAGE], tenants[-1]]
    for tenant in due:
        await superuser.execute(FILE, tenant, "inbound", "removing", utc_now())
        await superuser.execute(EVENT, tenant, 1, utc_now() - 2 * WEEK)
    sent = catch(process)

    assert await overdue() == (due, due)

    assert len(sent) == 2 * 3
