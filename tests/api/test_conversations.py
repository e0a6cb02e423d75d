"""Conversations and contacts over HTTP."""

from dataclasses import replace
from datetime import timedelta
from itertools import count
from uuid import UUID

import pytest

from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from tenancy.domain import Scope
from whatsapp.application.applied import Placed
from whatsapp.application.apply_changes import ApplyChanges
from whatsapp.application.apply_inbound import ApplyInbound
from whatsapp.application.apply_statuses import ApplyStatuses
from whatsapp.application.apply_webhook import ApplyWebhook
from whatsapp.application.know_contact import (
    KnowContact,
    MarketingWish,
    heed_marketing_wishes,
)
from whatsapp.domain.entities import ChannelStatus
from whatsapp.domain.value_objects import InboundContent, MessageStatus, PhoneNumber
from whatsapp.domain.webhook import Echo, InboundReceived, StatusReported
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.cloud_api.client import MetaRefused, MetaUnreachable
from whatsapp.infrastructure.cloud_api.outcomes import (
    outcome_of_status_errors,
    refusal_of_response,
)
from whatsapp.infrastructure.persistence.work import work_in

CARLA, DORA = "4915112345678", "4915112345679"
HOUR = timedelta(hours=1)
_numbers = count(1)


def inbound(wa_id=CARLA, *, user_id=None, ago=HOUR, body="Hi", **values):
    given = {
        "waba_id": "1",
        "phone_number_id": "1",
        "wamid": f"wamid.api.{next(_numbers)}",
        "wa_id": wa_id,
        "user_id": user_id,
        "previous_user_id": None,
        "profile_name": "Carla",
        "username": "carla.c",
        "group_id": None,
        "sent_at": utc_now() - ago,
        "content": InboundContent("text", {"body": body}),
        "context_wamid": None,
        "errors": (),
        "raw": {},
    }
    return InboundReceived(**given | values)


def sent(message_id, wa_id=CARLA, user_id=None):
    return StatusReported(
        waba_id="1",
        phone_number_id="1",
        wamid=f"wamid.out.{message_id}",
        status=MessageStatus.SENT,
        occurred_at=utc_now(),
        wa_id=wa_id,
        user_id=user_id,
        echo=Echo(message_id, 1),
        errors=(),
        pricing=None,
        raw={},
    )


@pytest.fixture
def apply(world, ana):
    webhook = ApplyWebhook(
        begin=work_in(world.sessions),
        statuses=ApplyStatuses(judge=outcome_of_status_errors),
        inbound=ApplyInbound(),
        changes=ApplyChanges(),
        followers=[KnowContact()],
    )

    async def apply(*elements, channel_id=ana.channel_id):
        placed = [Placed(new_id(), element) for element in elements]
        await webhook(Route(ana.tenant_id, channel_id), placed)

    return apply


@pytest.fixture
def call(client, ana):
    async def call(path, method="GET", *, headers=None, **query):
        return await client.request(method, path, params=query, headers=headers or ana.headers)

    return call


@pytest.fixture
def send(client, ana):
    async def send(to=f"+{CARLA}", **body):
        given = {
            "channel_id": str(ana.channel_id),
            "to": to,
            "text": {"body": f"Hello {next(_numbers)}"},
        }
        answer = await client.post("/v1/messages", json=given | body, headers=ana.headers)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    return send


class Meta:
    """Takes in receipts, or refuses them."""

    def __init__(self):
        self.asked, self.answer = [], None

    async def mark_as_read(self, **asked):
        self.asked.append((asked["wamid"], asked.get("is_typing", False)))
        if self.answer is not None:
            raise self.answer


@pytest.fixture
def meta(client, monkeypatch):
    state = client._transport.app.state
    services, meta = state.tellwire_services, Meta()
    replaced = replace(
        services,
        read_conversation=replace(services.read_conversation, receipts=meta),
        show_typing=replace(services.show_typing, receipts=meta),
    )
    monkeypatch.setattr(state, "tellwire_services", replaced)
    return meta


async def only(call):
    (found,) = (await call("/v1/conversations")).json()["data"]
    return found


