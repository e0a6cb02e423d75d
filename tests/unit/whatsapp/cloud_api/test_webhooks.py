import hashlib
import hmac
import json
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.kernel.ids import new_id
from shared.kernel.secret import Secret
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.domain.webhook import (
    Echo,
    FieldChanged,
    InboundReceived,
    StatusReported,
    TroubleReported,
    Unrecognised,
)
from whatsapp.infrastructure.cloud_api.callback import callback_data
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook, signature_matches

SECRET = Secret("test_app_secret")
OTHER = Secret("another_app_secret")
EMPTY = b'{"object":"whatsapp_business_account","entry":[]}'
EMPTY_DIGEST = "dec6a680679a968e7e0319355b23599cbfc54502c0784668e9618baa0c633756"
AT = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)
SECONDS = str(int(AT.timestamp()))
NUMBER, WABA = "106540352242922", "102290129340398"


@pytest.mark.parametrize(
    ("body", "digest"),
    [
        (EMPTY, EMPTY_DIGEST),
        (
            '{"a":"é"}'.encode(),
            "b1da91d17c8e6b70d338244a5ba4bd25d4b70ac950812f5c91dee574d84a1180",
        ),
        (b'{"a":"\\u00e9"}', "4355f1d1bf75cf85000ee9646587c547d6b5618b0b655e791bf4495ff655c463"),
    ],
)
def test_the_signature_covers_the_raw_bytes(body, digest):
    assert signature_matches(body, f"sha256={digest}", [SECRET])
    assert signature_matches(body, f"sha256={digest}".encode(), [SECRET])
    assert not signature_matches(body + b" ", f"sha256={digest}", [SECRET])
    assert not signature_matches(body, f"sha256={digest}", [OTHER])


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        b"",
        "sha256=",
        EMPTY_DIGEST,
        f"sha1={EMPTY_DIGEST}",
        f"SHA256={EMPTY_DIGEST}",
        f"sha256={EMPTY_DIGEST.upper()}",
        f"sha256={EMPTY_DIGEST[:-1]}",
        f"sha256={EMPTY_DIGEST}0",
        f" sha256={EMPTY_DIGEST}",
        f"sha256={EMPTY_DIGEST}\n",
        f"sha256={EMPTY_DIGEST},sha256={EMPTY_DIGEST}",
        f"sha256={EMPTY_DIGEST[:-1]}é",
        f"sha256={EMPTY_DIGEST[:-1]}\udcff",
        f"sha256={EMPTY_DIGEST[:-2]}é",
        f"sha256={EMPTY_DIGEST}".encode("utf-16"),
        b"\xff" * 71,
    ],
)
def test_only_the_exact_form_of_a_signature_counts(header):
    assert not signature_matches(EMPTY, header, [SECRET])


def test_while_a_secret_is_rotated_both_count():
    header = f"sha256={EMPTY_DIGEST}"

    assert signature_matches(EMPTY, header, [OTHER, SECRET])
    assert signature_matches(EMPTY, header, [SECRET, OTHER])
    assert not signature_matches(EMPTY, header, [OTHER])
    assert not signature_matches(EMPTY, header, [])


def test_an_empty_secret_signs_nothing():
    header = "sha256=" + hmac.digest(b"", EMPTY, hashlib.sha256).hex()

    assert not signature_matches(EMPTY, header, [Secret("")])


def test_every_secret_is_tried_whichever_matches(monkeypatch):
    tried = []
    digest = hmac.digest
    monkeypatch.setattr(hmac, "digest", lambda *a: tried.append(1) or digest(*a))

    for secrets in ([SECRET, OTHER], [OTHER, SECRET], [OTHER, OTHER]):
        tried.clear()
        signature_matches(EMPTY, f"sha256={EMPTY_DIGEST}", secrets)
        assert len(tried) == 2


@given(
    st.binary(max_size=50),
    st.none() | st.binary(max_size=80) | st.text(max_size=80),
    st.lists(st.builds(Secret, st.text(max_size=5)), max_size=3),
)
def test_checking_a_signature_never_raises(raw, header, secrets):
    assert not signature_matches(raw, header, secrets)


def _status(**more):
    return {
        "id": "wamid.A",
        "status": "delivered",
        "timestamp": SECONDS,
        "recipient_id": "16505551234",
        **more,
    }


def _text(**more):
    return {
        "from": "16505551234",
        "id": "wamid.B",
        "timestamp": SECONDS,
        "type": "text",
        "text": {"body": "hi"},
        **more,
    }


