"""What one webhook changed for one channel, as far as it was new: the ground for everything else.

`ApplyWebhook` gives it to each of its followers inside the transaction that stored it, so that what
follows from an event (a tenant's own event, a file to fetch, what a contact wishes) is stored with
it or not at all. Repetitions are left out already: a follower meets everything once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from whatsapp.application.ports import Work
from whatsapp.domain.entities import InboundMessage
from whatsapp.domain.repositories import LateFailure
from whatsapp.domain.webhook import (
    FieldChanged,
    InboundReceived,
    StatusReported,
    TroubleReported,
    Unrecognised,
    WebhookElement,
)
from whatsapp.domain.webhook_inbox import Route


@dataclass(frozen=True, slots=True)
class Placed:
    """An element on its way to a channel, and the inbox entry in which it came.

    `place` is where it stood in its body. `said_before` is how often that body had said the very
    same until there, of what does not say when.
    """

    inbox_id: UUID
    element: WebhookElement
    place: int = 0
    said_before: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusApplied:
    """A report that was new, and the message of ours that it is about.

    `message_id` is None while nobody knows the message: its wamid comes later, or another program
    sent it. `moved` says whether the message's status is the reported one now, `overtaken` whether
    one that was parked until now has moved it further. `failed` is how the message has failed by
    either of them.
    """

    reported: StatusReported
    message_id: UUID | None
    moved: bool
    overtaken: bool = False
    failed: LateFailure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundApplied:
    """A message that was new, as Meta told it and as it is stored."""

    received: InboundReceived
    stored: InboundMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class AmendmentApplied:
    """An edit or a removal, and the message that it is about, with all that amends it.

    One of the two was new. `moved` says whether the message is as the amendment says now.
    """

    message: InboundMessage
    amendment: InboundMessage
    moved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """Everything that was new in one transaction; in each list in the order of application."""

    statuses: Sequence[StatusApplied] = ()
    inbound: Sequence[InboundApplied] = ()
    amended: Sequence[AmendmentApplied] = ()
    changes: Sequence[FieldChanged] = ()
    unread: Sequence[Unrecognised | TroubleReported] = ()
    """What was kept for a person to look at."""
    paused: str | None = None
    """Why the channel does not send any more; None where it sends, or did not before."""


class Follow(Protocol):
    """Does what follows from what was applied, in the same transaction and as its last part."""

    async def __call__(self, work: Work, route: Route, applied: Applied) -> None:
        """Store what follows; what it raises undoes the whole, which is then tried again."""
        ...