async def test_a_conversation_shows_its_contact_window_and_last_message(apply, call, ana) -> None:
    message = inbound(user_id="DE.carla", ago=HOUR)
    await apply(message)

    shown = await only(call)

    closes = message.sent_at + timedelta(hours=24) - timedelta(minutes=1)
    assert shown["window"] == {"is_open": True, "open_until": _iso(closes)}
    assert shown["unread_count"] == 1
    assert shown["contact"] == {
        "id": shown["id"],
        "channel_id": str(ana.channel_id),
        "phone": f"+{CARLA}",
        "user_id": "DE.carla",
        "name": "Carla",
        "username": "carla.c",
        "marketing": {"stopped": False, "changed_at": None},
        "created_at": shown["contact"]["created_at"],
    }
    last = shown["last_message"]
    assert (last["direction"], last["type"], last["content"]) == ("in", "text", {"body": "Hi"})
    assert last["at"] == _iso(message.sent_at) == shown["last_message_at"]
    assert (await call(f"/v1/conversations/{shown['id']}")).json() == shown


def _iso(moment):
    return moment.isoformat().replace("+00:00", "Z")


async def test_a_window_closes(apply, call) -> None:
    await apply(inbound(ago=24 * HOUR))

    assert not (await only(call))["window"]["is_open"]


async def test_what_was_read_from_a_message_is_shown_part_by_part(apply, call) -> None:
    raw = {
        "context": {"forwarded": True, "referred_product": {"product_retailer_id": "SKU-1"}},
        "referral": {"source_type": "ad", "ctwa_clid": "click", "welcome_message": {"text": "Hi"}},
        "errors": [{"code": 131051, "title": "Unknown", "error_data": {"details": "Not yet"}}],
    }
    card = {"name": {"formatted_name": "Bo"}, "phones": [{"phone": "+1 650", "wa_id": "1650"}]}
    await apply(inbound(content=InboundContent("contacts", [card]), raw=raw))

    shown = (await only(call))["last_message"]

    assert shown["context"] == {
        "is_forwarded": True,
        "referred_product": {"product_retailer_id": "SKU-1", "catalog_id": None},
    }
    assert shown["referral"]["ctwa_clid"] == "click"
    assert shown["referral"]["welcome_message"] == "Hi"
    assert shown["errors"] == [
        {"code": 131051, "title": "Unknown", "details": "Not yet", "advice": None}
    ]
    assert set(shown["details"]) == {"contacts"}
    (contact,) = shown["details"]["contacts"]
    assert contact["name"]["formatted_name"] == "Bo"
    assert contact["phones"] == [
        {"phone": "+1 650", "wa_id": "1650", "user_id": None, "type": None}
    ]
    assert (shown["edited_at"], shown["revoked_at"], shown["original"]) == (None, None, None)


async def test_an_edited_message_is_shown_as_it_is_now_and_a_removed_one_not_at_all(
    apply, call
) -> None:
    wrong, gone = inbound(body="the 12", ago=2 * HOUR), inbound(body="Oh", ago=2 * HOUR)
    edit = {"type": "text", "text": {"body": "the 21"}}
    edited = InboundContent("edit", {"original_message_id": wrong.wamid, "message": edit})
    revoked = InboundContent("revoke", {"original_message_id": gone.wamid})
    later = wrong.sent_at + timedelta(minutes=5)
    await apply(
        inbound(content=edited, sent_at=later), wrong, gone, inbound(content=revoked, sent_at=later)
    )

    conversation = await only(call)
    path = f"/v1/conversations/{conversation['id']}/messages"
    thread = {one["wamid"]: one for one in (await call(path)).json()["data"]}

    assert set(thread) == {wrong.wamid, gone.wamid}
    now, away = thread[wrong.wamid], thread[gone.wamid]
    assert (now["content"], now["details"]) == ({"body": "the 21"}, {"text": "the 21"})
    assert (now["edited_at"], now["revoked_at"]) == (_iso(later), None)
    assert now["original"] == {
        "type": "text",
        "content": {"body": "the 12"},
        "details": {"text": "the 12"},
    }
    assert (away["content"], away["details"], away["revoked_at"]) == (None, None, _iso(later))
    assert away["original"]["content"] == {"body": "Oh"}
    assert conversation["unread_count"] == 2
    assert conversation["last_message"] == thread[conversation["last_message"]["wamid"]]


