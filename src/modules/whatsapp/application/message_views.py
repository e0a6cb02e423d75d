"""What a tenant may look up about its messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.value_objects import MessageStatus, Recipient


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One request to Meta and what became of it; `code` is Meta's."""

    number: int
    started_at: datetime
    finished_at: datetime
    outcome: str
    code: int | None
    reason: str | None
    retry_at: datetime | None


@dataclass(frozen=True, slots=True)
class StatusView:
    """One status that Meta reported, with the times of its happening and of its coming in."""

    status: MessageStatus
    occurred_at: datetime
    received_at: datetime
    attempt: int | None
    errors: Sequence[dict[str, object]]


@dataclass(frozen=True, slots=True)
class MessageHistory:
    """A message with everything that happened to it, oldest first."""

    message: OutboundMessage
    attempts: Sequence[AttemptView]
    statuses: Sequence[StatusView]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Which messages are wanted; everything given must hold. Times are those of acceptance."""

    channel_id: UUID | None = None
    status: MessageStatus | None = None
    is_dead: bool = False
    """Whether only what failed or expired is wanted."""
    code: int | None = None
    """Meta's code of the failure."""
    recipient: Recipient | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Messages, newest first; `next_before` is the cursor of the next page, None at the end.

    A page may be short, even empty, and still have a next one: only so many messages are looked
    at for one page, however few of them match.
    """

    messages: Sequence[OutboundMessage]
    next_before: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """How many messages of a channel wait: to be sent, by lane; for a retry; for proof."""

    high: int
    normal: int
    bulk: int
    retrying: int
    unknown: int


class MessageViews(Protocol):
    """Read-only views of one tenant's messages."""

    async def get_history(self, message_id: UUID) -> MessageHistory | None:
        """The message with its history."""
        ...

    async def list_outbound(
        self, wanted: MessageFilter, *, limit: int, before: UUID | None = None
    ) -> MessagePage:
        """Up to `limit` messages older than `before`."""
        ...

    async def count_queue(self, channel_id: UUID) -> QueueDepth:
        """How many messages of the channel have not settled."""
        ...
