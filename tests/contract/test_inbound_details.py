"""What is read from each kind of message that customers write, field by field."""

import json
from pathlib import Path

import pytest

from shared.kernel.ids import new_id
from whatsapp.application.apply_inbound import message_of
from whatsapp.domain.value_objects import InboundDetails
from whatsapp.domain.value_objects.inbound_content import plain
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook

PAYLOADS = Path(__file__).parent / "payloads" / "inbound"
SHA256 = "SfInY0gGKTsJlUWbwxC1k+FAD0FZHvzwfpvO0zX0GUI="
CATALOG = "194836987003835"
NO_FILE = dict.fromkeys(("caption", "filename", "url")) | {"is_voice": False, "is_animated": False}


def received(name):
    (element,) = parse_webhook((PAYLOADS / f"{name}.json").read_bytes()).elements
    return message_of(Route(new_id(), new_id()), element)


def file(media_id, mime_type, **values):
    return NO_FILE | {"id": media_id, "mime_type": mime_type, "sha256": SHA256} | values


def product(number):
    return {"product_retailer_id": f"SKU-{number}", "catalog_id": CATALOG}


def permission(response, source, **values):
    given = {"response": response, "source": source, "is_permanent": False, "expires_at": None}
    return {"call_permission": given | values}


PLACE = {
    "latitude": 37.4421,
    "longitude": -122.1615,
    "name": "Example Park",
    "address": "1 Park Road",
    "url": None,
}
NOBODY = dict.fromkeys(
    ("first_name", "last_name", "middle_name", "prefix", "suffix", "formatted_name")
)
CARD = {"phones": [], "emails": [], "addresses": [], "urls": []} | dict.fromkeys(
    ("name", "org", "birthday", "origin", "vcard")
)
UNCHANGED = dict.fromkeys(("body", "wa_id", "user_id", "previous_user_id"))


def phone(number, wa_id=None, kind=None):
    return {"phone": number, "wa_id": wa_id, "user_id": None, "type": kind}


DETAILS = {
    "text": {"text": "Hello! Olá \U0001f44b"},
    "image": {
        "text": "My receipt",
        "media": file(
            "1003383421387256",
            "image/jpeg",
            caption="My receipt",
            url="https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1003383421387256",
        ),
    },
    "audio": {"media": file("1003383421387258", "audio/ogg; codecs=opus", is_voice=True)},
    "sticker": {"media": file("1003383421387260", "image/webp")},
    "sticker_animated": {"media": file("1003383421387260", "image/webp", is_animated=True)},
    "location": {"location": PLACE},
    "location_of_a_place": {"location": PLACE | {"url": "https://example.com/park"}},
    "contacts": {
        "contacts": [
            CARD
            | {
                "name": NOBODY | {"formatted_name": "Bo Example", "first_name": "Bo"},
                "phones": [phone("+1 650-555-9999", "16505559999", "CELL")],
                "emails": [{"email": "bo@example.com", "type": "WORK"}],
                "org": {"company": "Example", "department": None, "title": None},
            },
            CARD | {"name": NOBODY | {"formatted_name": "Cy Example"}},
        ]
    },
    "contacts_requested": {
        "contacts": [
            CARD
            | {
                "name": NOBODY | {"formatted_name": "Ana Example"},
                "phones": [phone("+16505551234", "16505551234")],
                "origin": "contact_request",
            }
        ]
    },
    "contacts_in_full": {
        "contacts": [
            {
                "name": {
                    "formatted_name": "Dr. Bo Jo Example Jr.",
                    "first_name": "Bo",
                    "last_name": "Example",
                    "middle_name": "Jo",
                    "prefix": "Dr.",
                    "suffix": "Jr.",
                },
                "phones": [
                    phone("+1 650-555-9999", "16505559999", "CELL"),
                    phone("+1 650-555-9998", kind="WORK"),
                ],
                "emails": [{"email": "bo@example.com", "type": "WORK"}],
                "addresses": [
                    {
                        "street": "1 Example Way",
                        "city": "Menlo Park",
                        "state": "CA",
                        "zip": "94025",
                        "country": "United States",
                        "country_code": "us",
                        "type": "HOME",
                    }
                ],
                "urls": [{"url": "https://example.com", "type": "WORK"}],
                "org": {"company": "Example", "department": "Design", "title": "Lead"},
                "birthday": "1990-01-31",
                "origin": "other",
                "vcard": "BEGIN:VCARD\nVERSION:3.0\nFN:Bo Example\nEND:VCARD",
            }
        ]
    },
    "reaction": {"reaction": {"message_id": "wamid.OUT.3", "emoji": "\U0001f44d"}},
    "reaction_removed": {"reaction": {"message_id": "wamid.OUT.3", "emoji": None}},
    "interactive_button_reply": {"reply": {"id": "change", "title": "Change", "description": None}},
    "interactive_list_reply": {
        "reply": {
            "id": "express",
            "title": "Express",
            "description": "Next day",
        }
    },
    "interactive_flow_reply": {
        "flow": {"name": "flow", "body": "Sent", "response": {"flow_token": "t1", "score": "5"}}
    },
    "interactive_call_permission": permission("accept", "user_action"),
    "interactive_call_permission_for_a_week": permission(
        "accept", "automatic", expires_at="2026-11-30T08:00:00+00:00"
    ),
    "interactive_call_permission_refused": permission("reject", "user_action"),
    "interactive_product": {"products": [product(7)]},
    "interactive_product_list": {"products": [product(7), product(8)]},
    "button": {"reply": {"id": "STOP", "title": "Stop promotions", "description": None}},
    "order": {
        "order": {
            "catalog_id": CATALOG,
            "text": "Please wrap it",
            "items": [
                {
                    "product_retailer_id": "SKU-1",
                    "quantity": "2",
                    "item_price": "9.5",
                    "currency": "USD",
                }
            ],
        }
    },
    "system_number_changed": {
        "system_change": UNCHANGED
        | {
            "change": "user_changed_number",
            "body": "Ana Example changed her number",
            "wa_id": "16505550000",
        }
    },
    "system_user_id_changed": {
        "system_change": UNCHANGED
        | {
            "change": "user_changed_user_id",
            "body": "Ana Example has a new id",
            "user_id": "US.23491208655302741918",
            "previous_user_id": "US.13491208655302741918",
        }
    },
    "unsupported": {"unsupported": {"kind": "poll_creation"}},
    "edit": {},
    "revoke": {},
    "unknown_type": {},
}


