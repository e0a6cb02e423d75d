"""Events: what happened to a tenant's messages, channels and endpoints, in one order per tenant.

Every event has a number. Numbers are given out under a lock that is held until the transaction has
committed, so that they become visible in order: whoever has seen one has missed none below it.
Numbers may be left out, they never go back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from shared.kernel.errors import TellwireError
from shared.kernel.ids import new_id
from whatsapp.domain.value_objects import MessageStatus


class EventType(StrEnum):
    """What can happen; the values are what endpoints get to see."""

    MESSAGE_SENT = "message.sent"
    MESSAGE_DELIVERED = "message.delivered"
    MESSAGE_READ = "message.read"
    MESSAGE_PLAYED = "message.played"
    MESSAGE_FAILED = "message.failed"
    MESSAGE_EXPIRED = "message.expired"
    MESSAGE_CANCELLED = "message.cancelled"
    MESSAGE_RECEIVED = "message.received"
    MESSAGE_EDITED = "message.edited"
    MESSAGE_REVOKED = "message.revoked"
    CHANNEL_PAUSED = "channel.paused"
    TEMPLATE_STATUS = "template.status"
    ENDPOINT_DISABLED = "webhook_endpoint.disabled"
    ENDPOINT_TEST = "webhook_endpoint.test"


TOLD_STATUSES: Final = frozenset(status for status in MessageStatus if not status.is_pending)
"""The statuses of a message that are told; those before are Tellwire's own affair."""


class EventsForgotten(TellwireError):
    """What was to follow the given event has been deleted: some of it cannot be had any more."""

    code = "events_forgotten"
    status = 410
    title = "Events behind this one were deleted; read the messages themselves, then start anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageProgress:
    """That an outbound message may have come on, known by our id or by Meta's.

    Without a `status` it is told as far as it stands. `meta` is Meta's own status object.
    `decided` says that Tellwire itself moved it there without a request of its own: that happens
    once, so that it is told whatever was told of earlier attempts.
    """

    occurred_at: datetime
    status: MessageStatus | None = None
    message_id: UUID | None = None
    wamid: str | None = field(default=None, repr=False)
    attempt: int | None = None
    decided: bool = False
    meta: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """Anything else that happened.

    An event of one type about one subject (an inbound message, say) is told once; where there may
    be several, such as edits, `number` tells them apart.
    `context_wamid` is the message that an inbound one answers or reacts to. `meta` is what Meta's
    own webhook would have in its `value` for it.
    """

    type: EventType
    occurred_at: datetime
    data: Mapping[str, Any] = field(repr=False)
    subject_id: UUID | None = None
    number: int = 0
    channel_id: UUID | None = None
    context_wamid: str | None = field(default=None, repr=False)
    meta: Mapping[str, Any] | None = field(default=None, repr=False)
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event as it is stored; `data` and `meta` hold what customers wrote."""

    id: UUID
    number: int
    type: EventType
    occurred_at: datetime
    data: Mapping[str, Any] = field(repr=False)
    subject_id: UUID | None = None
    channel_id: UUID | None = None
    phone_number_id: str | None = None
    display_phone_number: str | None = field(default=None, repr=False)
    account_id: str | None = None
    meta: Mapping[str, Any] | None = field(default=None, repr=False)


class StreamPosition(NamedTuple):
    """The number of the newest event, and of the newest one that was deleted for its age."""

    last: int
    forgotten: int


class EventLog(Protocol):
    """The events of one tenant.

    `record` takes a lock until the transaction ends: call it last, and commit.
    """

    async def record(
        self, *, progress: Sequence[MessageProgress] = (), others: Sequence[NewEvent] = ()
    ) -> int:
        """Write down what happened, for every endpoint that wants it; gives how many were new."""
        ...

    async def open(self) -> StreamPosition:
        """Have events recorded from now on; gives where they stand."""
        ...

    async def position(self) -> StreamPosition:
        """Where the events stand."""
        ...

    async def list_after(self, number: int, *, limit: int) -> Sequence[Event]:
        """Up to `limit` events behind `number`, in order."""
        ...

    async def load(self, ids: Sequence[UUID]) -> Sequence[Event]:
        """The events with these ids, in order of their numbers."""
        ...

    async def lacks_some_since(self, moment: datetime, *, after: int) -> bool:
        """Whether events behind `after` were deleted that may have been recorded since then."""
        ...

    async def count(self, ids: Sequence[UUID]) -> int:
        """How many of these events there are."""
        ...

    async def forget(self, *, before: datetime, limit: int) -> int:
        """Delete up to `limit` of the oldest events and logged deliveries; gives how many."""
        ...
