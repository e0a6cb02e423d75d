"""Recording what became of requests: those that are answered together in one transaction."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID

from shared.kernel.errors import TellwireError
from whatsapp.application.know_contact import heed_marketing_wishes, wishes_in_answers
from whatsapp.application.late_failures import LateFailures
from whatsapp.application.ports import BeginWork
from whatsapp.application.record_events import record_results
from whatsapp.domain.repositories import AttemptResult, AttemptsRecorded

WAIT_SECONDS: Final = 0.02
"""So long an outcome waits for those of others that are under way, to be stored with them."""
LONGEST_WAIT_SECONDS: Final = 0.1
"""Where storing takes long, as on a machine with too much to do, it waits for twice as long."""
RECORD_RETRY_SECONDS: Final = 0.5
MAX_RECORDED: Final = 64
"""At most so many in one statement, whose cost grows faster than their number."""

logger = logging.getLogger(__name__)
Observe: TypeAlias = Callable[[AttemptResult, bool], None]
"""Told of each recorded result, and whether its lease still held."""


def nothing_else() -> bool:
    """Nothing is worth waiting for."""
    return False


def ignore(_result: AttemptResult, _held: bool) -> None:  # noqa: FBT001  # positional by contract
    """Observe nothing."""


@dataclass(slots=True, kw_only=True)
class RecordResults:
    """Takes results by `put` and stores them while `run` runs, until `finish` and all is stored.

    A result is stored at once where no other is to come soon (`awaits_more`), so that whatever
    waits for it goes on; where some are, it is stored with them, as a transaction costs as much for
    one as for ten.
    """

    tenant_id: UUID
    channel_id: UUID
    begin: BeginWork
    observe: Observe
    stored: Callable[[int], None]
    """Told how many results are dealt with."""
    late: LateFailures
    awaits_more: Callable[[], bool] = nothing_else
    """Whether others are under way; asked with each `put`."""

    _results: deque[AttemptResult] = field(default_factory=deque, init=False)
    _is_finished: bool = field(default=False, init=False)
    _storing_seconds: float = field(default=0.0, init=False)  # The last time.
    _news: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def put(self, result: AttemptResult) -> None:
        """Have a result recorded."""
        self._results.append(result)
        if len(self._results) == 1 or self._are_enough:
            self._news.set()

    def finish(self) -> None:
        """Let `run` return once all that was put is stored."""
        self._is_finished = True
        self._news.set()

    async def run(self) -> None:
        """Record outcomes as they come, those that come together in one transaction."""
        while batch := await self._next():
            began = time.monotonic()
            await self._store(batch)
            self._storing_seconds = time.monotonic() - began
            self.stored(len(batch))

    async def _next(self) -> Sequence[AttemptResult]:
        """What is stored together; nothing once it is finished and all is stored."""
        while not (self._results or self._is_finished):
            await self._hear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._longest_wait):
                while not self._are_enough:
                    await self._hear()
        return [self._results.popleft() for _ in range(min(len(self._results), MAX_RECORDED))]

    async def _hear(self) -> None:
        self._news.clear()
        await self._news.wait()

    @property
    def _longest_wait(self) -> float:
        return min(max(WAIT_SECONDS, 2 * self._storing_seconds), LONGEST_WAIT_SECONDS)

    @property
    def _are_enough(self) -> bool:
        is_full = len(self._results) >= MAX_RECORDED
        return is_full or self._is_finished or not self.awaits_more()

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
