"""How an event is told: in Tellwire's form, and in the form of Meta's own webhooks.

In Meta's form messages that Tellwire sent bear the id that its drop-in endpoint gave for them, and
the caller's own callback data, so that a client of Meta's API recognises them.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from whatsapp.domain.events.event import Event, EventType
from whatsapp.domain.media_type import MediaKind
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.domain.value_objects.given_id import given_wamid

_OBJECT: Final = "whatsapp_business_account"
_UNKNOWN_ACCOUNT: Final = "0"
_GENERIC_CODE: Final = 131000
"""Meta's code for something that went wrong, where no other is known."""
_FILES: Final = frozenset(kind.value for kind in MediaKind)
_OUTBOUND: Final = {
    EventType.MESSAGE_SENT: MessageStatus.SENT,
    EventType.MESSAGE_DELIVERED: MessageStatus.DELIVERED,
    EventType.MESSAGE_READ: MessageStatus.READ,
    EventType.MESSAGE_PLAYED: MessageStatus.PLAYED,
    EventType.MESSAGE_FAILED: MessageStatus.FAILED,
    EventType.MESSAGE_EXPIRED: MessageStatus.FAILED,
    EventType.MESSAGE_CANCELLED: MessageStatus.FAILED,
}
"""What became of a message that went out, and how Meta would call it."""


def tellwire_body(event: Event) -> dict[str, Any]:
    """The event as Tellwire tells it; `timestamp` is when it happened."""
    data = dict(event.data)
    if event.type in _OUTBOUND and event.subject_id is not None:
        data["given_wamid"] = given_wamid(event.subject_id)
    return {
        "id": str(event.id),
        "type": event.type.value,
        "timestamp": event.occurred_at.isoformat(),
        "data": data,
    }


def meta_body(event: Event) -> dict[str, Any]:
    """The event as a webhook of Meta's, one change in one entry."""
    change = dict(event.meta or {"field": "messages", "value": {}})
    if event.type is EventType.TEMPLATE_STATUS:
        # About an account and no number, in whatever shape Meta wrote it.
        return _change_of(event, change["field"], change.get("value"))
    value: dict[str, Any] = dict(change.get("value") or {})
    if event.type in _OUTBOUND:
        status = _status(event, _first(value.get("statuses")))
        value = {**value, "contacts": [_contact(status)], "statuses": [status]}
    elif event.type is EventType.MESSAGE_RECEIVED:
        told = [_answering(event, one) for one in value.get("messages", ())]
        value["messages"] = [_without_addresses(one) for one in told]
    elif event.type is EventType.MESSAGE_EDITED:
        value["messages"] = [_edit_without_addresses(one) for one in value.get("messages", ())]
    elif event.type is EventType.ENDPOINT_TEST:
        change["field"] = "tellwire_test"
    if event.phone_number_id is not None:
        value = {"messaging_product": "whatsapp", "metadata": _metadata(event), **value}
    return _change_of(event, change["field"], value)


def _change_of(event: Event, field: str, value: Any) -> dict[str, Any]:
    account = event.account_id or event.data.get("account_id") or _UNKNOWN_ACCOUNT
    entry = {"id": account, "changes": [{"field": field, "value": value}]}
    return {"object": _OBJECT, "entry": [entry]}


def _metadata(event: Event) -> dict[str, str]:
    shown = (event.display_phone_number or "").lstrip("+")
    return {"display_phone_number": shown, "phone_number_id": event.phone_number_id or ""}


def _first(statuses: Any) -> Mapping[str, Any]:
    return statuses[0] if statuses else {}


def _status(event: Event, reported: Mapping[str, Any]) -> dict[str, Any]:
    """Meta's status object with our ids in place of Meta's and of our own echo."""
    status = {
        "timestamp": str(int(event.occurred_at.timestamp())),
        **_recipient(str(event.data.get("recipient") or "")),
        **reported,
        "status": _OUTBOUND[event.type].value,
    }
    if event.subject_id is not None:
        status["id"] = given_wamid(event.subject_id)
    status.pop("biz_opaque_callback_data", None)
    if (own := event.data.get("callback_data")) is not None:
        status["biz_opaque_callback_data"] = own
    if status["status"] == MessageStatus.FAILED and not status.get("errors"):
        status["errors"] = [_error(event)]
    return status


def _recipient(recipient: str) -> dict[str, str]:
    """As Meta names them: what would be a number is left out where none is known."""
    if recipient.startswith("+"):
        return {"recipient_id": recipient[1:]}
    return {"recipient_user_id": recipient}


def _contact(status: Mapping[str, Any]) -> dict[str, Any]:
    """The recipient as Meta names them since 2026; clients may count on it."""
    user_id, wa_id = status.get("recipient_user_id"), status.get("recipient_id")
    contact: dict[str, Any] = {"profile": {"name": ""}}
    if wa_id is not None and wa_id != user_id:
        contact["wa_id"] = wa_id
    if user_id is not None:
        contact["user_id"] = user_id
    return contact


def _error(event: Event) -> dict[str, Any]:
    failure: Mapping[str, Any] = event.data.get("failure") or {}
    cancelled = event.type is EventType.MESSAGE_CANCELLED
    otherwise = "The message was cancelled" if cancelled else "The message was not sent"
    title = failure.get("title") or otherwise
    return {
        "code": failure.get("code") or _GENERIC_CODE,
        "title": title,
        "message": title,
        "error_data": {"details": failure.get("details") or ""},
    }


def _without_addresses(message: dict[str, Any]) -> dict[str, Any]:
    """Without the address at Meta of a file, which takes Meta's token; its id is known here."""
    kind = str(message.get("type"))
    content = message.get(kind) if kind in _FILES else None
    if not isinstance(content, Mapping) or "url" not in content:
        return message
    return {**message, kind: {key: one for key, one in content.items() if key != "url"}}


def _edit_without_addresses(message: dict[str, Any]) -> dict[str, Any]:
    """The same of the message that an edit makes of another."""
    edit = message.get("edit")
    made = edit.get("message") if isinstance(edit, Mapping) else None
    if not isinstance(edit, Mapping) or not isinstance(made, Mapping):
        return message
    return {**message, "edit": {**edit, "message": _without_addresses(dict(made))}}


def _answering(event: Event, message: Mapping[str, Any]) -> dict[str, Any]:
    """Meta's message object; what it answers or reacts to of ours by the id given for that."""
    told, answered = dict(message), event.data.get("answers")
    if answered is not None:
        # A reaction names what it is on in itself; all others do in their context.
        part, key = ("reaction", "message_id") if _is_reaction(told) else ("context", "id")
        known = told.get(part)
        named = {key: given_wamid(UUID(answered))}
        told[part] = {**(known if isinstance(known, Mapping) else {}), **named}
    return told


def _is_reaction(message: Mapping[str, Any]) -> bool:
    return message.get("type") == "reaction" and "reaction" in message
