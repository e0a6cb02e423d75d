"""The event worker: serves every endpoint that is due, each by a task of its own.

One that answers slowly or not at all holds up itself: it has a bounded number of requests, gives
up its place to those who are quick, and after a round in which it took nothing it rests, longer
each time, and is then asked with one.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final
from uuid import UUID

from shared.kernel.errors import TellwireError
from shared.kernel.ids import NIL
from whatsapp.application.deliver_events import DeliverEvents
from whatsapp.domain.events import DeliveryQueue, EndpointWork
from whatsapp.entrypoints.workers.loop import Loop

SWEEP_SECONDS: Final = 0.1
SWEEP_ENDPOINTS: Final = 500
MAX_ENDPOINTS: Final = 200
"""Served at once by one worker, besides those that are slow."""
SLOW_SECONDS: Final = 1.0
"""A round that takes longer is a slow one's."""
MAX_SLOW: Final = 400
"""So many slow ones take no place from others. Half of it is for those that are known to take
nothing, so that there is always some for those that have just become slow."""
MAX_OF_A_TENANT: Final = 5
"""Of these, so that a tenant with many dead endpoints takes up few places."""
PARALLEL: Final = 16
"""Requests that one endpoint gets at once."""
ROUNDS: Final = 50
"""After so many rounds an endpoint makes room for others."""
MOST_REST_SECONDS: Final = 60.0
MAX_RESTING: Final = 1000
FORGOTTEN_SECONDS: Final = 86_400.0
"""With more than so many, those are let go that had nothing due for so long after their rest."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Rest:
    """An endpoint that took nothing: how often in a row, and until when it is left alone."""

    failures: int
    until: float


@dataclass(slots=True)
class _Places:
    """Who is served at the moment: quick ones, slow ones, and how many of each tenant."""

    quick: int
    slow: int
    of_tenants: Counter[UUID]

    def take(self, work: EndpointWork, *, is_failing: bool) -> bool:
        """Whether there is room; one that is known to take nothing has room among the slow."""
        if self.of_tenants[work.tenant_id] >= MAX_OF_A_TENANT:
            return False
        if self.slow >= MAX_SLOW // 2 if is_failing else self.quick >= MAX_ENDPOINTS:
            return False
        if is_failing:
            self.slow += 1
        else:
            self.quick += 1
        self.of_tenants[work.tenant_id] += 1
        return True


@dataclass(slots=True, kw_only=True)
class EventWorker:
    """Finds endpoints that are due by a rotating cursor, and delivers until nothing is left."""

    queue: DeliveryQueue
    deliver: DeliverEvents
    rng: Random = field(default_factory=Random)
    monotonic: Callable[[], float] = time.monotonic
    _running: dict[EndpointWork, float] = field(default_factory=dict, init=False)
    """Who is served, and since when its round lasts."""
    _resting: dict[EndpointWork, _Rest] = field(default_factory=dict, init=False)
    _cursor: tuple[UUID, UUID] = field(default=(NIL, NIL), init=False)

    async def run(self, stopping: asyncio.Event) -> None:
        """Deliver until `stopping` is set; rounds under way are finished."""
        async with asyncio.TaskGroup() as rounds:

            async def sweep() -> int:
                return await self._sweep(rounds, stopping)

            await Loop(name="deliver events", work=sweep, pause_seconds=SWEEP_SECONDS).run(stopping)

    async def _sweep(self, rounds: asyncio.TaskGroup, stopping: asyncio.Event) -> int:
        """Look at the next handful of endpoints; 0, so that the loop pauses between sweeps."""
        due, following = await self.queue.find_work(after=self._cursor, limit=SWEEP_ENDPOINTS)
        self._cursor = following or (NIL, NIL)
        # A tenant's turn comes by chance where there is not room for all.
        self.rng.shuffle(shuffled := list(due))
        places = self._places()
        for work in shuffled:
            if self._may_begin(work) and places.take(work, is_failing=work in self._resting):
                self._running[work] = self.monotonic()
                rounds.create_task(self._serve(work, stopping))
        return 0

    def _places(self) -> "_Places":
        """What the endpoints that are being served leave for others."""
        long_ago = self.monotonic() - SLOW_SECONDS
        slow = sum(since < long_ago or one in self._resting for one, since in self._running.items())
        quick = len(self._running) - min(slow, MAX_SLOW)
        return _Places(quick, slow, Counter(one.tenant_id for one in self._running))

    def _may_begin(self, work: EndpointWork) -> bool:
        rest = self._resting.get(work)
        return work not in self._running and (rest is None or rest.until <= self.monotonic())

    async def _serve(self, work: EndpointWork, stopping: asyncio.Event) -> None:
        try:
            for _ in range(ROUNDS):
                self._running[work] = self.monotonic()
                failing = work in self._resting
                done = await self.deliver(work, limit=1 if failing else PARALLEL)
                if done.claimed and not done.taken:
                    self._rest(work)
                    return
                if done.taken:
                    self._resting.pop(work, None)
                if not done.claimed or stopping.is_set():
                    return
        except TellwireError as error:
            logger.warning("delivering events waits: %s", error.code)
        except Exception:
            logger.exception("delivering events failed in an unforeseen way")
        finally:
            del self._running[work]

    def _rest(self, work: EndpointWork) -> None:
        known = self._resting.get(work)
        failures = 1 if known is None else known.failures + 1
        seconds = min(2.0 ** min(failures, 10), MOST_REST_SECONDS) * (0.5 + self.rng.random() / 2)
        now = self.monotonic()
        if len(self._resting) >= MAX_RESTING:
            lately = now - FORGOTTEN_SECONDS
            self._resting = {o: rest for o, rest in self._resting.items() if rest.until > lately}
        self._resting[work] = _Rest(failures, now + seconds)
