"""Accepting: what a channel takes is judged by the statement that stores it."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from whatsapp.domain.entities import (
    ChannelNotActive,
    ChannelNotFound,
    ChannelStatus,
    IdempotencyKeyReused,
    OutboundMessage,
    WindowPolicy,
)
from whatsapp.domain.repositories import Revival
from whatsapp.domain.service_window import ServiceWindowClosed
from whatsapp.domain.value_objects import (
    IdempotencyKey,
    MessageContent,
    MessageStatus,
    PhoneNumber,
    UserId,
    given_wamid,
)

pytestmark = pytest.mark.postgres

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
CARLA = PhoneNumber("+4915112345678")
KEY = IdempotencyKey("order-1")
TEXT = MessageContent.text("Hello")
TEMPLATE = MessageContent.template("order_sent", "en")


@pytest.fixture
def accept(at, ana):
    async def accept(*messages, now=None):
        async with at(ana) as desk:
            return list(await desk.messages.accept_outbound(messages, at=now or utc_now()))

    return accept


@pytest.fixture
def to_carla(ana, message):
    return lambda **values: message(ana, recipient=CARLA, **values)


@pytest.fixture
def hear(at, ana, inbound):
    async def hear(**values):
        async with at(ana) as desk:
            return await desk.messages.save_inbound(inbound(ana, **values))

    return hear


@pytest.fixture
def change(at, ana):
    async def change(**values):
        for name, value in values.items():
            setattr(ana.channel, name, value)
        async with at(ana) as desk:
            await desk.channels.update(ana.channel)

    return change


def kinds(results):
    return [one.code if isinstance(one, Exception) else one.status.value for one in results]


async def stored_of(superuser, customer):
    rows = await superuser.fetch(
        "SELECT m.id, q.id IS NOT NULL AS queued FROM whatsapp_outbound_messages m"
        " LEFT JOIN whatsapp_send_queue q USING (tenant_id, id) WHERE m.tenant_id = $1",
        customer.tenant_id,
    )
    return {row["id"]: row["queued"] for row in rows}


async def test_a_stranger_gets_a_template_and_nothing_else(
    accept, to_carla, superuser, ana
) -> None:
    text, template = to_carla(content=TEXT), to_carla(content=TEMPLATE)

    results = await accept(text, template)

    assert kinds(results) == ["service_window_closed", "queued"]
    assert isinstance(results[0], ServiceWindowClosed)
    assert "template" in results[0].title
    assert await stored_of(superuser, ana) == {template.id: True}


@pytest.mark.parametrize(
    ("silence", "taken"),
    [
        (timedelta(0), True),
        (23 * HOUR + 58 * MINUTE, True),
        (23 * HOUR + 59 * MINUTE, False),
        (24 * HOUR, False),
        (72 * HOUR, False),
    ],
)
async def test_free_text_passes_for_24_hours_less_a_margin(
    accept, to_carla, hear, silence, taken
) -> None:
    now = utc_now()
    await hear(sent_at=now - silence)

    (result,) = await accept(to_carla(), now=now)

    assert kinds([result]) == ["queued" if taken else "service_window_closed"]


async def test_what_is_sent_later_needs_the_window_to_be_open_then(accept, to_carla, hear) -> None:
    now = utc_now()
    await hear(sent_at=now - 20 * HOUR)

    results = await accept(
        to_carla(send_at=now + 3 * HOUR), to_carla(send_at=now + 4 * HOUR), now=now
    )

    assert kinds(results) == ["queued", "service_window_closed"]


async def test_a_channel_may_leave_the_window_to_meta(accept, to_carla, change) -> None:
    await change(window_policy=WindowPolicy.ALLOW)

    assert kinds(await accept(to_carla())) == ["queued"]


async def test_the_window_is_found_by_every_name_of_the_contact(accept, ana, message, hear) -> None:
    await hear(sender=PhoneNumber("+551187654321"), sender_user_id=UserId("BR.abc1"))

    results = await accept(
        message(ana, recipient=PhoneNumber("+551187654321")),
        message(ana, recipient=PhoneNumber("+5511987654321")),
        message(ana, recipient=UserId("BR.abc1")),
        message(ana, recipient=UserId("BR.abc2")),
    )

    assert kinds(results) == ["queued", "queued", "queued", "service_window_closed"]


@pytest.mark.parametrize("status", ChannelStatus)
async def test_active_and_paused_channels_take_messages(accept, to_carla, change, status) -> None:
    await change(status=status)

    (result,) = await accept(to_carla(content=TEMPLATE))

    takes = status in {ChannelStatus.ACTIVE, ChannelStatus.PAUSED}
    assert isinstance(result, OutboundMessage if takes else ChannelNotActive)


async def test_an_unknown_channel_and_another_tenants_are_not_found(
    accept, ana, bea, message, superuser
) -> None:
    results = await accept(
        message(ana, channel_id=bea.channel.id), message(ana, channel_id=new_id())
    )

    assert [type(one) for one in results] == [ChannelNotFound, ChannelNotFound]
    assert {one.field for one in results} == {"channel_id"}
    assert await stored_of(superuser, ana) == {}


async def test_a_replay_is_answered_whatever_the_channel_takes_now(
    accept, to_carla, hear, change
) -> None:
    now = utc_now()
    await hear(sent_at=now - HOUR)
    first, again = (to_carla(idempotency_key=IdempotencyKey("once")) for _ in range(2))
    await accept(first, now=now)

    (closed,) = await accept(again, now=now + 48 * HOUR)
    await change(status=ChannelStatus.DISABLED)
    (disabled,) = await accept(again, now=now)

    for result in (closed, disabled):
        assert (result.id, result.replayed) == (first.id, True)


async def test_a_key_reused_for_something_else_is_refused_alone(
    accept, to_carla, superuser, ana
) -> None:
    key = IdempotencyKey("once")
    await accept(first := to_carla(content=TEMPLATE, idempotency_key=key))

    other = MessageContent.template("other", "en")
    results = await accept(
        to_carla(content=TEMPLATE),
        to_carla(content=other, idempotency_key=key),
        to_carla(content=TEMPLATE, idempotency_key=key),
    )

    assert kinds(results) == ["queued", "idempotency_key_reused", "queued"]
    assert isinstance(results[1], IdempotencyKeyReused)
    assert (results[2].id, results[2].replayed) == (first.id, True)
    assert len(await stored_of(superuser, ana)) == 2


async def test_the_same_key_at_once_alone_and_in_batches_is_one_message(
    accept, to_carla, superuser, ana
) -> None:
    def fresh(number):
        return to_carla(content=TEMPLATE, idempotency_key=IdempotencyKey(f"key-{number}"))

    calls = [accept(fresh(0)) for _ in range(10)]
    calls += [accept(*(fresh(n) for n in reversed(range(5)))) for _ in range(5)]
    results = [one for call in await asyncio.gather(*calls) for one in call]

    stored = await stored_of(superuser, ana)
    assert len(stored) == 5
    assert all(stored.values())
    assert sum(not one.replayed for one in results) == 5
    assert {one.id for one in results} == set(stored)


async def test_without_a_key_the_same_again_is_the_same_whatever_goes_with_it(accept, ana) -> None:
    def unkeyed(**values):
        return OutboundMessage(
            tenant_id=ana.tenant_id,
            channel_id=ana.channel.id,
            recipient=CARLA,
            content=TEMPLATE,
            created_at=now,
            **values,
        )

    now = utc_now()
    first, with_metadata, later = await accept(
        unkeyed(), unkeyed(metadata={"order": "7"}), unkeyed(send_at=now + HOUR), now=now
    )

    assert (with_metadata.id, with_metadata.replayed) == (first.id, True)
    assert with_metadata.metadata == {}
    assert (later.replayed, later.id == first.id) == (False, False)


async def test_a_refused_message_may_come_again_under_its_key(accept, to_carla, hear) -> None:
    key = IdempotencyKey("again")
    assert kinds(await accept(to_carla(idempotency_key=key))) == ["service_window_closed"]
    await hear(sent_at=utc_now())

    (result,) = await accept(to_carla(idempotency_key=key))

    assert (result.status, result.replayed) == (MessageStatus.QUEUED, False)


async def test_a_key_of_which_the_first_was_refused_is_anothers_in_the_same_batch(
    accept, to_carla, ana, superuser
) -> None:
    texts = [to_carla(content=MessageContent.text(text), idempotency_key=KEY) for text in "aab"]
    nowhere = to_carla(channel_id=new_id(), content=TEMPLATE, idempotency_key=KEY)
    template, again = (to_carla(content=TEMPLATE, idempotency_key=KEY) for _ in range(2))

    results = await accept(*texts, nowhere, template, again)

    window, unknown = ServiceWindowClosed.code, ChannelNotFound.code
    assert kinds(results) == [*[window] * 3, unknown, "queued", "queued"]
    assert [one.replayed for one in results[4:]] == [False, True]
    assert {one.id for one in results[4:]} == {template.id}
    assert await stored_of(superuser, ana) == {template.id: True}


async def test_a_thousand_are_judged_in_one_statement_and_no_time(
    accept, ana, message, hear, superuser
) -> None:
    await hear(sender=PhoneNumber("+4915100000007"))
    batch = [message(ana, recipient=PhoneNumber(f"+49151{n:08}")) for n in range(1000)]

    results = await accept(*batch)

    assert kinds(results).count("service_window_closed") == 999
    assert kinds(results)[7] == "queued"
    assert len(await stored_of(superuser, ana)) == 1


@pytest.mark.parametrize("kind", ["quoting", "reacting"])
@pytest.mark.parametrize("wamid", ["wamid.meta", None])
async def test_a_message_about_one_of_ours_names_it_by_metas_id_once_there_is_one(
    at, ana, to_carla, kind, wamid
) -> None:
    about = to_carla(wamid=wamid)
    ours = given_wamid(about.id)
    content = TEXT.replying_to(ours) if kind == "quoting" else MessageContent.reaction(ours, "+")
    later = to_carla(content=content)
    async with at(ana) as desk:
        await desk.messages.save_outbound(about)
        await desk.messages.save_outbound(later)
        (loaded,) = await desk.messages.load_for_sending([later.id])
        (plain,) = await desk.messages.load_for_sending([about.id])
        kept = await desk.messages.get_outbound_by_id(later.id)

    assert loaded.content.refers_to == (wamid or ours)
    assert kept.content == content
    assert plain.content == about.content


async def test_a_message_about_metas_own_id_is_loaded_as_it_is(at, ana, to_carla) -> None:
    message = to_carla(content=TEXT.replying_to("wamid.meta"))
    async with at(ana) as desk:
        await desk.messages.save_outbound(message)
        (loaded,) = await desk.messages.load_for_sending([message.id])

    assert loaded.content == message.content


async def test_what_a_client_sent_beside_the_content_is_kept(at, ana, to_carla) -> None:
    message = to_carla(callback_data="mine", envelope={"recipient_identity_key_hash": "x"})
    async with at(ana) as desk:
        await desk.messages.save_outbound(message)
        (loaded,) = await desk.messages.load_for_sending([message.id])

    assert (loaded.callback_data, loaded.envelope) == (message.callback_data, message.envelope)
    assert loaded.digest == message.digest != to_carla(id=message.id).digest


async def test_what_is_stored_is_judged_anew_as_if_it_were_accepted_now(
    accept, to_carla, hear, change, at, ana
) -> None:
    now = utc_now()
    await hear(sent_at=now - 23 * HOUR)
    kept = [to_carla(), to_carla(content=TEMPLATE), to_carla(send_at=now + 10 * MINUTE)]
    assert kinds(await accept(*kept, now=now)) == ["queued"] * 3

    async def judged(later: timedelta) -> dict:
        async with at(ana) as desk:
            refusals = await desk.messages.refusals(kept, at=now + later)
        return {kept.index(m): refusals[m.id].code for m in kept if m.id in refusals}

    assert await judged(timedelta()) == {}
    assert await judged(2 * HOUR) == {0: "service_window_closed", 2: "service_window_closed"}
    await change(window_policy=WindowPolicy.ALLOW)
    assert await judged(2 * HOUR) == {}
    await change(status=ChannelStatus.DISABLED)
    assert await judged(timedelta()) == dict.fromkeys(range(3), "channel_not_active")
    async with at(ana) as desk:
        assert await desk.messages.refusals([], at=now) == {}


@pytest.mark.parametrize("ahead", [timedelta(days=-1), timedelta(), HOUR])
async def test_what_goes_at_once_goes_by_postgresqls_clock_whatever_ours_says(
    at, ana, accept, to_carla, ahead
) -> None:
    there = utc_now() + ahead
    at_once, saved, many, failed = [
        to_carla(created_at=there, idempotency_key=IdempotencyKey(name), content=TEMPLATE)
        for name in ("accepted", "saved", "saved-many", "failed")
    ]
    later = to_carla(created_at=there, send_at=there + HOUR, content=TEMPLATE)
    await accept(at_once, later, failed, now=there)
    async with at(ana) as desk:
        await desk.messages.save_outbound(saved)
        await desk.messages.save_outbound_many([many])
        await desk.uow.session.execute(
            text("UPDATE whatsapp_outbound_messages SET status = 'failed' WHERE id = :id"),
            {"id": failed.id},
        )
        await desk.messages.send_again([Revival(message=failed)], at=there)
        await desk.uow.commit()
        rows = await desk.uow.session.execute(
            text("SELECT id, due_at, now() AS now FROM whatsapp_send_queue")
        )
        due = {row.id: (row.due_at, row.now) for row in rows}

    for one in (at_once, saved, many, failed):
        due_at, now = due[one.id]
        assert due_at <= now
    assert due[later.id][0] == later.send_at
