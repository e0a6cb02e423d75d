"""The media worker: moves files, so many at a time, tenant after tenant."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from shared.kernel.errors import TellwireError
from shared.kernel.ids import NIL
from whatsapp.domain.media import MediaFailure
from whatsapp.domain.media_repository import MediaJob, MediaQueue
from whatsapp.entrypoints.workers.loop import Loop, steadily

PAUSE_SECONDS: Final = 0.2

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class MediaWorker:
    """Claims jobs as places become free; `run` returns when what is under way has ended.

    `moved` is told of every attempt: the kind of job and what came of it.
    """

    queue: MediaQueue
    move: Callable[[MediaJob], Awaitable[MediaFailure | None]]
    lease: timedelta
    concurrency: int
    stretch: Callable[[], float] = steadily
    moved: Callable[[MediaJob, MediaFailure | None], None] = lambda _job, _failure: None
    _moving: Counter[UUID] = field(default_factory=Counter[UUID], init=False)
    _after: UUID = field(default=NIL, init=False)

    async def run(self, stopping: asyncio.Event) -> None:
        """Move files until `stopping` is set, then finish those under way."""
        async with asyncio.TaskGroup() as moving:

            async def turn() -> int:
                return await self._claim(moving)

            loop = Loop(
                name="move media", work=turn, pause_seconds=PAUSE_SECONDS, stretch=self.stretch
            )
            await loop.run(stopping)

    @property
    def _handful(self) -> int:
        """A quarter of the places: so many a tenant gets at a time."""
        return max(1, self.concurrency // 4)

    @property
    def _most(self) -> int:
        """Whoever has so many gets no more, so that others find a place at once."""
        return max(1, self.concurrency - 2 * self._handful + 1)

    async def _claim(self, moving: asyncio.TaskGroup) -> int:
        """Start as many as there is room for; gives how many, so that the loop knows to pause."""
        free = self.concurrency - self._moving.total()
        if not free:
            return 0
        after = self._after
        jobs = await self.queue.claim(
            limit=free,
            per_tenant=self._handful,
            lease=self.lease,
            after=after,
            without=[one for one, number in self._moving.items() if number >= self._most],
        )
        for job in jobs:
            self._moving[job.tenant_id] += 1
            moving.create_task(self._move(job))
        # At the end of the tenants the next turn begins with the first.
        self._after = max((job.tenant_id for job in jobs), default=NIL)
        return len(jobs) or int(after != NIL)

    async def _move(self, job: MediaJob) -> None:
        try:
            self.moved(job, await self.move(job))
        except TellwireError as error:
            logger.warning("moving a file waits for the end of its lease: %s", error.code)
        except Exception:
            logger.exception("moving a file failed in an unforeseen way")
        finally:
            self._moving[job.tenant_id] -= 1
            if not self._moving[job.tenant_id]:
                del self._moving[job.tenant_id]
