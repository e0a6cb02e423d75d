"""Every limit Meta sets: at the limit it passes, one over it the refusal names the right field."""

import copy
import json
from pathlib import Path

import pytest

from whatsapp.domain.value_objects import InvalidContent, MessageContent, MessageType
from whatsapp.domain.value_objects.message_content.interactive import INTERACTIVE
from whatsapp.entrypoints.http.graph_errors import graph_error_response
from whatsapp_simulator.graph_errors import GraphError
from whatsapp_simulator.validation import check_message

LINK = "https://example.org/file"
ABSENT = object()
EXAMPLES = json.loads(Path(__file__).with_name("message_examples.json").read_text("utf-8"))
VALID = {name: (payload["type"], payload[payload["type"]]) for name, payload in EXAMPLES.items()}

_MEDIA = {"link": LINK}
_CTA = {"name": "cta_url", "parameters": {"display_text": "Open", "url": LINK}}
_IMAGE_HEADER = {"type": "image", "image": _MEDIA}


def _reply(number):
    return {"type": "reply", "reply": {"id": f"id{number}", "title": f"Title {number}"}}


def _row(number):
    return {"id": f"row{number}", "title": f"Row {number}", "description": "More"}


def _card(index, **changed):
    return {
        "card_index": index,
        "type": "cta_url",
        "header": _IMAGE_HEADER,
        "body": {"text": "Card"},
        "action": _CTA,
    } | changed


def _quick_reply_card(index, count=2):
    replies = [
        {"type": "quick_reply", "quick_reply": {"id": f"q{n}", "title": f"Q {n}"}}
        for n in range(count)
    ]
    return _card(index, action={"buttons": replies})


def _product_card(index, catalog="c1"):
    action = {"product_retailer_id": f"p{index}", "catalog_id": catalog}
    return {"card_index": index, "type": "product", "action": action}


def _interactive(kind, action, **more):
    return "interactive", {"type": kind, "body": {"text": "Body"}, "action": action} | more


def _flow(**changed):
    parameters = {
        "flow_message_version": "3",
        "flow_token": None,  # libraries write null for what they leave out
        "flow_id": "1",
        "flow_cta": "Book",
        "flow_action": "navigate",
        "flow_action_payload": {"screen": "FIRST", "data": {"any": [1, {"deep": None}]}},
        "mode": "draft",
    }
    return _interactive("flow", {"name": "flow", "parameters": parameters | changed})


def _template(components):
    body = {"name": "order_update_2", "language": {"code": "en_US"}, "components": components}
    return "template", body


_PARAMETERS = [
    {"type": "text", "text": "Ana", "parameter_name": "name"},
    {
        "type": "currency",
        "currency": {"fallback_value": "$1", "code": "USD", "amount_1000": 1000},
    },
    {"type": "date_time", "date_time": {"fallback_value": "May"}},
    {"type": "image", "image": {"id": "1"}},
    {"type": "video", "video": _MEDIA},
    {"type": "document", "document": _MEDIA | {"filename": "a.pdf"}},
    {"type": "location", "location": {"latitude": "1.5", "longitude": 2}},
    {"type": "payload", "payload": "p"},
    {"type": "coupon_code", "coupon_code": "SAVE"},
    {"type": "action", "action": {"flow_token": "t"}},
    {"type": "not_yet_known", "anything": [1]},
]


def changed(name, path, value):
    """The valid example `name` with `value` at `path` (a list of keys and indexes)."""
    kind, body = copy.deepcopy(VALID[name])
    if not path:
        return kind, value
    part = body
    for key in path[:-1]:
        part = part[key]
    if value is ABSENT:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return kind, body


def written(kind, path):
    """The JSON path of a list of keys and indexes."""
    return kind + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


def keys(dotted):
    return [int(key) if key.isdigit() else key for key in dotted.split(".")] if dotted else []


def refused(name, dotted, value):
    with pytest.raises(InvalidContent) as refusal:
        MessageContent.parse(*changed(name, keys(dotted), value))
    return refusal.value


