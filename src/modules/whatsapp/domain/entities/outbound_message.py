"""An outbound message: what is sent to whom, and how far it has come."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, Self
from uuid import UUID

from shared.kernel.clock import utc_now
from shared.kernel.errors import Conflict, InvalidInput, NotFoundException, ensure_type
from shared.kernel.ids import new_id, text_of
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.value_objects import (
    FORWARD,
    RETRY,
    IdempotencyKey,
    InvalidContent,
    InvalidIdempotencyKey,
    InvalidRecipient,
    MessageContent,
    MessageStatus,
    PhoneNumber,
    Priority,
    Recipient,
    UserId,
    message_id_behind,
)

MAX_METADATA_ENTRIES: Final = 20
MAX_METADATA_CHARACTERS: Final = 2000
_SPELT = json.JSONEncoder(sort_keys=True)  # Stored digests rest on this spelling.


class MessageNotFound(NotFoundException):
    """The message does not exist in this tenant."""

    code = "message_not_found"
    title = "No message with this id exists in this tenant"


class IdempotencyKeyReused(Conflict):
    """The key was used for another message before; nothing was stored."""

    code = "idempotency_key_reused"
    status = 422
    title = "This idempotency key was used for a different message; use a new key"


class InvalidTransition(Conflict):
    """The message has gone too far, or not far enough, for what was asked."""

    code = "invalid_transition"
    title = "The message's status does not allow this"


class InvalidSchedule(InvalidInput):
    """`send_at` or `expires_at` cannot be."""

    code = "invalid_schedule"
    title = "The schedule is not valid"


class InvalidMetadata(InvalidInput):
    """The metadata is larger than what is kept."""

    code = "invalid_metadata"
    title = "The metadata is not valid"


@dataclass(slots=True, kw_only=True)
class OutboundMessage:
    """A message of a tenant's channel to one recipient; its status only ever moves forward.

    Without an `idempotency_key` one is derived from channel, recipient, content and the second of
    `send_at` or else `created_at`; whatever else differs, the same derived key is the same message.
    `callback_data` is the caller's own, given back where statuses are passed on; `envelope` holds
    further fields of a request to Meta that go along as they are. `replayed` is set when the key
    was there before; `stored_status` is the status it was loaded with. `attempts` counts requests
    to Meta. While it is being sent, `uploaded` has Meta's ids of the tenant's files in it, and
    `phone` the number by which the person behind a user id is known. All times are aware.
    """

    tenant_id: UUID
    channel_id: UUID
    recipient: Recipient
    content: MessageContent
    idempotency_key: IdempotencyKey = None  # type: ignore[assignment]  # derived when not given
    id: UUID = field(default_factory=new_id)
    status: MessageStatus = MessageStatus.QUEUED
    priority: Priority = Priority.NORMAL
    send_at: datetime | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    callback_data: str | None = field(default=None, repr=False)
    envelope: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    wamid: str | None = field(default=None, repr=False)
    attempts: int = 0
    next_attempt_at: datetime | None = None
    failure: FailureReason | None = None
    created_at: datetime = field(default_factory=utc_now)
    status_at: datetime | None = None
    replayed: bool = field(default=False, compare=False)
    key_is_derived: bool = field(default=False, init=False, compare=False)
    stored_status: MessageStatus | None = field(default=None, repr=False, compare=False)
    uploaded: Mapping[UUID, str] = field(default_factory=dict[UUID, str], repr=False, compare=False)
    phone: PhoneNumber | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check_kinds()
        if self.idempotency_key is None:  # pyright: ignore[reportUnnecessaryComparison]  # see field
            self.key_is_derived = True
            self.idempotency_key = IdempotencyKey.derive(
                account_id=self.channel_id,
                to_phone=self.recipient,
                content=self.content.canonical_json(),
                timestamp=self.send_at or self.created_at,
            )
        self.status_at = self.status_at or self.created_at
        self.content.ensure_to_a_person()
        self._check_schedule()
        size = sum(len(key) + len(value) for key, value in self.metadata.items())
        if len(self.metadata) > MAX_METADATA_ENTRIES or size > MAX_METADATA_CHARACTERS:
            raise InvalidMetadata(
                f"At most {MAX_METADATA_ENTRIES} entries of {MAX_METADATA_CHARACTERS} characters",
                field="metadata",
            )

    def __copy__(self) -> Self:
        """A twin, made without looking again at what was looked at."""
        twin = object.__new__(type(self))
        for name, value in zip(_NAMES, _VALUES(self), strict=True):
            setattr(twin, name, value)
        return twin

    def _check_kinds(self) -> None:
        """Refuse what the value objects have not looked at, as a text in place of one."""
        ensure_type(self.recipient, (PhoneNumber, UserId), InvalidRecipient, field="recipient")
        ensure_type(self.content, MessageContent, InvalidContent, field="content")
        ensure_type(self.priority, Priority, field="priority")
        ensure_type(self.envelope, Mapping, field="envelope")
        ensure_type(self.metadata, Mapping, InvalidMetadata, field="metadata")
        for text in (*self.metadata, *self.metadata.values()):
            ensure_type(text, str, InvalidMetadata, field="metadata")
        for name in ("send_at", "expires_at", "created_at"):
            at = getattr(self, name)
            if at is not None:
                ensure_type(at, datetime, InvalidSchedule, field=name)
        key = self.idempotency_key
        if key is not None:  # pyright: ignore[reportUnnecessaryComparison]  # see field
            ensure_type(key, IdempotencyKey, InvalidIdempotencyKey, field="idempotency_key")

    def _check_schedule(self) -> None:
        for name in ("send_at", "expires_at", "created_at"):
            at: datetime | None = getattr(self, name)
            if at is not None and at.tzinfo is None:
                raise InvalidSchedule(
                    "A time needs its zone, as in 2026-11-23T09:00:00Z", field=name
                )
        if self.expires_at and self.expires_at <= (self.send_at or self.created_at):
            raise InvalidSchedule("It expires before it may be sent", field="expires_at")

    @property
    def due_at(self) -> datetime:
        """When it may go out at the earliest."""
        return self.next_attempt_at or self.send_at or self.created_at

    @property
    def person(self) -> Recipient:
        """Who it goes to, the same however they are written; for counting, never for sending."""
        number = self.recipient if isinstance(self.recipient, PhoneNumber) else self.phone
        return self.recipient if number is None else number.canonical

    @property
    def quoted_id(self) -> UUID | None:
        """Our message that this one quotes or reacts to, if it names it by an id that we gave."""
        refers_to = self.content.refers_to
        return None if refers_to is None else message_id_behind(refers_to)

    @property
    def digest(self) -> bytes:
        """SHA-256 over everything the caller chose: tells a replay from another use of its key."""
        to = self.recipient
        chosen: dict[str, Any] = {
            "channel": text_of(self.channel_id),
            "to": to.e164 if isinstance(to, PhoneNumber) else to.value,
            "content": self.content.canonical_json(),
            "priority": self.priority,
            "send_at": self.send_at and self.send_at.timestamp(),
            "expires_at": self.expires_at and self.expires_at.timestamp(),
            "metadata": dict(self.metadata),
        }
        if self.callback_data is not None or self.envelope:
            chosen["beside"] = [self.callback_data, dict(self.envelope)]
        return hashlib.sha256(_SPELT.encode(chosen).encode()).digest()

    def advance(self, status: MessageStatus, at: datetime) -> bool:
        """Move forward only; a late or repeated report answers False and changes nothing."""
        if status not in FORWARD[self.status]:
            return False
        self.status, self.status_at = status, at
        return True

    def accept(self, wamid: str, at: datetime) -> bool:
        """Meta took it and calls it `wamid`."""
        self.wamid = self.wamid or wamid
        self.next_attempt_at = None
        return self.advance(MessageStatus.SENT, at)

    def fail(self, reason: FailureReason, at: datetime) -> bool:
        """It will not go out; `reason` is what Meta or we say about it."""
        if not self.advance(MessageStatus.FAILED, at):
            return False
        self.failure, self.next_attempt_at = reason, None
        return True

    def retry_at(self, due_at: datetime, reason: FailureReason, at: datetime) -> bool:
        """This attempt failed in a way that passes; try again from `due_at` on."""
        if not self.advance(MessageStatus.RETRYING, at):
            return False
        self.failure, self.next_attempt_at = reason, due_at
        return True

    def requeue(self, at: datetime) -> None:
        """Put it back into the queue: a due retry, or a dead letter that somebody wants sent."""
        if MessageStatus.QUEUED not in FORWARD[self.status] | RETRY[self.status]:
            raise InvalidTransition(f"A message that is {self.status} cannot be sent again")
        self.status, self.status_at, self.next_attempt_at = MessageStatus.QUEUED, at, None

    def send_again(self, at: datetime) -> None:
        """Queue it because somebody asks for it; InvalidTransition where it has not ended."""
        # `requeue` also serves workers, who may put back what a person must leave alone.
        if MessageStatus.QUEUED not in RETRY[self.status]:
            raise InvalidTransition(f"A message that is {self.status} cannot be sent again")
        self.status, self.status_at, self.next_attempt_at = MessageStatus.QUEUED, at, None
        self.failure = None
        if self.expires_at is not None and self.expires_at <= at:
            self.expires_at = None

    def cancel(self, at: datetime) -> None:
        """Take it back before it is sent; InvalidTransition once it is on its way."""
        if not self.advance(MessageStatus.CANCELLED, at):
            raise InvalidTransition(f"A message that is {self.status} cannot be cancelled")


_NAMES: Final = tuple(each.name for each in fields(OutboundMessage))
_VALUES: Final = attrgetter(*_NAMES)
