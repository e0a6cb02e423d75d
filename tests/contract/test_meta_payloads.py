"""Every payload of Meta's that we know, as a file, and what is read from it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from whatsapp.domain.outcome import (
    Accepted,
    Deferred,
    RejectAction,
    Rejected,
    Throttled,
    ThrottleScope,
)
from whatsapp.domain.webhook import (
    Echo,
    FieldChanged,
    InboundReceived,
    StatusReported,
    TroubleReported,
)
from whatsapp.infrastructure.cloud_api.outcomes import (
    outcome_of_response,
    outcome_of_status_errors,
)
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook

PAYLOADS = Path(__file__).parent / "payloads"
NUMBER, WABA, ANA = "106540352242922", "102290129340398", "16505551234"
ANA_USER = "US.13491208655302741918"
AT = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)
ECHO = Echo(UUID("0193571c-0000-7000-8000-00000000002a"), 1)


def _only_element(folder, name):
    (element,) = parse_webhook((PAYLOADS / folder / f"{name}.json").read_bytes()).elements
    assert element.waba_id == WABA
    return element


INBOUND = {
    "text": {"text": "Hello! Olá \U0001f44b"},
    "text_reply": {"text": "Yes, that one"},
    "text_forwarded": {"text": "Look"},
    "text_frequently_forwarded": {"text": "Pass it on"},
    "text_about_product": {"text": "Is it in stock?"},
    "text_from_advertisement": {"text": "I saw your ad"},
    "text_from_post": {"text": "I saw your film"},
    "text_in_milliseconds": {"text": "fast clock"},
    "text_from_user_id": {"text": "No number, just a name"},
    "text_user_id_in_from": {"text": "odd but seen"},
    "text_in_group": {"text": "Hello everyone"},
    "image": {"text": "My receipt", "media": "1003383421387256"},
    "image_without_caption": {"media": "1003383421387256"},
    "video": {"text": "Unboxing", "media": "1003383421387257"},
    "audio": {"media": "1003383421387258"},
    "document": {"text": "Invoice", "media": "1003383421387259"},
    "sticker": {"media": "1003383421387260"},
    "sticker_animated": {"media": "1003383421387260"},
    "location": {"text": "Example Park"},
    "location_of_a_place": {"text": "Example Park"},
    "contacts": {"text": "Bo Example, Cy Example"},
    "contacts_in_full": {"text": "Dr. Bo Jo Example Jr."},
    "contacts_requested": {"text": "Ana Example"},
    "reaction": {"text": "\U0001f44d", "target_wamid": "wamid.OUT.3"},
    "reaction_removed": {"target_wamid": "wamid.OUT.3"},
    "interactive_button_reply": {"text": "Change", "reply_id": "change"},
    "interactive_list_reply": {"text": "Express", "reply_id": "express"},
    "interactive_flow_reply": {"text": "Sent"},
    "interactive_call_permission": {},
    "interactive_call_permission_for_a_week": {},
    "interactive_call_permission_refused": {},
    "interactive_product": {},
    "interactive_product_list": {},
    "button": {"text": "Stop promotions", "reply_id": "STOP"},
    "order": {"text": "Please wrap it"},
    "system_number_changed": {"text": "Ana Example changed her number"},
    "system_user_id_changed": {"text": "Ana Example has a new id"},
    "unsupported": {},
    "edit": {"target_wamid": "wamid.IN.text"},
    "edit_of_caption": {"target_wamid": "wamid.IN.image"},
    "revoke": {"target_wamid": "wamid.IN.text"},
    "unknown_type": {},
}


@pytest.mark.parametrize(("name", "expected"), INBOUND.items(), ids=INBOUND)
def test_an_inbound_message_of_each_type(name, expected):
    element = _only_element("inbound", name)

    assert isinstance(element, InboundReceived)
    assert element.phone_number_id == NUMBER
    assert element.wamid == f"wamid.IN.{name}"
    assert element.sent_at.replace(microsecond=0) == AT
    assert element.content.to_dict()[element.content.type] == element.raw[element.content.type]
    read = {
        "text": element.content.summary,
        "media": element.content.media and element.content.media.id,
        "reply_id": element.content.reply and element.content.reply.id,
        "target_wamid": element.content.target_wamid,
    }
    assert {key: value for key, value in read.items() if value is not None} == expected


def test_the_sender_of_an_inbound_message():
    for name in INBOUND:
        element = _only_element("inbound", name)
        by_user_id = name in {"text_from_user_id", "text_user_id_in_from", "system_user_id_changed"}
        assert (element.wa_id is None) is by_user_id
        assert (element.user_id is not None) is by_user_id
        assert element.profile_name == (None if name.startswith("system") else "Ana Example")


@pytest.mark.parametrize(
    ("name", "attribute", "expected"),
    [
        ("text_reply", "context_wamid", "wamid.OUT.1"),
        ("text_forwarded", "context_wamid", None),
        ("text_from_user_id", "username", "ana.example"),
        ("text_in_milliseconds", "sent_at", AT + timedelta(milliseconds=123)),
        ("system_number_changed", "wa_id", ANA),
        ("system_user_id_changed", "user_id", "US.23491208655302741918"),
        ("system_user_id_changed", "previous_user_id", ANA_USER),
    ],
)
def test_what_is_special_about_an_inbound_message(name, attribute, expected):
    assert getattr(_only_element("inbound", name), attribute) == expected


def test_a_group_message_names_its_group_and_who_wrote():
    element = _only_element("inbound", "text_in_group")

    assert element.group_id.startswith("Y2FwaV9")
    assert element.wa_id == ANA


def test_a_file_is_described_and_a_voice_note_marked():
    document = _only_element("inbound", "document").content.media
    audio = _only_element("inbound", "audio").content.media

    assert (document.filename, document.mime_type) == ("invoice.pdf", "application/pdf")
    assert document.sha256 == "SfInY0gGKTsJlUWbwxC1k+FAD0FZHvzwfpvO0zX0GUI="
    assert audio.is_voice
    assert not document.is_voice


def test_what_meta_could_not_read_says_why():
    (error,) = _only_element("inbound", "unsupported").errors

    assert error.code == 131051


STATUSES = {
    "sent": ("sent", ECHO),
    "sent_with_conversation": ("sent", ECHO),
    "delivered": ("delivered", ECHO),
    "delivered_number_timestamp": ("delivered", None),
    "read": ("read", ECHO),
    "played": ("played", None),
    "to_user_id": ("delivered", None),
    "without_recipient": ("sent", None),
    "in_group": ("delivered", None),
    "others_callback_data": ("sent", None),
    "failed_undeliverable": ("failed", ECHO),
    "failed_window_closed": ("failed", None),
    "failed_marketing_limit": ("failed", None),
    "failed_media": ("failed", None),
    "failed_pair_rate": ("failed", None),
    "failed_payment": ("failed", None),
    "failed_template_paused": ("failed", None),
}


@pytest.mark.parametrize(("name", "expected"), STATUSES.items(), ids=STATUSES)
def test_a_status_of_each_kind(name, expected):
    element = _only_element("status", name)

    assert isinstance(element, StatusReported)
    assert (element.status, element.echo) == expected
    assert (element.wamid, element.occurred_at) == (f"wamid.OUT.{name}", AT)
    assert bool(element.errors) is (element.status == "failed")
    assert (element.pricing is not None) is (
        name in {"sent", "sent_with_conversation", "delivered"}
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sent", (ANA, None)),
        ("to_user_id", (None, ANA_USER)),
        ("without_recipient", (None, None)),
        ("in_group", (ANA, None)),
    ],
)
def test_the_recipient_of_a_status(name, expected):
    element = _only_element("status", name)

    assert (element.wa_id, element.user_id) == expected


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("failed_undeliverable", Rejected, 131026),
        ("failed_window_closed", Rejected, 131047),
        ("failed_marketing_limit", Rejected, 131049),
        ("failed_media", Deferred, 131053),
        ("failed_pair_rate", Throttled, 131056),
        ("failed_payment", Rejected, 131042),
        ("failed_template_paused", Rejected, 132015),
    ],
)
def test_a_failed_status_says_what_to_do(name, kind, code):
    refusal = outcome_of_status_errors(_only_element("status", name).errors)

    assert isinstance(refusal, kind)
    assert refusal.code == code


def test_a_failed_status_does_not_repeat_the_number_in_its_reason():
    assert "555-1234" not in repr(_only_element("status", "failed_undeliverable"))


@pytest.mark.parametrize("path", sorted((PAYLOADS / "field").iterdir()), ids=lambda path: path.stem)
def test_every_other_field_is_passed_on(path):
    element = _only_element("field", path.stem)
    value = json.loads(path.read_text())["entry"][0]["changes"][0]["value"]

    assert isinstance(element, FieldChanged)
    assert element.field == path.stem
    assert element.raw == value
    assert element.phone_number_id == (NUMBER if "metadata" in value else None)


def test_an_error_of_the_number_itself():
    element = _only_element("trouble", "number_error")

    assert isinstance(element, TroubleReported)
    assert [error.code for error in element.errors] == [130429]


ANSWERS = {
    "accepted": (Accepted, None),
    "accepted_with_other_wa_id": (Accepted, None),
    "accepted_by_user_id": (Accepted, None),
    "accepted_and_held": (Accepted, None),
    "throughput": (Throttled, ThrottleScope.NUMBER),
    "pair_rate": (Throttled, ThrottleScope.PAIR),
    "account_calls": (Throttled, ThrottleScope.ACCOUNT),
    "token_expired": (Rejected, RejectAction.PAUSE_CHANNEL),
    "wrong_number_id": (Rejected, RejectAction.PAUSE_CHANNEL),
    "permission": (Rejected, RejectAction.PAUSE_CHANNEL),
    "parameter_missing": (Rejected, RejectAction.FAIL),
    "template_missing": (Rejected, RejectAction.FAIL_TEMPLATE),
    "not_on_test_list": (Rejected, RejectAction.FAIL_RECIPIENT),
    "server_error": (Deferred, None),
    "service_down": (Deferred, None),
    "maintenance": (Deferred, None),
}


def _outcome(name):
    answer = json.loads((PAYLOADS / "answer" / f"{name}.json").read_text())
    return outcome_of_response(answer["http_status"], json.dumps(answer["body"]).encode())


@pytest.mark.parametrize(("name", "expected"), ANSWERS.items(), ids=ANSWERS)
def test_an_answer_of_each_kind(name, expected):
    outcome = _outcome(name)

    concerned = getattr(outcome, "scope", None) or getattr(outcome, "action", None)
    assert (type(outcome), concerned) == expected


def test_the_recipient_of_an_accepted_message_is_metas_own_spelling():
    assert _outcome("accepted_with_other_wa_id").wa_id == "551187654321"
    assert _outcome("accepted_by_user_id").user_id == ANA_USER
    assert _outcome("accepted_and_held").held


@pytest.mark.parametrize(
    ("folder", "tested"), [("inbound", INBOUND), ("status", STATUSES), ("answer", ANSWERS)]
)
def test_every_payload_is_tested(folder, tested):
    assert {path.stem for path in (PAYLOADS / folder).iterdir()} == set(tested)
