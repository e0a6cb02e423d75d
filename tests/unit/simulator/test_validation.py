from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp_simulator.graph_errors import CODES, GraphError, answer, reported
from whatsapp_simulator.identity import Names
from whatsapp_simulator.templates import TemplateBook
from whatsapp_simulator.validation import check_message

ROWS = [{"id": str(i), "title": f"Row {i}"} for i in range(11)]
BUTTONS = [{"type": "reply", "reply": {"id": str(i), "title": f"B{i}"}} for i in range(4)]
OPEN = {"name": "cta_url", "parameters": {"display_text": "Open", "url": "https://example.com"}}
PICTURE = {"type": "image", "image": {"id": "1"}}
CARDS = [{"card_index": i, "type": "cta_url", "header": PICTURE, "action": OPEN} for i in range(11)]


def _body(kind=None, content=None, **more):
    body = {"messaging_product": "whatsapp", "to": "+1 415 555 0100", **more}
    if kind is not None:
        body |= {"type": kind, kind: content}
    return {key: value for key, value in body.items() if value is not None}


def _interactive(kind, action, **more):
    content = {"type": kind, "body": {"text": "Hi"}, "action": action, **more}
    return _body("interactive", {k: v for k, v in content.items() if v is not None})


def _list(rows=ROWS[:2], sections=None, **more):
    sections = [{"title": "S", "rows": rows}] if sections is None else sections
    return _interactive("list", {"button": "Open", "sections": sections}, **more)


def _flow(**changes):
    parameters = {"flow_message_version": "3", "flow_id": "1", "flow_cta": "Go", **changes}
    return _interactive("flow", {"name": "flow", "parameters": parameters})


def _cards(*changes):
    """Two cards that differ from good ones."""
    cards = [{**card, **change} for card, change in zip(CARDS, changes, strict=False)]
    return _interactive("carousel", {"cards": cards})


def _replies(number, **changes):
    reply = {"id": "r", "title": "Yes", **changes}
    return {"action": {"buttons": [{"type": "quick_reply", "quick_reply": reply}] * number}}


def _cta(**parameters):
    return _interactive("cta_url", {"name": "cta_url", "parameters": parameters})


