"""A channel that gives up its order: what had stepped aside goes out, and nothing of it is lost."""

import asyncio
from datetime import timedelta

import pytest
from alembic import command

from shared.kernel.clock import utc_now
from tellwire.database import alembic_config
from whatsapp.application.change_channel import ChangeChannel
from whatsapp.application.tend_channel import RetryFailed
from whatsapp.domain.repositories import AttemptResult
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMessageRepository
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres
S = MessageStatus
BEA = "+491511000002"
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def waiting(office):
    """A channel and two messages to one recipient: one retries in an hour, one waits behind it."""
    channel = await office.channel()
    office.meta.refusals[BEA] = 131048
    messages = await office.store(channel, BEA, BEA)
    await office.dispatch(channel)
    assert [one.status for one in await office.read(messages)] == [S.RETRYING, S.QUEUED]
    return channel, messages[1]


async def lane_of(superuser, message) -> int | None:
    return await superuser.fetchval(
        "SELECT lane FROM whatsapp_send_queue WHERE id = $1", message.id
    )


async def give_up_order(office, channel) -> None:
    await ChangeChannel(begin=work_in(office.sessions))(
        office.tenant, channel.id, {"keeps_order": False}
    )


async def is_seen(office) -> bool:
    return any(work.sending for work in await office.queue.find_work())


async def marked_out_of_order(office, channel):
    """As by a worker that begins just before the change and goes on after it."""
    (entry,) = await office.queue.claim(
        tenant_id=office.tenant, channel_id=channel.id, limit=9, lease=MINUTE, in_order=False
    )
    await office.queue.mark([entry], lease=MINUTE)
    return entry


async def test_what_had_stepped_aside_is_seen_at_once_and_waits_for_no_other(
    office, superuser, waiting
) -> None:
    channel, behind = waiting
    assert (await lane_of(superuser, behind), await is_seen(office)) == (-9, False)

    await give_up_order(office, channel)

    assert (await lane_of(superuser, behind), await is_seen(office)) == (1, True)


@pytest.mark.parametrize(
    ("status", "lane", "found"), [(S.RETRYING, 11, "queued"), (S.UNKNOWN, 21, "unknown")]
)
async def test_its_outcome_is_where_somebody_looks_for_it(
    office, superuser, waiting, status, lane, found
) -> None:
    channel, behind = waiting
    entry = await marked_out_of_order(office, channel)
    now = utc_now()
    result = AttemptResult(
        message_id=entry.message_id,
        lease_token=entry.lease_token,
        number=entry.attempt,
        status=status,
        outcome="deferred",
        started_at=now,
        finished_at=now,
        due_at=now - MINUTE,
    )

    await office.work(lambda s: SQLAlchemyMessageRepository(s).record_attempts([result]))

    assert await lane_of(superuser, behind) == lane
    await RetryFailed(begin=work_in(office.sessions))(office.tenant)
    assert [one.status for one in await office.read([behind])] == [found]


async def test_what_its_worker_left_behind_is_found(office, superuser, waiting) -> None:
    channel, behind = waiting
    await marked_out_of_order(office, channel)
    await superuser.execute(
        "UPDATE whatsapp_send_queue SET lease_until = now() - interval '1 second' WHERE id = $1",
        behind.id,
    )

    of_channel = (office.tenant, channel.id)
    assert list(await office.queue.find_abandoned([of_channel], limit=1000)) == [of_channel]
    held = await office.work(
        lambda s: SQLAlchemyMessageRepository(s).settle_abandoned(channel.id, unknown_for=MINUTE)
    )
    assert held == 1


@pytest.mark.parametrize(
    ("state", "wrong", "right"),
    [("retrying", 1, 11), ("unknown", 11, 21), ("dispatching", -9, 1), ("ready", -9, -9)],
)
async def test_what_an_older_release_lost_is_where_it_belongs_after_the_migration(
    database, superuser, waiting, state, wrong, right
) -> None:
    _, behind = waiting
    config = alembic_config(database.url("tellwire_owner"))

    await asyncio.to_thread(command.downgrade, config, "0017")
    await superuser.execute(
        "UPDATE whatsapp_send_queue SET state = $2, lane = $3 WHERE id = $1",
        *(behind.id, state, wrong),
    )
    await asyncio.to_thread(command.upgrade, config, "head")

    assert await lane_of(superuser, behind) == right
