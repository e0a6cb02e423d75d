"""What customers write: one of Meta's message objects in, one element of a batch out."""

from collections.abc import Mapping
from typing import Any

from whatsapp.domain.value_objects import InboundContent
from whatsapp.domain.webhook import InboundReceived
from whatsapp.infrastructure.cloud_api.fields import (
    failures,
    identifier,
    mapping,
    moment,
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
        content=InboundContent(kind, message.get(kind)),
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