def _value(**more):
    return {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": NUMBER},
        **more,
    }


def _body(*values, field="messages"):
    changes = [{"field": field, "value": value} for value in values]
    entry = {"id": WABA, "changes": changes}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def _parse(*values, field="messages"):
    return parse_webhook(_body(*values, field=field)).elements


def test_a_status_is_read_in_full():
    message_id = new_id()
    pricing = {"billable": True, "pricing_model": "PMP", "category": "utility"}
    status = _status(
        biz_opaque_callback_data=callback_data(message_id=message_id, attempt=3),
        recipient_user_id="US.1A2b",
        pricing=pricing,
    )

    assert _parse(_value(statuses=[status])) == (
        StatusReported(
            waba_id=WABA,
            phone_number_id=NUMBER,
            wamid="wamid.A",
            status=MessageStatus.DELIVERED,
            occurred_at=AT,
            wa_id="16505551234",
            user_id="US.1A2b",
            echo=Echo(message_id, 3),
            errors=(),
            pricing=pricing,
            raw=status,
        ),
    )


@pytest.mark.parametrize("status", ["sent", "delivered", "read", "played", "failed"])
def test_every_status_that_meta_documents_is_known(status):
    (element,) = _parse(_value(statuses=[_status(status=status)]))

    assert element.status == status


def test_a_failure_says_why_without_the_number_that_meta_quotes():
    error = {
        "code": 131026,
        "title": "Message undeliverable",
        "message": "Message undeliverable",
        "error_data": {"details": "Message to 16505551234 undeliverable"},
    }
    (element,) = _parse(_value(statuses=[_status(status="failed", errors=[error])]))

    assert element.errors == (
        FailureReason(131026, "Message undeliverable", "Message to [removed] undeliverable"),
    )


@pytest.mark.parametrize("missing", ["recipient_id", "biz_opaque_callback_data"])
def test_a_status_needs_neither_recipient_nor_echo(missing):
    status = _status()
    status.pop(missing, None)

    (element,) = _parse(_value(statuses=[status]))

    assert isinstance(element, StatusReported)
    assert element.echo is None


BROKEN_STATUSES = [
    None,
    "sent",
    [],
    {},
    _status(id=None),
    _status(id=""),
    _status(id="w" * 513),
    _status(timestamp=None),
    _status(timestamp="soon"),
    _status(timestamp="9" * 12),
    _status(status="deleted"),
    _status(status="warning"),
    _status(status=["sent"]),
    _status(status="accepted"),
]
BROKEN_MESSAGES = [
    None,
    7,
    [],
    {},
    _text(id=None),
    _text(timestamp="0"),
    _text(type=None),
    _text(type=[]),
    {key: value for key, value in _text().items() if key != "from"},
    _text(**{"from": "not a number"}),
]


@pytest.mark.parametrize("broken", BROKEN_STATUSES)
def test_a_broken_status_does_not_fail_its_neighbours(broken):
    first, unread, last = _parse(_value(statuses=[_status(), broken, _status(status="read")]))

    assert first.status is MessageStatus.DELIVERED
    assert last.status is MessageStatus.READ
    assert isinstance(unread, Unrecognised)
    assert unread.phone_number_id == NUMBER
    assert unread.raw == broken


@pytest.mark.parametrize("broken", BROKEN_MESSAGES)
def test_a_broken_message_does_not_fail_its_neighbours(broken):
    first, unread, last = _parse(_value(messages=[_text(), broken, _text(id="wamid.C")]))

    assert (first.wamid, last.wamid) == ("wamid.B", "wamid.C")
    assert isinstance(unread, Unrecognised)
    assert unread.raw == broken


@pytest.mark.parametrize("broken", [None, 7, "x", [], {}, {"changes": 7}, {"changes": None}])
def test_a_broken_entry_does_not_fail_its_neighbours(broken):
    document = json.loads(_body(_value(statuses=[_status()])))
    document["entry"] = [broken, *document["entry"], broken]

    elements = parse_webhook(json.dumps(document).encode()).elements

    assert [type(element) for element in elements] == [Unrecognised, StatusReported, Unrecognised]


@pytest.mark.parametrize("broken", [None, 7, "x", [], {}, {"field": "messages"}, {"field": 7}])
def test_a_broken_change_does_not_fail_its_neighbours(broken):
    document = json.loads(_body(_value(statuses=[_status()])))
    document["entry"][0]["changes"].insert(0, broken)

    elements = parse_webhook(json.dumps(document).encode()).elements

    assert [type(element) for element in elements] == [Unrecognised, StatusReported]


