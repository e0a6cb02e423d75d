"""Messages that users write to a number, as Meta reports them."""

import base64
import binascii
from typing import Any

from whatsapp_simulator.clock import SECOND_NS
from whatsapp_simulator.identity import digits_of, user_id_of, wa_id_of
from whatsapp_simulator.number import Number
from whatsapp_simulator.simulator import Simulator
from whatsapp_simulator.webhooks import Update

MEDIA_TYPES: dict[str, str] = {
    "image": "image/jpeg",
    "video": "video/mp4",
    "audio": "audio/ogg; codecs=opus",
    "document": "application/pdf",
    "sticker": "image/webp",
}
_SAMPLES: dict[str, Any] = {
    "text": {"body": "Hello"},
    "image": {},
    "video": {},
    "audio": {"voice": True},
    "document": {"filename": "document.pdf"},
    "sticker": {"animated": False},
    "location": {"latitude": -33.4489, "longitude": -70.6693, "name": "Santiago"},
    "contacts": [{"name": {"formatted_name": "Ana"}, "phones": [{"phone": "+15550000001"}]}],
    "reaction": {"message_id": "wamid.unknown", "emoji": "\N{THUMBS UP SIGN}"},
    "interactive": {"type": "button_reply", "button_reply": {"id": "yes", "title": "Yes"}},
    "button": {"payload": "yes", "text": "Yes"},
    "order": {"catalog_id": "1", "product_items": []},
    "system": {"body": "User changed their number", "type": "user_changed_number"},
    "unsupported": {"type": "poll"},
}
_UNSUPPORTED = {
    "code": 131051,
    "title": "Message type unknown",
    "message": "Message type unknown",
    "error_data": {"details": "Message type is currently not supported."},
}
_PASSED_ON = ("context", "referral", "group_id", "errors")


class InvalidInbound(Exception):
    """The inbound message that was asked for cannot be made; the text says why."""


def send_inbound(sim: Simulator, number: Number, wanted: dict[str, Any]) -> str:
    """Report one message from a user to the number's webhook; returns its wamid.

    `wanted` is Meta's own message object with `from`; `profile_name`, `username`, `hide_phone`,
    `id` and `timestamp` are understood besides, and content that is missing is made up.
    """
    kind = wanted.get("type", "text")
    digits = digits_of(str(wanted.get("from", "")))
    if digits is None or not isinstance(kind, str):
        raise InvalidInbound("'from' must be a phone number and 'type' a text")
    wa_id = wa_id_of(digits)
    user_id = str(wanted.get("user_id") or user_id_of(wa_id))
    now_ns = sim.clock.monotonic_ns()
    wall_s = sim.clock.wall_ns() // SECOND_NS
    hidden = bool(wanted.get("hide_phone"))
    message_id = str(wanted.get("id") or sim.names.wamid(wa_id, inbound=True))
    message: dict[str, Any] = {
        **({} if hidden else {"from": wa_id}),
        "from_user_id": user_id,
        "id": message_id,
        "timestamp": str(wanted.get("timestamp", wall_s)),
        "type": kind,
        kind: _content(sim, number, kind=kind, given=wanted.get(kind)),
        **{key: wanted[key] for key in _PASSED_ON if key in wanted},
    }
    if kind == "unsupported":
        message.setdefault("errors", [_UNSUPPORTED])
    number.inbound_ids.put(message_id, True)
    number.heard_from(user_id, wa_id, now_ns=now_ns)
    number.inbound_planned += 1
    if sim.config.inbound_counts:
        number.accepted_window.add(now_ns)
    contact = None if kind == "system" else _contact(wanted, None if hidden else wa_id, user_id)
    sim.sender.offer(Update(number, "messages", message, contact))
    return message_id


def _contact(wanted: dict[str, Any], wa_id: str | None, user_id: str) -> dict[str, Any]:
    profile = {"name": str(wanted.get("profile_name", "Simulated user"))}
    if "username" in wanted:
        profile["username"] = str(wanted["username"])
    contact: dict[str, Any] = {"profile": profile, "user_id": user_id}
    if wa_id is not None:
        contact["wa_id"] = wa_id
    return contact


def _content(sim: Simulator, number: Number, *, kind: str, given: Any) -> Any:
    sample = _SAMPLES.get(kind, {})
    if not isinstance(given, dict):
        given = sample if given is None else given
    if kind not in MEDIA_TYPES or not isinstance(given, dict) or "id" in given:
        return given
    content = dict(given) or dict(sample)
    try:
        data = base64.b64decode(content.pop("data_base64", ""), validate=True)
    except (binascii.Error, TypeError):
        raise InvalidInbound("'data_base64' is not base64") from None
    mime_type = str(content.get("mime_type", MEDIA_TYPES[kind]))
    media = sim.media.add(
        data or f"simulated {kind}".encode(),
        mime_type=mime_type,
        phone_number_id=number.phone_number_id,
    )
    digest = base64.b64encode(bytes.fromhex(media.sha256)).decode()
    return {**content, "id": media.media_id, "mime_type": mime_type, "sha256": digest}
