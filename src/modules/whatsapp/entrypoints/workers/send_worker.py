"""The send worker: serves every channel that has work, each by a task of its own."""

import asyncio
import logging
import time
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
TEND_SECONDS: Final = 0.2
ABANDONED_SECONDS: Final = 5.0
MAX_CHANNELS: Final = 200
TURN_SECONDS: Final = 1.0
"""While others wait, a channel is served for so long and then makes room."""
MOST_REST_SECONDS: Final = 5.0
"""A channel that may not send is looked at again after so long, whatever it said."""

logger = logging.getLogger(__name__)
Dispatch: TypeAlias = Callable[[UUID, UUID], DispatchChannel]
_Key: TypeAlias = tuple[UUID, UUID]


@dataclass(slots=True)
class _Serving:
    dispatcher: DispatchChannel
    since: float


@dataclass(slots=True, kw_only=True)
class SendWorker:
    """Finds channels with work by a rotating cursor and keeps one dispatcher for each.

    At most `max_channels` dispatch at once; while others wait, those that were served longest make
    room. `run` returns when `stopping` is set and every request under way has its outcome recorded.
    """

    queue: SendQueue
    dispatch: Dispatch
    retry: RetryFailed
    settle: SettleUnknown
    max_channels: int = MAX_CHANNELS
    monotonic: Callable[[], float] = time.monotonic
    _running: dict[_Key, _Serving] = field(default_factory=dict, init=False)
    _resting: dict[_Key, float] = field(default_factory=dict, init=False)
    _to_tend: dict[_Key, ChannelWork] = field(default_factory=dict, init=False)
    _seen: set[_Key] = field(default_factory=set, init=False)
    _cursor: _Key = field(default=(NIL, NIL), init=False)

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set, then finish what has left."""
        async with asyncio.TaskGroup() as dispatchers:

            async def sweep() -> int:
                return await self._sweep(dispatchers)

            async with asyncio.TaskGroup() as loops:
                for name, work, pause in (
                    ("find work", sweep, SWEEP_SECONDS),
                    ("tend channels", self._tend, TEND_SECONDS),
                    ("hold abandoned", self._hold_abandoned, self._abandoned_seconds),
                ):
                    loop = Loop(name=name, work=work, pause_seconds=pause)
                    loops.create_task(loop.run(stopping))
            for serving in self._running.values():
                serving.dispatcher.stop()

    @property
    def _abandoned_seconds(self) -> float:
        """Looking for what a lease left behind costs; with short leases it is worth more often."""
        return min(ABANDONED_SECONDS, self.settle.lease.length.total_seconds() / 4)

    async def _sweep(self, dispatchers: asyncio.TaskGroup) -> int:
        """Look at the next handful of channels; 0, so that the loop pauses between sweeps."""
        found = await self.queue.find_work(after=self._cursor, limit=SWEEP_CHANNELS)
        last, waiting = self._cursor, 0
        for work in found:
            key = (work.tenant_id, work.channel_id)
            self._seen.add(key)
            if work.retrying or work.unknown:
                self._to_tend[key] = work
            if work.sending and not self._start(key, dispatchers):
                waiting += 1
            if not waiting:
                last = key  # Whoever has to wait is the first one next time.
        at_the_end = len(found) < SWEEP_CHANNELS and not waiting
        self._cursor = (NIL, NIL) if at_the_end else last
        self._make_room(waiting)
        return 0

    def _start(self, key: _Key, dispatchers: asyncio.TaskGroup) -> bool:
        """Have the channel served; False where there is no room for it now."""
        if key in self._running:
            self._running[key].dispatcher.wake()
            return True
        if self._resting.get(key, 0.0) > self.monotonic():
            return True
        if len(self._running) >= self.max_channels:
            return False
        self._resting.pop(key, None)
        dispatcher = self.dispatch(*key)
        self._running[key] = _Serving(dispatcher, self.monotonic())
        dispatchers.create_task(self._serve(key, dispatcher))
        return True

    def _make_room(self, waiting: int) -> None:
        """Ask as many as wait to finish, those first that have been served longest."""
        if not waiting:
            return
        enough = self.monotonic() - TURN_SECONDS
        served = sorted(self._running.values(), key=lambda serving: serving.since)
        for serving in served[:waiting]:
            if serving.since <= enough:
                serving.dispatcher.stop()

    async def _serve(self, key: _Key, dispatcher: DispatchChannel) -> None:
        try:
            claimed = await dispatcher.run()
            logger.debug("served: %d claimed, %d slots forfeited", claimed, dispatcher.forfeited)
        except Unavailable as error:
            logger.warning("dispatching waits: %s", error.code)
        except Exception:
            logger.exception("dispatching failed in an unforeseen way")
        finally:
            del self._running[key]
        if dispatcher.resting:
            rest = min(dispatcher.resting.total_seconds(), MOST_REST_SECONDS)
            self._resting[key] = self.monotonic() + rest

    async def _tend(self) -> int:
        """Queue due retries again and give up what nobody reported, where the sweep saw some."""
        to_tend, self._to_tend = self._to_tend, {}
        for tenant_id in {work.tenant_id for work in to_tend.values() if work.retrying}:
            await self.retry(tenant_id)
        for work in to_tend.values():
            if work.unknown:
                await self.settle.give_up(work.tenant_id, work.channel_id)
        return 0

    async def _hold_abandoned(self) -> int:
        """Look after the channels that the last sweeps have seen."""
        seen, self._seen = self._seen, set()
        for tenant_id, channel_id in seen:
            held = await self.settle.hold_abandoned(tenant_id, channel_id)
            if held:
                logger.warning("%d messages of unknown outcome held", held)
        return 0