def test_the_examples_cover_every_type_but_pins() -> None:
    assert {kind for kind, _ in VALID.values()} == set(MessageType) - {"pin"}
    sub_types = {body["type"] for kind, body in VALID.values() if kind == "interactive"}
    assert sub_types == set(INTERACTIVE.rules)


LENGTHS = [
    ("text", "body", 4096),
    ("image", "caption", 1024),
    ("video", "caption", 1024),
    ("document", "caption", 1024),
    ("image", "link", 2048),
    ("reaction", "message_id", 512),
    ("image by id", "id", 512),
    ("template", "name", 512),
    ("template", "components.1.parameters.1.currency.code", 3),
    ("button", "body.text", 1024),
    ("button", "footer.text", 60),
    ("button", "header.text", 60),
    ("button", "action.buttons.2.reply.id", 256),
    ("button", "action.buttons.2.reply.title", 20),
    ("list", "body.text", 4096),
    ("list", "footer.text", 60),
    ("list", "header.text", 60),
    ("list", "action.button", 20),
    ("list", "action.sections.0.title", 24),
    ("list", "action.sections.0.rows.1.id", 200),
    ("list", "action.sections.0.rows.1.title", 24),
    ("list", "action.sections.0.rows.1.description", 72),
    ("cta_url", "body.text", 1024),
    ("cta_url", "footer.text", 60),
    ("cta_url", "action.parameters.display_text", 20),
    ("cta_url", "action.parameters.url", 2048),
    ("flow", "body.text", 4096),
    ("flow", "action.parameters.flow_cta", 30),
    ("product_list", "action.sections.0.title", 24),
    ("carousel", "body.text", 1024),
    ("carousel", "action.cards.1.body.text", 160),
    ("carousel", "action.cards.1.action.parameters.display_text", 20),
    ("carousel of replies", "action.cards.1.action.buttons.0.quick_reply.id", 20),
    ("carousel of replies", "action.cards.1.action.buttons.0.quick_reply.title", 20),
    ("location_request", "body.text", 1024),
    ("voice_call", "action.parameters.display_text", 20),
]


def _of_length(path, length):
    start = LINK + "/" if path.endswith(("link", "url")) else ""
    return start + "x" * (length - len(start))


@pytest.mark.parametrize(("name", "path", "most"), LENGTHS)
def test_a_text_passes_at_its_limit_and_one_over_it_is_refused(name, path, most) -> None:
    MessageContent.parse(*changed(name, keys(path), _of_length(path, most)))

    refusal = refused(name, path, _of_length(path, most + 1))

    assert refusal.field == written(VALID[name][0], keys(path))
    assert refusal.detail == f"{most + 1} characters, at most {most}"
    assert (refusal.code, refusal.status) == ("invalid_content", 422)


COUNTS = [
    ("contacts", "", lambda n: [{"name": {"formatted_name": "A"}}] * n, 1, 257),
    ("button", "action.buttons", lambda n: [_reply(i) for i in range(n)], 1, 3),
    ("list", "action.sections", lambda n: [{"title": "T", "rows": [_row(1)]}] * n, 1, 10),
    ("list", "action.sections.0.rows", lambda n: [_row(i) for i in range(n)], 1, None),
    (
        "product_list",
        "action.sections",
        lambda n: [{"title": "T", "product_items": [{"product_retailer_id": "p"}]}] * n,
        1,
        10,
    ),
    ("carousel", "action.cards", lambda n: [_card(i) for i in range(n)], 2, 10),
    ("carousel of products", "action.cards", lambda n: [_product_card(i) for i in range(n)], 2, 10),
    (
        "template",
        "components.3.cards",
        lambda n: [{"card_index": i % 10, "components": []} for i in range(n)],
        1,
        10,
    ),
]


@pytest.mark.parametrize(("name", "path", "make", "least", "most"), COUNTS)
def test_an_array_passes_between_its_limits_only(name, path, make, least, most) -> None:
    wrong = [least - 1]
    MessageContent.parse(*changed(name, keys(path), make(least)))
    if most is not None:
        MessageContent.parse(*changed(name, keys(path), make(most)))
        wrong.append(most + 1)

    for count in wrong:
        refusal = refused(name, path, make(count))
        assert refusal.field.startswith(written(VALID[name][0], keys(path)))
        assert f"{count} elements" in refusal.detail or count > 10


