"""What the columns of messages hold: from domain to row and back, without a session."""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from datetime import datetime
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from shared.infrastructure.database.arguments import all_given, given, zoned
from shared.kernel.ids import new_id, new_ids
from whatsapp.domain.entities import InboundMessage, OutboundMessage
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import (
    AttemptResult,
    AttemptsRecorded,
    LateFailure,
    UnreadableMessage,
)
from whatsapp.domain.send_queue import RETRY_LANES, UNKNOWN_LANES, QueueState
from whatsapp.domain.value_objects import (
    IdempotencyKey,
    InboundContent,
    MessageContent,
    MessageStatus,
    MessageType,
    PhoneNumber,
    Priority,
    Recipient,
    UserId,
    sources_of,
)
from whatsapp.domain.value_objects.message_content.frozen_json import thaw
from whatsapp.infrastructure.persistence.models import InboundMessageModel, OutboundMessageModel
from whatsapp.infrastructure.persistence.repositories.storable import (
    json_text,
    storable_code,
    storable_json,
    storable_text,
)

logger = logging.getLogger(__name__)

WAITING: Final = {
    MessageStatus.QUEUED: (QueueState.READY, 0),
    MessageStatus.RETRYING: (QueueState.RETRYING, RETRY_LANES),
    MessageStatus.UNKNOWN: (QueueState.UNKNOWN, UNKNOWN_LANES),
}
"""The statuses whose messages have a queue entry: its state, and what is added to its lane."""


def recipient_of(text: str) -> Recipient:
    """The recipient that is stored as `text`."""
    return PhoneNumber(text) if text.startswith("+") else UserId(text)


def recipient_text(recipient: Recipient) -> str:
    """How a recipient is stored: a number begins with `+`, a user id does not."""
    return recipient.e164 if isinstance(recipient, PhoneNumber) else recipient.value


def addresses_of(*recipients: Recipient | None) -> list[str]:
    """The texts under which somebody is known, each once."""
    return list(dict.fromkeys(recipient_text(one) for one in recipients if one is not None))


def other_address(recipient: Recipient) -> str | None:
    """How else Meta may write a recipient, where their country has two spellings."""
    other = recipient.other_spelling if isinstance(recipient, PhoneNumber) else None
    return None if other is None else other.e164


def all_addresses_of(*recipients: Recipient | None) -> list[str]:
    """The same, with the other spelling of numbers that have two: both are one person's."""
    others = [one.other_spelling for one in recipients if isinstance(one, PhoneNumber)]
    return addresses_of(*recipients, *others)


def _of_failure(name: str) -> Callable[[OutboundMessage], Any]:
    return lambda message: message.failure and getattr(message.failure, name)


_COLUMNS: Final[Mapping[str, Callable[[OutboundMessage], Any]]] = {
    "tenant_id": attrgetter("tenant_id"),
    "id": attrgetter("id"),
    "channel_id": attrgetter("channel_id"),
    "recipient": lambda message: recipient_text(message.recipient),
    "type": attrgetter("content.type"),
    "body": lambda message: thaw(message.content.body),
    "context_wamid": attrgetter("content.context_message_id"),
    "idempotency_key": attrgetter("idempotency_key.value"),
    "digest": attrgetter("digest"),
    "status": attrgetter("status"),
    "lane": attrgetter("priority.lane"),
    "send_at": attrgetter("send_at"),
    "expires_at": attrgetter("expires_at"),
    "details": lambda message: dict(message.metadata),
    "quoted_id": attrgetter("quoted_id"),
    "callback_data": attrgetter("callback_data"),
    "envelope": lambda message: dict(message.envelope),
    "wamid": attrgetter("wamid"),
    "attempts": attrgetter("attempts"),
    "next_attempt_at": attrgetter("next_attempt_at"),
    "failure_code": _of_failure("code"),
    "failure_title": _of_failure("title"),
    "failure_details": _of_failure("details"),
    "created_at": attrgetter("created_at"),
    "status_at": attrgetter("status_at"),
}
"""What each column of an outbound message holds; statuses and types are texts themselves."""
_IN_ARRAYS: Final[Mapping[str, Callable[[OutboundMessage], Any]]] = {
    **_COLUMNS,
    "body": lambda message: message.content.body_json(),
    "details": lambda message: _object_text(message.metadata),
    "envelope": lambda message: _object_text(message.envelope),
    "due_at": attrgetter("due_at"),
}


