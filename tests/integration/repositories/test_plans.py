"""Every statement on 200,000 rows as its own role: by a named index, and next to nothing in vain.

Half of the rows belong to one tenant, the rest to 200 others.
"""

import asyncio
import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from plans import TENANT, explain, judge, reads_hardly_more, seed, seeded, sent_in, sent_on
from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from whatsapp.application.conversation_views import Place
from whatsapp.application.message_views import MessageFilter
from whatsapp.domain.conversation import Person, Reached
from whatsapp.domain.entities import InboundMessage, OutboundMessage
from whatsapp.domain.repositories import AttemptResult, FailedAttempt, Revival, StatusReport
from whatsapp.domain.send_queue import ClaimedEntry
from whatsapp.domain.value_objects import (
    IdempotencyKey,
    InboundContent,
    MessageContent,
    MessageStatus,
    PhoneNumber,
    UserId,
)
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyChannelRepository,
    SQLAlchemyConversationViews,
    SQLAlchemyMessageRepository,
    SQLAlchemyMessageViews,
    SQLAlchemySendQueue,
)

pytestmark = pytest.mark.postgres

MINUTE = timedelta(minutes=1)
SEED = """
    INSERT INTO whatsapp_inbound_messages
        (tenant_id, id, channel_id, wamid, type, body, raw, sent_at, sender, author, amends)
    SELECT tenant_id, id, channel_id, 'wamid.in.' || n, CASE n % 60 WHEN 6 THEN 'edit'
           ELSE 'text' END, '{}', '{}', now(), a, a,
           CASE n % 60 WHEN 6 THEN 'wamid.in.' || n - 6 END
    FROM seed_messages CROSS JOIN LATERAL (
        SELECT '+49151' || CASE n % 4 WHEN 0 THEN 300 ELSE n END AS a) author;
    INSERT INTO whatsapp_status_events
        (tenant_id, id, channel_id, message_id, wamid, status, attempt, occurred_at)
    SELECT tenant_id, uuidv7(), channel_id, id, 'wamid.' || n, 'sent', 1, now() FROM seed_messages;
    INSERT INTO whatsapp_message_attempts
        (tenant_id, id, message_id, number, started_at, finished_at, outcome)
    SELECT tenant_id, id, id, 1, now(), now(), 'accepted' FROM seed_messages;
    INSERT INTO whatsapp_send_queue
        (tenant_id, id, channel_id, recipient_key, lane, state, due_at, attempt, lease_until,
         expires_at)
    SELECT tenant_id, id, channel_id, n,
           1 + CASE n % 40 WHEN 0 THEN 10 WHEN 4 THEN 20 ELSE 0 END,
           CASE n % 40 WHEN 0 THEN 'retrying' WHEN 4 THEN 'unknown' ELSE 'ready' END,
           now() - interval '1 hour' + n * interval '1 microsecond', 0, NULL,
           CASE WHEN n % 8 = 0 THEN now() + (n - 100000) * interval '1 second' END
    FROM seed_messages WHERE n % 4 = 0;
    UPDATE whatsapp_send_queue SET state = 'dispatching', lease_token = md5('lease')::uuid
    WHERE id IN (md5('m300')::uuid, md5('m312')::uuid, md5('m336')::uuid);
    -- Another system sends from the same number: its reports are kept without a message.
    INSERT INTO whatsapp_status_events (tenant_id, id, channel_id, wamid, status, occurred_at)
    SELECT tenant_id, uuidv7(), channel_id, 'wamid.other.' || n, 'sent', now()
    FROM seed_messages WHERE n % 10 = 0;
    INSERT INTO whatsapp_conversations
        (tenant_id, id, channel_id, phone, unread_count, last_message_id, last_message_at)
    SELECT tenant_id, id, channel_id, '+49151' || n, CASE n % 500 WHEN 0 THEN 1 ELSE 0 END, id,
           now() - n * interval '1 second'
    FROM seed_messages WHERE n % 10 = 0;
    INSERT INTO whatsapp_conversation_addresses
        (tenant_id, id, conversation_id, channel_id, address)
    SELECT tenant_id, id, id, channel_id, '+49151' || n FROM seed_messages WHERE n % 10 = 0;
    INSERT INTO whatsapp_conversation_addresses
        (tenant_id, id, conversation_id, channel_id, address)
    SELECT tenant_id, md5('u' || n)::uuid, id, channel_id, 'DE.' || n
    FROM seed_messages WHERE n % 10 = 0;
    UPDATE whatsapp_outbound_messages SET recipient = 'DE.300' WHERE id = md5('m324')::uuid;
"""
# The largest tenant's channel of the message 300 (a multiple of 2 and of 3), and that message.
CHANNEL, MESSAGE = seeded("c01"), seeded("m300")
LEASE = seeded("lease")
OTHERS = [seeded(f"m{number}") for number in (300, 312, 336)]
SENT = [seeded(f"m{number}") for number in (306, 318, 330)]


