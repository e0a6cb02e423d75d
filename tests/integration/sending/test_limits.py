"""What Meta refuses slows down or stops what the refusal is about, and nothing else.

Real PostgreSQL, real limiter; Meta is a sender that answers with Meta's codes.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from shared.kernel.clock import utc_now
from whatsapp.application.change_message import RetryMessage
from whatsapp.application.count_inbound import CountInbound
from whatsapp.application.tend_channel import RetryFailed
from whatsapp.domain.conversation import Person
from whatsapp.domain.entities import WindowPolicy
from whatsapp.domain.rate_limit import PAIR_BURST
from whatsapp.domain.value_objects import MessageStatus, PhoneNumber, UserId
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.persistence.repositories import (
    RedisRateLimiter,
    SQLAlchemyConversationRepository,
)
from whatsapp.infrastructure.persistence.work import work_in

RATE = 80
BEA, EVE, KIM = "+4915100000001", "+4915100000002", "+4915100000003"
ZOE, ZOE_TOO, ZOE_BY_ID = "+5561987654321", "+556187654321", "BR.13491208655302741918"
NAMES = {"by two spellings": (ZOE, ZOE_TOO), "by number and user id": (ZOE, ZOE_BY_ID)}
MOMENT = timedelta(milliseconds=100)
"""Longer than the distance of two slots."""


@pytest.mark.parametrize("code", [130429, 131048])
async def test_a_refusal_of_the_number_rests_it_and_no_other(office, code) -> None:
    refused, other = await office.channel(), await office.channel()
    office.meta.refusals["any"] = code

    assert await office.send(refused, BEA) == [MessageStatus.RETRYING]

    assert await office.wait_of(refused) > MOMENT
    assert await office.wait_of(other) < MOMENT
    assert (await office.state_of(refused)).is_active
    assert await office.send(other, BEA) == [MessageStatus.SENT]


async def test_after_too_many_requests_the_number_runs_slower_for_a_while(office) -> None:
    channel = await office.channel()
    office.meta.refusals["any"] = 130429
    await office.send(channel, BEA)

    assert 1.04 < await office.spacing_of(channel) * RATE / 1.008 < 1.07


async def test_a_refusal_of_the_pair_rests_that_recipient_alone(office) -> None:
    channel = await office.channel()
    office.meta.refusals[BEA] = 131056

    first = await office.send(channel, BEA, EVE)
    second = await office.send(channel, BEA, KIM)

    assert first == [MessageStatus.RETRYING, MessageStatus.SENT]
    assert second == [MessageStatus.QUEUED, MessageStatus.SENT]
    assert [to for _, to, _ in office.meta.sent].count(BEA) == 1
    assert await office.wait_of(channel) < MOMENT


async def test_the_pair_limit_is_kept_before_meta_has_to_refuse(office) -> None:
    channel = await office.channel()
    for _ in range(44):
        (turn,) = await office.limiter.take_pairs(channel.phone_number_id, [BEA])
        assert turn.wait == timedelta(0)

    statuses = await office.send(channel, BEA, EVE)

    assert statuses == [MessageStatus.QUEUED, MessageStatus.SENT]
    assert [to for _, to, _ in office.meta.sent] == [EVE]


async def test_what_is_given_back_unsent_does_not_count_for_its_person(office) -> None:
    """Else a number that was taken over again and again would rest people who got nothing."""
    channel = await office.channel(keeps_order=False)
    messages = await office.store(channel, *[BEA] * 44)

    class Interrupted(RedisRateLimiter):
        async def take_pairs(self, *given):
            turns = await super().take_pairs(*given)
            dispatcher.stop()
            return turns

    interrupted = Interrupted(office.limiter._redis)
    for _ in range(3):
        dispatcher = replace(office.dispatcher(channel), limiter=interrupted)
        assert await dispatcher.run()
    assert not office.meta.sent

    await office.dispatch(channel)

    assert {one.status for one in await office.read(messages)} == {MessageStatus.SENT}


@dataclass
class OnItsSlot:
    """A sender that sends when its slot has come, as the real one does."""

    inner: Any

    async def send(self, *given: Any, leave: Any) -> Any:
        await leave(lambda: None)
        return await self.inner.send(*given)


@pytest.mark.parametrize("asks_first", [False, True])
async def test_a_number_that_has_to_rest_loses_nothing_by_being_served(
    office, superuser, asks_first
) -> None:
    channel = await office.channel(keeps_order=False)
    messages = await office.store(channel, *[BEA] * 40)
    await office.limiter.hold(channel.phone_number_id, timedelta(minutes=1))

    for _ in range(2):  # More than the 45 that one person may get at once, if they counted.
        dispatcher = replace(
            office.dispatcher(channel), asks_first=asks_first, sender=OnItsSlot(office.meta)
        )
        assert bool(await dispatcher.run()) is not asks_first
        assert timedelta(seconds=50) < dispatcher.resting <= timedelta(minutes=1)

    assert not office.meta.sent
    entries = await superuser.fetch("SELECT state, attempt, lease_token FROM whatsapp_send_queue")
    assert [tuple(entry) for entry in entries] == [("ready", 0, None)] * 40
    turns = await office.limiter.take_pairs(channel.phone_number_id, [BEA] * 40)
    assert [n for n, turn in enumerate(turns) if turn.wait] == []
    assert {one.status for one in await office.read(messages)} == {MessageStatus.QUEUED}


async def test_what_is_being_claimed_when_a_number_has_to_rest_counts_for_nobody(office) -> None:
    """A count can be undone as long as nothing was counted for the same person after it."""
    channel = await office.channel(keeps_order=False)
    await office.store(channel, *[BEA] * 40)
    await office.limiter.hold(channel.phone_number_id, timedelta(minutes=1))

    class Slow(RedisRateLimiter):
        """Says that the number has to rest while the second claim has counted and not returned."""

        def __init__(self, redis):
            super().__init__(redis)
            self.claims, self.second = 0, asyncio.Event()

        async def take_pairs(self, *given):
            turns = await super().take_pairs(*given)
            self.claims += 1
            if self.claims == 2:
                self.second.set()
                await asyncio.sleep(0.3)  # What is given back too early has the time for it.
            return turns

        async def reserve(self, *given, **more):
            await self.second.wait()
            return await super().reserve(*given, **more)

    slow = Slow(office.limiter._redis)
    dispatcher = replace(office.dispatcher(channel), limiter=slow, sender=OnItsSlot(office.meta))
    async with asyncio.timeout(60):
        await dispatcher.run()

    turns = await office.limiter.take_pairs(channel.phone_number_id, [BEA] * (PAIR_BURST - 1))
    assert [n for n, turn in enumerate(turns) if turn.wait] == []


async def know_zoe(office, channel) -> None:
    """As a webhook would that names her by both, with the number as Meta spells it."""
    phone, user_id = PhoneNumber(ZOE_TOO), UserId(ZOE_BY_ID)
    zoe = Person(names=(phone, user_id), phone=phone, user_id=user_id, at=utc_now())
    await office.work(lambda s: SQLAlchemyConversationRepository(s).know(channel.id, [zoe]))


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
async def test_a_person_has_one_limit_however_they_are_written(office, names) -> None:
    channel = await office.channel(keeps_order=False)
    await know_zoe(office, channel)

    statuses = await office.send(channel, *names * 23, EVE)

    assert statuses.count(MessageStatus.SENT) == 44 + 1
    assert statuses[-1] is MessageStatus.SENT


@pytest.mark.parametrize("learnt", ["before", "meanwhile"])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
async def test_a_refusal_of_the_pair_rests_that_person_under_each_name(
    office, names, learnt
) -> None:
    """What is learnt while a message waits counts as soon as it is claimed."""
    channel = await office.channel(keeps_order=False)
    first, second = names
    office.meta.refusals[first] = 131056
    if learnt == "before":
        await know_zoe(office, channel)
    waiting = await office.store(channel, second)
    if learnt == "meanwhile":
        await know_zoe(office, channel)
    await office.work(
        lambda s: s.execute(text("UPDATE whatsapp_send_queue SET due_at = now() + interval '1 h'"))
    )

    assert await office.send(channel, first, EVE) == [MessageStatus.RETRYING, MessageStatus.SENT]
    await office.work(
        lambda s: s.execute(
            text("UPDATE whatsapp_send_queue SET due_at = now() WHERE id = :id"),
            {"id": waiting[0].id},
        )
    )
    await office.dispatch(channel)

    assert [one.status for one in await office.read(waiting)] == [MessageStatus.QUEUED]
    assert [to for _, to, _ in office.meta.sent] in ([first, EVE], [EVE, first])


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
async def test_a_retry_holds_up_the_person_under_each_name(office, names) -> None:
    channel = await office.channel()
    await know_zoe(office, channel)
    office.meta.refusals[names[0]] = 131016

    assert await office.send(channel, names[0]) == [MessageStatus.RETRYING]
    assert await office.send(channel, names[1], EVE) == [MessageStatus.QUEUED, MessageStatus.SENT]


@pytest.mark.parametrize(
    ("keeps_order", "then"), [(True, MessageStatus.QUEUED), (False, MessageStatus.SENT)]
)
async def test_what_waits_for_its_retry_holds_up_the_next_where_order_is_kept(
    office, keeps_order, then
) -> None:
    channel = await office.channel(keeps_order=keeps_order)
    office.meta.refusals[BEA] = 131016

    assert await office.send(channel, BEA) == [MessageStatus.RETRYING]
    assert await office.send(channel, BEA, EVE) == [then, MessageStatus.SENT]


@pytest.mark.parametrize("code", [190, 131031, 131042])
async def test_trouble_of_the_channel_pauses_it_and_keeps_its_messages(office, code) -> None:
    troubled, other = await office.channel(), await office.channel()
    office.meta.refusals["any"] = code

    first = await office.send(troubled, BEA)
    second = await office.send(troubled, EVE)

    assert first == second == [MessageStatus.QUEUED]
    assert len(office.meta.sent) == 1  # Nobody asked Meta again.
    stored = await office.state_of(troubled)
    assert not stored.is_active
    assert str(code) in (stored.pause_reason or "")
    assert await office.send(other, BEA) == [MessageStatus.SENT]
    assert (await office.state_of(other)).is_active


@pytest.mark.parametrize(
    ("code", "shared", "apart"),
    [
        (80007, {"provider_account_id": "1"}, {"provider_account_id": "2"}),
        (4, {"app_id": "1"}, {"app_id": "2"}),
    ],
)
async def test_a_refusal_of_the_account_or_the_app_rests_what_is_under_it(
    office, code, shared, apart
) -> None:
    refused, sibling = await office.channel(**shared), await office.channel(**shared)
    stranger = await office.channel(**apart)
    office.meta.refusals["any"] = code

    await office.send(refused, BEA)

    assert await office.wait_of(refused) > MOMENT
    assert await office.wait_of(sibling) > MOMENT
    assert await office.wait_of(stranger) < MOMENT


@pytest.mark.parametrize("code", [131026, 131009, 131016])
async def test_what_is_about_one_message_slows_down_nothing(office, code) -> None:
    channel = await office.channel()
    office.meta.refusals[BEA] = code

    _, other = await office.send(channel, BEA, EVE)

    assert other is MessageStatus.SENT
    assert await office.wait_of(channel) < MOMENT
    assert (await office.state_of(channel)).is_active


async def test_what_comes_in_takes_its_slots_from_sending(office) -> None:
    channel, other = await office.channel(), await office.channel()
    counting = CountInbound(begin=work_in(office.sessions), limiter=office.limiter)

    await counting(Route(office.tenant, channel.id), 40)

    # Forty of eighty slots of the next second are gone, on this number alone.
    assert timedelta(milliseconds=400) < await office.wait_of(channel) <= timedelta(seconds=0.51)
    assert await office.wait_of(other) < MOMENT


async def test_each_way_to_fail_has_retries_of_its_own(office, superuser) -> None:
    """A message that Meta's outage has cost four attempts still has the three of another trouble.

    Sent again by hand, it has them once more.
    """
    channel = await office.channel(window_policy=WindowPolicy.ALLOW)
    begin = work_in(office.sessions)
    seen = list[str]()

    async def attempt(code: int) -> None:
        office.meta.refusals[BEA] = code
        await superuser.execute("UPDATE whatsapp_send_queue SET due_at = now()")
        await RetryFailed(begin=begin)(office.tenant)
        await office.dispatch(channel)
        seen.append(await superuser.fetchval("SELECT status FROM whatsapp_outbound_messages"))

    office.meta.refusals[BEA] = 131016
    await office.send(channel, BEA)
    for code in [131016] * 3 + [131000] * 4:
        await attempt(code)
    message_id = await superuser.fetchval("SELECT id FROM whatsapp_outbound_messages")
    await RetryMessage(begin=begin)(office.tenant, message_id)
    for _ in range(4):
        await attempt(131000)

    assert seen == ["retrying"] * 6 + ["failed"] + ["retrying"] * 3 + ["failed"]