@pytest.mark.parametrize("value", [{}, {"statuses": []}, {"messages": [], "contacts": [{}]}])
def test_a_change_with_nothing_in_it_is_kept(value):
    (element,) = _parse(_value(**value))

    assert isinstance(element, Unrecognised)
    assert element.phone_number_id == NUMBER


def test_a_change_without_a_number_is_kept():
    (element,) = _parse({"statuses": [_status()]})

    assert isinstance(element, Unrecognised)
    assert element.raw == {"statuses": [_status()]}


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"null", b"[]", b"7", b"\xff", b"[" * 9999, b"<xml/>", b'"x"']
)
def test_a_body_that_is_no_json_object_is_one_unrecognised_element(raw):
    assert parse_webhook(raw).elements == (Unrecognised(reason="not a JSON object"),)


@pytest.mark.parametrize("document", [{}, {"object": "page", "entry": []}])
def test_a_body_about_something_else_is_kept(document):
    (element,) = parse_webhook(json.dumps(document).encode()).elements

    assert isinstance(element, Unrecognised)
    assert element.raw == document


def test_a_body_without_entries_has_no_elements():
    assert parse_webhook(EMPTY).elements == ()


def test_every_element_of_every_change_and_entry_across_numbers_counts():
    other = _value(messages=[_text()]) | {"metadata": {"phone_number_id": "2"}}
    value = _value(
        statuses=[_status(id=f"wamid.{n}") for n in range(1000)],
        messages=[_text(id="wamid.X"), _text(id="wamid.Y")],
        errors=[{"code": 131000, "title": "Something went wrong"}],
    )
    document = json.loads(_body(value, other))
    document["entry"] *= 2

    elements = parse_webhook(json.dumps(document).encode()).elements

    counts = {
        kind: sum(isinstance(element, kind) for element in elements)
        for kind in (StatusReported, InboundReceived, TroubleReported)
    }
    assert counts == {StatusReported: 2000, InboundReceived: 6, TroubleReported: 2}
    assert {element.phone_number_id for element in elements} == {NUMBER, "2"}
    assert len(elements) == 2008


def test_an_inbound_message_is_read_in_full():
    message = _text(
        from_user_id="US.1A2b", context={"from": "15550783881", "id": "wamid.Q"}, group_id="G1"
    )
    contacts = [
        {"wa_id": "999999999", "profile": {"name": "Somebody else"}},
        {"wa_id": "16505551234", "profile": {"name": "Ana", "username": "ana.b"}},
    ]

    (element,) = _parse(_value(messages=[message], contacts=contacts))

    assert (element.wa_id, element.user_id) == ("16505551234", "US.1A2b")
    assert (element.profile_name, element.username) == ("Ana", "ana.b")
    assert element.context_wamid == "wamid.Q"
    assert element.group_id == "G1"
    assert element.sent_at == AT
    assert (element.content.type, element.content.body) == ("text", {"body": "hi"})
    assert element.content.text == "hi"
    assert element.raw == message


def test_a_sender_known_by_user_id_alone_is_a_sender():
    message = _text(from_user_id="US.1A2b")
    del message["from"]
    contacts = [{"user_id": "US.1A2b", "profile": {"name": "Ana"}}]

    (element,) = _parse(_value(messages=[message], contacts=contacts))

    assert (element.wa_id, element.user_id) == (None, "US.1A2b")
    assert element.profile_name == "Ana"


def test_a_user_id_where_the_number_belongs_is_a_user_id():
    (element,) = _parse(_value(messages=[_text(**{"from": "US.1A2b"})]))

    assert (element.wa_id, element.user_id) == (None, "US.1A2b")


def test_the_contact_tells_the_half_of_the_identity_that_the_message_leaves_out():
    contacts = [{"wa_id": "16505551234", "user_id": "US.1A2b"}]
    by_user_id = _text(**{"from": "US.1A2b"})

    elements = _parse(_value(messages=[_text(), by_user_id], contacts=contacts))

    for element in elements:
        assert (element.wa_id, element.user_id) == ("16505551234", "US.1A2b")


def test_a_type_that_nobody_knows_is_received_raw():
    message = _text(type="hologram", hologram={"id": 1})

    (element,) = _parse(_value(messages=[message]))

    assert (element.content.type, element.content.body) == ("hologram", {"id": 1})
    assert element.content.text is None