async def test_what_was_sent_is_the_last_message_then(apply, call, send) -> None:
    await apply(inbound())
    message = await send()
    await apply(sent(UUID(message)))

    shown = await only(call)

    last = shown["last_message"]
    assert (last["id"], last["direction"], last["status"]) == (message, "out", "sent")
    assert shown["last_outbound_at"] == shown["last_message_at"]


async def test_both_directions_are_shown_in_one_thread_newest_first(apply, call, send) -> None:
    before = await send()  # Nobody has written yet.
    await apply(inbound(body="1"), inbound(body="2", context_wamid="wamid.quoted"))
    after = await send()
    await send(to=f"+{DORA}")
    await apply(inbound(body="3"))
    conversation = (await only(call))["id"]

    path = f"/v1/conversations/{conversation}/messages"
    whole = (await call(path)).json()["data"]
    pages, cursor = [], None
    while True:
        page = (await call(path, limit=2, **({"cursor": cursor} if cursor else {}))).json()
        pages += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    shown = [m["id"] if m["direction"] == "out" else m["content"]["body"] for m in whole]
    assert shown == ["3", after, "2", "1", before]
    assert whole[2]["context"] == {"message_id": "wamid.quoted"}
    assert pages == whole


async def test_a_merged_conversation_has_the_messages_of_both_and_both_ids(
    apply, call, client, ana
) -> None:
    await apply(inbound(CARLA, body="by phone"))
    await apply(inbound(None, user_id="DE.carla", body="by id"))
    ids = {one["id"] for one in (await call("/v1/conversations")).json()["data"]}
    body = {"channel_id": str(ana.channel_id), "recipient": "DE.carla", "text": {"body": "to id"}}
    assert (await client.post("/v1/messages", json=body, headers=ana.headers)).status_code == 202
    await apply(inbound(CARLA, user_id="DE.carla", body="by both"))

    shown = await only(call)
    threads = [(await call(f"/v1/conversations/{one}/messages")).json()["data"] for one in ids]

    assert len(ids) == 2
    assert threads[0] == threads[1]
    assert [m["content"]["body"] for m in threads[0]] == ["by both", "to id", "by id", "by phone"]
    assert shown["id"] == min(ids)
    for one in ids:
        assert (await call(f"/v1/conversations/{one}")).json() == shown


async def test_messages_to_a_dialled_spelling_stand_in_the_same_thread(apply, call, send) -> None:
    dialled = await send(to="+5511987654321")
    await apply(inbound("551187654321", body="Oi"))

    conversation = (await only(call))["id"]
    thread = (await call(f"/v1/conversations/{conversation}/messages")).json()["data"]

    assert [m["direction"] for m in thread] == ["in", "out"]
    assert thread[1]["id"] == dialled


async def test_a_stranger_with_a_given_up_number_does_not_see_its_past(apply, call) -> None:
    change = {"type": "user_changed_number", "wa_id": DORA}
    await apply(inbound(CARLA, body="mine", ago=3 * HOUR))
    notice = InboundContent("system", {"body": "moved", **change})
    await apply(inbound(CARLA, content=notice, ago=2 * HOUR))
    await apply(inbound(CARLA, body="stranger", profile_name="Eve"))

    found = (await call("/v1/conversations")).json()["data"]
    texts = {
        one["contact"]["phone"]: [
            m["content"]["body"]
            for m in (await call(f"/v1/conversations/{one['id']}/messages")).json()["data"]
        ]
        for one in found
    }

    assert texts == {f"+{CARLA}": ["stranger"], f"+{DORA}": ["moved", "mine"]}


