"""Limits of the plain message types (Meta, Cloud API reference)."""

import re
from collections.abc import Mapping

from whatsapp.domain.value_objects.message_content.rules import (
    Degrees,
    Fields,
    Flag,
    Items,
    Link,
    Matching,
    Rule,
    Text,
    Variant,
    Whole,
)

MAX_BODY_CHARACTERS = 4096
MAX_CAPTION_CHARACTERS = 1024
MAX_CONTACTS = 257  # Meta's pages; its OpenAPI file says 5, and Meta has the last word
MAX_MESSAGE_ID_CHARACTERS = 512  # ids are opaque and vary; no one seen comes near
MAX_EMOJI_CHARACTERS = 64  # one emoji may be a dozen code points; Meta names no number

MESSAGE_ID = Text(MAX_MESSAGE_ID_CHARACTERS)
_ANY_TEXT = Text(least=0)
_MEDIA: Mapping[str, Rule] = {"id": Text(512), "link": Link()}
_CAPTION: Mapping[str, Rule] = {"caption": Text(MAX_CAPTION_CHARACTERS, least=0)}


def media(optional: Mapping[str, Rule], *, never: tuple[str, ...] = ()) -> Fields:
    """A media object: an uploaded file's id or a link that Meta fetches, never both."""
    return Fields(optional={**_MEDIA, **optional}, exactly_one=("id", "link"), never=never)


def texts(*keys: str) -> Fields:
    """An object of optional texts."""
    return Fields(optional=dict.fromkeys(keys, _ANY_TEXT))


TEXT = Fields(
    required={"body": Text(MAX_BODY_CHARACTERS)},
    optional={"preview_url": Flag()},
)
IMAGE = media(_CAPTION)
VIDEO = media(_CAPTION)
DOCUMENT = media({**_CAPTION, "filename": Text()})
# A caption here would be lost without a word.
AUDIO = media({"voice": Flag()}, never=("caption",))
STICKER = media({}, never=("caption",))

LOCATION = Fields(
    required={"latitude": Degrees(90), "longitude": Degrees(180)},
    optional={"name": _ANY_TEXT, "address": _ANY_TEXT},
)

_NAME_PARTS = ("first_name", "last_name", "middle_name", "suffix", "prefix")
_ADDRESS_PARTS = ("street", "city", "state", "zip", "country", "country_code", "type")
_BIRTHDAY = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])")
_CONTACT = Fields(
    required={
        "name": Fields(
            required={"formatted_name": Text()},
            optional=dict.fromkeys(_NAME_PARTS, _ANY_TEXT),
        )
    },
    optional={
        "addresses": Items(texts(*_ADDRESS_PARTS), least=0),
        "birthday": Matching(_BIRTHDAY, "a date as YYYY-MM-DD"),
        "emails": Items(texts("email", "type"), least=0),
        "org": texts("company", "department", "title"),
        "phones": Items(texts("phone", "type", "wa_id"), least=0),
        "urls": Items(texts("url", "type"), least=0),
    },
)
CONTACTS = Items(_CONTACT, most=MAX_CONTACTS)

REACTION = Fields(
    required={
        "message_id": MESSAGE_ID,
        "emoji": Text(MAX_EMOJI_CHARACTERS, least=0),  # an empty one takes the reaction back
    }
)
PIN = Variant(
    {
        "pin": Fields(
            required={"message_id": MESSAGE_ID}, optional={"expiration_days": Whole(1, 30)}
        ),
        "unpin": Fields(required={"message_id": MESSAGE_ID}),
    }
)