VALID = {
    "text": _body("text", {"body": "x" * 4096, "preview_url": True}),
    "text without a type": {**_body(), "text": {"body": "Hi"}},
    "image by id": _body("image", {"id": "1", "caption": "x" * 1024}),
    "video by link": _body("video", {"link": "https://example.com/v.mp4"}),
    "voice": _body("audio", {"id": "1", "voice": True}),
    "document": _body("document", {"id": "1", "filename": "a.pdf"}),
    "sticker": _body("sticker", {"id": "1"}),
    "location with text": _body("location", {"latitude": "-33.4", "longitude": "70.1"}),
    "location with numbers": _body("location", {"latitude": 90, "longitude": -180.0}),
    "contacts": _body("contacts", [{"name": {"formatted_name": "A"}, "birthday": "2000-01-31"}]),
    "reaction": _body("reaction", {"message_id": "wamid.1", "emoji": ""}),
    "buttons": _interactive(
        "button", {"buttons": BUTTONS[:3]}, header={"type": "text", "text": "H"}
    ),
    "list": _list(ROWS[:10]),
    "cta_url": _cta(display_text="Open", url="https://example.com"),
    "flow": _flow(),
    "product": _interactive("product", {"catalog_id": "1", "product_retailer_id": "2"}, body=None),
    "carousel": _interactive("carousel", {"cards": CARDS[:2]}),
    "carousel in another order": _interactive("carousel", {"cards": CARDS[1::-1]}),
    "carousel of replies": _cards(_replies(2), _replies(2)),
    "carousel of products": _interactive(
        "carousel",
        {
            "cards": [
                {
                    "card_index": i,
                    "type": "product",
                    "action": {"catalog_id": "1", "product_retailer_id": str(i)},
                }
                for i in range(2)
            ]
        },
    ),
    "location request": _interactive("location_request_message", {"name": "send_location"}),
    "voice call": _interactive("voice_call", {"name": "voice_call", "parameters": {}}),
    "reply": _body("text", {"body": "Hi"}, context={"message_id": "wamid.1"}),
    "BSUID": _body("text", {"body": "Hi"}, to=None, recipient="US.123"),
    "callback data": _body("text", {"body": "Hi"}, biz_opaque_callback_data="x" * 512),
}
REFUSED = {
    "no product": (100, {"to": "14155550100", "text": {"body": "Hi"}}),
    "no recipient": (100, _body("text", {"body": "Hi"}, to=None)),
    "recipient is no number": (131009, _body("text", {"body": "Hi"}, to="me")),
    "recipient is a number type": (131009, _body("text", {"body": "Hi"}, to=14155550100)),
    "not a BSUID": (131009, _body("text", {"body": "Hi"}, to=None, recipient="1415")),
    "recipient type": (131009, _body("text", {"body": "Hi"}, recipient_type="crowd")),
    "recipient type is a list": (131009, _body("text", {"body": "Hi"}, recipient_type=[])),
    "unknown type": (131051, _body("hologram", {})),
    "type is a list": (131051, {**_body(), "type": ["text"]}),
    "no content": (131008, _body("text")),
    "content is a text": (131009, _body("text", "Hi")),
    "empty body": (131008, _body("text", {"body": ""})),
    "body is a number": (131009, _body("text", {"body": 1})),
    "body too long": (100, _body("text", {"body": "x" * 4097})),
    "preview is a text": (131009, _body("text", {"body": "Hi", "preview_url": "yes"})),
    "callback too long": (100, _body("text", {"body": "x"}, biz_opaque_callback_data="x" * 513)),
    "empty context": (131008, _body("text", {"body": "Hi"}, context={})),
    "media without source": (131008, _body("image", {})),
    "media with two sources": (131009, _body("image", {"id": "1", "link": "https://a.example"})),
    "link is no URL": (131009, _body("image", {"link": "ftp://a.example"})),
    "link is broken": (131009, _body("image", {"link": "http://[::1"})),
    "caption too long": (100, _body("image", {"id": "1", "caption": "x" * 1025})),
    "caption on audio": (100, _body("audio", {"id": "1", "caption": "x"})),
    "no longitude": (131008, _body("location", {"latitude": 1})),
    "latitude out of range": (131009, _body("location", {"latitude": 91, "longitude": 1})),
    "latitude is not a number": (131009, _body("location", {"latitude": "nan", "longitude": 1})),
    "no contacts": (131009, _body("contacts", [])),
    "contact without name": (131008, _body("contacts", [{}])),
    "birthday": (131009, _body("contacts", [{"name": {"formatted_name": "A"}, "birthday": "1"}])),
    "reaction to nothing": (131008, _body("reaction", {"emoji": "x"})),
    "reaction without emoji": (131008, _body("reaction", {"message_id": "wamid.1"})),
    "interactive type": (131009, _interactive("dance", {})),
    "interactive without body": (131008, _interactive("button", {"buttons": []}, body=None)),
    "no action": (131008, _interactive("button", None)),
    "no buttons": (131009, _interactive("button", {"buttons": []})),
    "four buttons": (131009, _interactive("button", {"buttons": BUTTONS})),
    "equal titles": (131009, _interactive("button", {"buttons": BUTTONS[:1] * 2})),
    "title too long": (
        100,
        _interactive(
            "button", {"buttons": [{"type": "reply", "reply": {"id": "1", "title": "x" * 21}}]}
        ),
    ),
    "list header with image": (131009, _list(header={"type": "image", "image": {"id": "1"}})),
    "header type is a list": (131009, _list(header={"type": []})),
    "eleven rows": (131009, _list(ROWS)),
    "equal rows": (131009, _list(ROWS[:1] * 2)),
    "sections without titles": (131008, _list(sections=[{"rows": ROWS[:1]}, {"rows": ROWS[1:2]}])),
    "row title too long": (100, _list([{"id": "1", "title": "x" * 25}])),
    "footer too long": (100, _list(footer={"text": "x" * 61})),
    "cta without url": (131008, _cta(display_text="Open")),
    "cta with bad url": (131009, _cta(display_text="Open", url="example")),
    "flow with id and name": (131009, _flow(flow_name="f")),
    "flow action": (131009, _flow(flow_action=["navigate"])),
    "cta without name": (131008, _interactive("cta_url", {"parameters": {}})),
    "one card": (131009, _interactive("carousel", {"cards": CARDS[:1]})),
    "eleven cards": (131009, _interactive("carousel", {"cards": CARDS})),
    "card twice": (131009, _interactive("carousel", {"cards": [CARDS[0], CARDS[0]]})),
    "eleventh card": (131009, _interactive("carousel", {"cards": CARDS[9:]})),
    "card index is a list": (131009, _cards({"card_index": []}, {})),
    "card without index": (131008, _cards({"card_index": None}, {})),
    "card without header": (131008, _cards({"header": None}, {})),
    "card of a text": (131009, _cards({"header": {"type": "text", "text": "x"}}, {})),
    "card of a kind": (131009, _cards({"type": "link"}, {})),
    "film beside a picture": (
        131009,
        _cards({}, {"header": {"type": "video", "video": {"id": "1"}}}),
    ),
    "card of four lines": (131009, _cards({"body": {"text": "a\nb\nc\nd"}}, {})),
    "card's reply too long": (100, _cards(_replies(1, title="x" * 21), _replies(1))),
    "card of four replies": (131009, _cards(_replies(4), _replies(4))),
    "replies beside a link": (131009, _cards({}, _replies(1))),
    "more replies on one": (131009, _cards(_replies(1), _replies(2))),
    "flow mode": (131009, _flow(mode="live")),
    "carousel with footer": (
        100,
        _interactive("carousel", {"cards": CARDS[:2]}, footer={"text": "x"}),
    ),
    "action name": (131009, _interactive("location_request_message", {"name": "go"})),
    "call too long": (
        131009,
        _interactive("voice_call", {"name": "voice_call", "parameters": {"ttl_minutes": 43201}}),
    ),
    "address without country": (
        131008,
        _interactive("address_message", {"name": "address_message", "parameters": {}}),
    ),
}


