"""What Meta takes and fails later slows down or stops as much as a refusal at once would.

Real PostgreSQL, real limiter, real intake; Meta is a sender, and its webhooks are written here.
"""

import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.infrastructure.redis import connect
from shared.kernel.clock import utc_now
from webhook_bodies import body, messages_of
from whatsapp.application.change_channel import ResumeChannel
from whatsapp.application.heed_reports import HeedReports
from whatsapp.application.tend_channel import RetryFailed
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_status_errors
from whatsapp.infrastructure.persistence.repositories import (
    RedisRateLimiter,
)
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

S = MessageStatus
RATE = 80
BEA, EVE, KIM = "+4915100000001", "+4915100000002", "+4915100000003"
MOMENT = timedelta(milliseconds=100)
HOUR = timedelta(hours=1)


async def test_trouble_of_the_channel_pauses_it_and_keeps_its_messages(
    office, webhooks, told, sessions, caplog
) -> None:
    troubled, other = await office.channel(), await office.channel()
    sent = await office.store(troubled, BEA, EVE)
    await office.dispatch(troubled)

    with caplog.at_level(logging.ERROR):
        await webhooks.fail(troubled, 131042, 131042)
    kept = await office.store(troubled, KIM)
    await office.dispatch(troubled)

    stored = await office.state_of(troubled)
    assert (stored.is_active, stored.pause_reason) == (False, "No (code 131042)")
    assert [one.status for one in await office.read(sent + kept)] == [S.QUEUED] * 3
    assert len(office.meta.sent) == 2  # Nobody asked Meta again.
    assert [one.getMessage() for one in caplog.records] == [
        f"channel {troubled.id} paused: meta_131042"
    ]
    # No message is told to have failed: it goes again.
    assert [one for one in await told() if one[0] != "message.sent"] == [
        ("channel.paused", "No (code 131042)")
    ]
    assert (await office.state_of(other)).is_active

    await ResumeChannel(begin=work_in(sessions))(office.tenant, troubled.id)
    await office.dispatch(troubled)
    assert [one.status for one in await office.read(sent + kept)] == [S.SENT] * 3
    assert sorted(one[1] for one in office.meta.sent[2:]) == [BEA, EVE, KIM]


async def test_a_resume_with_the_trouble_still_there_ends_in_another_pause(
    office, webhooks, sessions
) -> None:
    channel = await office.channel()
    (message,) = await office.store(channel, BEA)
    for number in (1, 2, 3):
        await office.dispatch(channel)
        await office.dispatch(channel)
        assert len(office.meta.sent) == number
        await webhooks.fail(channel, 131042)
        assert not (await office.state_of(channel)).is_active
        await ResumeChannel(begin=work_in(sessions))(office.tenant, channel.id)

    (found,) = await office.read([message])
    assert (found.status, found.attempts) == (S.QUEUED, 3)
    assert found.failure.code == 131042


async def test_a_repeated_report_pauses_nothing_again(office, webhooks, sessions) -> None:
    channel = await office.channel()
    (message,) = await office.store(channel, BEA)
    await office.dispatch(channel)
    report = await webhooks.fail(channel, 131042)
    await ResumeChannel(begin=work_in(sessions))(office.tenant, channel.id)

    # Not the same bytes, so that the inbox does not know them; and once more after the next send.
    await webhooks.take_in(report + b" ")
    assert (await office.state_of(channel)).is_active
    await office.dispatch(channel)
    await webhooks.take_in(report + b"  ")
    # Told anew under another time, so that it is news; of an attempt that another has followed.
    await webhooks.fail(channel, 131042, accepted=office.meta.accepted[:1], at=HOUR)

    assert (await office.state_of(channel)).is_active
    assert [one.status for one in await office.read([message])] == [S.SENT]


async def test_what_has_expired_meanwhile_stays_failed(office, webhooks) -> None:
    channel = await office.channel()
    (message,) = await office.store(channel, BEA, expires_at=utc_now() + HOUR)
    await office.dispatch(channel)
    apply = webhooks.process.apply
    later = replace(apply.statuses, now=lambda: utc_now() + HOUR)
    webhooks.process = replace(webhooks.process, apply=replace(apply, statuses=later))

    await webhooks.fail(channel, 131042)

    (found,) = await office.read([message])
    assert (found.status, found.failure.code) == (S.FAILED, 131042)
    assert not (await office.state_of(channel)).is_active


async def test_too_many_messages_rest_the_number_and_slow_it_down_once_per_body(
    office, webhooks
) -> None:
    channel, other = await office.channel(), await office.channel()
    sent = await office.store(channel, BEA, EVE, KIM)
    await office.dispatch(channel)

    await webhooks.fail(channel, 130429, 130429, 130429)

    assert MOMENT < await office.wait_of(channel) <= timedelta(seconds=1)
    assert await office.wait_of(other) < MOMENT
    assert [one.status for one in await office.read(sent)] == [S.RETRYING] * 3
    assert 1.04 < await office.spacing_of(channel) * RATE / 1.008 < 1.07


