"""Conversations: who is reached by which address, and since when they may be answered."""

import asyncio
from datetime import timedelta

import pytest

from shared.kernel.clock import utc_now
from whatsapp.application.know_contact import know_people, merge_conversations
from whatsapp.domain.conversation import Reached
from whatsapp.domain.entities import ChannelNotFound
from whatsapp.domain.value_objects import InboundContent, PhoneNumber, UserId
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyConversationRepository
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

HOUR = timedelta(hours=1)
CARLA = PhoneNumber("+4915112345678")
CARLA_AT_META = UserId("DE.abc123")


@pytest.fixture
def conversation(at, ana):
    """The conversation that an address leads to."""

    async def conversation(address, channel_id=None):
        async with at(ana) as desk:
            found = SQLAlchemyConversationRepository(desk.uow.session)
            return await found.get_by_address(channel_id or ana.channel.id, address)

    return conversation


@pytest.fixture
def begin(sessions):
    return work_in(sessions)


@pytest.fixture
def hear(begin, ana, inbound):
    async def hear(**values):
        async with begin(ana.tenant_id) as work:
            stored = await work.messages.save_inbound(inbound(ana, **values))
            await merge_conversations(work, stored.conversation_ids)
            await work.commit()
        return stored

    return hear


@pytest.fixture
def reach(begin, ana, message):
    """Send to `dialled`, and let Meta name the recipient in a status."""

    async def reach(dialled, *, phone=None, user_id=None, when=None):
        async with begin(ana.tenant_id) as work:
            sent = await work.messages.save_outbound(message(ana, recipient=dialled))
            one = Reached(message_id=sent.id, phone=phone, user_id=user_id, at=when or utc_now())
            respelled = await work.conversations.record_reached(ana.channel.id, [one])
            await know_people(work, ana.channel.id, respelled)
            await work.commit()
        return sent, respelled

    return reach


async def test_a_message_opens_a_conversation_from_its_own_time(hear, conversation) -> None:
    sent_at = utc_now() - 5 * HOUR
    heard = await hear(sent_at=sent_at, sender_user_id=CARLA_AT_META, profile_name="Carla")

    found = await conversation(CARLA)

    assert found == await conversation(CARLA_AT_META)
    assert (found.phone, found.user_id, found.profile_name) == (CARLA, CARLA_AT_META, "Carla")
    assert (found.last_inbound_at, found.unread_count) == (sent_at, 1)
    assert (found.last_message_id, found.last_message_at) == (heard.id, sent_at)
    assert found.last_outbound_at is None


async def test_a_message_that_comes_again_counts_and_opens_nothing(
    at, ana, inbound, conversation
) -> None:
    message = inbound(ana, sent_at=utc_now() - HOUR)
    for _ in range(3):
        async with at(ana) as desk:
            await desk.messages.save_inbound(message)

    assert (await conversation(CARLA)).unread_count == 1


async def test_an_older_message_that_comes_late_closes_nothing(hear, conversation) -> None:
    newest = await hear(sent_at=utc_now() - HOUR)
    await hear(sent_at=utc_now() - 7 * HOUR)

    found = await conversation(CARLA)

    assert (found.last_inbound_at, found.unread_count) == (newest.sent_at, 2)
    assert found.last_message_id == newest.id


async def test_a_customers_clock_that_is_ahead_opens_nothing_beyond_now(hear, conversation) -> None:
    await hear(sent_at=utc_now() + 48 * HOUR)

    assert (await conversation(CARLA)).last_inbound_at <= utc_now()


async def test_a_notice_of_the_system_opens_no_window(hear, conversation) -> None:
    await hear(content=InboundContent("system", {"body": "Changed number"}))

    assert (await conversation(CARLA)).last_inbound_at is None


async def test_what_is_said_in_a_group_is_no_conversation(hear, conversation) -> None:
    await hear(raw={"group_id": "g.1"})

    assert await conversation(CARLA) is None


@pytest.mark.parametrize("known", [CARLA, CARLA_AT_META])
async def test_somebody_known_by_one_name_is_found_by_the_other_once_both_were_told(
    hear, conversation, known
) -> None:
    one = {"sender": known} if known is CARLA else {"sender": None, "sender_user_id": known}
    await hear(**one)
    first = await conversation(known)
    await hear(sender=CARLA, sender_user_id=CARLA_AT_META)

    both = [await conversation(CARLA), await conversation(CARLA_AT_META)]

    assert {found.id for found in both} == {first.id}
    assert both[0].unread_count == 2


