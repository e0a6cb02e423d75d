"""Recording what became of requests: those that are answered together in one transaction.

A transaction costs as much for one outcome as for ten, so that a tenant's channels share theirs.
Each dispatcher puts the outcomes of its channel into `Outcomes`; `RecordResults` stores them.
"""

import asyncio
import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID
from weakref import WeakValueDictionary

from shared.kernel.errors import TellwireError
from whatsapp.application.in_flight import InFlight
from whatsapp.application.know_contact import heed_marketing_wishes, wishes_in_answers
from whatsapp.application.late_failures import LateFailures
from whatsapp.application.ports import BeginWork, Work
from whatsapp.application.record_events import record_results
from whatsapp.domain.repositories import AttemptResult, AttemptsRecorded, LateFailure

WAIT_SECONDS: Final = 0.02
"""So long an outcome waits for those of others that are under way, to be stored with them."""
LONGEST_WAIT_SECONDS: Final = 0.1
"""Where storing takes long, as on a machine with too much to do, it waits for twice as long."""
RECORD_RETRY_SECONDS: Final = 0.5
MAX_RECORDED: Final = 64
"""At most so many in one statement, whose cost grows faster than their number."""
MOST_AT_ONCE: Final = 4
"""So many transactions at once, where more outcomes come than fit into one."""

logger = logging.getLogger(__name__)
Observe: TypeAlias = Callable[[AttemptResult, bool], None]
"""Told of each recorded result, and whether its lease still held."""


def ignore(_result: AttemptResult, _held: bool) -> None:  # noqa: FBT001  # positional by contract
    """Observe nothing."""


@dataclass(slots=True, kw_only=True, eq=False)
class Outcomes:
    """One channel's outcomes: `put` has one recorded, `all_stored` waits until all are."""

    channel_id: UUID
    recorder: "RecordResults"
    stored: Callable[[int], None]
    """Told how many outcomes are dealt with."""

    under_way: int = field(default=0, init=False)
    """Requests that are about to leave or not answered yet: see `expect`."""
    _open: int = field(default=0, init=False)
    _closed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def expect(self, number: int) -> None:
        """So many more are under way, or fewer: while some are, outcomes wait for theirs."""
        self.under_way += number
        self.recorder.under_way += number
        self.recorder.in_flight.expect(number)

    def put(self, result: AttemptResult) -> None:
        """Have an outcome recorded."""
        self._open += 1
        self.recorder.put(self, result)

    def close(self, number: int) -> None:
        """So many of them are dealt with."""
        self._open -= number
        self.stored(number)
        if not self._open:
            self._closed.set()

    async def all_stored(self) -> None:
        """Wait until all that was put is stored; nothing is under way any more."""
        self.expect(-self.under_way)
        while self._open:
            self._closed.clear()
            await self._closed.wait()


class _Put(NamedTuple):
    outcomes: Outcomes
    result: AttemptResult


