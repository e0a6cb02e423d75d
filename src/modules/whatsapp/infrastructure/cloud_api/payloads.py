"""Requests in Meta's form (Meta, Cloud API reference, messages)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from whatsapp.domain.value_objects import MessageContent, PhoneNumber, Recipient
from whatsapp.infrastructure.cloud_api.callback import MAX_CALLBACK_CHARACTERS

_PRODUCT = "whatsapp"
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def message_payload(
    *,
    to: Recipient,
    content: MessageContent,
    callback_data: str,
    envelope: Mapping[str, Any] = _NOTHING,
) -> dict[str, Any]:
    """The body of a send; Meta echoes `callback_data` in every status of the message.

    `envelope` holds further fields that a client of Meta's endpoint gave; ours win over them.

    A phone number is written with its plus: without it Meta may prepend the sender's country code.
    `ValueError` for callback data that Meta would refuse.
    """
    if not 0 < len(callback_data) <= MAX_CALLBACK_CHARACTERS:
        raise ValueError(f"callback data of 1 to {MAX_CALLBACK_CHARACTERS} characters is needed")
    recipient = {"to": to.e164} if isinstance(to, PhoneNumber) else {"recipient": to.value}
    return {
        **envelope,
        "messaging_product": _PRODUCT,
        "recipient_type": content.recipient_type.value,
        **recipient,
        **content.to_dict(),
        "biz_opaque_callback_data": callback_data,
    }


def read_payload(wamid: str, *, is_typing: bool = False) -> dict[str, Any]:
    """The body that marks a customer's message as read, and shows that somebody is typing.

    The indicator goes away with the next message, or after 25 seconds.
    """
    payload: dict[str, Any] = {
        "messaging_product": _PRODUCT,
        "status": "read",
        "message_id": wamid,
    }
    if is_typing:
        payload["typing_indicator"] = {"type": "text"}
    return payload
