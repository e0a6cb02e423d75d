"""What docs/operations.md says about growth: how old messages go, and what goes with them."""

from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text

from shared.kernel.clock import utc_now
from whatsapp.domain.repositories import AttemptResult, StatusReport
from whatsapp.domain.value_objects import MessageStatus

pytestmark = pytest.mark.postgres

OLDER = text(
    "DELETE FROM whatsapp_outbound_messages WHERE id IN"
    " (SELECT id FROM whatsapp_outbound_messages WHERE created_at < :before LIMIT 1000)"
)
OF_MESSAGES = ("whatsapp_message_attempts", "whatsapp_status_events", "whatsapp_send_queue")
S = MessageStatus
PAGE = Path(__file__).parents[3] / "docs" / "operations.md"


def accepted(entry):
    now = utc_now()
    return AttemptResult(
        message_id=entry.message_id,
        lease_token=entry.lease_token,
        number=entry.attempt,
        status=S.SENT,
        outcome="accepted",
        started_at=now,
        finished_at=now,
        wamid=f"wamid.{entry.message_id}",
    )


def delivered(entry):
    return StatusReport(
        wamid=f"wamid.{entry.message_id}",
        status=S.DELIVERED,
        occurred_at=utc_now(),
        message_id=entry.message_id,
        attempt=entry.attempt,
        failure=None,
    )


async def test_old_messages_of_one_tenant_go_with_attempts_statuses_and_their_place_in_the_queue(
    at, ana, bea, message, claim, send_queue, superuser
):
    saved = {}
    for customer in (ana, bea):
        async with at(customer) as desk:
            saved[customer.tenant_id] = await desk.messages.save_outbound(message(customer))
        (entry,) = await claim(customer)
        await send_queue.mark([entry], lease=timedelta(minutes=1))
        async with at(customer) as desk:
            await desk.messages.record_attempts([accepted(entry)])
            await desk.messages.record_statuses(customer.channel.id, [delivered(entry)])
    async with at(ana) as desk:
        waiting = await desk.messages.save_outbound(message(ana))

    async with at(ana) as desk:
        gone = await desk.uow.session.execute(OLDER, {"before": utc_now() + timedelta(hours=1)})
        assert gone.rowcount == 2

    for table in OF_MESSAGES:
        left = await superuser.fetch(f"SELECT DISTINCT tenant_id FROM {table}")  # noqa: S608  # our tables
        expected = [] if table == "whatsapp_send_queue" else [bea.tenant_id]
        assert [row["tenant_id"] for row in left] == expected, table
    async with at(ana) as desk:
        assert await desk.messages.get_outbound_by_id(waiting.id) is None
    async with at(bea) as desk:
        kept = await desk.messages.get_outbound_by_id(saved[bea.tenant_id].id)
        assert kept.status is S.DELIVERED


async def test_the_role_that_is_named_may_empty_the_quarantine(database, superuser):
    await superuser.execute(
        "INSERT INTO webhook_quarantine (id, inbox_id, app_id, reason, raw, received_at)"
        " SELECT gen_random_uuid(), gen_random_uuid(), '1', 'nobody', '{}',"
        " now() - n * interval '60 days' FROM generate_series(1, 3) n"
    )
    statement = "DELETE FROM webhook_quarantine WHERE received_at < now() - interval '90 days'"
    assert statement in PAGE.read_text("utf-8")

    url = database.url("tellwire_process").replace("+asyncpg", "")
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()

    assert await superuser.fetchval("SELECT count(*) FROM webhook_quarantine") == 1