REQUIRED = [
    ("text", "body"),
    ("location", "latitude"),
    ("location", "longitude"),
    ("contacts", "0.name"),
    ("contacts", "0.name.formatted_name"),
    ("reaction", "message_id"),
    ("reaction", "emoji"),
    ("template", "name"),
    ("template", "language"),
    ("template", "language.code"),
    ("template", "components.0.type"),
    ("template", "components.1.parameters.0.type"),
    ("template", "components.1.parameters.0.text"),
    ("template", "components.1.parameters.1.currency"),
    ("template", "components.2.sub_type"),
    ("template", "components.2.index"),
    ("template", "components.3.cards"),
    ("template", "components.3.cards.0.card_index"),
    ("template", "components.3.cards.0.components"),
    ("template", "components.0.parameters.0.image"),
    ("template", "components.1.parameters.1.currency.code"),
    ("template", "components.1.parameters.1.currency.amount_1000"),
    ("button", "type"),
    ("button", "body"),
    ("button", "body.text"),
    ("button", "action"),
    ("button", "action.buttons"),
    ("button", "action.buttons.0.type"),
    ("button", "action.buttons.0.reply"),
    ("button", "action.buttons.0.reply.id"),
    ("button", "action.buttons.0.reply.title"),
    ("button", "header.type"),
    ("button", "header.text"),
    ("button", "footer.text"),
    ("list", "body"),
    ("list", "body.text"),
    ("list", "action.button"),
    ("list", "action.sections"),
    ("list", "action.sections.0.rows"),
    ("list", "action.sections.0.rows.0.id"),
    ("list", "action.sections.0.rows.0.title"),
    ("cta_url", "body"),
    ("cta_url", "header.image"),
    ("cta_url", "action.name"),
    ("cta_url", "action.parameters"),
    ("cta_url", "action.parameters.display_text"),
    ("cta_url", "action.parameters.url"),
    ("flow", "action.name"),
    ("flow", "action.parameters.flow_message_version"),
    ("flow", "action.parameters.flow_cta"),
    ("flow", "action.parameters.flow_action_payload.screen"),
    ("product", "action.catalog_id"),
    ("product", "action.product_retailer_id"),
    ("product_list", "header"),
    ("product_list", "body"),
    ("product_list", "action.catalog_id"),
    ("product_list", "action.sections.0.product_items"),
    ("product_list", "action.sections.0.product_items.0.product_retailer_id"),
    ("catalog_message", "body"),
    ("catalog_message", "action.name"),
    ("carousel", "body"),
    ("carousel", "action.cards"),
    ("carousel", "action.cards.0.card_index"),
    ("carousel", "action.cards.0.type"),
    ("carousel", "action.cards.0.header"),
    ("carousel", "action.cards.0.action"),
    ("carousel", "action.cards.0.body.text"),
    ("carousel of replies", "action.cards.0.action.buttons.0.type"),
    ("carousel of replies", "action.cards.0.action.buttons.0.quick_reply"),
    ("carousel of replies", "action.cards.0.action.buttons.0.quick_reply.id"),
    ("carousel of replies", "action.cards.0.action.buttons.0.quick_reply.title"),
    ("carousel of products", "action.cards.0.action.catalog_id"),
    ("carousel of products", "action.cards.0.action.product_retailer_id"),
    ("location_request", "body"),
    ("location_request", "action.name"),
    ("address_message", "action.parameters"),
    ("address_message", "action.parameters.country"),
    ("call_permission_request", "action.name"),
    ("voice_call", "action.name"),
    ("request_contact_info", "action.name"),
]


@pytest.mark.parametrize("value", [ABSENT, None], ids=["absent", "null"])
@pytest.mark.parametrize(("name", "path"), REQUIRED)
def test_what_is_required_is_named_when_it_is_missing(name, path, value) -> None:
    refusal = refused(name, path, value)

    assert refusal.field == written(VALID[name][0], keys(path))
    assert refusal.detail == "is required"


