"""A number whose hold is found only after a claim: order, priority, expiry and cancelling."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random

import pytest

from shared.kernel.clock import utc_now
from whatsapp.application.change_message import CancelMessage
from whatsapp.application.tend_channel import ExpireUnsent
from whatsapp.domain.entities import InvalidTransition
from whatsapp.domain.value_objects import MessageStatus, Priority
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

S = MessageStatus
BEA, EVE, KIM = "+4915100000001", "+4915100000002", "+4915100000003"
MINUTE = timedelta(minutes=1)


@dataclass
class Limiter:
    """The real one, which puts the number on hold between a claim and its slots, and is asked."""

    inner: object
    before_reserving: object
    holds: bool = True
    reserved: int = field(default=0, init=False)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def reserve(self, number, **more):
        self.reserved += 1
        if self.holds:
            await self.inner.hold(number, MINUTE)
            await self.before_reserving()
        return await self.inner.reserve(number, **more)


@dataclass
class Meta:
    """Takes everything on its slot, and says in which order."""

    sent: list = field(default_factory=list)
    inner: object = None

    async def send(self, channel, message, attempt, *, leave):
        await leave(lambda: self.sent.append((message.id, attempt)))
        return await self.inner.send(channel, message, attempt)


@pytest.fixture
def held(office):
    """`await held(channel, then)`: a worker whose number begins to rest once it has claimed."""

    async def nothing() -> None:
        pass

    async def held(channel, then=nothing, **more):
        meta = Meta(inner=office.meta)
        dispatcher = replace(
            office.dispatcher(channel), limiter=Limiter(office.limiter, then), sender=meta, **more
        )
        assert await dispatcher.run()
        assert MINUTE / 2 < dispatcher.resting <= MINUTE
        assert (dispatcher._open, dispatcher._aloft, meta.sent) == (0, 0, [])

    return held


@pytest.fixture
def go_on(office, flush):
    """The hold is over; gives what was sent, in order, with its attempts."""

    async def go_on(channel, **more) -> list:
        await flush(channel)
        meta = Meta(inner=office.meta)
        await replace(office.dispatcher(channel), sender=meta, **more).run()
        return meta.sent

    return go_on


@pytest.mark.parametrize("keeps_order", [True, False])
async def test_who_was_claimed_in_vain_keeps_the_place_before_the_next_to_the_same_person(
    office, held, go_on, keeps_order
) -> None:
    channel = await office.channel(keeps_order=keeps_order)
    messages = await office.store(channel, BEA, EVE, KIM, BEA, EVE, KIM, BEA)

    for _ in range(2):
        await held(channel)
    later = await office.store(channel, BEA, EVE)

    sent = await go_on(channel)
    assert sorted(sent) == sorted((one.id, 1) for one in messages + later)
    if keeps_order:
        for recipient in (BEA, EVE):
            stored = [one.id for one in messages + later if one.recipient.e164 == recipient]
            assert [one for one, _ in sent if one in stored] == stored


class HighFirst(Random):
    """Begins with the turn that begins with the high lane: one in four does not."""

    def randrange(self, *_) -> int:
        return 1


async def test_high_priority_that_was_claimed_in_vain_still_goes_first(office, held, go_on) -> None:
    channel = await office.channel()
    many = [f"+49152{n:08d}" for n in range(40)]
    normal = await office.store(channel, *many)
    high = await office.store(channel, BEA, priority=Priority.HIGH)
    await held(channel, rng=HighFirst())

    sent = [one for one, _ in await go_on(channel, rng=HighFirst())]
    assert sent[0] == high[0].id
    assert len(sent) == len(normal) + 1


async def test_what_expires_during_the_hold_is_expired_and_not_sent(
    office, held, go_on, superuser
) -> None:
    channel = await office.channel()
    ends = utc_now() + timedelta(hours=1)
    expiring = await office.store(channel, BEA, expires_at=ends)
    kept = await office.store(channel, EVE)

    async def expire() -> None:
        await superuser.execute(
            "UPDATE whatsapp_outbound_messages SET expires_at = now() - interval '1 second',"
            " created_at = now() - interval '1 hour' WHERE id = $1",
            expiring[0].id,
        )
        await superuser.execute(
            "UPDATE whatsapp_send_queue SET expires_at = now() - interval '1 second' WHERE id = $1",
            expiring[0].id,
        )

    await held(channel, expire)
    await ExpireUnsent(begin=work_in(office.sessions))(office.tenant, channel.id)
    assert [one.status for one in await office.read(expiring)] == [S.EXPIRED]
    assert await go_on(channel) == [(kept[0].id, 1)]


async def test_cancelled_while_it_is_claimed_it_stays_cancelled(
    office, held, go_on, superuser
) -> None:
    channel = await office.channel()
    cancelled = await office.store(channel, BEA)
    kept = await office.store(channel, EVE)
    answers = []

    async def cancel() -> None:
        try:
            await CancelMessage(begin=work_in(office.sessions))(office.tenant, cancelled[0].id)
            answers.append(S.CANCELLED)
        except InvalidTransition:
            answers.append(None)

    await held(channel, cancel)
    if answers[0] is None:
        await cancel()
    assert answers[-1] is S.CANCELLED
    assert await go_on(channel) == [(kept[0].id, 1)]
    assert [one.status for one in await office.read(cancelled)] == [S.CANCELLED]
    assert await superuser.fetchval("SELECT count(*) FROM whatsapp_send_queue") == 0
