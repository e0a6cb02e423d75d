"""Claiming what is due on one channel: how much, from which lanes, and whether to ask again."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from whatsapp.application.claim_size import ClaimSize
from whatsapp.application.lane_turns import LaneTurns
from whatsapp.application.read_together import Reader
from whatsapp.domain.entities import Channel
from whatsapp.domain.send_queue import ClaimedEntry, SendQueue


@dataclass(slots=True, kw_only=True)
class ClaimDue:
    """`await claim(channel, reader)` gives the next handful, if only `may_find_more` is true.

    A claim says whether it left anything that is due. If not, there is nothing to ask for until
    somebody who looks at the queue has seen something (`wake`).
    """

    tenant_id: UUID
    channel_id: UUID
    queue: SendQueue
    lease: timedelta
    turns: LaneTurns
    monotonic: Callable[[], float] = time.monotonic

    sizes: ClaimSize = field(default_factory=ClaimSize, init=False)
    claimed: int = field(default=0, init=False)
    _leaves_due: bool = field(default=True, init=False)
    _moved_aside: bool = field(default=False, init=False)

    @property
    def may_find_more(self) -> bool:
        """Whether something may be due: also what comes forward when those before it are sent."""
        return self._leaves_due or self._moved_aside

    def wake(self) -> None:
        """Something has been seen."""
        self._leaves_due = True

    async def __call__(self, channel: Channel, reader: Reader) -> Sequence[ClaimedEntry]:
        """What may be sent now, in order; what stands behind others is cleared out of the way."""
        while True:
            self._leaves_due = False  # Before, since `wake` may be called in between.
            claim = await self.queue.claim(
                tenant_id=self.tenant_id,
                channel_id=self.channel_id,
                limit=self.sizes.next(channel.messages_per_second, at=self.monotonic()),
                lease=self.lease,
                lanes=self.turns.next(),
                in_order=channel.keeps_order,
            )
            self._leaves_due |= claim.leaves_due
            self.sizes.got(len(claim))
            self.claimed += len(claim)
            if claim and claim.hides_due:
                # What other lanes gave must not keep that one hidden for as long as they give.
                await self._step_aside(channel, reader)
            if claim or not claim.leaves_due or not await self._step_aside(channel, reader):
                return claim

    async def _step_aside(self, channel: Channel, reader: Reader) -> bool:
        """Clear the way where all that is due stands behind others; True: claim again."""
        if not channel.keeps_order:
            return False
        moved = await reader.step_aside(self.channel_id)
        self._moved_aside |= bool(moved)
        return bool(moved)