NEVER_EMPTY = [
    ("text", "body"),
    ("image", "link"),
    ("image by id", "id"),
    ("contacts", "0.name.formatted_name"),
    ("template", "components.1.parameters.0.text"),
    ("button", "body.text"),
    ("button", "footer.text"),
    ("button", "action.buttons.0.reply.title"),
    ("list", "action.button"),
]


@pytest.mark.parametrize(("name", "path"), NEVER_EMPTY)
def test_what_people_or_meta_read_is_never_empty(name, path) -> None:
    assert refused(name, path, "").field == written(VALID[name][0], keys(path))


WRONG = [
    # name, path, value, where the refusal points if not there
    ("text", "", "Hello", None),
    ("text", "", ["Hello"], None),
    ("text", "body", 5, None),
    ("text", "body", {"text": "x"}, None),
    ("text", "preview_url", "true", None),
    ("audio", "voice", 1, None),
    ("audio", "caption", "lost", None),
    ("sticker", "caption", "lost", None),
    ("image", "id", "1", ""),  # both
    ("image", "link", ABSENT, ""),  # none
    ("image", "link", "ftp://example.org/a", None),
    ("image", "link", "example.org/a", None),
    ("image", "link", "https://", None),
    ("image", "link", "https:///a", None),
    ("image", "link", "https://[::1", None),
    ("image", "link", "https://example.org/a b", None),
    ("image", "link", "https://example.org/a\n", None),
    ("image by id", "id", 123, None),
    ("location", "latitude", 90.1, None),
    ("location", "latitude", "-90.1", None),
    ("location", "latitude", "north", None),
    ("location", "latitude", "1e1", None),
    ("location", "latitude", True, None),
    ("location", "longitude", -181, None),
    ("location", "longitude", [], None),
    ("contacts", "", {"name": {}}, None),
    ("contacts", "0", "Ana", None),
    ("contacts", "0.birthday", "31.12.1999", None),
    ("contacts", "0.birthday", "1999-13-01", None),
    ("contacts", "0.birthday", "1999-00-01", None),
    ("contacts", "0.birthday", "1999-10-32", None),
    ("contacts", "0.birthday", "1999-10-00", None),
    ("contacts", "0.phones", {"phone": "1"}, None),
    ("contacts", "0.phones.0.phone", 1, None),
    ("reaction", "emoji", "x" * 65, None),
    ("template", "name", "Order", None),
    ("template", "name", "order-update", None),
    ("template", "language", "en", None),
    ("template", "language.code", "english language", None),
    ("template", "components", {}, None),
    ("template", "components.0", [], None),
    ("template", "components.0.parameters", {}, None),
    ("template", "components.0.parameters.0.image", {"id": "1", "link": LINK}, None),
    ("template", "components.1.parameters.0.text", 5, None),
    ("template", "components.1.parameters.6.location.latitude", 91, None),
    ("template", "components.2.index", 10, None),
    ("template", "components.2.index", "-1", None),
    ("template", "components.2.index", 1.5, None),
    ("template", "components.3.cards.0.card_index", 10, None),
    ("button", "type", "buttons", None),
    ("button", "type", 1, None),
    ("button", "header.type", "gif", None),
    ("button", "header", {"type": "image", "image": {}}, "header.image"),
    ("button", "action.buttons", {}, None),
    ("button", "action.buttons.1.type", "url", None),
    ("button", "action.buttons.1.reply.title", "Title 1", None),  # twice
    ("list", "header", _IMAGE_HEADER, "header.type"),
    ("list", "action.sections.0.rows", [_row(n) for n in range(11)], "action.sections"),
    (
        "list",
        "action.sections",
        [
            {"title": "A", "rows": [_row(n) for n in range(5)]},
            {"title": "B", "rows": [_row(9)] * 6},
        ],
        None,
    ),
    (
        "list",
        "action.sections",
        [{"title": "A", "rows": [_row(1)]}, {"rows": [_row(2)]}],
        "action.sections.1.title",
    ),
    ("cta_url", "action.name", "cta", None),
    ("cta_url", "action.parameters.url", "tel:123", None),
    ("flow", "action.parameters.flow_name", "n", "action.parameters"),
    ("flow", "action.parameters.flow_id", ABSENT, "action.parameters"),
    ("flow", "action.parameters.flow_action", "go", None),
    ("flow", "action.parameters.mode", "live", None),
    ("flow", "action.parameters.flow_action_payload.data", "x", None),
    (
        "product_list",
        "action.sections.0.product_items",
        [{"product_retailer_id": "p"}] * 31,
        "action.sections",
    ),
    ("product_list", "header", _IMAGE_HEADER, "header.type"),
    ("carousel", "header", {"type": "text", "text": "x"}, None),
    ("carousel", "footer", {"text": "x"}, None),
    ("carousel of replies", "action.cards.1.action.name", "cta_url", None),
    ("carousel", "action.cards.1.card_index", 10, None),
    ("carousel", "action.cards.1.card_index", 0, None),  # twice
    ("carousel", "action.cards.1.type", "link", None),
    ("carousel", "action.cards.1", _product_card(1), "action.cards.1.type"),
    (
        "carousel",
        "action.cards.1.header",
        {"type": "text", "text": "x"},
        "action.cards.1.header.type",
    ),
    (
        "carousel",
        "action.cards.1.header",
        {"type": "video", "video": _MEDIA},
        "action.cards.1.header.type",
    ),
    ("carousel", "action.cards.1.body.text", "a\nb\nc\nd", None),
    ("carousel", "action.cards.1", _quick_reply_card(1), "action.cards.1.action"),
    ("carousel of replies", "action.cards.1", _quick_reply_card(1, 3), "action.cards.1.action"),
    (
        "carousel of replies",
        "action.cards.0",
        _quick_reply_card(0, 4),
        "action.cards.0.action.buttons",
    ),
    (
        "carousel of products",
        "action.cards.1",
        _product_card(1, "other"),
        "action.cards.1.action.catalog_id",
    ),
    ("voice_call", "action.parameters.ttl_minutes", 43_201, None),
    ("voice_call", "action.parameters.ttl_minutes", 0, None),
    ("voice_call", "action.parameters.ttl_minutes", "60", None),
]


