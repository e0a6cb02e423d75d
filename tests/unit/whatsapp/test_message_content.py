"""What a message's content is: kept as given, immutable, equal by value, with one spelling."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.value_objects import (
    InvalidContent,
    MessageContent,
    MessageType,
    PhoneNumber,
)

WAMID = "wamid.HBgNNDkxNTEyMzQ1Njc4ORUCABEYEjQ2"
LINK = "https://example.org/file"
EXAMPLES = json.loads(Path(__file__).with_name("message_examples.json").read_text("utf-8"))
VALID = {name: (payload["type"], payload[payload["type"]]) for name, payload in EXAMPLES.items()}


@pytest.mark.parametrize("name", VALID)
def test_a_valid_message_is_kept_as_given(name) -> None:
    kind, body = VALID[name]

    content = MessageContent.parse(kind, body)

    assert content.to_dict() == {"type": kind, kind: body}
    assert content == MessageContent.parse(kind, json.loads(json.dumps(body)))
    assert hash(content) == hash(MessageContent(MessageType(kind), body))


@pytest.mark.parametrize("kind", ["", "Text", "video_note", None, 5, ["text"], {"a": 1}])
def test_an_unknown_type_is_refused(kind) -> None:
    with pytest.raises(InvalidContent) as refusal:
        MessageContent.parse(kind, {"body": "x"})

    assert refusal.value.field == "type"


def test_a_reply_quotes_its_message_and_is_another_content() -> None:
    plain = MessageContent.text("Yes")
    reply = plain.replying_to(WAMID)

    assert reply.to_dict()["context"] == {"message_id": WAMID}
    assert reply != plain
    assert reply.body == plain.body


@pytest.mark.parametrize("message_id", ["", 5, "x" * 513, {"id": "x"}])
def test_a_reply_needs_a_message_id(message_id) -> None:
    with pytest.raises(InvalidContent) as refusal:
        MessageContent.parse("text", {"body": "x"}, context_message_id=message_id)

    assert refusal.value.field == "context.message_id"


def test_a_reaction_cannot_be_a_reply() -> None:
    with pytest.raises(InvalidContent) as refusal:
        MessageContent.reaction(WAMID, "!").replying_to(WAMID)

    assert refusal.value.field == "context.message_id"


def test_a_message_to_a_group_is_not_made_into_one_to_a_person() -> None:
    content = MessageContent.parse("text", {"body": "x"}, recipient_type="group")

    with pytest.raises(InvalidContent) as refusal:
        OutboundMessage(
            tenant_id=uuid4(),
            channel_id=uuid4(),
            recipient=PhoneNumber("+4915550000001"),
            content=content,
        )

    assert refusal.value.field == "recipient_type"


PIN = {"type": "pin", "message_id": WAMID, "expiration_days": 7}


@pytest.mark.parametrize(
    "body",
    [
        {"type": "unpin", "message_id": WAMID},
        *(PIN | {"expiration_days": days} for days in (1, 7, 30)),
    ],
)
def test_a_pin_is_for_groups_only(body) -> None:
    pin = MessageContent.parse("pin", body, recipient_type="group")

    assert pin.to_dict() == {"type": "pin", "pin": body, "recipient_type": "group"}
    with pytest.raises(InvalidContent) as refusal:
        MessageContent.parse("pin", body)
    assert refusal.value.field == "recipient_type"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (PIN | {"type": "stick"}, "pin.type"),
        (PIN | {"message_id": None}, "pin.message_id"),
        (PIN | {"expiration_days": 31}, "pin.expiration_days"),
        (PIN | {"expiration_days": 0}, "pin.expiration_days"),
        ({"type": "unpin"}, "pin.message_id"),
    ],
)
def test_a_wrong_pin_is_refused(body, field) -> None:
    with pytest.raises(InvalidContent) as refusal:
        MessageContent.parse("pin", body, recipient_type="group")

    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: MessageContent.text("Hi"), {"body": "Hi", "preview_url": False}),
        (lambda: MessageContent.image(link=LINK), {"link": LINK}),
        (lambda: MessageContent.image(id="1", caption="c"), {"id": "1", "caption": "c"}),
        (lambda: MessageContent.video(id="1"), {"id": "1"}),
        (lambda: MessageContent.document(id="1", filename="a"), {"id": "1", "filename": "a"}),
        (lambda: MessageContent.audio(link=LINK, voice=True), {"link": LINK, "voice": True}),
        (lambda: MessageContent.sticker(id="1"), {"id": "1"}),
        (
            lambda: MessageContent.location(1.5, 2, name="n"),
            {"latitude": 1.5, "longitude": 2, "name": "n"},
        ),
        (
            lambda: MessageContent.contacts([{"name": {"formatted_name": "A"}}]),
            [{"name": {"formatted_name": "A"}}],
        ),
        (lambda: MessageContent.interactive(VALID["button"][1]), VALID["button"][1]),
        (lambda: MessageContent.reaction(WAMID, "!"), {"message_id": WAMID, "emoji": "!"}),
        (
            lambda: MessageContent.template("a", "en", [{"type": "body"}]),
            {"name": "a", "language": {"code": "en"}, "components": [{"type": "body"}]},
        ),
        (
            lambda: MessageContent.template("a", "en"),
            {"name": "a", "language": {"code": "en"}},
        ),
    ],
)
def test_each_constructor_makes_metas_object(made, expected) -> None:
    payload = made().to_dict()

    assert payload[payload["type"]] == expected


def test_constructors_check_like_parse() -> None:
    with pytest.raises(InvalidContent) as refusal:
        MessageContent.image(link=LINK, id="1")

    assert refusal.value.field == "image"


@pytest.mark.parametrize("name", VALID)
def test_only_a_template_needs_no_open_window(name) -> None:
    kind, body = VALID[name]

    assert MessageContent.parse(kind, body).requires_open_window is (kind != "template")


def test_a_content_cannot_be_changed_from_outside() -> None:
    given_body = {"body": "x", "list": [{"a": 1}]}
    content = MessageContent.parse("text", given_body)
    before = content.canonical_json()

    given_body["list"][0]["a"] = 2
    content.to_dict()["text"]["body"] = "y"
    with pytest.raises(TypeError):
        content.body["body"] = "y"
    with pytest.raises(AttributeError):
        content.body = {}

    assert content.canonical_json() == before


def test_the_canonical_form_has_one_spelling() -> None:
    one = MessageContent.parse("text", {"preview_url": True, "body": "Grüße 👋"})
    other = MessageContent.parse("text", {"body": "Grüße 👋", "preview_url": True})

    assert one.canonical_json() == '{"text":{"body":"Grüße 👋","preview_url":true},"type":"text"}'
    assert other == one
    assert other != "text"
    assert MessageContent.parse("text", {"body": "x", "n": 1}) != MessageContent.parse(
        "text", {"body": "x", "n": True}
    )


def test_a_number_means_the_same_however_it_is_written() -> None:
    texts = {
        MessageContent.parse("text", {"body": "x", "n": json.loads(n)}).canonical_json()
        for n in ("100", "100.0", "1e2")
    }

    assert len(texts) == 1


def test_stored_content_stays_readable_when_a_limit_changes() -> None:
    stored = {"body": "x" * 5000}

    assert MessageContent(MessageType.TEXT, stored).to_dict()["text"] == stored


@pytest.mark.parametrize(
    "value",
    ["a\0b", "\ud83d", float("nan"), float("inf"), 2**63, -(2**63) - 1, 1e300, {1}, b"x", object()],
)
def test_what_no_database_or_wire_can_hold_is_refused(value) -> None:
    with pytest.raises(InvalidContent) as refusal:
        MessageContent.parse("text", {"body": "x", "more": [value]})

    assert refusal.value.field == "text.more[0]"


def test_depth_and_size_are_bounded() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidContent, match="deeper"):
        MessageContent.parse("text", {"body": "x", "more": deep})
    with pytest.raises(InvalidContent, match="bytes"):
        MessageContent.parse("text", {"body": "x", "more": "ä" * 140_000})
    while isinstance(deep, list):  # taken apart step by step: Python frees nested lists recursively
        deep = deep.pop()


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (
            {"type": "text", "text": {"body": "x"}, "to": "1"},
            {"type": "text", "text": {"body": "x"}},
        ),
        ({"text": {"body": "x"}, "context": None}, {"type": "text", "text": {"body": "x"}}),
        (
            {"type": "text", "text": {"body": "x"}, "context": {"message_id": WAMID}},
            {"type": "text", "text": {"body": "x"}, "context": {"message_id": WAMID}},
        ),
        (
            {"type": "text", "text": {"body": "x"}, "recipient_type": "group"},
            {"type": "text", "text": {"body": "x"}, "recipient_type": "group"},
        ),
        (
            {"type": "text", "text": {"body": "x"}, "recipient_type": "individual"},
            {"type": "text", "text": {"body": "x"}},
        ),
    ],
)
def test_a_whole_request_in_metas_form_is_read(payload, expected) -> None:
    assert MessageContent.from_payload(payload).to_dict() == expected


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ([], None),
        ("text", None),
        ({}, "text"),
        ({"type": "image", "text": {"body": "x"}}, "image"),
        ({"type": "fax", "fax": {}}, "type"),
        ({"type": "text", "text": {"body": "x"}, "context": "wamid"}, "context"),
        ({"type": "text", "text": {"body": "x"}, "context": {}}, "context.message_id"),
        ({"type": "text", "text": {"body": "x"}, "recipient_type": "all"}, "recipient_type"),
        ({"type": "text", "text": {"body": "x"}, "recipient_type": 0}, "recipient_type"),
    ],
)
def test_a_wrong_request_names_its_field(payload, field) -> None:
    with pytest.raises(InvalidContent) as refusal:
        MessageContent.from_payload(payload)

    assert refusal.value.field == field