def _object_text(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value)) if value else "{}"


def columns_of(message: OutboundMessage) -> dict[str, Any]:
    """What the columns of an outbound message hold."""
    given(OutboundMessage, message, "message")
    return zoned({name: value_of(message) for name, value_of in _COLUMNS.items()})


def arrays_of(messages: Sequence[OutboundMessage]) -> dict[str, Sequence[Any]]:
    """The columns of many messages, each as one array; JSON as text."""
    arrays = {name: list(map(value_of, messages)) for name, value_of in _IN_ARRAYS.items()}
    return without_blanks(arrays)


def without_blanks(arrays: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """A column without any value as an empty array, which `unnest` fills up.

    The driver looks at every single element of an array for what it might be.
    """
    return {
        name: values if any(value is not None for value in values) else []
        for name, values in arrays.items()
    }


def failure_of(row: OutboundMessageModel) -> FailureReason | None:
    """Why the message failed, if it did."""
    if row.failure_title is None:
        return None
    return FailureReason(row.failure_code, row.failure_title, row.failure_details or "")


def json_of(value: object) -> str | None:
    """What Meta sent along, as JSON text that can be stored."""
    return json_text(value) if value else None


def failures_of(failures: Sequence[FailureReason | None]) -> dict[str, list[Any]]:
    """Failures as three arrays, with nothing where there was none."""
    if not any(failures):
        return {"codes": [], "titles": [], "details": []}
    return {
        "codes": [failure and storable_code(failure.code) for failure in failures],
        "titles": [failure and storable_text(failure.title) for failure in failures],
        "details": [failure and storable_text(failure.details) for failure in failures],
    }


def inbound_columns_of(message: InboundMessage) -> dict[str, Any]:
    """What the columns of an inbound message hold."""
    return {
        "tenant_id": message.tenant_id,
        "id": message.id,
        "channel_id": message.channel_id,
        "wamid": storable_text(message.wamid),
        "sender": message.sender and message.sender.e164,
        "sender_user_id": message.sender_user_id and message.sender_user_id.value,
        "author": message.author and recipient_text(message.author),
        "profile_name": storable_text(message.profile_name),
        "type": storable_text(message.content.type),
        "body": storable_json(message.content.to_dict()[message.content.type]),
        "context_wamid": storable_text(message.context_wamid),
        "raw": storable_json(dict(message.raw)),
        "amends": message.amends,
        "sent_at": message.sent_at,
    }


def attempt_arrays(results: Sequence[AttemptResult]) -> dict[str, Any]:
    """What recording results needs: each column's values as one array."""
    all_given(AttemptResult, results, "results")
    arrays: dict[str, list[Any]] = {
        "ids": [result.message_id for result in results],
        "tokens": [result.lease_token for result in results],
        "numbers": [result.number for result in results],
        "statuses": [result.status.value for result in results],
        "outcomes": [result.outcome for result in results],
        "wamids": [result.wamid for result in results],
        "started": [result.started_at for result in results],
        "finished": [result.finished_at for result in results],
        "due": [result.due_at for result in results],
        "attempt_ids": [result.id for result in results],
    }
    return without_blanks(arrays | failures_of([result.failure for result in results]))


def attempts_recorded_of(rows: Sequence[Any]) -> AttemptsRecorded:
    """What recording results has come to."""
    return AttemptsRecorded(
        held=frozenset(message_id for message_id, *_ in rows),
        failed=[
            late_failure(message_id, attempt, failed_at, errors)
            for message_id, attempt, failed_at, errors, _ in rows
            if attempt is not None
        ],
        repeated=frozenset(message_id for message_id, *_, repeated in rows if repeated),
    )


def late_failure(
    message_id: UUID, attempt: int | None, failed_at: datetime, errors: str | None
) -> LateFailure:
    """A failure as it was kept with its report."""
    reasons = [
        FailureReason(error.get("code"), error.get("title") or "", error.get("details") or "")
        for error in json.loads(errors or "[]")
    ]
    return LateFailure(message_id, attempt, failed_at, reasons)


def inbound_parameters(message: InboundMessage) -> dict[str, Any]:
    """What saving an inbound message needs: its columns, and how its sender is known."""
    given(InboundMessage, message, "message")
    known_by = () if message.is_in_group else (message.sender, message.sender_user_id)
    addresses = all_addresses_of(*known_by)
    return inbound_columns_of(message) | {
        "tenant": message.tenant_id,
        "channel": message.channel_id,
        "addresses": addresses,
        "address_ids": new_ids(len(addresses)),
        "new_id": new_id(),
        "opens_window": message.opens_window,
        "is_news": message.amends is None,
        "username": storable_text(message.username),
    }


def outbound_of(row: OutboundMessageModel, known_number: str | None = None) -> OutboundMessage:
    """The outbound message that `row` stores; `known_number` is of whoever has its user id."""
    status = MessageStatus(row.status)
    return OutboundMessage(
        tenant_id=row.tenant_id,
        id=row.id,
        channel_id=row.channel_id,
        recipient=recipient_of(row.recipient),
        content=MessageContent(MessageType(row.type), row.body, row.context_wamid),
        idempotency_key=IdempotencyKey(row.idempotency_key),
        status=status,
        stored_status=status,
        priority=Priority.from_lane(row.lane),
        send_at=row.send_at,
        expires_at=row.expires_at,
        metadata=row.details,
        callback_data=row.callback_data,
        envelope=row.envelope,
        wamid=row.wamid,
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        failure=failure_of(row),
        created_at=row.created_at,
        status_at=row.status_at,
        phone=None if known_number is None else PhoneNumber(known_number),
    )


def readable(
    row: OutboundMessageModel, known_number: str | None
) -> OutboundMessage | UnreadableMessage:
    """The message that `row` stores, or why none can be made of it, without what it says."""
    try:
        return outbound_of(row, known_number)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is this row's alone
        logger.error("a stored message cannot be read: %s", type(error).__name__)  # noqa: TRY400  # a trace may show it
        return UnreadableMessage(row.id, type(error).__name__)


def inbound_of(row: InboundMessageModel) -> InboundMessage:
    """The inbound message that `row` stores."""
    return InboundMessage(
        tenant_id=row.tenant_id,
        id=row.id,
        channel_id=row.channel_id,
        wamid=row.wamid,
        content=InboundContent(row.type, row.body),
        sent_at=row.sent_at,
        sender=PhoneNumber(row.sender) if row.sender else None,
        sender_user_id=UserId(row.sender_user_id) if row.sender_user_id else None,
        profile_name=row.profile_name,
        context_wamid=row.context_wamid,
        raw=row.raw,
        received_at=row.received_at,
    )


def with_amendments(messages: Sequence[InboundMessage]) -> Sequence[InboundMessage]:
    """The messages of a tenant, each with those among them that amend it; each once."""
    found = {message.id: message for message in messages}.values()
    amending: defaultdict[tuple[UUID, str | None], list[InboundMessage]] = defaultdict(list)
    for message in found:
        amending[message.channel_id, message.amends].append(message)
    for message in found:
        message.amendments = tuple(amending.get((message.channel_id, message.wamid), ()))
    return list(found)


def sources_for(message: OutboundMessage) -> Iterable[MessageStatus]:
    """From which stored statuses this update may go on.

    Back to the queue is allowed only from the very status that the caller saw: whoever holds an
    older copy of the message must not send it again.
    """
    if message.status is MessageStatus.QUEUED:
        return {message.stored_status or MessageStatus.QUEUED}
    return sources_of(message.status) | {message.status}


def stored_as_is(message: OutboundMessage, *, replayed: bool) -> OutboundMessage:
    """A message that was stored as it is: the database fills in nothing."""
    stored = copy(message)
    stored.metadata = dict(message.metadata)
    stored.stored_status, stored.replayed = message.status, replayed
    return stored