@pytest.mark.parametrize(("name", "path", "value", "points_at"), WRONG)
def test_what_meta_would_refuse_is_refused_with_its_field(name, path, value, points_at) -> None:
    where = path if points_at is None else points_at

    assert refused(name, path, value).field == written(VALID[name][0], keys(where))


FAULTS = [
    *((name, path, _of_length(path, most + 1)) for name, path, most in LENGTHS),
    *((name, path, make(least - 1)) for name, path, make, least, _ in COUNTS),
    *((name, path, make(most + 1)) for name, path, make, _, most in COUNTS if most is not None),
    *((name, path, value) for name, path in REQUIRED for value in (ABSENT, None)),
    *((name, path, "") for name, path in NEVER_EMPTY),
    *((name, path, value) for name, path, value, _ in WRONG),
]
TAKEN = 67
"""So many of them the simulator takes: what is within templates and, here and there, a detail."""


def _code_of_the_simulator(name, path, value):
    kind, body = changed(name, keys(path), value)
    envelope = {"messaging_product": "whatsapp", "to": "4915550000001", "type": kind}
    try:
        check_message({**envelope, kind: body})
    except GraphError as refusal:
        return refusal.code
    return None


@pytest.mark.parametrize(
    ("name", "path", "value"), FAULTS, ids=[f"{name}-{path}" for name, path, _ in FAULTS]
)
def test_a_fault_that_the_simulated_meta_refuses_has_its_code(name, path, value) -> None:
    answer = graph_error_response(refused(name, path, value), {"type": "http"})

    code = json.loads(answer.body)["error"]["code"]
    assert _code_of_the_simulator(name, path, value) in {code, None}


