"""Meta's own endpoint, answered by Tellwire."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from whatsapp.domain.entities import ChannelStatus, WindowPolicy
from whatsapp.domain.value_objects import message_id_behind
from whatsapp.infrastructure.cloud_api.client import MetaBusy, MetaRefused
from whatsapp.infrastructure.cloud_api.outcomes import refusal_of_response
from whatsapp_simulator.graph_errors import GraphError
from whatsapp_simulator.validation import check_message

EXAMPLES = json.loads(
    (Path(__file__).parents[1] / "unit/whatsapp/message_examples.json").read_text("utf-8")
)
TO = {"messaging_product": "whatsapp", "to": "4915550000001"}
TEXT = {**TO, "type": "text", "text": {"body": "Hello"}}


@pytest.fixture
async def number(world, ana):
    rows = await world.query(
        "SELECT phone_number_id FROM whatsapp_channels WHERE id = :id", id=ana.channel_id
    )
    return rows[0][0]


@pytest.fixture
def send(client, ana, number):
    async def send(body, *, phone_number_id=number, version="v23.0", headers=None, **more):
        url = f"/{version}/{phone_number_id}/messages"
        return await client.post(url, json=body, headers=headers or ana.headers | more)

    return send


def error_of(answer):
    error = answer.json()["error"]
    assert error["fbtrace_id"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"
    return error


async def test_a_message_is_taken_and_named_by_an_id_that_leads_to_it(send, client, ana) -> None:
    answer = await send(TEXT)

    assert answer.status_code == 200
    given = answer.json()["messages"][0]["id"]
    assert answer.json() == {
        "messaging_product": "whatsapp",
        "contacts": [{"input": "4915550000001", "wa_id": "4915550000001"}],
        "messages": [{"id": given}],
    }
    found = await client.get(f"/v1/messages/{message_id_behind(given)}", headers=ana.headers)
    assert (found.json()["to"], found.json()["status"]) == ("+4915550000001", "queued")


async def test_a_user_id_is_answered_by_a_user_id(send) -> None:
    answer = await send({**TEXT, "to": None, "recipient": "DE.abc1"})

    assert answer.json()["contacts"] == [{"input": "DE.abc1", "user_id": "DE.abc1"}]


async def test_a_user_id_beside_a_number_goes_along_and_comes_back(send, world) -> None:
    both, key = {**TEXT, "recipient": "DE.abc1"}, {"Idempotency-Key": "order-2"}
    answer, again = await send(both, **key), await send(both, **key)
    alone = await send(TEXT, **key)
    rows = await world.query(
        "SELECT recipient, envelope FROM whatsapp_outbound_messages WHERE id = :id",
        id=message_id_behind(answer.json()["messages"][0]["id"]),
    )

    given = {"input": "4915550000001", "wa_id": "4915550000001", "user_id": "DE.abc1"}
    assert answer.json()["contacts"] == again.json()["contacts"] == [given]
    assert tuple(rows[0]) == ("+4915550000001", {"recipient": "DE.abc1"})
    assert error_of(alone)["code"] == 131009  # Another message under the same key.


async def test_a_template_is_answered_with_its_message_status(send) -> None:
    template = {"name": "order_sent", "language": {"code": "en"}}
    answer = await send({**TO, "type": "template", "template": template})

    assert answer.json()["messages"][0]["message_status"] == "accepted"


async def test_the_same_key_gives_the_same_id(send) -> None:
    key = {"Idempotency-Key": "order-1"}
    first, again = await send(TEXT, **key), await send(TEXT, **key)
    other = await send({**TEXT, "text": {"body": "Else"}}, **key)

    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, error_of(other)["code"]) == (400, 131009)


async def test_what_is_null_is_not_there(send) -> None:
    nothing = dict.fromkeys(
        ("status", "context", "recipient", "recipient_type", "biz_opaque_callback_data", "image")
    )

    answer = await send({**TEXT, **nothing})

    assert answer.status_code == 200, answer.text
    assert check_message({**TEXT, **nothing}).type == "text"


async def test_what_goes_beside_the_content_is_kept(send, world) -> None:
    answer = await send(
        {
            **TEXT,
            "biz_opaque_callback_data": "mine",
            "recipient_identity_key_hash": "abc=",
            "messaging_account_id": "77",
            "access_token": "EAAGstolen",
            "method": "DELETE",
        }
    )
    rows = await world.query(
        "SELECT callback_data, envelope, details FROM whatsapp_outbound_messages WHERE id = :id",
        id=message_id_behind(answer.json()["messages"][0]["id"]),
    )

    assert tuple(rows[0]) == (
        "mine",
        {"recipient_identity_key_hash": "abc=", "messaging_account_id": "77"},
        {},
    )


async def test_an_answer_may_quote_an_id_that_was_given(send, world) -> None:
    first = (await send(TEXT)).json()["messages"][0]["id"]
    quoting = await send({**TEXT, "context": {"message_id": first}})
    reaction = {"message_id": first, "emoji": "+"}
    reacting = await send({**TO, "type": "reaction", "reaction": reaction})

    for answer in (quoting, reacting):
        rows = await world.query(
            "SELECT quoted_id FROM whatsapp_outbound_messages WHERE id = :id",
            id=message_id_behind(answer.json()["messages"][0]["id"]),
        )
        assert rows[0][0] == message_id_behind(first)


@pytest.mark.parametrize(
    ("change", "status", "code", "said"),
    [
        ({"messaging_product": None}, 400, 100, "messaging_product"),
        ({"type": "fax"}, 400, 100, "type"),
        ({"text": None}, 400, 131008, "text: is required"),
        ({"text": {}}, 400, 131008, "text.body: is required"),
        ({"text": {"body": "x" * 4097}}, 400, 100, "text.body"),
        ({"to": None}, 400, 100, "to: is required"),
        ({"to": "01234"}, 400, 131009, "to"),
        ({"to": 5}, 400, 131009, "to"),
        ({"recipient_type": "crowd"}, 400, 131009, "recipient_type"),
        ({"recipient_type": "group"}, 400, 131009, "recipient_type"),
        ({"recipient_type": "group", "to": "Y2FwaV9ncm91cDox"}, 400, 131009, "recipient_type"),
        ({"context": {"message_id": 5}}, 400, 131009, "context.message_id"),
        ({"biz_opaque_callback_data": "x" * 513}, 400, 100, "biz_opaque_callback_data"),
        ({"biz_opaque_callback_data": "\0"}, 400, 131009, "biz_opaque_callback_data"),
        ({"anything": "x" * 5000}, 400, 131009, "beside"),
        ({"status": "delivered"}, 400, 100, "status"),
        ({"status": "read"}, 400, 100, "message_id"),
    ],
)
async def test_a_fault_is_told_in_metas_form(send, change, status, code, said) -> None:
    answer = await send(TEXT | change)
    error = error_of(answer)

    assert (answer.status_code, error["code"]) == (status, code)
    assert error["message"].startswith(f"(#{code}) ")
    assert error["type"] == "OAuthException"
    assert error["error_data"]["messaging_product"] == "whatsapp"
    assert said in error["error_data"]["details"]


def interactive(kind, action, **more):
    content = {"type": kind, "body": {"text": "Choose"}, "action": action, **more}
    return {"type": "interactive", "text": None, "interactive": content}


def media(kind, **content):
    return {"type": kind, "text": None, kind: content}


def buttons(number, **change):
    each = [{"id": f"b{n}", "title": f"Title {n}"} | change for n in range(number)]
    return {"buttons": [{"type": "reply", "reply": one} for one in each]}


FAULTS = [
    {"messaging_product": None},
    {"to": None},
    {"to": "01234"},
    {"to": None, "recipient": "nobody"},
    {"recipient": "nobody"},
    {"recipient": 5},
    {"text": None},
    {"text": "Hello"},
    {"text": {}},
    {"text": {"body": ""}},
    {"text": {"body": 5}},
    {"text": {"body": "x" * 4097}},
    {"text": {"body": "x", "preview_url": "yes"}},
    {"recipient_type": "crowd"},
    {"context": {}},
    {"context": {"message_id": 5}},
    {"biz_opaque_callback_data": "x" * 513},
    media("image"),
    media("image", link="ftp://a.example/b.png"),
    media("image", link="https://a.example/b.png", caption="x" * 1025),
    media("location", latitude=91, longitude=0),
    media("location", latitude=1),
    media("reaction", message_id="wamid.1"),
    media("template") | {"template": None},
    {"type": "contacts", "text": None, "contacts": []},
    {"type": "contacts", "text": None, "contacts": [{"name": {}}]},
    interactive("nothing", {}),
    interactive("button", {}),
    interactive("button", buttons(4)),
    interactive("button", buttons(1, title="x" * 21)),
    interactive("button", buttons(1, title=None)),
    interactive("button", buttons(2, title="Same")),
    interactive("button", buttons(1), body={"text": "x" * 1025}),
    interactive("list", {"button": "Open"}),
    interactive("list", {"button": "x" * 21, "sections": [{"rows": [{"id": "1", "title": "A"}]}]}),
    interactive("cta_url", {"name": "cta_url", "parameters": {"display_text": "Go", "url": "x"}}),
    interactive("cta_url", {"name": "other", "parameters": {}}),
    interactive("product", {"catalog_id": "1"}),
]


async def test_every_fault_has_the_code_that_the_simulated_meta_gives_it(send) -> None:
    for change in FAULTS:
        with pytest.raises(GraphError) as meta:
            check_message(TEXT | change)

        assert error_of(await send(TEXT | change))["code"] == meta.value.code, change


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"\xff"])
async def test_a_body_that_is_no_object_is_refused(client, ana, number, body) -> None:
    answer = await client.post(f"/v23.0/{number}/messages", content=body, headers=ana.headers)

    assert answer.status_code == 400
    assert error_of(answer)["code"] in {100, 131009}


async def test_a_body_that_is_too_large_is_refused_in_metas_form(client, ana, number) -> None:
    answer = await client.post(
        f"/v23.0/{number}/messages", content=b" " * (1024 * 1024 + 1), headers=ana.headers
    )

    assert (answer.status_code, error_of(answer)["code"]) == (413, 100)


async def test_who_calls_without_a_valid_key_gets_code_190(send) -> None:
    for headers in ({"X-None": "1"}, {"Authorization": "Bearer EAAGsomething"}):
        answer = await send(TEXT, headers=headers)

        assert (answer.status_code, error_of(answer)["code"]) == (401, 190)


async def test_another_tenants_number_does_not_exist(send, bea) -> None:
    answer = await send(TEXT, headers=bea.headers)
    error = error_of(answer)

    assert (answer.status_code, error["code"], error["error_subcode"]) == (400, 100, 33)
    assert error["type"] == "GraphMethodException"


async def test_free_text_outside_the_window_is_131047_at_once(send, world, ana) -> None:
    channel = await world.channel(ana.tenant_id, window_policy=WindowPolicy.ENFORCE)
    answer = await send(TEXT, phone_number_id=channel.phone_number_id)
    error = error_of(answer)

    assert (answer.status_code, error["code"]) == (400, 131047)
    assert "template" in error["error_data"]["details"]


async def test_a_disabled_number_is_not_registered(send, world, ana) -> None:
    channel = await world.channel(ana.tenant_id, status=ChannelStatus.DISABLED)
    answer = await send(TEXT, phone_number_id=channel.phone_number_id)

    assert (answer.status_code, error_of(answer)["code"]) == (400, 133010)


async def test_other_addresses_of_a_version_do_not_exist_in_metas_form(client, ana) -> None:
    missing = await client.get("/v23.0/1001/phone_numbers", headers=ana.headers)
    wrong = await client.get("/v23.0/1001/messages", headers=ana.headers)

    assert (missing.status_code, error_of(missing)["code"]) == (404, 2500)
    assert (wrong.status_code, error_of(wrong)["code"]) == (405, 100)


@pytest.mark.parametrize("version", ["version", "v23", "v0.1", "v123.0"])
async def test_what_is_no_version_is_nowhere(send, version) -> None:
    answer = await send(TEXT, version=version)

    assert (answer.status_code, error_of(answer)["code"]) == (404, 2500)


@pytest.mark.parametrize(
    "name", sorted(name for name, one in EXAMPLES.items() if one.get("type") != "pin")
)
async def test_every_type_of_message_is_taken(send, name) -> None:
    answer = await send({**EXAMPLES[name], **TO, "recipient_type": "individual"})

    assert answer.status_code == 200, answer.text


class Meta:
    """Takes in receipts, or refuses them."""

    def __init__(self):
        self.asked, self.answer = [], None

    async def mark_as_read(self, **asked):
        self.asked.append(asked)
        if self.answer is not None:
            raise self.answer


@pytest.fixture
def meta(client, monkeypatch):
    services = client._transport.app.state.tellwire_services
    meta = Meta()
    replaced = replace(services, mark_as_read=replace(services.mark_as_read, receipts=meta))
    monkeypatch.setattr(client._transport.app.state, "tellwire_services", replaced)
    return meta


RECEIPT = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.in.1"}


async def test_receipts_and_typing_are_passed_on_at_once(send, meta, number) -> None:
    read = await send(RECEIPT)
    typing = await send({**RECEIPT, "typing_indicator": {"type": "text"}})

    assert read.json() == typing.json() == {"success": True}
    assert [one["is_typing"] for one in meta.asked] == [False, True]
    assert {one["wamid"] for one in meta.asked} == {"wamid.in.1"}
    assert {one["phone_number_id"] for one in meta.asked} == {number}


async def test_what_meta_says_against_a_receipt_is_told_under_its_code(send, meta) -> None:
    refusal = json.dumps({"error": {"code": 131009, "message": "(#131009) Wrong"}}).encode()
    meta.answer = MetaRefused(refusal_of_response(400, refusal))
    refused = await send(RECEIPT)
    busy = json.dumps({"error": {"code": 130429, "message": "(#130429) Too many"}}).encode()
    meta.answer = MetaBusy(refusal_of_response(400, busy))
    held = await send(RECEIPT)

    assert (refused.status_code, error_of(refused)["code"]) == (400, 131009)
    assert error_of(refused)["message"] == "(#131009) Wrong"
    assert (held.status_code, error_of(held)["code"]) == (503, 130429)
    assert held.headers["Retry-After"] == "1"
