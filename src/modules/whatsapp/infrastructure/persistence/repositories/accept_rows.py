"""What accepting gives to its statement, and what it makes of messages that were not taken."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from shared.infrastructure.database.arguments import all_given
from shared.kernel.errors import InvalidInput, TellwireError
from whatsapp.domain.entities import (
    ChannelStatus,
    IdempotencyKeyReused,
    OutboundMessage,
    WindowPolicy,
)
from whatsapp.domain.service_window import ACCEPTING, SendingTerms, needs_inbound_after
from whatsapp.domain.value_objects import MessageType
from whatsapp.infrastructure.persistence.repositories.message_rows import (
    arrays_of,
    other_address,
    outbound_of,
    recipient_text,
    stored_as_is,
)

MAX_BATCH: Final = 1000


class BatchTooLarge(InvalidInput):
    """More messages at once than one statement takes; nothing was stored."""

    code = "batch_too_large"
    title = f"At most {MAX_BATCH} messages at once"


def batch_of(messages: Sequence[OutboundMessage]) -> Sequence[OutboundMessage]:
    """The messages; BatchTooLarge where they are too many, InvalidValue where one is none."""
    if len(all_given(OutboundMessage, messages, "messages")) > MAX_BATCH:
        raise BatchTooLarge
    return messages


def accept_parameters(messages: Sequence[OutboundMessage], at: datetime) -> dict[str, Any]:
    """The messages and what their channels must allow at `at`, as one array for each column."""
    return (
        arrays_of(messages)
        | {"accepting": [status.value for status in ACCEPTING]}
        | _asked(messages, at)
    )


def judge_parameters(messages: Sequence[OutboundMessage], at: datetime) -> dict[str, Any]:
    """Stored messages, and what their channels must allow at `at`."""
    all_given(OutboundMessage, messages, "messages")
    return {
        "id": [message.id for message in messages],
        "channel_id": [message.channel_id for message in messages],
        "recipient": [recipient_text(message.recipient) for message in messages],
    } | _asked(messages, at)


def _asked(messages: Sequence[OutboundMessage], at: datetime) -> dict[str, Any]:
    templates = [_template_of(message) for message in messages]
    return {
        "other_address": [other_address(message.recipient) for message in messages],
        "template_name": [name for name, _ in templates],
        "template_language": [language for _, language in templates],
        "needed_after": [needs_inbound_after(message, at) for message in messages],
    }


def _template_of(message: OutboundMessage) -> tuple[str | None, str | None]:
    """Name and language of a template; nothing for anything else."""
    if message.content.type is not MessageType.TEMPLATE:
        return None, None
    body = message.content.body
    return body["name"], body["language"]["code"]


def accepted(
    given: OutboundMessage, first: OutboundMessage, row: Any
) -> OutboundMessage | TellwireError:
    """As `saved`, or why nothing was stored; `row` also judges what was not taken."""
    if row is not None and row.id is None:
        return refused(row)
    try:
        return saved(given, first, row)
    except IdempotencyKeyReused as error:
        return error


def saved(given: OutboundMessage, first: OutboundMessage, older: Any) -> OutboundMessage:
    """What is stored under the key of `given`: the row `older`, or else `first`, just now."""
    if older is None and first is given:
        return stored_as_is(given, replayed=False)
    # A caller without a key did not choose it: whoever says the same again means the same.
    differs = given.digest != (first if older is None else older).digest
    if differs and not given.key_is_derived:
        raise IdempotencyKeyReused
    if older is None:
        return stored_as_is(first, replayed=True)
    stored = outbound_of(older)
    stored.replayed = True
    return stored


def refused(row: Any) -> TellwireError:
    """Why a message was not taken, in the domain's words; its own terms were in the statement."""
    return refusal_of(row) or TellwireError("The statement and the domain disagree")


def refusal_of(row: Any) -> TellwireError | None:
    """Why a channel does not take the message that `row` judges; None if it does."""
    terms = SendingTerms(
        channel_status=row.channel_status and ChannelStatus(row.channel_status),
        window_policy=row.window_policy and WindowPolicy(row.window_policy),
        last_inbound_at=row.last_inbound_at,
        marketing_stopped=bool(row.marketing_stopped),
    )
    return terms.refusal(row.needed_after)
