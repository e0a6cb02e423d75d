"""What a tenant may look up about its conversations and contacts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

from whatsapp.domain.conversation import Conversation
from whatsapp.domain.entities import InboundMessage, OutboundMessage
from whatsapp.domain.value_objects import Recipient

ThreadMessage: TypeAlias = InboundMessage | OutboundMessage
"""What was heard or said."""


class Place(NamedTuple):
    """Where a page of conversations ended: the time of the last one's last message, and its id."""

    at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class ConversationView:
    """A conversation and the message that was heard or sent last in it, if any."""

    conversation: Conversation
    last_message: ThreadMessage | None


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """Conversations, the latest first; `next_before` is where the next page goes on."""

    views: Sequence[ConversationView]
    next_before: Place | None


@dataclass(frozen=True, slots=True)
class ThreadPage:
    """Messages in both directions, newest first; `next_before` is where the next page goes on."""

    messages: Sequence[ThreadMessage]
    next_before: UUID | None


class ConversationViews(Protocol):
    """Read-only views of one tenant's conversations; whoever merged is found by the old id too."""

    async def get_view(self, conversation_id: UUID) -> ConversationView | None:
        """The conversation with its last message."""
        ...

    async def list_latest(
        self,
        *,
        limit: int,
        channel_id: UUID | None = None,
        is_unread: bool = False,
        before: Place | None = None,
    ) -> ConversationPage:
        """Up to `limit` conversations that have messages, from behind `before`."""
        ...

    async def list_messages(
        self, conversation_id: UUID, *, limit: int, before: UUID | None = None
    ) -> ThreadPage:
        """Up to `limit` messages of a conversation, older than `before`."""
        ...

    async def get_newest_inbound(self, conversation_id: UUID) -> InboundMessage | None:
        """What the contact wrote last."""
        ...

    async def list_amended(
        self, channel_id: UUID, wamids: Sequence[str]
    ) -> Sequence[InboundMessage]:
        """Which of these messages of a channel were edited or removed, each with what amends it."""
        ...

    async def list_contacts(
        self,
        *,
        limit: int,
        channel_id: UUID | None = None,
        known_as: Recipient | None = None,
        after: UUID | None = None,
    ) -> Sequence[Conversation]:
        """Up to `limit` contacts in the order in which they became known, from behind `after`."""
        ...