@pytest.fixture(scope="module")
def seeded_url(module_database) -> str:
    seed(module_database.superuser_url, SEED)
    return module_database.url("tellwire_app")


def message(**values: Any) -> OutboundMessage:
    given = {
        "tenant_id": TENANT,
        "channel_id": CHANNEL,
        "recipient": PhoneNumber("+4915112345678"),
        "content": MessageContent.text("Hello"),
        "idempotency_key": IdempotencyKey(f"new-{new_id()}"),
    }
    return OutboundMessage(**given | values)


def result(message_id: UUID) -> AttemptResult:
    now = utc_now()
    return AttemptResult(
        message_id=message_id,
        lease_token=LEASE,
        number=1,
        status=MessageStatus.SENT,
        outcome="accepted",
        started_at=now,
        finished_at=now,
        wamid=f"wamid.new.{message_id}",
    )


def report(message_id: UUID | None, wamid: str, **values: Any) -> StatusReport:
    return StatusReport(
        wamid=wamid,
        status=MessageStatus.PLAYED,
        occurred_at=utc_now(),
        message_id=message_id,
        **values,
    )


def heard(**values: Any) -> InboundMessage:
    return InboundMessage(
        tenant_id=TENANT,
        channel_id=CHANNEL,
        wamid="wamid.in.new",
        content=InboundContent("text", {"body": "Hi"}),
        sent_at=utc_now(),
        **values,
    )


