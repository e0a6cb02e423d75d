"""Putting due retries back into the queue: no message keeps those of its tenant waiting."""

import asyncio
from datetime import timedelta

import pytest

from shared.kernel.clock import utc_now
from whatsapp.application.tend_channel import RetryFailed
from whatsapp.domain.repositories import Revival, StatusReport
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres
S = MessageStatus
BEA, CARLA = "+491511000002", "+491511000003"
PAST = timedelta(seconds=-1)


@pytest.fixture
async def retry(office):
    tending = RetryFailed(begin=work_in(office.sessions))
    return lambda: tending(office.tenant)


async def throttled(office, channel, recipient, superuser):
    """A message that Meta refused in a way that has passed by now."""
    office.meta.refusals[recipient] = 131000
    (message,) = await office.store(channel, recipient)
    await office.dispatch(channel)
    (stored,) = await office.read([message])
    assert stored.status is S.RETRYING
    await superuser.execute(
        "UPDATE whatsapp_send_queue SET due_at = now() - interval '1 second' WHERE id = $1",
        message.id,
    )
    return message


def report(message, status, wamid):
    return StatusReport(
        wamid=wamid, status=status, occurred_at=utc_now(), message_id=message.id, attempt=1
    )


async def test_what_was_delivered_while_its_failure_was_stored_keeps_no_other_waiting(
    office, superuser, retry
) -> None:
    channel, begin = await office.channel(), work_in(office.sessions)
    (delivered,) = await office.store(channel, BEA)
    await office.dispatch(channel)
    wamid = office.meta.accepted[-1][2]
    other = await throttled(office, channel, CARLA, superuser)

    async def deliver() -> None:
        async with begin(office.tenant) as work:
            reports = [report(delivered, S.DELIVERED, wamid)]
            await work.messages.record_statuses(channel.id, reports)
            await work.commit()

    async def waits_for_a_lock() -> bool:
        return await superuser.fetchval(
            "SELECT true FROM pg_stat_activity WHERE wait_event_type = 'Lock' LIMIT 1"
        )

    # Meta reports both. Whoever stores that it was delivered began before it went again.
    async with begin(office.tenant) as work:
        reports = [report(delivered, S.FAILED, wamid)]
        await work.messages.record_statuses(channel.id, reports)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(deliver())
            while not await waits_for_a_lock():  # noqa: ASYNC110  # PostgreSQL sets no events
                await asyncio.sleep(0.01)
            now = utc_now()
            again = Revival(message=delivered, attempt=1, failed_at=now, due_at=now + PAST)
            assert await work.messages.send_again([again], at=now) == {delivered.id}
            await work.commit()

    assert await retry() == 1
    assert [one.status for one in await office.read([delivered, other])] == [S.DELIVERED, S.QUEUED]
    assert (
        await superuser.fetchval(
            "SELECT count(*) FROM whatsapp_send_queue WHERE id = $1", delivered.id
        )
        == 0
    )


async def test_what_cannot_be_read_keeps_no_other_waiting(office, superuser, retry) -> None:
    channel = await office.channel()
    broken = await throttled(office, channel, BEA, superuser)
    other = await throttled(office, channel, CARLA, superuser)
    await superuser.execute(
        "UPDATE whatsapp_outbound_messages SET recipient = '+canary' WHERE id = $1", broken.id
    )

    assert await retry() == 2
    await office.dispatch(channel)

    statuses = "SELECT status FROM whatsapp_outbound_messages WHERE id = $1"
    assert await superuser.fetchval(statuses, broken.id) == "failed"
    assert await superuser.fetchval(statuses, other.id) == "sent"


async def test_what_somebody_else_is_changing_is_left_to_the_next_turn(
    office, superuser, retry
) -> None:
    channel = await office.channel()
    message = await throttled(office, channel, BEA, superuser)

    async with superuser.transaction():
        await superuser.execute(
            "UPDATE whatsapp_outbound_messages SET details = details WHERE id = $1", message.id
        )
        assert await retry() == 0

    assert await retry() == 1
