"""The send queue: messages that still have to go out, without what they say or to whom.

An entry lives from the moment a message is accepted until its outcome is known. Its states:

    ready ----> leased ----> dispatching ----> (gone: sent, failed, expired)
      ^           |               |-> retrying  waits for its time, then ready again
      |           v               `-> unknown   waits for proof, until its deadline
      `--- lease ran out

`leased` has not left us, so that anyone may claim it once its lease ran out. `dispatching` may have
left us: when its lease runs out, nobody knows, and nobody may just send it again. Whatever else is
in the queue leaves it when its message expires, also where its channel sends nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, Protocol, Self
from uuid import UUID

from shared.kernel.ids import NIL

RETRY_LANES: Final = 10
UNKNOWN_LANES: Final = 20
"""Added to the lane of an entry that waits for a retry, or for proof of an unknown outcome.

Such entries stand in ranges of the index of their own: claiming never walks over them, and they
are found without an index on the state, which would make every claim touch every index.
"""
WAITING_LANES: Final = -10
"""Added to the lane of an entry behind an earlier one to the same recipient, so that claiming does
not walk over it either; it comes forward by itself when the earlier one leaves the queue."""
LANES: Final = (0, 1, 2)
"""High, normal, bulk; in the order in which they are emptied."""
EXPIRED_UNSENT: Final = "It expired unsent"
"""What is said of a message whose time ran out while it waited, wherever that is noticed."""


class QueueState(StrEnum):
    """Where an entry stands; see the module."""

    READY = "ready"
    LEASED = "leased"
    DISPATCHING = "dispatching"
    RETRYING = "retrying"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a claim lasts, and what follows from it for a request that is sent under it.

    A marked message leaves within a quarter of the lease or not at all, and its request is given up
    after half of it: so a live worker knows the outcome while the lease lasts, and of a dead one it
    is known from when on nothing more can have left.
    """

    length: timedelta = timedelta(seconds=60)

    @property
    def to_leave(self) -> timedelta:
        """From the mark to the last moment at which the request may leave."""
        return self.length / 4

    @property
    def to_answer(self) -> timedelta:
        """How long the request may take."""
        return self.length / 2

    @property
    def overhang(self) -> timedelta:
        """How long before the end of the lease the request has left, if it has."""
        return self.length - self.to_leave


@dataclass(frozen=True, slots=True)
class ChannelWork:
    """What is due on one channel: to send, to queue again, to settle, and to end as expired."""

    tenant_id: UUID
    channel_id: UUID
    sending: bool
    retrying: bool
    unknown: bool
    expiring: bool


@dataclass(frozen=True, slots=True)
class ClaimedEntry:
    """A message that this worker alone may send until its lease ends.

    `attempt` is the number that the next request will have; `lease_token` fences what is written
    about it.
    """

    tenant_id: UUID
    channel_id: UUID
    message_id: UUID
    lease_token: UUID
    attempt: int


class Claim(tuple[ClaimedEntry, ...]):  # noqa: SLOT001  # a tuple takes no slots
    """The entries that one claim gave out, and what it left."""

    leaves_due: bool
    """More is due: beyond what was asked for, behind an earlier one, or in another's claim now."""
    hides_due: bool
    """So much of a lane stands behind earlier ones that what comes after it was not looked at."""

    def __new__(
        cls,
        entries: Iterable[ClaimedEntry] = (),
        *,
        leaves_due: bool = False,
        hides_due: bool = False,
    ) -> Self:
        """The entries in the order in which they are to be sent."""
        claim = super().__new__(cls, entries)
        claim.leaves_due, claim.hides_due = leaves_due, hides_due
        return claim


class SendQueue(Protocol):
    """Hands out entries of all tenants, each to one worker at a time; times are the database's."""

    async def find_work(
        self, *, after: tuple[UUID, UUID] = (NIL, NIL), limit: int = 500
    ) -> Sequence[ChannelWork]:
        """Up to `limit` channels that have entries, by (tenant, channel) from behind `after`."""
        ...

    async def find_abandoned(
        self, channels: Collection[tuple[UUID, UUID]], *, limit: int
    ) -> Sequence[tuple[UUID, UUID]]:
        """Those of the channels with marked entries whose lease ended."""
        ...

    async def claim(
        self,
        *,
        tenant_id: UUID,
        channel_id: UUID,
        limit: int,
        lease: timedelta,
        lanes: Sequence[int] = LANES,
        in_order: bool = True,
    ) -> Claim:
        """Claim up to `limit` due entries for `lease`, lanes in the order given."""
        ...

    async def mark(self, entries: Sequence[ClaimedEntry], *, lease: timedelta) -> frozenset[UUID]:
        """Write down that these may leave from now on; gives those that are still ours."""
        ...

    async def unmark(self, entries: Sequence[ClaimedEntry]) -> frozenset[UUID]:
        """Take a mark back from entries of which no byte has left."""
        ...

    async def release(self, entries: Sequence[ClaimedEntry]) -> frozenset[UUID]:
        """Give claimed entries back unsent."""
        ...

    async def rest(self, entries: Mapping[ClaimedEntry, timedelta]) -> frozenset[UUID]:
        """Give claimed entries back unsent and due so much later, in their place."""
        ...
