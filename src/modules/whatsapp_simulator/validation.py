"""Meta's checks of a message before it is accepted, with the codes Meta answers.

100 for what Graph itself checks (top-level fields, lengths), 131008 for what is missing, 131009
for values that are not valid, 131051 for types that do not exist. Source: Meta, Cloud API message
reference and error codes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from whatsapp_simulator.graph_errors import GraphError
from whatsapp_simulator.identity import digits_of, is_bsuid
from whatsapp_simulator.validation_interactive import check_interactive
from whatsapp_simulator.validation_rules import (
    at_most,
    exactly_one,
    flag,
    given,
    items,
    matching,
    one_of,
    required,
    section,
    text,
    unexpected,
    url,
)

MAX_CALLBACK_CHARACTERS = 512
_MAX_TEXT = 4096
_MAX_CAPTION = 1024
_MAX_CONTACTS = 257
_MAX_LATITUDE = 90.0
_MAX_LONGITUDE = 180.0
_MEDIA_TYPES = frozenset({"image", "video", "audio", "document", "sticker"})
_RECIPIENT_TYPES = frozenset({"individual", "group"})
_WITH_CAPTION = frozenset({"image", "video", "document"})


class Outgoing(NamedTuple):
    """A message that passed the checks.

    `given` is the recipient as it was written, `to` its digits, `recipient` a BSUID, `media` an id.
    """

    type: str
    given: str
    to: str | None
    recipient: str | None
    callback: str | None
    content: dict[str, Any]
    media: str | None = None
    voice: bool = False


def check_message(payload: dict[str, Any]) -> Outgoing:
    """Read the body of a send; raises `GraphError` with Meta's code for the first thing wrong."""
    if payload.get("messaging_product") != "whatsapp":
        raise GraphError(100, "The parameter messaging_product is required.")
    kind = payload["type"] if given(payload, "type") else "text"
    check = _CHECKS.get(kind) if isinstance(kind, str) else None
    if check is None:
        raise GraphError(131051, "Message type is not supported")
    to, recipient = _recipient_of(payload)
    callback = payload.get("biz_opaque_callback_data")
    if callback is not None:
        at_most(callback, "biz_opaque_callback_data", most=MAX_CALLBACK_CHARACTERS)
    if given(payload, "context"):
        text(section(payload, "context").get("message_id"), "context['message_id']")
    media = check(payload)
    content: Any = payload[kind]
    voice = kind == "audio" and content.get("voice") is True
    return Outgoing(
        type=kind,
        given=payload["to"] if to is not None else payload["recipient"],
        to=to,
        recipient=recipient,
        callback=callback,
        content=content,
        media=media,
        voice=voice,
    )


def _recipient_of(payload: dict[str, Any]) -> tuple[str | None, str | None]:
    to, recipient = payload.get("to"), payload.get("recipient")
    kind = payload["recipient_type"] if given(payload, "recipient_type") else "individual"
    one_of(kind, _RECIPIENT_TYPES, "recipient_type")
    if to is None and recipient is None:
        raise GraphError(100, "The parameter to is required.")
    if recipient is not None and not (isinstance(recipient, str) and is_bsuid(recipient)):
        raise GraphError(131009, "Parameter 'recipient' is not a valid user id")
    if to is None:
        return None, recipient
    digits = digits_of(to) if isinstance(to, str) else None
    if kind == "group" and isinstance(to, str) and to:
        return to, recipient
    if digits is None:
        raise GraphError(131009, "Parameter 'to' is not a valid phone number")
    return digits, recipient


def _check_text(payload: dict[str, Any]) -> None:
    content = section(payload, "text")
    text(content.get("body"), "text['body']", most=_MAX_TEXT)
    if given(content, "preview_url"):
        flag(content["preview_url"], "text['preview_url']")


def _check_media(payload: dict[str, Any]) -> str | None:
    kind = payload["type"]
    content = section(payload, kind)
    media_id, link = content.get("id"), content.get("link")
    exactly_one(content, ("id", "link"), within=kind)
    if link is not None:
        url(link, f"{kind}['link']")
    else:
        text(media_id, f"{kind}['id']")
    if kind not in _WITH_CAPTION:
        unexpected(content, "caption", within=kind)
    if given(content, "caption"):
        at_most(content["caption"], f"{kind}['caption']", most=_MAX_CAPTION)
    if given(content, "filename") and kind == "document":
        text(content["filename"], "document['filename']")
    if given(content, "voice"):
        flag(content["voice"], "audio['voice']")
    return media_id


def _check_location(payload: dict[str, Any]) -> None:
    content = section(payload, "location")
    for name, bound in (("latitude", _MAX_LATITUDE), ("longitude", _MAX_LONGITUDE)):
        value = required(content, name, within="location")
        try:
            degrees = float(value)
        except (TypeError, ValueError):
            degrees = bound + 1
        if not -bound <= degrees <= bound:
            raise GraphError(131009, f"Parameter location['{name}'] is not valid")


def _check_contacts(payload: dict[str, Any]) -> None:
    for contact in items(payload, "contacts", within="", most=_MAX_CONTACTS):
        name = section(contact, "name")
        text(name.get("formatted_name"), "contacts['name']['formatted_name']")
        for list_name in ("phones", "emails", "urls", "addresses"):
            if given(contact, list_name):
                items(contact, list_name, within="contacts", least=0)
        if given(contact, "birthday"):
            matching(contact["birthday"], r"\d{4}-\d{2}-\d{2}", "contacts['birthday']")


def _check_reaction(payload: dict[str, Any]) -> None:
    content = section(payload, "reaction")
    text(content.get("message_id"), "reaction['message_id']")
    if not isinstance(required(content, "emoji", within="reaction"), str):
        raise GraphError(131009, "Parameter reaction['emoji'] is not valid")
    if given(payload, "context"):
        raise GraphError(100, "A reaction cannot be a reply")


def _check_interactive(payload: dict[str, Any]) -> None:
    check_interactive(section(payload, "interactive"))


def _check_template(payload: dict[str, Any]) -> None:
    section(payload, "template")


_CHECKS: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "text": _check_text,
    **dict.fromkeys(_MEDIA_TYPES, _check_media),
    "location": _check_location,
    "contacts": _check_contacts,
    "reaction": _check_reaction,
    "interactive": _check_interactive,
    "template": _check_template,
}
