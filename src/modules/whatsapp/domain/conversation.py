"""A conversation: one contact of one channel, and what is known about how to reach them.

A contact is known by phone number, by business-scoped user id, or by both. The number is the one
that Meta writes, which may differ from the one that was dialled; both lead to the conversation. Two
conversations that turn out to be with one person are merged into the older one. Contacts belong to
a channel because Meta's user ids belong to a business portfolio, of which Tellwire knows nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from shared.kernel.errors import NotFoundException
from whatsapp.domain.service_window import closes_at
from whatsapp.domain.value_objects import PhoneNumber, Recipient, UserId


class ConversationNotFound(NotFoundException):
    """The conversation does not exist in this tenant."""

    code = "conversation_not_found"
    title = "No conversation with this id exists in this tenant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What was last said and heard; the 24-hour window runs from `last_inbound_at`.

    `marketing_stopped` is the contact's wish as of `marketing_at`; None if they never said.
    """

    tenant_id: UUID
    id: UUID
    channel_id: UUID
    phone: PhoneNumber | None
    user_id: UserId | None
    profile_name: str | None = field(repr=False)
    username: str | None = field(default=None, repr=False)
    last_inbound_at: datetime | None
    last_outbound_at: datetime | None
    unread_count: int
    last_message_id: UUID | None
    last_message_at: datetime | None
    marketing_stopped: bool = False
    marketing_at: datetime | None = None
    created_at: datetime | None = None

    @property
    def open_until(self) -> datetime | None:
        """Until when free-form messages are taken; None where the contact never wrote."""
        return None if self.last_inbound_at is None else closes_at(self.last_inbound_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A message of ours went out, and this is how Meta names its recipient."""

    message_id: UUID
    phone: PhoneNumber | None
    user_id: UserId | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Names that belong to one person, as something told at `at`: a status, a notice, a wish.

    `phone` and `user_id` are what Meta calls them by. `has_moved`: these are new, and whoever was
    known by `gave_up` is not reached there any more. `message_id` is a message of ours that reached
    them then; `has_called`: they called then, which opens the 24-hour window as a message does;
    `marketing_stopped` is what they wish.
    """

    names: tuple[Recipient, ...]
    phone: PhoneNumber | None
    user_id: UserId | None
    at: datetime
    has_moved: bool = False
    gave_up: tuple[PhoneNumber, ...] = ()
    message_id: UUID | None = None
    has_called: bool = False
    marketing_stopped: bool | None = None


class ConversationRepository(Protocol):
    """The conversations of one tenant; inbound messages open them where they are saved."""

    async def get_by_address(self, channel_id: UUID, address: Recipient) -> Conversation | None:
        """The conversation of whoever is reached by this address."""
        ...

    async def record_reached(
        self, channel_id: UUID, reached: Sequence[Reached]
    ) -> Sequence[Person]:
        """Note what was sent last; gives whom Meta names otherwise than we know them."""
        ...

    async def lock_people(self, channel_id: UUID) -> None:
        """Keep others from changing who is who on a channel; before any other lock."""
        ...

    async def know(self, channel_id: UUID, people: Sequence[Person]) -> Sequence[Sequence[UUID]]:
        """Let all names of each person lead to them; gives what is to become one conversation.

        No name may be two people's.
        """
        ...

    async def hold(self, ids: Sequence[UUID]) -> Sequence[UUID]:
        """Lock conversations and what leads to them; gives those that are still there, in order."""
        ...

    async def merge(self, ids: Sequence[UUID]) -> Conversation:
        """Make one conversation of several that are held, under the first id."""
        ...

    async def recall_sent(self, ids: Sequence[UUID]) -> None:
        """Note what went out to conversations under names that were not known as theirs yet."""
        ...

    async def mark_read(self, conversation_id: UUID) -> None:
        """Nothing of a conversation that is held is unread any more."""
        ...