async def test_two_that_were_one_person_all_along_are_one_from_then_on(hear, conversation) -> None:
    await hear(sender=CARLA, sent_at=utc_now() - 30 * HOUR)
    await hear(sender=None, sender_user_id=CARLA_AT_META, sent_at=utc_now() - 30 * HOUR)
    now = utc_now()
    await hear(sender=CARLA, sender_user_id=CARLA_AT_META, sent_at=now)

    found = [await conversation(CARLA), await conversation(CARLA_AT_META)]

    assert [one.last_inbound_at for one in found] == [now, now]
    assert {one.id for one in found} == {found[0].id}
    assert found[0].unread_count == 3


async def test_a_sender_without_any_name_is_kept_and_opens_nothing(at, ana, hear) -> None:
    await hear(sender=None)

    async with at(ana) as desk:
        assert await SQLAlchemyConversationRepository(desk.uow.session).list() == []


async def test_twenty_first_messages_at_once_are_one_conversation(
    at, ana, inbound, conversation
) -> None:
    async def hear():
        async with at(ana) as desk:
            await desk.messages.save_inbound(inbound(ana, sender_user_id=CARLA_AT_META))

    await asyncio.gather(*(hear() for _ in range(20)))

    found = [await conversation(CARLA), await conversation(CARLA_AT_META)]
    assert {one.id for one in found} == {found[0].id}
    assert found[0].unread_count == 20


@pytest.mark.parametrize(
    ("dialled", "spelled"),
    [
        ("+5511987654321", "+551187654321"),
        ("+525512345678", "+5215512345678"),
        ("+541123456789", "+5491123456789"),
        ("+4915112345678", "+4915112345600"),
    ],
)
async def test_whom_meta_spells_otherwise_joins_one_conversation(
    reach, hear, conversation, dialled, spelled
) -> None:
    dialled, spelled = PhoneNumber(dialled), PhoneNumber(spelled)
    _, respelled = await reach(dialled, phone=spelled)
    await hear(sender=spelled)

    assert [one.names for one in respelled] == [(dialled, spelled)]
    found = [await conversation(dialled), await conversation(spelled)]
    assert {one.id for one in found} == {found[0].id}
    assert found[0].phone == spelled
    assert found[0].last_inbound_at is not None


async def test_a_spelling_is_learnt_once(reach) -> None:
    dialled, spelled = PhoneNumber("+5511987654321"), PhoneNumber("+551187654321")
    await reach(dialled, phone=spelled)

    _, again = await reach(dialled, phone=spelled)

    assert again == []


async def test_a_user_id_that_was_written_to_joins_the_number_that_meta_tells(
    reach, hear, conversation
) -> None:
    await hear(sender=CARLA)
    await reach(CARLA_AT_META, phone=CARLA, user_id=CARLA_AT_META)

    assert (await conversation(CARLA_AT_META)).id == (await conversation(CARLA)).id


async def test_a_stranger_who_answers_under_a_user_id_alone_is_found_by_the_number(
    reach, hear, conversation
) -> None:
    await reach(CARLA, user_id=CARLA_AT_META)
    await hear(sender=None, sender_user_id=CARLA_AT_META)

    assert (await conversation(CARLA)).last_inbound_at is not None


async def test_a_customer_who_wrote_first_is_found_under_the_number_as_it_is_dialled(
    hear, conversation
) -> None:
    await hear(sender=PhoneNumber("+551187654321"))

    assert await conversation(PhoneNumber("+5511987654321")) is not None


async def test_what_was_sent_last_is_noted_in_conversations_that_exist(
    reach, hear, conversation
) -> None:
    await hear(sent_at=utc_now() - HOUR)
    now = utc_now()
    sent, _ = await reach(CARLA, phone=CARLA, when=now)
    await reach(CARLA, phone=CARLA, when=now - HOUR)

    found = await conversation(CARLA)

    assert (found.last_outbound_at, found.last_message_id) == (now, sent.id)
    assert (found.last_message_at, found.unread_count) == (now, 1)


async def test_a_stranger_who_never_answers_has_no_conversation(reach, conversation) -> None:
    await reach(CARLA, phone=CARLA)

    assert await conversation(CARLA) is None


async def test_a_conversation_belongs_to_one_channel(at, ana, hear, conversation) -> None:
    await hear(sender=CARLA)
    async with at(ana) as desk:
        other = ana.channel
        other = await desk.channels.add(
            type(other)(
                tenant_id=ana.tenant_id,
                name="Second",
                phone_number_id="3003",
                access_token=other.access_token,
            )
        )

    assert await conversation(CARLA, other.id) is None


async def test_an_unknown_channel_is_named(at, ana, bea, inbound) -> None:
    with pytest.raises(ChannelNotFound):
        async with at(ana) as desk:
            await desk.messages.save_inbound(inbound(ana, channel_id=bea.channel.id))