async def pages(call, **query):
    found, cursor = [], None
    while True:
        answer = await call("/v1/conversations", **query, **({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        found.append([one["contact"]["phone"] for one in answer.json()["data"]])
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return found


@pytest.mark.usefixtures("meta")
async def test_the_latest_comes_first_by_page_and_filter(apply, call, world, ana) -> None:
    second = await world.channel(ana.tenant_id)
    numbers = [f"49151000000{n:02}" for n in range(8)]
    for hours, number in enumerate(numbers, 1):
        channel = second.id if hours % 2 else ana.channel_id
        await apply(inbound(number, ago=hours * HOUR), channel_id=channel)
    expected = [f"+{number}" for number in numbers]

    assert await pages(call) == [expected]
    assert await pages(call, limit=3) == [expected[:3], expected[3:6], expected[6:]]
    assert await pages(call, limit=1, channel_id=str(second.id)) == [[n] for n in expected[::2]]
    first = (await call("/v1/conversations", limit=1)).json()["data"][0]
    await call(f"/v1/conversations/{first['id']}/read", "POST")
    assert await pages(call, unread=True, limit=4) == [expected[1:5], expected[5:]]
    assert await pages(call, unread=True, channel_id=str(second.id)) == [expected[2::2]]


async def test_reading_resets_what_is_unread_and_tells_meta(apply, call, meta) -> None:
    messages = [inbound(ago=3 * HOUR), inbound(ago=2 * HOUR), inbound(ago=HOUR)]
    await apply(*messages)
    conversation = (await only(call))["id"]

    first = await call(f"/v1/conversations/{conversation}/read", "POST")
    again = await call(f"/v1/conversations/{conversation}/read", "POST")

    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert (first.json()["receipt"], first.json()["conversation"]["unread_count"]) == ("sent", 0)
    assert meta.asked == [(messages[-1].wamid, False)] * 2
    assert (await only(call))["unread_count"] == 0


@pytest.mark.usefixtures("meta")
async def test_what_comes_in_after_reading_is_unread_again(apply, call) -> None:
    await apply(inbound())
    await call(f"/v1/conversations/{(await only(call))['id']}/read", "POST")
    await apply(inbound())

    assert (await only(call))["unread_count"] == 1


async def test_a_receipt_that_meta_refuses_leaves_nothing_unread(apply, call, meta) -> None:
    await apply(inbound())
    conversation = (await only(call))["id"]
    refusal = b'{"error": {"code": 131009, "message": "(#131009) Wrong"}}'
    meta.answer = MetaRefused(refusal_of_response(400, refusal))

    answer = await call(f"/v1/conversations/{conversation}/read", "POST")

    assert answer.json()["receipt"] == "refused"
    assert (await only(call))["unread_count"] == 0


async def test_where_meta_is_gone_nothing_is_unread_and_the_call_can_be_repeated(
    apply, call, meta
) -> None:
    await apply(inbound())
    conversation = (await only(call))["id"]
    meta.answer = MetaUnreachable("gone")

    gone = await call(f"/v1/conversations/{conversation}/read", "POST")
    meta.answer = None
    back = await call(f"/v1/conversations/{conversation}/read", "POST")

    assert (gone.status_code, gone.json()["code"]) == (503, "meta_unreachable")
    assert back.json()["receipt"] == "sent"
    assert back.json()["conversation"]["unread_count"] == 0


async def test_on_a_paused_channel_reading_stays_ours(apply, call, meta, world, ana) -> None:
    channel = await world.channel(ana.tenant_id, status=ChannelStatus.PAUSED)
    await apply(inbound(), channel_id=channel.id)
    conversation = (await only(call))["id"]

    read = await call(f"/v1/conversations/{conversation}/read", "POST")
    typing = await call(f"/v1/conversations/{conversation}/typing", "POST")

    assert read.json()["receipt"] == "channel_not_active"
    assert (typing.status_code, typing.json()["code"]) == (409, "channel_not_active")
    assert meta.asked == []


async def test_typing_is_shown_and_leaves_what_is_unread(apply, call, meta) -> None:
    message = inbound()
    await apply(message)
    shown = await only(call)

    answer = await call(f"/v1/conversations/{shown['id']}/typing", "POST")

    assert (answer.status_code, answer.content) == (204, b"")
    assert meta.asked == [(message.wamid, True)]
    assert (await only(call))["unread_count"] == 1


@pytest.mark.usefixtures("meta")
async def test_whoever_never_wrote_cannot_be_typed_to(apply, call, send) -> None:
    message = await send(to="+5511987654321")
    await apply(sent(UUID(message), wa_id="551187654321"))
    conversation = (await only(call))["id"]

    typing = await call(f"/v1/conversations/{conversation}/typing", "POST")
    read = await call(f"/v1/conversations/{conversation}/read", "POST")

    assert (typing.status_code, typing.json()["code"]) == (409, "nothing_to_answer")
    assert read.json()["receipt"] == "not_needed"


async def test_contacts_are_listed_by_page_channel_and_name(apply, call, world, ana) -> None:
    second = await world.channel(ana.tenant_id)
    await apply(inbound(CARLA, user_id="DE.carla"))
    await apply(inbound(DORA))
    await apply(inbound(CARLA), channel_id=second.id)

    async def found(**query):
        answer = await call("/v1/contacts", **query)
        assert answer.status_code == 200, answer.text
        return [(one["phone"], one["channel_id"]) for one in answer.json()["data"]]

    main, other = str(ana.channel_id), str(second.id)
    everyone = [(f"+{CARLA}", main), (f"+{DORA}", main), (f"+{CARLA}", other)]
    assert await found() == everyone
    assert await found(channel_id=main) == everyone[:2]
    assert await found(known_as=f"+{CARLA}") == [everyone[0], everyone[2]]
    assert await found(known_as="DE.carla") == everyone[:1]
    assert await found(known_as=f"+{CARLA}", channel_id=other) == everyone[2:]
    first = (await call("/v1/contacts", limit=2)).json()
    assert await found(cursor=first["next_cursor"]) == everyone[2:]


async def test_a_wish_is_a_contact_and_no_conversation(call, world, ana) -> None:
    at = utc_now()
    wish = MarketingWish(phone=PhoneNumber(f"+{DORA}"), user_id=None, stopped=True, at=at)
    async with work_in(world.sessions)(ana.tenant_id) as work:
        await heed_marketing_wishes(work, ana.channel_id, [wish])
        await work.commit()

    (contact,) = (await call("/v1/contacts")).json()["data"]

    assert contact["marketing"] == {"stopped": True, "changed_at": _iso(at)}
    assert (await call("/v1/conversations")).json()["data"] == []
    assert (await call(f"/v1/conversations/{contact['id']}")).json()["last_message"] is None


async def test_another_tenant_sees_and_changes_nothing(apply, call, bea, meta) -> None:
    await apply(inbound())
    conversation = (await only(call))["id"]

    for path, method in (("", "GET"), ("/messages", "GET"), ("/read", "POST"), ("/typing", "POST")):
        url = f"/v1/conversations/{conversation}{path}"
        answer = await call(url, method, headers=bea.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "conversation_not_found")
    for url in ("/v1/conversations", "/v1/contacts"):
        assert (await call(url, headers=bea.headers)).json() == {"data": [], "next_cursor": None}
    assert (await only(call))["unread_count"] == 1
    assert meta.asked == []


async def test_a_key_that_may_only_read_cannot_mark_as_read(apply, call, world, ana) -> None:
    await apply(inbound())
    conversation = (await only(call))["id"]
    key = await world.api_key(ana.tenant_id, Scope.MESSAGES_READ)

    for path in ("read", "typing"):
        url = f"/v1/conversations/{conversation}/{path}"
        answer = await call(url, "POST", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 403


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ({"limit": 0}, "limit", "validation_failed"),
        ({"cursor": "x"}, "cursor", "invalid_cursor"),
        ({"cursor": "f" * 32}, "cursor", "invalid_cursor"),
        ({"cursor": "A" * 22}, "cursor", "invalid_cursor"),
        ({"channel_id": "x"}, "channel_id", "validation_failed"),
    ],
)
async def test_a_wrong_query_names_its_field(call, query, field, code) -> None:
    answer = await call("/v1/conversations", **query)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["field"] == field


async def test_a_contact_is_looked_for_by_a_whole_number(call) -> None:
    answer = await call("/v1/contacts", known_as="4915112345678")

    assert (answer.status_code, answer.json()["field"]) == (422, "known_as")
