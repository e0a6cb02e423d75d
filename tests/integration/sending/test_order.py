"""Whose turn it is within a channel: order per recipient, lanes, long queues to one recipient."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from alembic import command
from sqlalchemy import text

from shared.infrastructure.database import RLSManager, SQLAlchemyUnitOfWork, create_engine
from shared.kernel.clock import utc_now
from tellwire.database import alembic_config
from whatsapp.application.claim_due import ClaimDue
from whatsapp.application.lane_turns import LANE_CYCLE, LaneTurns
from whatsapp.application.read_together import ReadTogether
from whatsapp.domain.entities import InboundMessage, OutboundMessage
from whatsapp.domain.repositories import Revival
from whatsapp.domain.send_queue import LANES
from whatsapp.domain.value_objects import (
    IdempotencyKey,
    InboundContent,
    MessageContent,
    PhoneNumber,
    Priority,
    UserId,
    parse_recipient,
)
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyMessageRepository,
    SQLAlchemySendQueue,
)
from whatsapp.infrastructure.persistence.work import work_in

LEASE = timedelta(minutes=1)
ANA, BEA = "+4915112345678", "+4915187654321"
CARLA, CARLA_BY_ID = "+5215512345678", "MX.13491208655302741918"
SPELLINGS = [
    ("+5561987654321", "+556187654321"),
    ("+5215512345678", "+525512345678"),
    ("+5491112345678", "+541112345678"),
]
"""Of one number each, in Brazil, Mexico and Argentina."""


@pytest.fixture
async def queue(database):
    engine = create_engine(database.url("tellwire_dispatch"))
    yield SQLAlchemySendQueue(engine)
    await engine.dispose()


@pytest.fixture
def shop(sessions, queue, ana):
    return Shop(sessions, queue, ana)


class Shop:
    """A customer with a queue, in a few words."""

    def __init__(self, sessions, queue, customer) -> None:
        self.sessions, self.queue, self.customer = sessions, queue, customer
        self.number = 0

    def message(self, *, to: str | None = None, **more) -> OutboundMessage:
        self.number += 1
        return OutboundMessage(
            tenant_id=self.customer.tenant_id,
            channel_id=self.customer.channel.id,
            recipient=parse_recipient(to=to or f"+4917{self.number:08d}"),
            content=MessageContent.text("Hello"),
            idempotency_key=IdempotencyKey(f"n{self.number}"),
            **more,
        )

    async def send(self, count: int, *, to: str | None = None, **more) -> list:
        made = [self.message(to=to, **more) for _ in range(count)]
        for start in range(0, count, 1000):
            await self.work(lambda r, s=start: r.save_outbound_many(made[s : s + 1000]))
        return [one.id for one in made]

    async def work(self, do):
        async with SQLAlchemyUnitOfWork(self.sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=self.customer.tenant_id)
            done = await do(SQLAlchemyMessageRepository(uow.session))
            await uow.commit()
        return done

    async def claim(self, limit: int = 100, **more):
        """As a dispatcher does it."""
        channel = self.customer.channel.id
        while True:
            entries = await self.queue.claim(
                tenant_id=self.customer.tenant_id,
                channel_id=channel,
                limit=limit,
                lease=LEASE,
                **more,
            )
            if entries or not await self.work(lambda r: r.step_aside(channel)):
                return entries

    async def claimed(self, limit: int = 100, **more) -> list:
        return [entry.message_id for entry in await self.claim(limit, **more)]

    async def hear(self, number: str, user_id: str) -> None:
        """Somebody writes, and Meta names them by both."""
        heard = InboundMessage(
            tenant_id=self.customer.tenant_id,
            channel_id=self.customer.channel.id,
            wamid="wamid.in",
            content=InboundContent("text", {"body": "Hi"}),
            sent_at=utc_now(),
            sender=PhoneNumber(number),
            sender_user_id=UserId(user_id),
        )
        await self.work(lambda r: r.save_inbound(heard))

    async def cancel(self, message_id) -> None:
        await self.work(lambda r: r.cancel_outbound(message_id, utc_now()))

    async def settle(self, entries) -> None:
        """As if these had been sent."""
        await self.execute(
            "DELETE FROM whatsapp_send_queue WHERE id = ANY(:ids)",
            ids=[entry.message_id for entry in entries],
        )

    async def execute(self, statement: str, **parameters):
        async with SQLAlchemyUnitOfWork(self.sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=self.customer.tenant_id)
            result = await uow.session.execute(text(statement), parameters)
            rows = result.all() if result.returns_rows else []
            await uow.commit()
        return rows

    async def lanes(self) -> Counter:
        rows = await self.execute("SELECT lane FROM whatsapp_send_queue")
        return Counter(row.lane for row in rows)


async def test_of_one_recipient_only_the_first_is_given_out_and_then_the_next(shop) -> None:
    ids = await shop.send(3, to=ANA)

    first = await shop.claim()
    nothing = await shop.claim()
    await shop.settle(first)
    second = await shop.claim()

    assert [e.message_id for e in first] == ids[:1]
    assert not nothing
    assert [e.message_id for e in second] == ids[1:2]


async def test_what_waits_behind_a_cancelled_message_comes_forward(shop) -> None:
    ids = await shop.send(3, to=ANA)
    (first,) = await shop.claim()
    assert not await shop.claim()
    await shop.queue.release([first])

    await shop.cancel(ids[0])
    await shop.cancel(ids[1])

    assert await shop.claimed() == ids[2:]


async def test_a_recipient_that_rests_keeps_its_order_and_holds_up_nobody(shop) -> None:
    await shop.send(2, to=ANA)
    (of_bea,) = await shop.send(1, to=BEA)
    entries = await shop.claim()
    first = next(entry for entry in entries if entry.message_id != of_bea)

    await shop.queue.rest({first: timedelta(seconds=30)})

    assert {e.message_id for e in entries} == {first.message_id, of_bea}
    assert not await shop.claim()
    assert (await shop.lanes())[-9] == 1


async def test_a_message_for_later_does_not_hold_up_those_for_now(shop) -> None:
    await shop.send(1, to=ANA, send_at=utc_now() + timedelta(hours=1))
    now = await shop.send(1, to=ANA)

    assert await shop.claimed() == now


async def test_a_channel_that_keeps_no_order_gives_out_all_at_once(shop) -> None:
    ids = await shop.send(5, to=ANA)
    await shop.claim(1)
    assert not await shop.claim()  # The others have stepped aside by now.

    assert set(await shop.claimed(in_order=False)) == set(ids[1:])


async def test_high_priority_goes_first_and_a_turn_of_bulk_begins_with_bulk(shop) -> None:
    bulk = await shop.send(5, priority=Priority.BULK)
    high = await shop.send(2, priority=Priority.HIGH)

    assert set(await shop.claimed(2, lanes=LANES)) == set(high)
    assert await shop.claimed(2, lanes=LANES[::-1]) == bulk[:2]


async def test_twenty_thousand_to_one_recipient_are_in_nobodys_way(shop) -> None:
    await shop.send(20_000, to=ANA)
    others = await shop.send(50)

    got = await shop.claimed(51)
    while len(got) < 51 and (more := await shop.claimed(51)):
        got += more
    lanes = await shop.lanes()

    assert set(others) <= set(got)
    assert len(got) == 51
    assert lanes[1] < 2_000
    began = asyncio.get_running_loop().time()
    assert not await shop.claim()
    assert asyncio.get_running_loop().time() - began < 0.5


@pytest.mark.parametrize("other", [Priority.HIGH, Priority.BULK])
async def test_what_stands_behind_others_hides_no_lane_for_as_long_as_other_lanes_give(
    shop, other
) -> None:
    await shop.send(700, to=ANA)
    hidden = await shop.send(5)
    await shop.send(300, priority=other)
    channel = shop.customer.channel
    claims = ClaimDue(
        tenant_id=channel.tenant_id,
        channel_id=channel.id,
        queue=shop.queue,
        lease=LEASE,
        turns=LaneTurns(),
    )
    reads, got = ReadTogether(begin=work_in(shop.sessions)), set()
    for _ in range(LANE_CYCLE):
        async with reads.of(channel.tenant_id) as reader:
            got |= {entry.message_id for entry in await claims(channel, reader)}

    assert set(hidden) <= got
    assert 0 < len(got) < 300


async def test_claiming_cancelling_and_settling_at_once_leave_nobody_behind(shop) -> None:
    """Races between stepping aside and coming forward: all must come out in the end, once each."""
    ids = await shop.send(60, to=ANA) + await shop.send(60, to=BEA)
    given: list = []

    async def work() -> None:
        idle = 0
        while idle < 3:
            entries = await shop.claim(5)
            given.extend(entry.message_id for entry in entries)
            await shop.settle(entries)
            idle = 0 if entries else idle + 1

    async def cancel() -> list:
        gone = []
        for one in ids[5:60:7]:
            rows = await shop.execute(
                "DELETE FROM whatsapp_send_queue WHERE id = :id AND state = 'ready' RETURNING id",
                id=one,
            )
            gone += [row.id for row in rows]
        return gone

    *_, gone = await asyncio.gather(work(), work(), work(), cancel())
    await work()

    assert sorted(given + gone) == sorted(ids)
    assert given.index(ids[-2]) < given.index(ids[-1])


@pytest.mark.parametrize(("longer", "shorter"), SPELLINGS)
async def test_two_spellings_of_a_number_are_one_recipient(shop, longer, shorter) -> None:
    ids = [(await shop.send(1, to=to))[0] for to in (longer, shorter, longer)]
    given = []

    for _ in ids:
        entries = await shop.claim()
        given.append([entry.message_id for entry in entries])
        assert not await shop.claim()
        await shop.settle(entries)

    assert given == [[one] for one in ids]


STORING = {
    "accepted": lambda shop, one: shop.work(lambda r: r.accept_outbound([one], at=utc_now())),
    "saved": lambda shop, one: shop.work(lambda r: r.save_outbound(one)),
    "saved in a batch": lambda shop, one: shop.work(lambda r: r.save_outbound_many([one])),
}


@pytest.mark.parametrize("how", STORING)
async def test_a_user_id_and_the_number_it_is_known_by_are_one_recipient(shop, how) -> None:
    """Meta told the number in the other spelling than it is written to."""
    await shop.hear(CARLA, CARLA_BY_ID)
    names = (CARLA_BY_ID, PhoneNumber(CARLA).other_spelling.e164, CARLA_BY_ID, CARLA)
    messages = [shop.message(to=to) for to in names]
    given = []
    for one in messages:
        await STORING[how](shop, one)

    for _ in messages:
        entries = await shop.claim()
        given.append([entry.message_id for entry in entries])
        await shop.settle(entries)

    assert given == [[one.id] for one in messages]


async def test_what_is_sent_again_waits_for_its_person_too(shop) -> None:
    await shop.hear(CARLA, CARLA_BY_ID)
    (failed,) = await shop.send(1, to=CARLA_BY_ID)
    await shop.settle(await shop.claim())
    await shop.execute("UPDATE whatsapp_outbound_messages SET status = 'failed'")
    first = await shop.send(1, to=CARLA)
    message = await shop.work(lambda r: r.get_outbound_by_id(failed))
    assert await shop.work(lambda r: r.send_again([Revival(message=message)], at=utc_now()))

    assert await shop.claimed() == [failed]
    await shop.cancel(first[0])


async def test_whoever_becomes_known_while_messages_wait_keeps_the_order_of_these(shop) -> None:
    first = await shop.send(2, to=CARLA_BY_ID)
    await shop.hear(CARLA, CARLA_BY_ID)
    then = await shop.send(1, to=CARLA_BY_ID)
    given = []

    for _ in (*first, *then):
        entries = await shop.claim()
        given += [entry.message_id for entry in entries]
        await shop.settle(entries)
    both = [(await shop.send(1, to=to))[0] for to in (CARLA_BY_ID, CARLA)]

    assert given == first + then
    assert await shop.claimed() == both[:1]


async def test_who_is_not_known_to_be_one_person_is_several(shop) -> None:
    await shop.hear(CARLA, CARLA_BY_ID)
    ids = [(await shop.send(1, to=to))[0] for to in (BEA, "MX.1", CARLA)]

    assert set(await shop.claimed()) == set(ids)


@pytest.mark.parametrize(("longer", "shorter"), SPELLINGS)
async def test_what_waited_before_there_was_one_key_keeps_its_order(
    shop, database, superuser, longer, shorter
) -> None:
    ids = [(await shop.send(1, to=to))[0] for to in (longer, shorter)]
    kept = await shop.send(1, to=longer)
    await superuser.execute(
        "UPDATE whatsapp_send_queue SET recipient_key = CASE WHEN id = $1"
        " THEN hashtextextended(id::text, 0) ELSE hashtextextended(id::text, 1) END",
        kept[0],  # As an unknown one that its channel sends once more: it waits for nobody.
    )
    config = alembic_config(database.url("tellwire_owner"))

    await asyncio.to_thread(command.downgrade, config, "0014")
    await asyncio.to_thread(command.upgrade, config, "head")
    ids += await shop.send(1, to=longer)

    entries = await shop.claim()
    assert {entry.message_id for entry in entries} == {ids[0], *kept}
    for one in ids[1:]:
        await shop.settle(entries)
        entries = await shop.claim()
        assert [entry.message_id for entry in entries] == [one]
