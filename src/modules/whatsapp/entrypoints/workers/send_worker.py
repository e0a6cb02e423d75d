"""The send worker: serves every channel that has work, each by a task of its own."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID

from shared.kernel.errors import Unavailable
from whatsapp.application.dispatch_channel import DispatchChannel
from whatsapp.application.tend_channel import RetryFailed, SettleUnknown
from whatsapp.domain.send_queue import NIL, ChannelWork, SendQueue
from whatsapp.entrypoints.workers.loop import Loop

SWEEP_SECONDS: Final = 0.1
SWEEP_CHANNELS: Final = 500
ABANDONED_SECONDS: Final = 5.0
MAX_CHANNELS: Final = 200

logger = logging.getLogger(__name__)
Dispatch: TypeAlias = Callable[[UUID, UUID], DispatchChannel]
_Key: TypeAlias = tuple[UUID, UUID]


@dataclass(slots=True, kw_only=True)
class SendWorker:
    """Finds channels with work by a rotating cursor and keeps one dispatcher for each.

    At most MAX_CHANNELS dispatch at once; further ones wait for their turn. `run` returns when
    `stopping` is set and every request under way has its outcome recorded.
    """

    queue: SendQueue
    dispatch: Dispatch
    retry: RetryFailed
    settle: SettleUnknown
    _running: dict[_Key, DispatchChannel] = field(default_factory=dict, init=False)
    _seen: set[_Key] = field(default_factory=set, init=False)
    _cursor: _Key = field(default=(NIL, NIL), init=False)

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set, then finish what has left."""
        async with asyncio.TaskGroup() as dispatchers:

            async def sweep() -> int:
                return await self._sweep(dispatchers)

            async with asyncio.TaskGroup() as loops:
                find = Loop(name="find work", work=sweep, pause_seconds=SWEEP_SECONDS)
                hold = Loop(
                    name="hold abandoned",
                    work=self._hold_abandoned,
                    pause_seconds=ABANDONED_SECONDS,
                )
                loops.create_task(find.run(stopping))
                loops.create_task(hold.run(stopping))
            for dispatcher in self._running.values():
                dispatcher.stop()

    async def _sweep(self, dispatchers: asyncio.TaskGroup) -> int:
        """Look at the next handful of channels; 0, so that the loop pauses between sweeps."""
        found = await self.queue.find_work(after=self._cursor, limit=SWEEP_CHANNELS)
        at_the_end = len(found) < SWEEP_CHANNELS
        self._cursor = (NIL, NIL) if at_the_end else (found[-1].tenant_id, found[-1].channel_id)
        self._seen.update((work.tenant_id, work.channel_id) for work in found)
        for tenant in {work.tenant_id for work in found if work.retrying}:
            await self.retry(tenant)
        for work in found:
            if work.unknown:
                await self.settle.give_up(work.tenant_id, work.channel_id)
            if work.sending:
                self._start(work, dispatchers)
        return 0

    def _start(self, work: ChannelWork, dispatchers: asyncio.TaskGroup) -> None:
        key = (work.tenant_id, work.channel_id)
        if key in self._running or len(self._running) >= MAX_CHANNELS:
            return
        self._running[key] = dispatcher = self.dispatch(*key)
        dispatchers.create_task(self._serve(key, dispatcher))

    async def _serve(self, key: _Key, dispatcher: DispatchChannel) -> None:
        try:
            await dispatcher.run()
        except Unavailable as error:
            logger.warning("dispatching waits: %s", error.code)
        except Exception:
            logger.exception("dispatching failed in an unforeseen way")
        finally:
            del self._running[key]

    async def _hold_abandoned(self) -> int:
        """Look after the channels that the last sweeps have seen."""
        seen, self._seen = self._seen, set()
        for tenant_id, channel_id in seen:
            held = await self.settle.hold_abandoned(tenant_id, channel_id)
            if held:
                logger.warning("%d messages of unknown outcome held", held)
        return 0