_MESSAGES = "pk_whatsapp_outbound_messages"
_QUEUE = "pk_whatsapp_send_queue"
_RECIPIENT = "ix_whatsapp_send_queue_tenant_id_recipient_key_id"
_DUE = "ix_whatsapp_send_queue_tenant_id_channel_id_lane_due_at_id"
_OF_CHANNEL = "ix_whatsapp_outbound_messages_tenant_id_channel_id_id"
_EXPIRES = "ix_whatsapp_send_queue_tenant_id_channel_id_expires_at"
_WAMID = "uq_whatsapp_inbound_messages_tenant_id_channel_id_wamid"
_CONVERSATIONS = "pk_whatsapp_conversations"
_ADDRESS = "uq_whatsapp_conversation_addresses_tenant_id_channel_id_address"
DORA_BY_ID = UserId("DE.360")
LATER_ID = UUID("80000000-0000-0000-0000-000000000000")
# Each statement and the indexes it has to go by.
AS_APP = {
    "channels.get_by_id": (lambda c, _m: c.get_by_id(CHANNEL), {"pk_whatsapp_channels"}),
    "channels.find": (
        lambda c, _m: c.find(CHANNEL, for_change=True),
        {"pk_whatsapp_channels"},
    ),
    "channels.find_many": (
        lambda c, _m: c.find_many([CHANNEL, MESSAGE]),
        {"pk_whatsapp_channels"},
    ),
    "channels.rest": (lambda c, _m: c.rest(CHANNEL, MINUTE), {"pk_whatsapp_channels"}),
    "channels.get_by_phone_number_id": (
        lambda c, _m: c.get_by_phone_number_id("1"),
        {"uq_whatsapp_channels_tenant_id_phone_number_id"},
    ),
    "channels.get_by_organization": (
        lambda c, _m: c.get_by_organization(TENANT),
        set(),
    ),
    "channels.get_active_channels": (
        lambda c, _m: c.get_active_channels(),
        set(),
    ),
    "messages.list": (lambda _c, m: m.list(limit=50), {_MESSAGES}),
    "messages.delete": (lambda _c, m: m.delete(MESSAGE), {_MESSAGES}),
    "messages.save_outbound": (lambda _c, m: m.save_outbound(message()), set()),
    "messages.save_outbound_many": (
        lambda _c, m: m.save_outbound_many([message() for _ in range(50)]),
        set(),
    ),
    "messages.accept_outbound": (
        lambda _c, m: m.accept_outbound([message()], at=utc_now()),
        {"pk_whatsapp_channels"},
    ),
    "messages.accept_outbound of many": (
        lambda _c, m: m.accept_outbound([message() for _ in range(50)], at=utc_now()),
        {"pk_whatsapp_channels"},
    ),
    "messages.accept_outbound again": (
        lambda _c, m: m.accept_outbound(
            [message(idempotency_key=IdempotencyKey("key-300"))], at=utc_now()
        ),
        {"uq_whatsapp_outbound_messages_tenant_id_idempotency_key"},
    ),
    "messages.accept_outbound to user ids": (
        lambda _c, m: m.accept_outbound(
            [message(recipient=DORA_BY_ID) for _ in range(50)], at=utc_now()
        ),
        {_ADDRESS, _CONVERSATIONS, _RECIPIENT},
    ),
    "messages.save_outbound to a user id": (
        lambda _c, m: m.save_outbound(message(recipient=DORA_BY_ID)),
        {_ADDRESS, _CONVERSATIONS, _RECIPIENT},
    ),
    "messages.save_outbound_many to user ids": (
        lambda _c, m: m.save_outbound_many([message(recipient=DORA_BY_ID) for _ in range(50)]),
        {_ADDRESS, _CONVERSATIONS, _RECIPIENT},
    ),
    "messages.refusals": (
        lambda _c, m: m.refusals([message() for _ in range(50)], at=utc_now()),
        {"pk_whatsapp_channels"},
    ),
    "messages.count_alike": (
        lambda _c, m: m.count_alike([FailedAttempt(MESSAGE, 9, "deferred", 131000)]),
        set(),
    ),
    "messages.send_again": (
        lambda _c, m: m.send_again([Revival(message=message(id=MESSAGE))], at=utc_now()),
        {_MESSAGES},
    ),
    "messages.get_outbound_by_id": (
        lambda _c, m: m.get_outbound_by_id(MESSAGE),
        {_MESSAGES, _QUEUE},
    ),
    "messages.get_outbound_by_wa_id": (
        lambda _c, m: m.get_outbound_by_wa_id("wamid.300"),
        {"ix_whatsapp_outbound_messages_tenant_id_wamid", _QUEUE},
    ),
    "messages.get_outbound_by_idempotency_key": (
        lambda _c, m: m.get_outbound_by_idempotency_key(IdempotencyKey("key-300")),
        {"uq_whatsapp_outbound_messages_tenant_id_idempotency_key", _QUEUE},
    ),
    "messages.get_failed_for_retry": (
        lambda _c, m: m.get_failed_for_retry(50),
        {_DUE, _MESSAGES},
    ),
    "messages.requeue_due": (
        lambda _c, m: m.requeue_due(at=utc_now(), limit=50),
        {_DUE, _MESSAGES, _QUEUE},
    ),
    "messages.update_outbound": (
        lambda _c, m: m.update_outbound(message(id=MESSAGE, status=MessageStatus.SENT)),
        {_MESSAGES, _QUEUE},
    ),
    "messages.cancel_outbound": (
        lambda _c, m: m.cancel_outbound(seeded("m308"), utc_now()),
        {_MESSAGES, _QUEUE},
    ),
    "messages.load_for_sending": (lambda _c, m: m.load_for_sending(OTHERS), {_MESSAGES}),
    "messages.load_for_sending to a user id": (
        lambda _c, m: m.load_for_sending([seeded("m324"), *OTHERS]),
        {_MESSAGES, _ADDRESS, _CONVERSATIONS},
    ),
    "messages.record_attempts": (
        lambda _c, m: m.record_attempts([result(one) for one in OTHERS]),
        {_MESSAGES, _QUEUE},
    ),
    "messages.record_statuses": (
        lambda _c, m: m.record_statuses(
            CHANNEL, [report(SENT[0], "w.1"), report(SENT[1], "w.2"), report(None, "wamid.342")]
        ),
        {_MESSAGES, "ix_whatsapp_outbound_messages_tenant_id_wamid"},
    ),
    "messages.record_statuses of what waits": (
        lambda _c, m: m.record_statuses(CHANNEL, [report(one, f"w.{one}") for one in OTHERS]),
        {_QUEUE},
    ),
    "messages.record_statuses of second copies": (
        lambda _c, m: m.record_statuses(
            CHANNEL, [report(one, f"w.second.{one}", attempt=1) for one in SENT]
        ),
        {
            "ix_whatsapp_message_attempts_tenant_id_message_id_number",
            "ix_whatsapp_status_events_tenant_id_message_id_occurred_at",
        },
    ),
    "messages.step_aside": (
        lambda _c, m: m.step_aside(CHANNEL, limit=30),
        {_DUE, _QUEUE, _RECIPIENT},
    ),
    "messages.step_forward": (lambda _c, m: m.step_forward(CHANNEL), {_DUE}),
    "messages.settle_abandoned": (
        lambda _c, m: m.settle_abandoned(CHANNEL, unknown_for=MINUTE, limit=30),
        {_DUE},
    ),
    "messages.give_up_unknown": (
        lambda _c, m: m.give_up_unknown(CHANNEL, at=utc_now(), unknown_for=MINUTE, limit=50),
        {_DUE, _MESSAGES, _QUEUE},
    ),
    "messages.expire_unsent": (
        lambda _c, m: m.expire_unsent(CHANNEL, at=utc_now(), limit=50),
        {_EXPIRES, _OF_CHANNEL, _QUEUE},
    ),
    "messages.save_inbound": (lambda _c, m: m.save_inbound(heard()), set()),
    "messages.save_inbound of somebody": (
        lambda _c, m: m.save_inbound(heard(sender=PhoneNumber("+49151300"))),
        {"uq_whatsapp_conversation_addresses_tenant_id_channel_id_address"},
    ),
    "messages.get_inbound_by_wa_id": (
        lambda _c, m: m.get_inbound_by_wa_id("wamid.in.300"),
        {_WAMID},
    ),
}
_LATEST = "ix_whatsapp_conversations_latest"
_UNREAD = "ix_whatsapp_conversations_unread"
_OF_CONVERSATION = "ix_whatsapp_conversation_addresses_tenant_id_conversation_id"
_HEARD = "ix_whatsapp_inbound_messages_thread"
_SAID = "ix_whatsapp_outbound_messages_thread"
CARLA, DORA = PhoneNumber("+49151300"), PhoneNumber("+49151360")
LATER = Place(utc_now() - timedelta(hours=2), MESSAGE)
# What looks at conversations and people: each statement of it, on a thread of thousands.
LOOKING = {
    "get_view": (lambda v: v.get_view(MESSAGE), {_CONVERSATIONS}),
    "list_latest": (lambda v: v.list_latest(limit=50), {_LATEST}),
    "list_latest, next page": (lambda v: v.list_latest(limit=50, before=LATER), {_LATEST}),
    "list_latest of a channel": (
        lambda v: v.list_latest(limit=50, channel_id=CHANNEL),
        {_LATEST},
    ),
    "list_latest, unread": (lambda v: v.list_latest(limit=50, is_unread=True), {_UNREAD}),
    "list_latest of a channel, unread": (
        lambda v: v.list_latest(limit=5, channel_id=CHANNEL, is_unread=True),
        {_UNREAD},
    ),
    "list_messages": (
        lambda v: v.list_messages(MESSAGE, limit=50),
        {_OF_CONVERSATION, _HEARD, _SAID},
    ),
    "list_messages, next page": (
        lambda v: v.list_messages(MESSAGE, limit=50, before=seeded("m306")),
        {_OF_CONVERSATION, _HEARD, _SAID},
    ),
    "get_newest_inbound": (lambda v: v.get_newest_inbound(MESSAGE), {_HEARD}),
    "list_amended": (
        lambda v: v.list_amended(CHANNEL, ["wamid.in.300", "wamid.in.1"]),
        {"ix_whatsapp_inbound_messages_amends", _WAMID},
    ),
    "list_contacts": (lambda v: v.list_contacts(limit=50), {_CONVERSATIONS}),
    "list_contacts of a channel": (
        lambda v: v.list_contacts(limit=50, channel_id=CHANNEL),
        {"ix_whatsapp_conversations_tenant_id_channel_id_id"},
    ),
    "list_contacts known as": (
        lambda v: v.list_contacts(limit=50, known_as=CARLA),
        {_ADDRESS, _CONVERSATIONS},
    ),
    "get_by_address": (lambda v: v.get_by_address(CHANNEL, CARLA), {_ADDRESS, _CONVERSATIONS}),
    "record_reached": (
        lambda v: v.record_reached(
            CHANNEL,
            [Reached(message_id=one, phone=CARLA, user_id=None, at=utc_now()) for one in OTHERS],
        ),
        {_ADDRESS, _CONVERSATIONS},
    ),
    "know": (
        lambda v: v.know(
            CHANNEL,
            [
                Person(names=(one, UserId(f"DE.{n}")), phone=one, user_id=None, at=utc_now())
                for n, one in enumerate((CARLA, DORA))
            ],
        ),
        {_ADDRESS},
    ),
    "hold": (lambda v: v.hold([MESSAGE, seeded("m360")]), {_OF_CONVERSATION, _CONVERSATIONS}),
    "merge": (lambda v: v.merge([MESSAGE, seeded("m360")]), {_OF_CONVERSATION, _CONVERSATIONS}),
    "recall_sent": (
        lambda v: v.recall_sent([MESSAGE, seeded("m360")]),
        {_OF_CONVERSATION, _SAID, _CONVERSATIONS},
    ),
    "mark_read": (lambda v: v.mark_read(MESSAGE), {_CONVERSATIONS}),
}
# Lists of messages, which are built of what is asked for.
SHOWN = {
    "all": {},
    "next page": {"before": LATER_ID},
    "of a channel": {"wanted": MessageFilter(channel_id=CHANNEL)},
    "by status": {"wanted": MessageFilter(status=MessageStatus.UNKNOWN)},
    "dead": {"wanted": MessageFilter(is_dead=True), "before": LATER_ID},
    "by recipient": {"wanted": MessageFilter(recipient=CARLA, channel_id=CHANNEL)},
    "by time": {"wanted": MessageFilter(created_from=utc_now() - timedelta(days=1))},
}
ENTRIES = [ClaimedEntry(TENANT, CHANNEL, one, LEASE, 1) for one in OTHERS]
AS_DISPATCH = {
    "find_work": (lambda q: q.find_work(limit=100), {_DUE, _EXPIRES}),
    "find_abandoned": (lambda q: q.find_abandoned([(TENANT, CHANNEL)], limit=100), {_DUE}),
    "claim": (
        lambda q: q.claim(tenant_id=TENANT, channel_id=CHANNEL, limit=20, lease=MINUTE),
        {_DUE, "ix_whatsapp_send_queue_tenant_id_recipient_key_id"},
    ),
    "claim on ten channels": (
        lambda q: asyncio.gather(
            *(
                q.claim(tenant_id=TENANT, channel_id=one, limit=20, lease=MINUTE)
                for one in [CHANNEL, *(seeded(f"c{number:02}") for number in range(2, 11))]
            )
        ),
        {_DUE, "ix_whatsapp_send_queue_tenant_id_recipient_key_id"},
    ),
    "mark": (lambda q: q.mark(ENTRIES, lease=MINUTE), {_QUEUE}),
    "unmark": (lambda q: q.unmark(ENTRIES), {_QUEUE}),
    "release": (lambda q: q.release(ENTRIES), {_QUEUE}),
}


