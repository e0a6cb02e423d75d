"""What customers write: one of Meta's message objects in, one element of a batch out."""

from collections.abc import Callable, Mapping
from typing import Any

from whatsapp.domain.webhook import InboundReceived, ReceivedContent, ReceivedMedia
from whatsapp.infrastructure.cloud_api.fields import (
    failures,
    identifier,
    mapping,
    moment,
    objects,
    person,
    text,
)

_Object = Mapping[str, Any]


def inbound_of(
    message: dict[str, Any], *, contacts: list[dict[str, Any]], waba_id: str | None, number: str
) -> InboundReceived | str:
    """The message as an element, or the reason why it is none."""
    wamid, sent_at = identifier(message.get("id")), moment(message.get("timestamp"))
    kind = identifier(message.get("type"))
    wa_id, user_id = _sender(message)
    if wamid is None:
        return "message without id"
    if sent_at is None:
        return "message without a believable timestamp"
    if kind is None:
        return "message without type"
    if wa_id is None and user_id is None:
        return "message without sender"
    contact = _contact(contacts, wa_id, user_id)
    known_wa_id, known_user_id = person(contact.get("wa_id"), contact.get("user_id"))
    profile = mapping(contact.get("profile"))
    return InboundReceived(
        waba_id=waba_id,
        phone_number_id=number,
        wamid=wamid,
        wa_id=wa_id or known_wa_id,
        user_id=user_id or known_user_id,
        previous_user_id=person(mapping(message.get("system")).get("previous_user_id"))[1],
        profile_name=text(profile.get("name")),
        username=text(profile.get("username")),
        group_id=identifier(message.get("group_id")),
        sent_at=sent_at,
        content=_content(kind, message),
        context_wamid=identifier(mapping(message.get("context")).get("id")),
        errors=failures(message.get("errors")),
        raw=message,
    )


def _sender(message: _Object) -> tuple[str | None, str | None]:
    """Who wrote; a system message may name the person only in its own object."""
    system = mapping(message.get("system"))
    return person(
        message.get("from"),
        message.get("from_user_id"),
        system.get("wa_id"),
        system.get("user_id"),
    )


def _contact(contacts: list[dict[str, Any]], wa_id: str | None, user_id: str | None) -> _Object:
    """The sender's entry among the contacts of the batch, or an empty one."""
    for contact in contacts:
        ids = person(contact.get("wa_id"), contact.get("user_id"))
        if (wa_id is not None and ids[0] == wa_id) or (user_id is not None and ids[1] == user_id):
            return contact
    return {}


def _content(kind: str, message: _Object) -> ReceivedContent:
    body = message.get(kind)
    parts = mapping(body)
    read_text = _TEXT.get(kind)
    return ReceivedContent(
        type=kind,
        body=body,
        text=read_text(body) if read_text else None,
        media=_media(parts) if kind in _MEDIA_TYPES else None,
        reply_id=_reply_id(kind, parts),
        target_wamid=identifier(parts.get("message_id") or parts.get("original_message_id")),
    )


_MEDIA_TYPES = frozenset({"image", "video", "audio", "document", "sticker"})
_CHOICES = ("button_reply", "list_reply")


def _media(parts: _Object) -> ReceivedMedia | None:
    media_id = identifier(parts.get("id"))
    if media_id is None:
        return None
    return ReceivedMedia(
        media_id=media_id,
        mime_type=text(parts.get("mime_type")),
        sha256=text(parts.get("sha256")),
        filename=text(parts.get("filename")),
        is_voice=parts.get("voice") is True,
    )


def _reply_id(kind: str, parts: _Object) -> str | None:
    """What the pressed button or chosen row is called by the one who sent it."""
    if kind == "button":
        return text(parts.get("payload"))
    if kind == "interactive":
        chosen = (text(mapping(parts.get(key)).get("id")) for key in _CHOICES)
        return next(filter(None, chosen), None)
    return None


def _field(key: str) -> Callable[[object], str | None]:
    return lambda body: text(mapping(body).get(key))


def _interactive_text(body: object) -> str | None:
    parts = mapping(body)
    titles = (text(mapping(parts.get(key)).get("title")) for key in _CHOICES)
    return next(filter(None, titles), None) or text(mapping(parts.get("nfm_reply")).get("body"))


def _location_text(body: object) -> str | None:
    return text(mapping(body).get("name")) or text(mapping(body).get("address"))


def _contacts_text(body: object) -> str | None:
    names = (text(mapping(card.get("name")).get("formatted_name")) for card in objects(body))
    return ", ".join(filter(None, names)) or None


_TEXT: Mapping[str, Callable[[object], str | None]] = {
    "text": _field("body"),
    "image": _field("caption"),
    "video": _field("caption"),
    "document": _field("caption"),
    "button": _field("text"),
    "order": _field("text"),
    "reaction": _field("emoji"),
    "system": _field("body"),
    "interactive": _interactive_text,
    "location": _location_text,
    "contacts": _contacts_text,
}