async def test_however_many_a_body_fails_each_thing_is_heeded_once(
    office, webhooks, sessions, redis_url
) -> None:
    channel = await office.channel()
    await office.send(channel, *[BEA, EVE, KIM] * 2, KIM)
    done, redis = [], connect(redis_url)

    class Noted(RedisRateLimiter):
        async def hold(self, number, duration) -> None:
            done.append(("hold", duration))
            await super().hold(number, duration)

        async def slow_down(self, number, **given) -> None:
            done.append("slow down")
            await super().slow_down(number, **given)

        async def hold_pair(self, number, recipient, duration) -> None:
            done.append(("hold pair", recipient))
            await super().hold_pair(number, recipient, duration)

    def begin(*given):
        done.append("begin")
        return work_in(sessions)(*given)

    heed = HeedReports(begin=begin, limiter=Noted(redis), judge=outcome_of_status_errors)
    webhooks.process = replace(webhooks.process, heed_reports=heed)

    await webhooks.fail(channel, 131056, 131056, 131048, 130429, *[131042] * 3)
    await redis.aclose()

    # To read the channel and to pause it; to read it and whom the pair is about, and to rest it.
    assert done.count("begin") == 4
    held = [one for one in done if one != "begin"]
    assert sorted(held, key=str) == [("hold pair", BEA), ("hold", HOUR), "slow down"]


async def test_what_is_about_single_messages_heeds_nothing(office, webhooks) -> None:
    channel = await office.channel()
    await office.send(channel, BEA, EVE)
    nobody: object = None
    heed = replace(webhooks.process.heed_reports, begin=nobody, limiter=nobody)
    webhooks.process = replace(webhooks.process, heed_reports=heed)

    await webhooks.fail(channel, 131026, 131064)

    assert (await office.state_of(channel)).is_active


async def test_a_restricted_number_rests_for_an_hour_whatever_else_is_said_of_it(
    office, webhooks
) -> None:
    channel = await office.channel()
    sent = await office.store(channel, BEA, EVE, KIM)
    await office.dispatch(channel)

    await webhooks.fail(channel, 130429, 131048, 130429)

    assert HOUR - timedelta(minutes=1) < await office.wait_of(channel) <= HOUR
    assert (await office.state_of(channel)).is_active
    assert [one.status for one in await office.read(sent)] == [S.RETRYING] * 3


@pytest.mark.parametrize(("to", "counted_as"), [(BEA, BEA), ("+5215512345678", "+525512345678")])
async def test_too_many_messages_to_one_recipient_rest_that_recipient_alone(
    office, webhooks, to, counted_as
) -> None:
    channel = await office.channel()
    await office.send(channel, to)
    await webhooks.fail(channel, 131056)

    held, other = await office.limiter.take_pairs(channel.phone_number_id, [counted_as, EVE])

    assert held.wait > MOMENT
    assert other.wait == timedelta(0)
    assert await office.wait_of(channel) < MOMENT


async def test_what_is_not_about_a_message_of_the_channel_heeds_nothing(
    office, webhooks, bea
) -> None:
    channel, other = await office.channel(), await office.channel()
    sent = await office.store(channel, BEA)
    await office.dispatch(channel)
    (mine,) = office.meta.accepted
    strange = (mine[0], mine[1], "wamid.of.another.system", mine[3])

    # Our message by what is echoed, but on the number of somebody else, and of another channel.
    await webhooks.fail(bea.channel, 131042, accepted=[strange])
    await webhooks.fail(other, 130429, accepted=[strange])
    plain = {"id": "wamid.foreign", "status": "failed", "timestamp": "1795420800"}
    plain |= {"recipient_id": "4915100000001", "errors": [{"code": 131042, "title": "No"}]}
    await webhooks.take_in(body(messages_of(channel.phone_number_id, statuses=[plain])))

    for one in (channel, other):
        assert (await office.state_of(one)).is_active
        assert await office.wait_of(one) < MOMENT
    async with webhooks.process.apply.begin(bea.tenant_id) as work:
        assert (await work.channels.get_by_id(bea.channel.id)).is_active
    assert [one.status for one in await office.read(sent)] == [S.SENT]


async def test_without_redis_the_channel_is_paused_and_the_rest_is_said_aloud(
    office, webhooks, caplog
) -> None:
    channel = await office.channel()
    sent = await office.store(channel, BEA, EVE)
    await office.dispatch(channel)
    gone = connect("redis://127.0.0.1:1")
    webhooks.without_redis(RedisRateLimiter(gone))

    with caplog.at_level(logging.WARNING):
        await webhooks.fail(channel, 130429, 131042)
    await gone.aclose()

    assert not (await office.state_of(channel)).is_active
    assert [one.status for one in await office.read(sent)] == [S.RETRYING, S.QUEUED]
    assert [one.getMessage() for one in caplog.records if one.name.endswith("heed_reports")] == [
        "failures reported later not heeded: redis_unavailable"
    ]


async def test_what_fails_later_has_the_retries_of_its_own_way_to_fail(
    office, webhooks, sessions, superuser
) -> None:
    channel = await office.channel()
    (message,) = await office.store(channel, BEA)

    async def attempt() -> None:
        await superuser.execute("UPDATE whatsapp_send_queue SET due_at = now()")
        await RetryFailed(begin=work_in(sessions))(office.tenant)
        await office.dispatch(channel)

    for _ in range(4):
        office.meta.refusals[BEA] = 131016
        await attempt()
    seen = list[MessageStatus]()
    for _ in range(4):
        await attempt()
        await webhooks.fail(channel, 131000)
        seen.append((await office.read([message]))[0].status)

    assert seen == [S.RETRYING] * 3 + [S.FAILED]