@pytest.mark.parametrize("case", VALID)
def test_a_valid_message_passes(case):
    outgoing = check_message(VALID[case])

    assert outgoing.to == ("14155550100" if case != "BSUID" else None)
    assert outgoing.given == ("+1 415 555 0100" if case != "BSUID" else "US.123")


@pytest.mark.parametrize("case", REFUSED)
def test_a_message_with_a_fault_is_refused_with_metas_code(case):
    code, body = REFUSED[case]

    with pytest.raises(GraphError) as refused:
        check_message(body)

    assert refused.value.code == code
    shape = answer(refused.value, "trace")["error"]
    assert shape["message"].startswith(f"(#{code}) ")
    assert shape["type"] == "OAuthException"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def _paths(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _paths(inner, (*path, index))


def _replaced(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(copy[path[0]], path[1:], new)
    return copy


PLACES = [(case, path) for case, body in VALID.items() for path in _paths(body) if path]


@settings(max_examples=400)
@given(st.sampled_from(PLACES), json_values)
def test_no_json_in_any_place_raises_anything_but_metas_error(place, junk):
    case, path = place
    # Anything else that is raised fails the test.
    with suppress(GraphError):
        check_message(_replaced(VALID[case], path, junk))


TEMPLATES = {
    "hello_world": (None, {"name": "hello_world", "language": {"code": "en_US"}}),
    "parameters fit": (
        None,
        {
            "name": "order_update",
            "language": {"code": "pt_BR"},
            "components": [
                {"type": "body", "parameters": [{"type": "text", "text": t} for t in "ab"]}
            ],
        },
    ),
    "named parameters": (
        None,
        {
            "name": "appointment_reminder",
            "language": {"code": "en_US"},
            "components": [
                {
                    "type": "body",
                    "parameters": [
                        {"type": "text", "parameter_name": n, "text": "x"} for n in ("day", "name")
                    ],
                }
            ],
        },
    ),
    "no language": (131008, {"name": "hello_world"}),
    "unknown name": (132001, {"name": "nothing", "language": {"code": "en_US"}}),
    "unknown language": (132001, {"name": "hello_world", "language": {"code": "xx"}}),
    "in review": (132001, {"name": "pending_offer", "language": {"code": "en_US"}}),
    "paused": (132015, {"name": "paused_offer", "language": {"code": "en_US"}}),
    "disabled": (132016, {"name": "disabled_offer", "language": {"code": "en_US"}}),
    "parameters missing": (132000, {"name": "order_update", "language": {"code": "en_US"}}),
    "wrong names": (
        132000,
        {
            "name": "appointment_reminder",
            "language": {"code": "en_US"},
            "components": [{"type": "body", "parameters": [{"type": "text", "text": "x"}] * 2}],
        },
    ),
    "wrong header": (
        132012,
        {
            "name": "season_sale",
            "language": {"code": "en_US"},
            "components": [
                {"type": "header", "parameters": [{"type": "text", "text": "x"}]},
            ],
        },
    ),
    "components are a text": (
        131009,
        {"name": "hello_world", "language": {"code": "en_US"}, "components": "x"},
    ),
}


@pytest.mark.parametrize("case", TEMPLATES)
def test_a_template_is_checked_against_what_exists(case):
    code, sent = TEMPLATES[case]
    book = TemplateBook(Names())

    if code is None:
        assert book.check(sent).status == "APPROVED"
        return
    with pytest.raises(GraphError) as refused:
        book.check(sent)
    assert refused.value.code == code


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_has_both_of_metas_shapes(code):
    error = GraphError(code, "why")

    at_once = answer(error, "trace")["error"]
    later = reported(code)

    assert at_once["code"] == later["code"] == code
    assert at_once["fbtrace_id"] == "trace"
    assert at_once["error_data"] == {"messaging_product": "whatsapp", "details": "why"}
    assert later["error_data"]["details"]
    assert 400 <= error.http < 600
