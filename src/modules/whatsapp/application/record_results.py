"""Recording what became of requests: those of a few milliseconds in one transaction."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID

from shared.kernel.errors import TellwireError
from whatsapp.application.know_contact import heed_marketing_wishes, wishes_in_answers
from whatsapp.application.late_failures import LateFailures
from whatsapp.application.ports import BeginWork
from whatsapp.application.record_events import record_results
from whatsapp.domain.repositories import AttemptResult, AttemptsRecorded

RECORD_DELAY_SECONDS: Final = 0.02
LONGEST_RECORD_DELAY_SECONDS: Final = 0.1
"""Where storing takes long, as on a machine with too much to do, more is stored at once."""
RECORD_RETRY_SECONDS: Final = 0.5
MAX_RECORDED: Final = 64
"""At most so many in one statement, whose cost grows faster than their number."""

logger = logging.getLogger(__name__)
Observe: TypeAlias = Callable[[AttemptResult, bool], None]
"""Told of each recorded result, and whether its lease still held."""


def ignore(_result: AttemptResult, _held: bool) -> None:  # noqa: FBT001  # positional by contract
    """Observe nothing."""


@dataclass(slots=True, kw_only=True)
class RecordResults:
    """Takes results by `put` and stores them while `run` runs, until `finish` and all is stored."""

    tenant_id: UUID
    channel_id: UUID
    begin: BeginWork
    observe: Observe
    stored: Callable[[int], None]
    """Told how many results are dealt with."""
    late: LateFailures

    _results: "asyncio.Queue[AttemptResult | None]" = field(
        default_factory=asyncio.Queue, init=False
    )

    _storing_seconds: float = field(default=RECORD_DELAY_SECONDS, init=False)

    def put(self, result: AttemptResult) -> None:
        """Have a result recorded."""
        self._results.put_nowait(result)

    def finish(self) -> None:
        """Let `run` return once all that was put is stored."""
        self._results.put_nowait(None)

    async def run(self) -> None:
        """Record outcomes as they come, those of one delay in one transaction."""
        going = True
        while going:
            first = await self._results.get()
            if first is None:
                return
            if self._results.qsize() < MAX_RECORDED:
                await asyncio.sleep(self._delay)
            batch = [first]
            while not self._results.empty() and going and len(batch) < MAX_RECORDED:
                following = self._results.get_nowait()
                going = following is not None
                if following is not None:
                    batch.append(following)
            began = time.monotonic()
            await self._store(batch)
            self._storing_seconds = time.monotonic() - began
            self.stored(len(batch))

    @property
    def _delay(self) -> float:
        slow = min(self._storing_seconds, LONGEST_RECORD_DELAY_SECONDS)
        return max(RECORD_DELAY_SECONDS, slow)

    async def _store(self, batch: Sequence[AttemptResult]) -> None:
        """Record `batch`, however long PostgreSQL is gone: a lease that ends does no harm."""
        tries: list[AttemptsRecorded] = []
        while True:
            try:
                await self._record(batch, tries)
            except Exception as error:
                if isinstance(error, TellwireError) and error.retryable:
                    await asyncio.sleep(RECORD_RETRY_SECONDS)
                    continue
                logger.exception("outcomes of %d requests not recorded", len(batch))
                # Alone, what cannot be recorded harms nobody else. It stays marked, and Meta's
                # reports settle it.
                for result in batch if len(batch) > 1 else ():
                    await self._store([result])
                return
            break
        stored = _stored_by(tries)
        held = stored.held
        # What was not sent at all has no outcome that could be late.
        lost = sum(result.message_id not in held for result in batch if result.number)
        if lost:
            logger.warning("%d outcomes came after their lease was lost", lost)
        for result in batch:
            self.observe(result, result.message_id in held)
        await self.late.committed(self.tenant_id, self.channel_id, stored.failed)

    async def _record(self, batch: Sequence[AttemptResult], tries: list[AttemptsRecorded]) -> None:
        """Record `batch` and add to `tries` what that came to, if only it is committed."""
        # Also where a lease was lost: what somebody wishes does not hang on it.
        wishes = wishes_in_answers(batch)
        async with self.begin(self.tenant_id) as work:
            if wishes:
                await work.conversations.lock_people(self.channel_id)
            recorded = await work.messages.record_attempts(batch)
            await heed_marketing_wishes(work, self.channel_id, wishes)
            await self.late.stored(work, self.channel_id, recorded.failed)
            new = recorded.held - recorded.repeated
            await record_results(work, [one for one in batch if one.message_id in new])
            tries.append(recorded)
            await work.commit()


def _stored_by(tries: Sequence[AttemptsRecorded]) -> AttemptsRecorded:
    """What recording came to when it was stored: later tries found no more than repetitions.

    The answer to a commit may be lost, and then the results go to PostgreSQL again.
    """
    stored = tries[0]
    for one in tries[1:]:
        stored = stored if one.repeated else one
    return stored
