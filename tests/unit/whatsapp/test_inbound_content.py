"""What came in is kept as Meta sent it, answers the common questions and never raises."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.domain.value_objects import (
    CallPermission,
    CardName,
    ContactCard,
    FlowReply,
    InboundContent,
    InboundDetails,
    InboundLocation,
    InboundMedia,
    InboundOrder,
    InboundReaction,
    InboundReply,
    OrderItem,
    ProductReference,
    SystemChange,
    Unsupported,
)

CANARY = "Canary7f3a"
ACCESSORS = (
    "text",
    "media",
    "reply",
    "flow",
    "flow_response",
    "call_permission",
    "products",
    "contacts",
    "unsupported",
    "edited",
    "amends",
    "reaction",
    "location",
    "order",
    "system_change",
)

FILE = {"id": "m1", "mime_type": "image/jpeg", "sha256": "abc=", "url": "https://example.org/m1"}
PERMISSION = {
    "response": "accept",
    "is_permanent": True,
    "expiration_timestamp": 1795420800000,
}
READ = InboundMedia(id="m1", mime_type="image/jpeg", sha256="abc=", url="https://example.org/m1")
ORDER = {
    "catalog_id": "c1",
    "text": "please",
    "product_items": [
        {"product_retailer_id": "p1", "quantity": 2, "item_price": 9.99, "currency": "EUR"},
        {"product_retailer_id": "p2", "quantity": "1", "item_price": "0.1", "currency": "EUR"},
        {"quantity": 1},
    ],
}


QUESTIONS = [
    ("text", {"body": "Hi"}, {"text": "Hi"}),
    ("image", FILE, {"media": READ}),
    (
        "image",
        FILE | {"caption": "Me"},
        {
            "media": InboundMedia(
                id="m1",
                mime_type="image/jpeg",
                sha256="abc=",
                url="https://example.org/m1",
                caption="Me",
            ),
            "text": "Me",
        },
    ),
    ("audio", {"id": "m1", "voice": True}, {"media": InboundMedia("m1", is_voice=True)}),
    ("sticker", {"id": "m1", "animated": True}, {"media": InboundMedia("m1", is_animated=True)}),
    (
        "document",
        {"id": "m1", "filename": "a.pdf"},
        {"media": InboundMedia("m1", filename="a.pdf")},
    ),
    (
        "interactive",
        {"type": "button_reply", "button_reply": {"id": "yes", "title": "Yes"}},
        {"reply": InboundReply("yes", "Yes")},
    ),
    (
        "interactive",
        {"type": "list_reply", "list_reply": {"id": "r1", "title": "One", "description": "d"}},
        {"reply": InboundReply("r1", "One", "d")},
    ),
    (
        "interactive",
        {"type": "nfm_reply", "nfm_reply": {"response_json": '{"a": [1]}'}},
        {"flow": FlowReply(response={"a": [1]}), "flow_response": {"a": [1]}},
    ),
    ("button", {"payload": "stop", "text": "Stop"}, {"reply": InboundReply("stop", "Stop")}),
    (
        "reaction",
        {"message_id": "wamid.x", "emoji": "!"},
        {"reaction": InboundReaction("wamid.x", "!")},
    ),
    ("reaction", {"message_id": "wamid.x"}, {"reaction": InboundReaction("wamid.x")}),
    ("reaction", {"message_id": "wamid.x", "emoji": ""}, {"reaction": InboundReaction("wamid.x")}),
    (
        "location",
        {"latitude": 52.5, "longitude": "13.4", "name": "B"},
        {"location": InboundLocation(52.5, 13.4, name="B")},
    ),
    (
        "order",
        ORDER,
        {
            "order": InboundOrder(
                "c1",
                "please",
                (
                    OrderItem("p1", Decimal(2), Decimal("9.99"), "EUR"),
                    OrderItem("p2", Decimal(1), Decimal("0.1"), "EUR"),
                ),
            )
        },
    ),
    (
        "system",
        {"type": "user_changed_number", "body": "b", "wa_id": "1", "user_id": "US.2"},
        {"system_change": SystemChange("user_changed_number", "b", "1", "US.2")},
    ),
    (
        "system",
        {"type": "user_changed_user_id", "previous_user_id": "US.1"},
        {"system_change": SystemChange("user_changed_user_id", previous_user_id="US.1")},
    ),
    ("unsupported", {"type": "poll"}, {"unsupported": Unsupported("poll")}),
    (
        "contacts",
        [{"name": {"formatted_name": "A"}}, "no card"],
        {"contacts": (ContactCard(name=CardName(formatted_name="A")),)},
    ),
    (
        "interactive",
        {"type": "call_permission_reply", "call_permission_reply": PERMISSION},
        {
            "call_permission": CallPermission(
                "accept", is_permanent=True, expires_at=datetime(2026, 11, 23, 8, tzinfo=UTC)
            )
        },
    ),
    (
        "interactive",
        {"type": "product", "product": {"product_retailer_id": "p1", "catalog_id": "c1"}},
        {"products": (ProductReference("p1", "c1"),)},
    ),
    (
        "edit",
        {"original_message_id": "w", "message": {"type": "text", "text": {"body": "x"}}},
        {"edited": InboundContent("text", {"body": "x"}), "amends": "w"},
    ),
    ("edit", {"original_message_id": "w", "message": {"type": "text"}}, {}),
    ("revoke", {"original_message_id": "w"}, {"amends": "w"}),
    ("revoke", {"original_message_id": "w" * 513}, {}),
    ("location", {"latitude": 91, "longitude": 0}, {}),
    ("location", {"latitude": "1e999999999", "longitude": 0}, {}),
    ("something_new", {"a": 1}, {}),
]


@pytest.mark.parametrize(("kind", "body", "answers"), QUESTIONS)
def test_each_type_answers_its_questions_and_no_other(kind, body, answers) -> None:
    inbound = InboundContent(kind, body)
    expected = dict.fromkeys(ACCESSORS) | answers

    assert {name: getattr(inbound, name) for name in ACCESSORS} == expected


@pytest.mark.parametrize(("kind", "body", "_answers"), QUESTIONS)
def test_content_is_kept_as_sent_and_read_back_the_same(kind, body, _answers) -> None:
    inbound = InboundContent(kind, body)
    read_back = InboundContent(kind, json.loads(json.dumps(inbound.to_dict()))[kind])

    assert inbound.to_dict() == {"type": kind, kind: body}
    assert read_back == inbound
    assert len({inbound, read_back}) == 1
    assert inbound not in (InboundContent(kind, {"body": "other"}), kind)


@pytest.mark.parametrize("body", [None, "a text", 5, [], {}, [[1]]])
def test_a_type_that_nobody_knows_keeps_whatever_it_has(body) -> None:
    inbound = InboundContent("something_new", body)

    assert inbound.to_dict()["something_new"] == body
    assert [getattr(inbound, name) for name in ACCESSORS] == [None] * len(ACCESSORS)


def test_what_no_database_can_hold_is_made_harmless() -> None:
    inbound = InboundContent(
        "text", {"body": "a\0b\ud83dc", "\0": float("nan"), "n": 10**400, "k": 2.0}
    )

    assert inbound.text == "a\ufffdb\ufffdc"
    assert inbound.to_dict()["text"] == {"body": inbound.text, "\ufffd": None, "n": None, "k": 2}


def test_a_content_cannot_be_changed_from_outside() -> None:
    sent = {"body": "x"}
    inbound = InboundContent("text", sent)

    sent["body"] = "y"
    inbound.to_dict()["text"]["body"] = "z"
    with pytest.raises(TypeError):
        inbound.body["body"] = "y"

    assert inbound.text == "x"


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": NaN}', "1" * 5000])
def test_answers_of_a_flow_that_are_no_json_are_no_answers(text) -> None:
    inbound = InboundContent("interactive", {"nfm_reply": {"response_json": text}})

    assert inbound.flow_response in (None, {"a": None})


@pytest.mark.parametrize("at", ["1e999999999", "-1", "NaN", True, [], "99999999999999"])
def test_a_time_that_is_none_is_no_time(at) -> None:
    reply = {"response": "accept", "expiration_timestamp": at}
    inbound = InboundContent("interactive", {"call_permission_reply": reply})

    assert inbound.call_permission == CallPermission("accept")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
KINDS = [kind for kind, _, _ in QUESTIONS]
BODY_KEYS = sorted({key for _, body, _ in QUESTIONS if isinstance(body, dict) for key in body})


@given(
    kind=st.sampled_from(KINDS) | st.text(max_size=8),
    body=JSON | st.dictionaries(st.sampled_from(BODY_KEYS), JSON, max_size=6),
)
def test_no_content_makes_an_accessor_raise(kind, body) -> None:
    inbound = InboundContent(kind, body)
    for name in ACCESSORS:
        getattr(inbound, name)
    details = InboundDetails.of(inbound).to_dict()
    json.dumps(details, allow_nan=False, ensure_ascii=False).encode()

    assert InboundContent(kind, inbound.to_dict()[kind]) == inbound
    json.dumps(inbound.to_dict()[kind], allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("show", [repr, str, "{}".format, lambda v: f"{[v]!s}"])
def test_nothing_that_a_person_sent_shows_itself(kind, show) -> None:
    marked = dict.fromkeys(BODY_KEYS, CANARY) | {
        "button_reply": {"id": CANARY, "title": CANARY},
        "latitude": 1,
        "longitude": 1,
        "product_items": [{"product_retailer_id": CANARY}],
        "call_permission_reply": {"response": CANARY},
        "nfm_reply": {"name": CANARY, "body": CANARY},
        "message": {"type": "text", "text": {"body": CANARY}},
    }
    inbound = InboundContent(kind, marked)
    values = [inbound, *(getattr(inbound, n) for n in ACCESSORS if n not in _PLAIN)]
    if inbound.order is not None:
        values += inbound.order.items

    assert CANARY not in "".join(show(value) for value in values if value is not None)


_PLAIN = {"text", "flow_response", "amends"}


def test_a_type_of_another_shape_does_not_show_itself() -> None:
    assert repr(InboundContent(CANARY, {})) == "InboundContent(type='unknown')"
