"""What customers write: one of Meta's message objects in, one element of a batch out."""

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
from whatsapp.infrastructure.cloud_api.people import Contacts, names_in, sender_of


def inbound_of(
    message: dict[str, Any],
    *,
    contacts: Contacts,
    is_only: bool,
    waba_id: str | None,
    number: str,
) -> InboundReceived | str:
    """The message as an element, or the reason why it is none.

    The only message of a change that names nobody is from the only contact beside it.
    """
    wamid, sent_at = identifier(message.get("id")), moment(message.get("timestamp"))
    kind = identifier(message.get("type"))
    wa_id, user_id = sender_of(message)
    if wa_id is None and user_id is None and is_only and contacts.only is not None:
        wa_id, user_id = names_in(contacts.only)
    if wamid is None:
        return "message without id"
    if sent_at is None:
        return "message without a believable timestamp"
    if kind is None:
        return "message without type"
    if wa_id is None and user_id is None:
        return "message without sender"
    contact = contacts.of((wa_id, user_id))
    known_wa_id, known_user_id = names_in(contact)
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
