"""How what customers write, change and take back is told to the tenant."""

from collections.abc import Mapping
from typing import Any, Final

from whatsapp.application.applied import AmendmentApplied, InboundApplied
from whatsapp.domain.entities import InboundMessage
from whatsapp.domain.events import EventType, NewEvent
from whatsapp.domain.value_objects import InboundContent, InboundDetails
from whatsapp.domain.value_objects.inbound_content import REVOKE, plain
from whatsapp.domain.webhook import InboundReceived

_MAX_NUMBER: Final = 32_767


def received_event(applied: InboundApplied) -> NewEvent:
    """That a customer wrote, with all that was read from it."""
    received, stored = applied.received, applied.stored
    reaction = received.content.reaction
    return NewEvent(
        type=EventType.MESSAGE_RECEIVED,
        occurred_at=received.sent_at,
        subject_id=stored.id,
        channel_id=stored.channel_id,
        # A reaction has no context: it names the message that it is on by itself.
        context_wamid=received.context_wamid if reaction is None else reaction.message_id,
        data={
            **_about(stored),
            **_content(received.content),
            "context_wamid": received.context_wamid,
            "context": plain(stored.context),
            "referral": plain(stored.referral),
            "group_id": received.group_id,
            "errors": [
                {"code": one.code, "title": one.title, "details": one.details}
                for one in stored.errors
            ],
        },
        meta={"field": "messages", "value": _value(received)},
    )


def amended_event(applied: AmendmentApplied) -> NewEvent:
    """That a customer changed a message or took it back, about the message itself."""
    message, amendment = applied.message, applied.amendment
    data: dict[str, Any] = _about(message) | {"amended_by": amendment.wamid}
    if amendment.content.type == REVOKE:
        kind, number = EventType.MESSAGE_REVOKED, 0
        data["revoked_at"] = amendment.sent_at.isoformat()
    else:
        kind, number = EventType.MESSAGE_EDITED, _number(message, amendment)
        data["edited_at"] = amendment.sent_at.isoformat()
        data |= _content(amendment.content.edited or amendment.content)
    return NewEvent(
        type=kind,
        occurred_at=amendment.sent_at,
        subject_id=message.id,
        number=number,
        channel_id=message.channel_id,
        data=data,
        meta={"field": "messages", "value": _value_of_stored(amendment)},
    )


def _number(message: InboundMessage, edit: InboundMessage) -> int:
    """Which edit it is: higher than that of every edit that was told before."""
    place = edit.sent_at, edit.wamid
    known = sum((one.sent_at, one.wamid) <= place for one in message.amendments)
    return min(known, _MAX_NUMBER)


def _about(message: InboundMessage) -> dict[str, Any]:
    return {
        "message_id": str(message.id),
        "channel_id": str(message.channel_id),
        "wamid": message.wamid,
        "from": message.sender.e164 if message.sender else None,
        "user_id": message.sender_user_id.value if message.sender_user_id else None,
        "profile_name": message.profile_name,
    }


def _content(content: InboundContent) -> dict[str, Any]:
    return {
        "type": content.type,
        "content": content.to_dict()[content.type],
        "details": InboundDetails.of(content).to_dict(),
    }


def _value(received: InboundReceived) -> Mapping[str, Any]:
    """What Meta's own webhook has in its `value` besides the number's metadata."""
    return _contacts(received.profile_name, received.wa_id, received.user_id) | {
        "messages": [received.raw]
    }


def _value_of_stored(message: InboundMessage) -> Mapping[str, Any]:
    wa_id = message.sender.e164.removeprefix("+") if message.sender else None
    user_id = message.sender_user_id.value if message.sender_user_id else None
    return _contacts(message.profile_name, wa_id, user_id) | {"messages": [dict(message.raw)]}


def _contacts(name: str | None, wa_id: str | None, user_id: str | None) -> dict[str, Any]:
    contact: dict[str, Any] = {"profile": {"name": name or ""}}
    if wa_id is not None:
        contact["wa_id"] = wa_id
    if user_id is not None:
        contact["user_id"] = user_id
    return {"contacts": [contact]}
