"""A conversation: one contact of one channel, and what is known about how to reach them.

A contact is known by phone number, by business-scoped user id, or by both. The number is the one
that Meta writes, which may differ from the one that was dialled; both lead to the conversation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from whatsapp.domain.value_objects import PhoneNumber, Recipient, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What was last said and heard; the 24-hour window runs from `last_inbound_at`."""

    tenant_id: UUID
    id: UUID
    channel_id: UUID
    phone: PhoneNumber | None
    user_id: UserId | None
    profile_name: str | None = field(repr=False)
    last_inbound_at: datetime | None
    last_outbound_at: datetime | None
    unread_count: int
    last_message_id: UUID | None
    last_message_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A message of ours went out, and this is how Meta names its recipient."""

    message_id: UUID
    phone: PhoneNumber | None
    user_id: UserId | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Respelled:
    """Somebody was dialled by an address of which the conversations know nothing yet."""

    dialled: Recipient
    phone: PhoneNumber | None
    user_id: UserId | None
    message_id: UUID
    at: datetime


class ConversationRepository(Protocol):
    """The conversations of one tenant; inbound messages open them where they are saved."""

    async def get_by_address(self, channel_id: UUID, address: Recipient) -> Conversation | None:
        """The conversation of whoever is reached by this address."""
        ...

    async def record_reached(
        self, channel_id: UUID, reached: Sequence[Reached]
    ) -> Sequence[Respelled]:
        """Note what was sent last; gives whom Meta names otherwise than they were dialled."""
        ...

    async def join(self, channel_id: UUID, respelled: Respelled) -> Conversation:
        """Let the dialled address lead to the conversation of whom Meta names."""
        ...
