"""A loop that runs a piece of work again and again until it is told to stop."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from shared.kernel.errors import TellwireError

MAX_PAUSE_SECONDS: Final = 5.0
_JITTER: Final = 0.2

logger = logging.getLogger(__name__)


def steadily() -> float:
    """No stretch: each pause as long as the last."""
    return 1.0


@dataclass(slots=True, kw_only=True)
class Loop:
    """Calls `work` until stopped: at once while it finds `enough`, otherwise after a pause.

    Work that costs as much for a few things as for many lets them gather by asking for more. A
    pause is `pause_seconds` times `stretch()`: longer where many workers look for the same.

    `work` gives how much it found. What it raises of ours is logged by code and waited out, longer
    each time up to MAX_PAUSE_SECONDS (or the pause, if that is longer), and anything else too: one
    bad turn must not end a worker.
    """

    name: str
    work: Callable[[], Awaitable[int]]
    pause_seconds: float
    enough: int = 1
    stretch: Callable[[], float] = steadily
    rng: Random = field(default_factory=Random)

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until `stopping` is set; a turn that has begun is finished."""
        failures = 0
        while not stopping.is_set():
            try:
                found = await self.work()
                failures = 0
            except TellwireError as error:
                found, failures = 0, failures + 1
                logger.warning("%s: %s", self.name, error.code)
            except Exception:
                found, failures = 0, failures + 1
                logger.exception("%s failed in an unforeseen way", self.name)
            if found < self.enough:
                await self._pause(stopping, failures)

    async def _pause(self, stopping: asyncio.Event, failures: int) -> None:
        longest = max(self.pause_seconds, MAX_PAUSE_SECONDS)
        pause = min(self.pause_seconds * 2 ** min(failures, 10), longest)
        if not failures:
            pause *= self.stretch()
        pause *= 1 + _JITTER * (self.rng.random() - 0.5)
        try:
            async with asyncio.timeout(pause):
                await stopping.wait()
        except TimeoutError:
            return


@dataclass(slots=True, kw_only=True)
class Seldom:
    """Work for a `Loop` that is done every `every_seconds` only, the first time by chance earlier.

    Several processes that start at once do not all do it at once.
    """

    work: Callable[[], Awaitable[int]]
    every_seconds: float
    rng: Random = field(default_factory=Random)
    monotonic: Callable[[], float] = time.monotonic
    _next: float | None = field(default=None, init=False)

    async def __call__(self) -> int:
        """Do it where its time has come; 0 always, since there is nothing left then."""
        now = self.monotonic()
        if self._next is None:
            self._next = now + self.every_seconds * self.rng.random()
        if now >= self._next:
            self._next = now + self.every_seconds
            await self.work()
        return 0