@pytest.mark.parametrize(("name", "expected"), DETAILS.items(), ids=DETAILS)
def test_every_field_of_a_type_is_read(name, expected) -> None:
    read = InboundDetails.of(received(name).content).to_dict()

    assert read == expected
    assert json.loads(json.dumps(read)) == read


REFERRALS = {
    "text_from_advertisement": {
        "source_url": "https://fb.me/x",
        "source_id": "120226305854810726",
        "source_type": "ad",
        "headline": "Succulents",
        "body": "Half price",
        "media_type": "image",
        "image_url": "https://scontent.example/i.jpg",
        "video_url": None,
        "thumbnail_url": None,
        "ctwa_clid": "Aff-n8ZTODiE79d22KtAwQKj9e",
        "welcome_message": "Hi! How can we help?",
    },
    "text_from_post": {
        "source_url": "https://fb.me/y",
        "source_id": "120226305854810727",
        "source_type": "post",
        "headline": "Cacti",
        "body": "New in",
        "media_type": "video",
        "image_url": None,
        "video_url": "https://scontent.example/v.mp4",
        "thumbnail_url": "https://scontent.example/t.jpg",
        "ctwa_clid": None,
        "welcome_message": None,
    },
}


@pytest.mark.parametrize(("name", "expected"), REFERRALS.items(), ids=REFERRALS)
def test_every_field_of_a_referral_is_read(name, expected) -> None:
    assert plain(received(name).referral) == expected


CONTEXTS = {
    "text": None,
    "text_reply": {"message_id": "wamid.OUT.1", "sender": "15550783881"},
    "text_forwarded": {"is_forwarded": True},
    "text_frequently_forwarded": {"is_forwarded": True, "is_frequently_forwarded": True},
    "text_about_product": {
        "message_id": "wamid.OUT.2",
        "sender": "15550783881",
        "referred_product": product(1),
    },
}
NO_CONTEXT = dict.fromkeys(("message_id", "sender", "referred_product")) | {
    "is_forwarded": False,
    "is_frequently_forwarded": False,
}


@pytest.mark.parametrize(("name", "expected"), CONTEXTS.items(), ids=CONTEXTS)
def test_every_kind_of_context_is_read(name, expected) -> None:
    assert plain(received(name).context) == (expected and NO_CONTEXT | expected)


@pytest.mark.parametrize("name", sorted({path.stem for path in PAYLOADS.iterdir()}))
def test_only_what_an_advertisement_led_here_has_a_referral(name) -> None:
    assert (received(name).referral is not None) is (name in REFERRALS)


def test_what_meta_does_not_pass_on_says_why_after_it_was_stored() -> None:
    (error,) = received("unsupported").errors

    assert (error.code, error.title) == (131051, "Message type unknown")
    assert error.details == "Message type is currently not supported."


@pytest.mark.parametrize(
    ("name", "amends", "edited"),
    [
        ("edit", "wamid.IN.text", "Hello again"),
        ("edit_of_caption", "wamid.IN.image", "Our receipt"),
        ("revoke", "wamid.IN.text", None),
        ("text", None, None),
        ("reaction", None, None),
    ],
)
def test_edits_and_removals_name_their_message(name, amends, edited) -> None:
    content = received(name).content

    assert content.amends == amends
    assert (content.edited and content.edited.summary) == edited
    assert (content.amends is None) is received(name).opens_window
