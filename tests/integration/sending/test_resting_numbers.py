"""A number that Meta restricts rests to the end, whatever becomes of Redis meanwhile.

Real PostgreSQL, real limiter; Meta is a sender that answers with Meta's codes.
"""

import logging
from datetime import timedelta

import pytest

from shared.infrastructure.redis import connect
from shared.kernel.clock import utc_now
from whatsapp.application.change_channel import ChangeChannel, PauseChannel, ResumeChannel
from whatsapp.application.tend_channel import RetryFailed
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.infrastructure.persistence.repositories import RedisRateLimiter
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

S = MessageStatus
RATE = 80
BEA, EVE, KIM = "+4915100000001", "+4915100000002", "+4915100000003"
HOUR, MINUTE, MOMENT = timedelta(hours=1), timedelta(minutes=1), timedelta(milliseconds=100)


@pytest.fixture
def end_the_rest(superuser):
    """As if the hour had passed, for the messages too."""

    async def end_the_rest(sessions, tenant) -> None:
        await superuser.execute("UPDATE whatsapp_channels SET rests_until = now()")
        await superuser.execute("UPDATE whatsapp_send_queue SET due_at = now()")
        await RetryFailed(begin=work_in(sessions))(tenant)

    return end_the_rest


@pytest.mark.parametrize("later", [False, True])
async def test_nothing_leaves_until_the_end_although_redis_was_flushed(
    office, webhooks, flush, end_the_rest, sessions, later
) -> None:
    channel, other = await office.channel(), await office.channel()
    if not later:
        office.meta.refusals[BEA] = 131048
    restricted = await office.store(channel, BEA)
    await office.dispatch(channel)
    if later:
        await webhooks.fail(channel, 131048)
    assert [one.status for one in await office.read(restricted)] == [S.RETRYING]
    kept = await office.store(channel, EVE, KIM)

    await flush(channel)
    await office.dispatch(channel)

    assert len(office.meta.sent) == 1
    assert [one.status for one in await office.read(kept)] == [S.QUEUED] * 2
    stored = await office.state_of(channel)
    assert stored.is_active
    assert HOUR - MINUTE < stored.rest_at(utc_now()) <= HOUR
    assert await office.send(other, BEA) == [S.SENT]

    await end_the_rest(sessions, office.tenant)
    await office.dispatch(channel)
    assert [one.status for one in await office.read(restricted + kept)] == [S.SENT] * 3


async def test_who_serves_the_channel_knows_how_long_it_makes_no_sense_to_come_back(
    office, flush
) -> None:
    channel = await office.channel()
    office.meta.refusals["any"] = 131048
    await office.send(channel, BEA)
    await flush(channel)

    dispatcher = office.dispatcher(channel)
    await dispatcher.run()

    assert HOUR - MINUTE < dispatcher.resting <= HOUR


async def test_nothing_that_is_done_to_the_channel_shortens_its_rest(office, sessions) -> None:
    channel = await office.channel()
    office.meta.refusals["any"] = 131048
    before = await office.state_of(channel)
    await office.send(channel, BEA)
    rests_until = (await office.state_of(channel)).rests_until
    begin = work_in(sessions)

    await PauseChannel(begin=begin)(office.tenant, channel.id, reason="Stocktaking")
    await ResumeChannel(begin=begin)(office.tenant, channel.id)
    await ChangeChannel(begin=begin)(office.tenant, channel.id, {"name": "Renamed"})
    async with begin(office.tenant) as work:
        await work.channels.update(before)  # By somebody who knew nothing of the rest.
        await work.channels.rest(channel.id, MINUTE)
        await work.commit()

    assert (await office.state_of(channel)).rests_until == rests_until


async def test_what_passes_within_seconds_is_kept_in_redis_alone(office) -> None:
    channel = await office.channel()
    office.meta.refusals["any"] = 130429
    await office.send(channel, BEA)

    assert (await office.state_of(channel)).rests_until is None


async def test_without_redis_the_rest_is_kept_all_the_same(office, webhooks, caplog) -> None:
    channel = await office.channel()
    await office.send(channel, BEA)
    gone = connect("redis://127.0.0.1:1")
    webhooks.without_redis(RedisRateLimiter(gone))

    with caplog.at_level(logging.WARNING):
        await webhooks.fail(channel, 131048)
    await gone.aclose()

    assert (await office.state_of(channel)).rest_at(utc_now()) > HOUR - MINUTE
