"""An inbound message: what a customer wrote to one of the tenant's channels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.kernel.ids import new_id
from whatsapp.domain.value_objects import InboundContent, PhoneNumber, UserId


@dataclass(slots=True, kw_only=True)
class InboundMessage:
    """A message as Meta reported it; unique by channel and `wamid`.

    The sender is known by phone number, by business-scoped user id, or by both; either may be
    missing, never both at once unless Meta sent neither. `sent_at` is the customer's time, from
    which the 24-hour window runs; `raw` is Meta's own element, kept whole.
    """

    tenant_id: UUID
    channel_id: UUID
    wamid: str = field(repr=False)
    content: InboundContent
    sent_at: datetime
    sender: PhoneNumber | None = None
    sender_user_id: UserId | None = None
    profile_name: str | None = field(default=None, repr=False)
    username: str | None = field(default=None, repr=False, compare=False)
    context_wamid: str | None = field(default=None, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    id: UUID = field(default_factory=new_id)
    received_at: datetime | None = None
    replayed: bool = field(default=False, compare=False)
    conversation_ids: tuple[UUID, ...] = field(default=(), compare=False)

    @property
    def is_in_group(self) -> bool:
        """Whether it was said in a group, and so in no conversation with the sender."""
        return self.raw.get("group_id") is not None

    @property
    def author(self) -> PhoneNumber | UserId | None:
        """The name under which the sender's conversation has it; None for what a group heard."""
        return None if self.is_in_group else self.sender or self.sender_user_id

    @property
    def opens_window(self) -> bool:
        """Whether free-form messages may go back to the sender for 24 hours from `sent_at`.

        Notices of the system (a changed number, for one) are nobody's words, and what is said in a
        group opens no window of its own. Everything else counts: Meta has the last word.
        """
        return self.content.type != "system" and not self.is_in_group
