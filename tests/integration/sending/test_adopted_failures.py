"""What Meta fails without our own words, before the answer that tells whose it is, counts as much.

Real PostgreSQL, real limiter, real intake; Meta is a sender, and its webhooks are written here.
"""

import logging
from datetime import timedelta

import pytest

from whatsapp.application.change_channel import ResumeChannel
from whatsapp.application.tend_channel import RetryFailed
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

S = MessageStatus
BEA, EVE, KIM = "+4915100000001", "+4915100000002", "+4915100000003"
MOMENT = timedelta(milliseconds=100)
HOUR = timedelta(hours=1)


@pytest.fixture
def fail_before_the_answer(office, webhooks):
    """Have Meta report its next failure before it answers, and without our own words."""

    def fail_before_the_answer(channel, code) -> None:
        async def tell(accepted) -> None:
            await webhooks.fail(channel, code, accepted=accepted, echoed=False)

        office.meta.before_answering = tell

    return fail_before_the_answer


async def test_trouble_of_the_channel_pauses_it_and_keeps_the_message(
    office, fail_before_the_answer, told, sessions, caplog
) -> None:
    channel = await office.channel()
    fail_before_the_answer(channel, 131042)
    with caplog.at_level(logging.ERROR):
        (status,) = await office.send(channel, BEA)
    kept = await office.store(channel, KIM)
    await office.dispatch(channel)

    stored = await office.state_of(channel)
    assert (stored.is_active, stored.pause_reason) == (False, "No (code 131042)")
    assert status == S.QUEUED
    assert len(office.meta.sent) == 1
    assert [one.getMessage() for one in caplog.records] == [
        f"channel {channel.id} paused: meta_131042"
    ]
    assert await told() == [("channel.paused", "No (code 131042)")]

    await ResumeChannel(begin=work_in(sessions))(office.tenant, channel.id)
    await office.dispatch(channel)
    assert sorted(one[1] for one in office.meta.sent) == [BEA, BEA, KIM]
    assert [one.status for one in await office.read(kept)] == [S.SENT]


async def test_too_many_messages_rest_the_number_and_the_message_waits_for_its_retry(
    office, webhooks, fail_before_the_answer, superuser, sessions
) -> None:
    channel = await office.channel()
    (message,) = await office.store(channel, BEA)
    fail_before_the_answer(channel, 130429)

    await office.dispatch(channel)

    assert MOMENT < await office.wait_of(channel) <= timedelta(seconds=1)
    (found,) = await office.read([message])
    assert (found.status, found.attempts, found.failure.code) == (S.RETRYING, 1, 130429)
    attempts = await superuser.fetch(
        "SELECT number, outcome FROM whatsapp_message_attempts ORDER BY outcome"
    )
    assert [tuple(one) for one in attempts] == [(1, "accepted"), (1, "failed_later")]

    # That it was sent comes late, with and without our own words: it was sent, and failed.
    for echoed in (True, False):
        await webhooks.fail(channel, None, status="sent", echoed=echoed, at=HOUR * echoed)
        assert [one.status for one in await office.read([message])] == [S.RETRYING]

    await office.limiter.wait_for_slot(
        channel.phone_number_id, rate=80, within=timedelta(seconds=30)
    )
    await superuser.execute("UPDATE whatsapp_send_queue SET due_at = now()")
    await RetryFailed(begin=work_in(sessions))(office.tenant)
    await office.dispatch(channel)
    assert [one.status for one in await office.read([message])] == [S.SENT]


async def test_what_is_about_the_message_alone_fails_it_and_heeds_nothing(
    office, fail_before_the_answer, told
) -> None:
    channel = await office.channel()
    fail_before_the_answer(channel, 131026)

    assert await office.send(channel, BEA) == [S.FAILED]

    assert (await office.state_of(channel)).is_active
    assert [one[0] for one in await told()] == ["message.failed"]


async def test_a_report_that_tells_whose_an_earlier_failure_was_has_it_heeded(
    office, webhooks
) -> None:
    channel = await office.channel()

    async def tell(accepted) -> None:
        await webhooks.fail(channel, 131042, accepted=accepted, echoed=False)
        await webhooks.fail(channel, None, accepted=accepted, status="sent")

    office.meta.before_answering = tell

    assert await office.send(channel, BEA) == [S.QUEUED]
    stored = await office.state_of(channel)
    assert (stored.is_active, stored.pause_reason) == (False, "No (code 131042)")


async def test_a_failure_after_the_answer_goes_again_as_well(office, webhooks) -> None:
    channel = await office.channel()
    sent = await office.store(channel, BEA, EVE)
    await office.dispatch(channel)

    await webhooks.fail(channel, 131042, 130429, echoed=False)

    assert not (await office.state_of(channel)).is_active
    assert [one.status for one in await office.read(sent)] == [S.QUEUED, S.RETRYING]
    # Told once more under another time, it is news of nothing.
    await webhooks.fail(channel, 131042, 130429, echoed=False, at=HOUR)
    assert [one.status for one in await office.read(sent)] == [S.QUEUED, S.RETRYING]
