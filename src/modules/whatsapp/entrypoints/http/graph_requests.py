"""Requests in Meta's form: what of them is ours to understand, and what goes along untouched."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shared.kernel.errors import InvalidInput
from whatsapp.application.accept_message import MessageDraft
from whatsapp.domain.value_objects import (
    IdempotencyKey,
    InvalidContent,
    MessageContent,
    MessageType,
    PhoneNumber,
    Recipient,
    UserId,
    parse_recipient,
)
from whatsapp.domain.value_objects.message_content.frozen_json import canonical, freeze, thaw

MAX_CALLBACK_CHARACTERS: Final = 512  # Meta, Cloud API reference, biz_opaque_callback_data
MAX_ENVELOPE_CHARACTERS: Final = 4096
USER_ID_BESIDE: Final = "recipient"
"""Where the envelope has the user id that was given beside a number."""
_UNDERSTOOD: Final = frozenset(
    {
        *("messaging_product", "recipient_type", "to", "recipient", "type", "context", "status"),
        "biz_opaque_callback_data",
        *(kind.value for kind in MessageType),
    }
)
# What Graph takes for itself with any call; sent along, it would speak for the channel's token.
_OF_GRAPH: Final = frozenset(
    {
        *("access_token", "appsecret_proof", "appsecret_time", "method", "batch", "fields"),
        *("format", "pretty", "debug", "suppress_http_code", "include_headers", "callback"),
    }
)


class InvalidGraphRequest(InvalidInput):
    """A request in Meta's form lacks something or has it in another shape."""

    code = "invalid_graph_request"
    title = "The request is not what Meta's endpoint takes"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A customer's message was read; `is_typing` shows that an answer is being written."""

    wamid: str = field(repr=False)
    is_typing: bool


def graph_message(payload: Mapping[str, Any], key: IdempotencyKey | None) -> MessageDraft:
    """The message that a request asks for; raises the domain's errors with the field."""
    content = MessageContent.from_payload(payload)
    content.ensure_to_a_person()  # before `to` is read, which names a group then
    if payload.get("to") is None and payload.get("recipient") is None:
        raise InvalidGraphRequest("is required", field="to")
    to, user_id = payload.get("to"), payload.get("recipient")
    recipient = parse_recipient(to=to, recipient=user_id, bare_digits=True)
    return MessageDraft(
        recipient=recipient,
        content=content,
        idempotency_key=key,
        callback_data=_callback_data(payload.get("biz_opaque_callback_data")),
        envelope={**_envelope(payload), **_beside(recipient, user_id)},
    )


def graph_receipt(payload: Mapping[str, Any]) -> Receipt:
    """The read receipt, perhaps with a typing indicator, that a request asks for."""
    if payload["status"] != "read":
        raise InvalidGraphRequest("must be read", field="status")
    wamid = payload.get("message_id")
    if not isinstance(wamid, str) or not wamid:
        raise InvalidGraphRequest("is required", field="message_id")
    return Receipt(wamid, payload.get("typing_indicator") is not None)


def _callback_data(given: object) -> str | None:
    if given is None:
        return None
    at = "biz_opaque_callback_data"
    if not isinstance(given, str) or len(given) > MAX_CALLBACK_CHARACTERS:
        raise InvalidGraphRequest(
            f"a text of at most {MAX_CALLBACK_CHARACTERS} is needed", field=at
        )
    freeze(given, at)
    return given


def _beside(recipient: Recipient, user_id: object) -> dict[str, str]:
    """The user id that was given beside a number: the number wins, and Meta hears of both."""
    if user_id is None or not isinstance(recipient, PhoneNumber):
        return {}
    beside = parse_recipient(recipient=user_id)
    return {USER_ID_BESIDE: beside.value} if isinstance(beside, UserId) else {}


def _envelope(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Every field that Tellwire does not know: Meta may."""
    rest = {
        key: value
        for key, value in payload.items()
        if key not in _UNDERSTOOD and key not in _OF_GRAPH and value is not None
    }
    if not rest:
        return rest
    frozen = freeze(rest, "body")
    if len(canonical(frozen)) > MAX_ENVELOPE_CHARACTERS:
        raise InvalidContent(
            f"fields beside the content take at most {MAX_ENVELOPE_CHARACTERS} characters"
        )
    thawed: dict[str, Any] = thaw(frozen)
    return thawed
