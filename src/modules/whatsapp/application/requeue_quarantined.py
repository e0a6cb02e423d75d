"""What was put aside is tried anew: a channel was added, a fault was mended."""

from dataclasses import dataclass, replace
from typing import Final

from whatsapp.domain.webhook_inbox import LeftOverFilter, WebhookQuarantine

MAX_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RequeueQuarantined:
    """Moves elements back into the inbox, from where they go as if they had come in just now.

    What still cannot be given to anybody comes back, with one more vain try; this call leaves that
    alone.
    """

    quarantine: WebhookQuarantine

    async def __call__(self, wanted: LeftOverFilter, *, limit: int | None = None) -> int:
        """How many were moved, at most `limit`; what two callers ask for is moved once."""
        started = await self.quarantine.find_time()
        until = started if wanted.until is None else min(wanted.until, started)
        wanted, moved = replace(wanted, until=until), 0
        while limit is None or moved < limit:
            most = MAX_AT_ONCE if limit is None else min(MAX_AT_ONCE, limit - moved)
            done = await self.quarantine.requeue(wanted, limit=most)
            moved += done
            if not done:
                break
        return moved
