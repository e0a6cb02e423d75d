"""The media worker: moves files, so many at a time, tenant after tenant."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from shared.kernel.errors import TellwireError
from whatsapp.domain.media import MediaFailure
from whatsapp.domain.media_repository import MediaJob, MediaQueue
from whatsapp.domain.send_queue import NIL
from whatsapp.entrypoints.workers.loop import Loop

PAUSE_SECONDS: Final = 0.2
PER_TENANT: Final = 4
"""While others wait, one tenant gets no more of one handful."""

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
    moved: Callable[[MediaJob, MediaFailure | None], None] = lambda _job, _failure: None
    _free: int = field(default=0, init=False)
    _after: UUID = field(default=NIL, init=False)

    async def run(self, stopping: asyncio.Event) -> None:
        """Move files until `stopping` is set, then finish those under way."""
        self._free = self.concurrency
        async with asyncio.TaskGroup() as moving:

            async def turn() -> int:
                return await self._claim(moving)

            await Loop(name="move media", work=turn, pause_seconds=PAUSE_SECONDS).run(stopping)

    async def _claim(self, moving: asyncio.TaskGroup) -> int:
        """Start as many as there is room for; gives how many, so that the loop knows to pause."""
        if not self._free:
            return 0
        after = self._after
        jobs = await self.queue.claim(
            limit=self._free, per_tenant=PER_TENANT, lease=self.lease, after=after
        )
        self._free -= len(jobs)
        for job in jobs:
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
            self._free += 1
