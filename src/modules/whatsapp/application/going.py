"""A claimed message on its way, and its way back where it does not leave."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shared.kernel.clock import Clock
from shared.kernel.errors import Unavailable
from whatsapp.application.attempt import taken_back
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.rate_limit import PairTurn, RateLimiter
from whatsapp.domain.repositories import AttemptResult
from whatsapp.domain.send_queue import ClaimedEntry

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Going:
    """A claimed message; once it is marked, it leaves before `until` or not at all."""

    entry: ClaimedEntry
    message: OutboundMessage
    until: float = float("inf")
    left_at: datetime | None = None
    turn: PairTurn | None = None


@dataclass(slots=True, kw_only=True)
class GiveBack:
    """`await give_back(unsent)` undoes claims, marks and counts of what has not left.

    It is recorded, whatever that takes (`settle`). What was counted last for a person is undone
    first, since what was counted before something that stays cannot be.
    """

    limiter: RateLimiter
    settle: Callable[[AttemptResult], None]
    now: Clock

    _refused: list[Going] = field(default_factory=list, init=False)

    async def __call__(self, unsent: Sequence[Going]) -> None:
        """Undo these, which were counted in this order."""
        try:
            await self.uncount(unsent)  # Before somebody else claims and counts them.
        finally:
            for one in unsent:
                self.settle(taken_back(one.entry, self.now()))

    async def together(self, one: Going, behind: deque[Going]) -> None:
        """Undo what the gate refused with all that it refuses at this moment.

        And with all `behind` it, which were counted later.
        """
        self._refused.append(one)
        await asyncio.sleep(0)
        if refused := self._refused:
            self._refused = []
            refused.extend(behind)
            behind.clear()
            await self(refused)

    async def uncount(self, unsent: Sequence[Going]) -> None:
        """Where that fails, their people have to wait a little longer than they would."""
        try:
            await self.limiter.give_back_pairs([one.turn for one in unsent if one.turn])
        except Unavailable as error:
            logger.warning("what was not sent still counts for its people: %s", error.code)
        except Exception:
            logger.exception("giving turns back failed in an unforeseen way")