@dataclass(slots=True, kw_only=True, eq=False, weakref_slot=True)
class RecordResults:
    """Stores the outcomes of one tenant's requests, those of all its channels together.

    At once where no other is to come soon, so that whatever waits for it goes on; else after a
    moment, with those that have come meanwhile.
    """

    tenant_id: UUID
    begin: BeginWork
    late: LateFailures
    observe: Observe = ignore
    in_flight: InFlight = field(default_factory=InFlight)
    """The process's."""

    under_way: int = field(default=0, init=False)
    """How many requests of all its channels are about to leave or not answered yet."""
    _waiting: deque[_Put] = field(default_factory=deque, init=False)
    _storing: set["asyncio.Task[None]"] = field(default_factory=set, init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _storing_seconds: float = field(default=0.0, init=False)  # The last time.

    def of(self, channel_id: UUID, *, stored: Callable[[int], None]) -> Outcomes:
        """The outcomes of one channel."""
        return Outcomes(channel_id=channel_id, recorder=self, stored=stored)

    def put(self, outcomes: Outcomes, result: AttemptResult) -> None:
        """Have an outcome recorded; `outcomes` is told when that is done."""
        self._waiting.append(_Put(outcomes, result))
        self._look()

    async def stop(self) -> None:
        """Store nothing more: what is not stored stays marked, and Meta's reports settle it."""
        self._waiting.clear()
        for task in self._storing:
            task.cancel()
        await asyncio.gather(*self._storing, return_exceptions=True)

    def _look(self, *, is_late: bool = False) -> None:
        """Begin to store what is there, if that is enough; or see again in a moment."""
        while self._waiting and self._may_begin and (is_late or self._are_enough):
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_RECORDED))]
            task = asyncio.get_running_loop().create_task(self._store_all(batch))
            self._storing.add(task)
            task.add_done_callback(self._has_stored)
        if self._waiting and not self._storing and self._timer is None:
            wait = min(max(WAIT_SECONDS, 2 * self._storing_seconds), LONGEST_WAIT_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(wait, self._waited)

    @property
    def _may_begin(self) -> bool:
        """One transaction after the other, while they keep up."""
        is_full = len(self._waiting) >= MAX_RECORDED
        return not self._storing or (is_full and len(self._storing) < MOST_AT_ONCE)

    @property
    def _are_enough(self) -> bool:
        return len(self._waiting) >= MAX_RECORDED or self.under_way <= 0

    def _waited(self) -> None:
        self._timer = None
        self._look(is_late=True)

    def _has_stored(self, task: "asyncio.Task[None]") -> None:
        self._storing.discard(task)
        if not task.cancelled():
            self._look()

    async def _store_all(self, batch: Sequence[_Put]) -> None:
        began = time.monotonic()
        try:
            await self._store(batch)
        except Exception:
            logger.exception("recording outcomes failed in an unforeseen way")
        finally:
            self._storing_seconds = time.monotonic() - began
            for outcomes, number in Counter(one.outcomes for one in batch).items():
                outcomes.close(number)

    async def _store(self, batch: Sequence[_Put]) -> None:
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
                for one in batch if len(batch) > 1 else ():
                    await self._store([one])
                return
            break
        stored = _stored_by(tries)
        held = stored.held
        # What was not sent at all has no outcome that could be late.
        lost = sum(one.message_id not in held for _, one in batch if one.number)
        if lost:
            logger.warning("%d outcomes came after their lease was lost", lost)
        for _, result in batch:
            self.observe(result, result.message_id in held)
        for channel_id, failed in _by_channel(batch, stored.failed).items():
            await self.late.committed(self.tenant_id, channel_id, failed)

    async def _record(self, batch: Sequence[_Put], tries: list[AttemptsRecorded]) -> None:
        """Record `batch` and add to `tries` what that came to, if only it is committed."""
        results = [one.result for one in batch]
        async with self.begin(self.tenant_id) as work:
            wishing = await _lock_wishing(work, batch)
            recorded = await work.messages.record_attempts(results)
            for channel_id, refused in wishing.items():
                await heed_marketing_wishes(work, channel_id, wishes_in_answers(refused))
            for channel_id, failed in _by_channel(batch, recorded.failed).items():
                await self.late.stored(work, channel_id, failed)
            new = recorded.held - recorded.repeated
            await record_results(work, [one for one in results if one.message_id in new])
            tries.append(recorded)
            await work.commit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorders:
    """What records the outcomes of each tenant, for all that is sent by this process.

    One is kept for as long as a dispatcher has it or it has something to store.
    """

    begin: BeginWork
    late: LateFailures
    observe: Observe = ignore
    in_flight: InFlight = field(default_factory=InFlight)
    _by_tenant: WeakValueDictionary[UUID, RecordResults] = field(
        default_factory=WeakValueDictionary, init=False
    )

    def of(self, tenant_id: UUID) -> RecordResults:
        """The tenant's."""
        if (recorder := self._by_tenant.get(tenant_id)) is None:
            recorder = self._by_tenant[tenant_id] = RecordResults(
                tenant_id=tenant_id,
                begin=self.begin,
                late=self.late,
                observe=self.observe,
                in_flight=self.in_flight,
            )
        return recorder

    async def stop(self) -> None:
        """Store nothing more, once the dispatchers have ended or are to end at once."""
        for recorder in list(self._by_tenant.values()):
            await recorder.stop()


async def _lock_wishing(
    work: Work, batch: Sequence[_Put]
) -> Mapping[UUID, Sequence[AttemptResult]]:
    """Lock the people of channels some of whom wish something now; gives what says so.

    Also where a lease was lost: what somebody wishes does not hang on it. Always in one order.
    """
    said: dict[UUID, list[AttemptResult]] = defaultdict(list)
    for outcomes, result in batch:
        if result.failure is not None and wishes_in_answers([result]):
            said[outcomes.channel_id].append(result)
    for channel_id in sorted(said):
        await work.conversations.lock_people(channel_id)
    return {channel_id: said[channel_id] for channel_id in sorted(said)}


def _by_channel(
    batch: Sequence[_Put], failed: Sequence[LateFailure]
) -> Mapping[UUID, Sequence[LateFailure]]:
    """Late failures by the channel of their message, in the order of channels."""
    if not failed:
        return {}
    channels = {one.message_id: outcomes.channel_id for outcomes, one in batch}
    found: dict[UUID, list[LateFailure]] = defaultdict(list)
    for failure in failed:
        found[channels[failure.message_id]].append(failure)
    return {channel_id: found[channel_id] for channel_id in sorted(found)}


def _stored_by(tries: Sequence[AttemptsRecorded]) -> AttemptsRecorded:
    """What recording came to when it was stored: later tries found no more than repetitions.

    The answer to a commit may be lost, and then the results go to PostgreSQL again.
    """
    stored = tries[0]
    for one in tries[1:]:
        stored = stored if one.repeated else one
    return stored