def test_the_simulated_meta_refuses_most_faults() -> None:
    assert sum(_code_of_the_simulator(*fault) is None for fault in FAULTS) <= TAKEN


GOOD = [
    ("text", "preview_url", ABSENT),
    ("text", "new_by_meta", {"x": 1}),
    ("image", "caption", ""),
    ("image", "id", None),
    ("image", "link", "HTTP://EXAMPLE.ORG:8080/a?b=c#d"),
    ("location", "latitude", 90),
    ("location", "latitude", "-90"),
    ("location", "longitude", "+180.000"),
    ("location", "longitude", -180.0),
    ("reaction", "emoji", ""),
    ("contacts", "0.birthday", "1999-10-30"),
    ("contacts", "0.birthday", "1999-02-10"),
    ("contacts", "0.name.first_name", ""),
    ("contacts", "0.addresses", []),
    ("contacts", "0.emails", []),
    ("contacts", "0.phones", []),
    ("contacts", "0.urls", []),
    ("template", "components.1.parameters.7.payload", ""),
    ("template", "components.1.parameters.1.currency.amount_1000", "-1000"),
    ("product_list", "action.sections.0.title", ""),
    ("list", "action.sections.0.title", ""),
    ("flow", "action.parameters.flow_token", ""),
    ("voice_call", "action.parameters.ttl_minutes", 1),
    ("template", "components", ABSENT),
    ("template", "components", []),
    ("template", "components.0.parameters", None),
    ("template", "language.code", "zh_Hant_TW"),
    ("template", "language.code", "es_419"),
    ("template", "language.code", "fil"),
    ("template", "components.2.index", 9),
    ("button", "header", ABSENT),
    ("button", "footer", None),
    ("button", "header", {"type": "document", "document": {"id": "1", "filename": "a.pdf"}}),
    ("list", "action.sections.0.title", ABSENT),
    ("list", "action.sections.0.rows.0.description", ""),
    ("flow", "action.parameters", _flow(flow_id=None, flow_name="n")[1]["action"]["parameters"]),
    ("flow", "action.parameters.mode", ABSENT),
    ("product", "body", ABSENT),
    ("catalog_message", "action.parameters", None),
    ("carousel", "action.cards.1.body", ABSENT),
    ("carousel", "action.cards.1.body.text", "a\nb\nc"),
    ("voice_call", "body", ABSENT),
    ("voice_call", "action.parameters", ABSENT),
    ("voice_call", "action.parameters.ttl_minutes", 43_200),
]


ANYTHING = [
    *(None, "", 0, 5, 1.5, True, False, [], {}, [None], [{}], ["x"], {"type": "text"}),
    *({"text": "x"}, " ", "\n", "a b", "a\nb\nc", "A", LINK, ABSENT),
    *("x" * length for length in (20, 24, 60, 72, 160, 200, 256, 512, 1024, 2048, 4096)),
]
SIMULATED = [name for name, (kind, _) in VALID.items() if kind not in {"pin", "template"}]
"""A template is checked against those that there are."""


def _paths(value, *above):
    yield above
    keyed = enumerate(value) if isinstance(value, list) else getattr(value, "items", tuple)()
    for key, inner in keyed:
        yield from _paths(inner, *above, key)


def _parses(kind, body):
    try:
        return MessageContent.parse(kind, body)
    except InvalidContent:
        return None


@pytest.mark.parametrize("name", SIMULATED)
def test_what_passes_here_passes_the_simulated_meta(name) -> None:
    """What the judge refuses for nothing would come back as a failure long after it was taken."""
    changes = [(path, value) for path in _paths(VALID[name][1]) for value in ANYTHING]
    for path, value in changes:
        if not path and value is ABSENT:
            continue
        content = _parses(*changed(name, path, value))
        if content is not None:
            envelope = {"messaging_product": "whatsapp", "to": "4915550000001"}
            check_message({**envelope, **content.to_dict()})


@pytest.mark.parametrize(("name", "path", "value"), GOOD)
def test_what_meta_takes_is_not_refused(name, path, value) -> None:
    MessageContent.parse(*changed(name, keys(path), value))
