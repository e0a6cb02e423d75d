"""An inbound message: what a customer wrote to one of the tenant's channels.

People may change within a quarter of an hour what they wrote, and take it back within two days.
Meta reports either as a message of its own, which amends the first one: what is shown is the latest
edit, and nothing after a removal, in whatever order the reports come in. The original stays.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import NoneType
from typing import Any, Final, NamedTuple
from uuid import UUID

from shared.kernel.errors import InvalidInput, ensure_type
from shared.kernel.ids import new_id
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.value_objects import (
    InboundContent,
    InboundContext,
    PhoneNumber,
    Referral,
    UserId,
)
from whatsapp.domain.value_objects.inbound_content import (
    REVOKE,
    context_of,
    errors_of,
    referral_of,
)

EDITED_WITHIN: Final = timedelta(minutes=15)
REVOKED_WITHIN: Final = timedelta(days=2)
"""So long after a message Meta reports its edits and its removal."""


@dataclass(slots=True, kw_only=True)
class InboundMessage:
    """A message as Meta reported it; unique by channel and `wamid`.

    The sender is known by phone number, by business-scoped user id, or by both; either may be
    missing, never both at once unless Meta sent neither. `sent_at` is the customer's time, from
    which the 24-hour window runs; `raw` is Meta's own element, kept whole. `amendments` are the
    edits and removals of it that are known, where they were looked up. What saving it has brought
    about is in `replayed`, `conversation_ids` and `has_new_names`: nobody knew the sender by a name
    of theirs before.
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
    has_new_names: bool = field(default=False, compare=False)
    amendments: "tuple[InboundMessage, ...]" = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        ensure_type(self.wamid, str, field="wamid")
        ensure_type(self.content, InboundContent, field="content")
        ensure_type(self.sent_at, datetime, field="sent_at")
        if self.sent_at.utcoffset() is None:
            raise InvalidInput("A time needs its zone, as in 2026-11-23T09:00:00Z", field="sent_at")
        ensure_type(self.sender, (PhoneNumber, NoneType), field="sender")
        ensure_type(self.sender_user_id, (UserId, NoneType), field="sender_user_id")
        ensure_type(self.raw, Mapping, field="raw")

    @property
    def is_in_group(self) -> bool:
        """Whether it was said in a group, and so in no conversation with the sender."""
        return self.raw.get("group_id") is not None

    @property
    def author(self) -> PhoneNumber | UserId | None:
        """The name under which the sender's conversation has it; None for what a group heard."""
        return None if self.is_in_group else self.sender or self.sender_user_id

    @property
    def amends(self) -> str | None:
        """The wamid of the message that it edits or removes, if it does."""
        return self.content.amends

    @property
    def opens_window(self) -> bool:
        """Whether free-form messages may go back to the sender for 24 hours from `sent_at`.

        Notices of the system (a changed number, for one) are nobody's words, what is said in a
        group opens no window of its own, and an edit or a removal says nothing new. Everything else
        counts: Meta has the last word.
        """
        return self.content.type != "system" and not self.is_in_group and self.amends is None

    @property
    def context(self) -> InboundContext | None:
        """What it answers, whether it was passed on, and the product that it asks about."""
        return context_of(self.raw, self.context_wamid)

    @property
    def referral(self) -> Referral | None:
        """The advertisement that led the sender here, if one did."""
        return referral_of(self.raw)

    @property
    def errors(self) -> tuple[FailureReason, ...]:
        """Why Meta does not pass on what was sent, where it does not."""
        return errors_of(self.raw)

    @property
    def current(self) -> InboundContent:
        """The content after the latest edit."""
        edit = self._last_edit
        return (None if edit is None else edit.content.edited) or self.content

    @property
    def edited_at(self) -> datetime | None:
        """When it was edited last; None if never."""
        edit = self._last_edit
        return None if edit is None else edit.sent_at

    @property
    def revoked_at(self) -> datetime | None:
        """When the sender took it back; None if they did not."""
        times = [one.sent_at for one in self.amendments if _removes(one) and self.admits(one)]
        return min(times, default=None)

    @property
    def _last_edit(self) -> "InboundMessage | None":
        edits = (one for one in self.amendments if not _removes(one) and self.admits(one))
        return max(edits, key=_place, default=None)

    def admits(self, amendment: "InboundMessage") -> bool:
        """Whether `amendment` is about this message, and in time; what amends is not amended."""
        within = REVOKED_WITHIN if _removes(amendment) else EDITED_WITHIN
        return (
            amendment.amends == self.wamid
            and self.amends is None
            and amendment.sent_at <= self.sent_at + within
        )


class Step(NamedTuple):
    """An amendment, and whether its message is as it says from then on."""

    amendment: InboundMessage
    moved: bool


def steps_of(message: InboundMessage, known: Collection[UUID]) -> Sequence[Step]:
    """What the amendments of `message` come to that were not `known`, edits first and forward only.

    An edit behind a later one moves nothing, and neither does anything behind a removal.
    """
    admitted = sorted(filter(message.admits, message.amendments), key=_order)
    old = [one for one in admitted if one.id in known]
    latest = max((_place(one) for one in old if not _removes(one)), default=None)
    is_gone = any(map(_removes, old))
    steps: list[Step] = []
    for one in admitted:
        if one.id in known:
            continue
        moved = not is_gone and (_removes(one) or latest is None or _place(one) > latest)
        steps.append(Step(one, moved))
        if _removes(one):
            is_gone = True
        elif moved:
            latest = _place(one)
    return steps


def _removes(message: InboundMessage) -> bool:
    return message.content.type == REVOKE


def _place(message: InboundMessage) -> tuple[datetime, str]:
    """Where an edit stands among others: times are of whole seconds, ids break a tie."""
    return message.sent_at, message.wamid


def _order(message: InboundMessage) -> tuple[bool, datetime, str]:
    return _removes(message), message.sent_at, message.wamid
