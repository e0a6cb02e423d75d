"""What follows where an answer tells whose a failure was that Meta had reported before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from whatsapp.application.heed_reports import HeedReports
from whatsapp.application.ports import BeginWork, Work
from whatsapp.application.try_again import Judge, TryAgain
from whatsapp.domain.rate_limit import RateLimiter
from whatsapp.domain.repositories import LateFailure
from whatsapp.domain.webhook_inbox import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class LateFailures:
    """The same as where such a report comes after the answer: messages first, then the channel."""

    try_again: TryAgain
    heed_reports: HeedReports

    @classmethod
    def judged(cls, judge: Judge, *, begin: BeginWork, limiter: RateLimiter) -> Self:
        """With everything decided by `judge`."""
        return cls(
            try_again=TryAgain(judge=judge),
            heed_reports=HeedReports(begin=begin, limiter=limiter, judge=judge),
        )

    async def stored(self, work: Work, channel_id: UUID, failed: Sequence[LateFailure]) -> None:
        """Send again what may be, in the transaction that stored the answers."""
        if failed:
            await self.try_again(work, channel_id, failed)

    async def committed(
        self, tenant_id: UUID, channel_id: UUID, failed: Sequence[LateFailure]
    ) -> None:
        """Slow down or pause what the failures are about; never raises."""
        if failed:
            await self.heed_reports.heed(Route(tenant_id, channel_id), failed)