def about_messages(caught):
    return [one for one in caught if "whatsapp_" in one[0]]


@pytest.fixture(scope="module")
def dispatch_url(seeded_url):
    return seeded_url.replace("tellwire_app", "tellwire_dispatch")


@pytest.mark.parametrize("name", AS_APP)
async def test_a_statement_of_a_tenant_goes_by_its_index(seeded_url, name):
    call, expected = AS_APP[name]
    made = (SQLAlchemyChannelRepository, SQLAlchemyMessageRepository)
    sent = await sent_in(seeded_url, lambda session: call(*(one(session) for one in made)))

    assert judge(await explain(seeded_url, TENANT, sent[-1]), expected) == []
    for one in about_messages(sent):
        assert await reads_hardly_more(seeded_url, one)


@pytest.mark.parametrize("name", LOOKING)
async def test_looking_at_conversations_counts_and_sorts_nothing_but_one_page(seeded_url, name):
    call, expected = LOOKING[name]
    sent = await sent_in(seeded_url, lambda session: call(SQLAlchemyConversationViews(session)))
    asked = about_messages(sent)

    plans = [await explain(seeded_url, TENANT, one) for one in asked]
    assert judge(plans[0], expected) == []
    assert [judge(plan, set()) for plan in plans[1:]] == [[] for _ in plans[1:]]
    for one in asked:
        assert await reads_hardly_more(seeded_url, one)