def test_another_field_is_passed_on_with_its_value():
    value = {"event": "APPROVED", "message_template_name": "hello"}

    assert _parse(value, field="message_template_status_update") == (
        FieldChanged(
            waba_id=WABA,
            phone_number_id=None,
            field="message_template_status_update",
            raw=value,
        ),
    )


def test_another_field_may_name_its_number():
    (element,) = _parse(_value(message_echoes=[]), field="smb_message_echoes")

    assert element.phone_number_id == NUMBER


def test_an_element_nested_without_end_is_refused_alone():
    deep = "[" * 400 + "]" * 400
    raw = _body(_value(statuses=[_status(), _status(x="DEEP")], messages=[_text()]))

    elements = parse_webhook(raw.replace(b'"DEEP"', deep.encode())).elements

    assert [type(element) for element in elements] == [
        StatusReported,
        Unrecognised,
        InboundReceived,
    ]
    assert elements[1].raw is None
    assert elements[1].phone_number_id == NUMBER


def test_elements_do_not_show_what_is_personal():
    message = _text(text={"body": "my secret"})
    value = _value(
        statuses=[_status(recipient_user_id="US.1A2b"), {}],
        messages=[message],
        contacts=[{"wa_id": "16505551234", "profile": {"name": "Ana"}}],
    )

    shown = repr(_parse(value))

    for personal in ("16505551234", "US.1A2b", "my secret", "Ana"):
        assert personal not in shown


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
)
SAMPLE = json.loads(
    _body(
        _value(
            statuses=[_status(errors=[{"code": 1, "error_data": {"details": "d"}}])],
            messages=[_text(context={"id": "wamid.Q"}, system={"user_id": "US.1"})],
            contacts=[{"wa_id": "16505551234", "profile": {"name": "Ana"}}],
            errors=[{"code": 1}],
        )
    )
)


def _places(value, path=()):
    """Every place in a JSON document, the document itself included."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(inner, (*path, key))


def _replaced(value, path, new):
    if not path:
        return new
    head, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[head] = _replaced(value[head], rest, new)
    return copy


@given(st.binary(max_size=400))
def test_any_bytes_have_elements(raw):
    parse_webhook(raw)


@given(
    st.lists(st.tuples(st.sampled_from(sorted(_places(SAMPLE), key=str)), json_values), max_size=3)
)
@settings(max_examples=400)
def test_any_value_in_any_place_is_survived(changes):
    document = SAMPLE
    for path, value in changes:
        try:
            document = _replaced(document, path, value)
        except (LookupError, TypeError, ValueError):  # an earlier change removed the place
            continue
    batch = parse_webhook(json.dumps(document).encode())

    repr(batch)


def test_any_damage_to_the_bytes_is_survived():
    rng = random.Random(20261123)
    sample = json.dumps(SAMPLE).encode()
    for _ in range(3000):
        raw = bytearray(sample)
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(raw))
            raw[at : at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        parse_webhook(bytes(raw))


NAMELESS = {"id": "wamid.B", "timestamp": SECONDS, "type": "text", "text": {"body": "Hi"}}
ANA = {"user_id": "US.1A2b", "profile": {"name": "Ana"}}


def test_the_only_message_that_names_nobody_is_from_the_only_contact():
    (element,) = _parse(_value(messages=[NAMELESS], contacts=[ANA]))

    assert isinstance(element, InboundReceived)
    assert (element.wa_id, element.user_id, element.profile_name) == (None, "US.1A2b", "Ana")


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [NAMELESS, NAMELESS], "contacts": [ANA]},
        {"messages": [NAMELESS], "contacts": [ANA, {"wa_id": "16505551234"}]},
        {"messages": [NAMELESS], "contacts": [{"profile": {"name": "Ana"}}]},
    ],
)
def test_nobody_is_guessed_among_several(value):
    reasons = {getattr(element, "reason", None) for element in _parse(_value(**value))}

    assert reasons == {"message without sender"}


@pytest.mark.parametrize(
    "known", [{"recipient_id": "16505551234"}, {"recipient_id": None, "recipient_user_id": "US.1"}]
)
def test_a_contact_beside_a_status_adds_the_name_that_is_missing_in_it(known):
    contacts = [{"wa_id": "16505559999"}, {"wa_id": "16505551234", "user_id": "US.1"}]

    (element,) = _parse(_value(statuses=[_status(**known)], contacts=contacts))

    assert (element.wa_id, element.user_id) == ("16505551234", "US.1")
