"""What an outcome leads to, given how often the message has failed in this way before.

Each way to fail has a number of retries of its own: a message that was throttled four times has not
used up what it may try when Meta has trouble. One that somebody sends again by hand begins anew.
"""

import logging
from dataclasses import dataclass
from random import Random
from uuid import UUID

from whatsapp.application.attempt import Attempt, kind_of, result_of
from whatsapp.application.dispatch_settings import DispatchSettings
from whatsapp.application.ports import BeginWork
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.outcome import Deferred, Outcome, Throttled, Unreachable
from whatsapp.domain.repositories import AttemptResult, FailedAttempt

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NextStep:
    """`await next_step(outcome, attempt, message)` gives what is to be recorded; never raises.

    PostgreSQL is asked only where an attempt after the first failed in a way that passes; where it
    does not answer, all earlier attempts count.
    """

    tenant_id: UUID
    begin: BeginWork
    settings: DispatchSettings
    rng: Random

    async def __call__(
        self, outcome: Outcome, attempt: Attempt, message: OutboundMessage
    ) -> AttemptResult:
        """See `result_of`."""
        tries = None
        if attempt.entry.attempt > 1 and isinstance(outcome, Throttled | Deferred | Unreachable):
            tries = await self._tries(outcome, attempt)
        held = self.settings.unknown_for
        return result_of(outcome, attempt, message, unknown_for=held, rng=self.rng, tries=tries)

    async def _tries(
        self, outcome: Throttled | Deferred | Unreachable, attempt: Attempt
    ) -> int | None:
        code = None if isinstance(outcome, Unreachable) else outcome.code
        entry = attempt.entry
        failed = FailedAttempt(entry.message_id, entry.attempt, kind_of(outcome), code)
        try:
            async with self.begin(self.tenant_id) as work:
                (before,) = await work.messages.count_alike([failed])
        except Exception as error:  # noqa: BLE001  # the outcome has to be recorded anyway
            logger.warning("earlier attempts not counted: %s", type(error).__name__)
            return None
        return before + 1