@pytest.mark.parametrize("name", AS_DISPATCH)
async def test_a_statement_of_the_dispatcher_goes_by_its_index(dispatch_url, name):
    call, expected = AS_DISPATCH[name]
    sent = await sent_on(dispatch_url, lambda engine: call(SQLAlchemySendQueue(engine)))

    assert judge(await explain(dispatch_url, None, sent[-1]), expected) == []
    assert await reads_hardly_more(dispatch_url, sent[-1])


@pytest.mark.parametrize("name", SHOWN)
async def test_a_list_of_messages_looks_at_no_more_by_a_plan_for_all(seeded_url, name):
    given = {"wanted": MessageFilter()} | SHOWN[name]

    async def look(session):
        views = SQLAlchemyMessageViews(session)
        await views.list_outbound(given.pop("wanted"), limit=50, **given)
        await views.get_outbound_many(OTHERS)
        await views.get_history(MESSAGE)

    asked = about_messages(await sent_in(seeded_url, look))

    assert [await reads_hardly_more(seeded_url, one) for one in asked] == [True] * len(asked)


async def test_parked_reports_are_found_by_their_index(seeded_url, module_database):
    """The function's own query, which no plan of a statement that calls it shows."""
    connection = await asyncpg.connect(module_database.superuser_url.replace("+asyncpg", ""))
    source = await connection.fetchval(
        "SELECT prosrc FROM pg_proc WHERE proname = 'whatsapp_adopt_parked'"
    )
    await connection.close()
    update = source.split("RETURN QUERY")[1].split(";")[0]
    for number, name in enumerate(("ids", "channels", "wamids"), start=1):
        kind = "text" if name == "wamids" else "uuid"
        update = re.sub(rf"\b{name}\b", f"CAST(${number} AS {kind}[])", update)
    update = re.sub(r"= tenant\b", f"= '{TENANT}'", update)
    parameters = (OTHERS[:1], [CHANNEL], ["wamid.other.300"])

    explained = await explain(seeded_url, TENANT, (update, parameters))

    assert judge(explained, {"ix_whatsapp_status_events_parked"}) == []


async def test_a_plan_without_its_index_would_be_noticed(seeded_url):
    asked = "SELECT id FROM whatsapp_outbound_messages WHERE recipient LIKE '%17'"

    assert judge(await explain(seeded_url, TENANT, (asked, ())), {_MESSAGES}) != []
