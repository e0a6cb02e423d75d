"""Marking a group of claimed messages: what is marked may leave, and its mark is durable."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from whatsapp.application.going import Going
from whatsapp.application.mark_time import MarkTime
from whatsapp.domain.send_queue import Lease, SendQueue


@dataclass(slots=True, kw_only=True)
class MarkGroup:
    """`await mark(group)` gives those of the group that are still ours, and until when they are."""

    queue: SendQueue
    lease: Lease
    closed: Callable[[int], None]
    """Told how many are somebody else's by now."""
    monotonic: Callable[[], float] = time.monotonic

    _time: MarkTime = field(default_factory=MarkTime, init=False)

    @property
    def lead_seconds(self) -> float:
        """How long before its first slot a group is to be marked."""
        return self._time.lead_seconds

    async def __call__(self, group: Sequence[Going]) -> Sequence[Going]:
        """Mark them in one statement; a shorter lease than marking takes is stretched."""
        if not group:
            return group
        began, lease = self.monotonic(), self._time.lease(self.lease)
        held = await self.queue.mark([one.entry for one in group], lease=lease.length)
        self._time.took(self.monotonic() - began)
        until = began + lease.to_leave.total_seconds()
        going = [one for one in group if one.entry.message_id in held]
        for one in going:
            one.until = until
        self.closed(len(group) - len(going))
        return going
