"""The send worker: serves every channel that has work, each by a task of its own."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID

from shared.kernel.errors import Unavailable
from shared.kernel.ids import NIL
from whatsapp.application.dispatch_channel import DispatchChannel
from whatsapp.application.tend_channel import ExpireUnsent, RetryFailed, SettleUnknown
from whatsapp.domain.driving import Drivers, Stance
from whatsapp.domain.rate_limit import DEFAULT_RATE
from whatsapp.domain.send_queue import ChannelWork, SendQueue
from whatsapp.entrypoints.workers.loop import Loop, steadily

SWEEP_SECONDS: Final = 0.1
SWEEP_CHANNELS: Final = 500
ENOUGH_WAITING: Final = 100
"""While more than so many wait for room, which is enough until the next sweep, nobody looks."""
ANYWAY_SECONDS: Final = 0.5
"""So often somebody looks even then, for others that are due and for those to be tended."""
FILL_SECONDS: Final = 0.01
"""So often it is seen whether places have become free for those that wait."""
HANDFUL: Final = 24
"""So many are begun together, since they then claim, read and mark together."""
ALONE_SECONDS: Final = 0.05
"""So long a free place waits for others to become a handful."""
DRIVE_SECONDS: Final = 0.1
"""So often a worker says that it still serves its channels."""
MOST_STRETCH: Final = 4.0
"""With many workers each one looks less often, as together they look often enough."""
TEND_SECONDS: Final = 0.2
ABANDONED_SECONDS: Final = 5.0
MAX_CHANNELS: Final = 200
"""So many are served at once, most of which do nothing but wait for Meta's answers."""
FEW_CHANNELS: Final = 48
"""So many are served at once however much they have to send: nobody waits for one of them."""
MOST_PER_SECOND: Final = 4000
"""More than these are begun while those that are sending could send less than this together.

That is several times what a worker can do: more channels at once would only wait for each other,
each with messages that it has claimed and loaded and can send none of.
"""
TURN_SECONDS: Final = 1.0
"""While others wait, a channel is served for so long and then makes room."""
LONGEST_TURN_SECONDS: Final = 10.0
"""So long where nothing has left yet: the first use of a number, or a worker with much to do."""
MOST_REST_SECONDS: Final = 5.0
"""A channel that may not send is looked at again after so long, whatever it said."""
MAX_RESTING: Final = 1000
FORGOTTEN_SECONDS: Final = 3600.0
"""With more than so many, those are let go that had nothing to send for so long afterwards."""

logger = logging.getLogger(__name__)
Dispatch: TypeAlias = Callable[[UUID, UUID], DispatchChannel]
_Key: TypeAlias = tuple[UUID, UUID]


@dataclass(slots=True)
class _Serving:
    dispatcher: DispatchChannel
    since: float
    is_retired: bool = False

    def had_its_turn(self, now: float) -> bool:
        """Whether it may be asked to make room."""
        turn = TURN_SECONDS if self.dispatcher.has_sent else LONGEST_TURN_SECONDS
        return now - self.since >= turn


@dataclass(slots=True, kw_only=True)
class SendWorker:
    """Finds channels with work by a rotating cursor and keeps one dispatcher for each.

    Of several workers one serves a channel, as long as it keeps up; the others step in within half
    a second when it is silent. At most `max_channels` dispatch at once, and fewer where they have
    much to send; while others wait, those that were served longest claim nothing more. Once
    `stopping` is set nothing is begun nor claimed any more, whatever else is under way, and `run`
    returns when every request that has left has its outcome recorded.
    """

    queue: SendQueue
    dispatch: Dispatch
    drivers: Drivers
    retry: RetryFailed
    settle: SettleUnknown
    expire: ExpireUnsent
    max_channels: int = MAX_CHANNELS
    monotonic: Callable[[], float] = time.monotonic
    _running: dict[_Key, _Serving] = field(default_factory=dict, init=False)
    _resting: dict[_Key, float] = field(default_factory=dict, init=False)
    _to_tend: dict[_Key, ChannelWork] = field(default_factory=dict, init=False)
    _seen: set[_Key] = field(default_factory=set, init=False)
    _to_leave: set[UUID] = field(default_factory=set, init=False)  # Served to the end.
    _cursor: _Key = field(default=(NIL, NIL), init=False)
    _waiting: list[_Key] = field(default_factory=list, init=False)  # For room, as seen last.
    _free_since: float | None = field(default=None, init=False)  # Places, while some wait.
    _is_crowded: bool = field(default=False, init=False)  # Some waited in this walk.
    _look_at: float = field(default=0.0, init=False)  # From then on, however many wait.
    _wide_at: float = field(default=0.0, init=False)  # Then others than those are looked at.
    _tend_cursor: _Key = field(default=(NIL, NIL), init=False)  # Of those looks.
    _beginning: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _is_stopped: bool = field(default=False, init=False)

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set, then finish what has left."""
        async with asyncio.TaskGroup() as dispatchers:

            async def sweep() -> int:
                return await self._sweep(dispatchers)

            async def fill() -> int:
                return await self._fill(dispatchers)

            async with asyncio.TaskGroup() as loops:
                for name, work, pause, stretch in (
                    ("find work", sweep, SWEEP_SECONDS, self.stretch),
                    ("fill places", fill, FILL_SECONDS, steadily),
                    ("go on driving", self._go_on, DRIVE_SECONDS, steadily),
                    ("tend channels", self._tend, TEND_SECONDS, self.stretch),
                    ("hold abandoned", self._hold_abandoned, self._abandoned_seconds, self.stretch),
                ):
                    loop = Loop(name=name, work=work, pause_seconds=pause, stretch=stretch)
                    loops.create_task(loop.run(stopping))
                await stopping.wait()
                await self._stop()
            await self._leave(self._to_leave)  # Also what the last turns were given.

    def stretch(self) -> float:
        """How much longer than a worker alone this one may pause between looks at anything."""
        return min(max(1.0, self.drivers.workers / 2), MOST_STRETCH)

    @property
    def _abandoned_seconds(self) -> float:
        """Looking for what a lease left behind costs; with short leases it is worth more often."""
        return min(ABANDONED_SECONDS, self.settle.lease.length.total_seconds() / 4)

    async def _sweep(self, dispatchers: asyncio.TaskGroup) -> int:
        """Look at the next channels, unless enough wait; 0, so that the loop pauses in between."""
        self._let_go()
        await self._look_widely()
        now = self.monotonic()
        if len(self._waiting) <= ENOUGH_WAITING or now >= self._look_at:
            self._look_at = now + ANYWAY_SECONDS
            await self._look(dispatchers)
        self._make_room(len(self._waiting))
        return 0

    async def _look(self, dispatchers: asyncio.TaskGroup) -> None:
        after = self._cursor
        found = await self.queue.find_work(after=after, limit=SWEEP_CHANNELS)
        keys = {(work.tenant_id, work.channel_id): work for work in found}
        due = [key for key, work in keys.items() if work.sending and not self._is_served(key)]
        self._waiting = []
        waiting = await self._begin(due, dispatchers)
        self._note(keys)
        self._waiting = waiting
        if waiting:  # Whoever has to wait is the first of the next sweep.
            after = max((key for key in keys if key < waiting[0]), default=after)
        else:
            after = (NIL, NIL) if len(keys) < SWEEP_CHANNELS else max(keys)
        self._cursor = after
        self._is_crowded = bool(waiting) or (self._is_crowded and after != (NIL, NIL))

    async def _look_widely(self) -> None:
        """While some wait, see who has to be tended: also those whose turn to send comes late."""
        now = self.monotonic()
        if not self._is_crowded:
            self._wide_at, self._tend_cursor = now + ANYWAY_SECONDS, (NIL, NIL)
        elif now >= self._wide_at:
            self._wide_at = now + ANYWAY_SECONDS
            found = await self.queue.find_work(after=self._tend_cursor, limit=SWEEP_CHANNELS)
            keys = {(work.tenant_id, work.channel_id): work for work in found}
            self._note(keys)
            self._tend_cursor = (NIL, NIL) if len(keys) < SWEEP_CHANNELS else max(keys)

    def _note(self, found: Mapping[_Key, ChannelWork]) -> None:
        """Remember who has to be tended, and who may have been abandoned."""
        self._seen.update(found)
        self._to_tend |= {
            key: work
            for key, work in found.items()
            if work.retrying or work.unknown or work.expiring
        }

    async def _begin(self, due: Sequence[_Key], dispatchers: asyncio.TaskGroup) -> list[_Key]:
        """Serve as many as there is room for; gives those that wait for some.

        One at a time: room is still there when the drivers have answered.
        """
        async with self._beginning:
            due = [key for key in due if key not in self._running]
            room = 0 if self._is_stopped else self._room()
            stances = dict.fromkeys((channel for _, channel in due[:room]), Stance.ALONE)
            stances |= dict.fromkeys((channel for _, channel in due[room:]), Stance.LOOK)
            ours = await self._drive(stances)
            for key in due[:room]:
                if key[1] in ours:
                    self._start(key, dispatchers)
            return [key for key in due[room:] if key[1] in ours]

    async def _fill(self, dispatchers: asyncio.TaskGroup) -> int:
        """Give places that have become free to those that wait; 0, so that the loop pauses."""
        self._let_go()
        room = self._room() if self._waiting and not self._beginning.locked() else 0
        if self._is_handful(room):
            first, self._waiting = self._waiting[:room], self._waiting[room:]
            self._cursor = first[-1]
            await self._begin(first, dispatchers)
        return 0

    def _is_handful(self, room: int) -> bool:
        """Whether so many places are to be given away now, or are to become more before."""
        if not room:
            self._free_since = None
            return False
        now = self.monotonic()
        self._free_since = now if self._free_since is None else self._free_since
        enough = min(room, len(self._waiting)) >= min(HANDFUL, len(self._waiting))
        if enough or now - self._free_since >= ALONE_SECONDS:
            self._free_since = None
            return True
        return False

    def _let_go(self) -> None:
        """Let others begin on channels that were asked to finish and only wait for answers."""
        for key, serving in list(self._running.items()):
            if serving.is_retired and not serving.dispatcher.is_sending:
                self._end(key)
                self._to_leave.add(key[1])

    def _room(self) -> int:
        """How many more channels may be begun now."""
        sending = per_second = 0
        for serving in self._running.values():
            if serving.dispatcher.is_sending:
                sending += 1
                per_second += serving.dispatcher.messages_per_second
                if sending >= FEW_CHANNELS and per_second >= MOST_PER_SECOND:
                    return 0
        unused = (MOST_PER_SECOND - per_second) // DEFAULT_RATE
        left = self.max_channels - len(self._running)
        return max(0, min(left, max(FEW_CHANNELS - sending, unused)))

    async def _drive(self, stances: Mapping[UUID, Stance]) -> Collection[UUID]:
        """Those that this worker is to serve; all of them where nobody can say, it is a hint."""
        try:
            return await self.drivers.drive(stances)
        except Unavailable as error:
            logger.warning("nobody says who serves which channel: %s", error.code)
            return stances

    async def _go_on(self) -> int:
        """Say which channels are still served here; stop with those that somebody else serves."""
        ended, self._to_leave = self._to_leave, set()
        await self._leave(ended)
        served = {key[1]: (key, serving) for key, serving in self._running.items()}
        if served:
            stances = {one: serving.dispatcher.stance for one, (_, serving) in served.items()}
            ours = await self._drive(stances)
            for channel, (key, serving) in served.items():
                if channel not in ours and self._running.get(key) is serving:
                    self._end(key)
        return 0

    def _is_served(self, key: _Key) -> bool:
        """Whether there is nothing to start: it is served here already, or may not send for now."""
        if key in self._running:
            self._running[key].dispatcher.wake()
            return True
        return self._resting.get(key, 0.0) > self.monotonic()

    def _start(self, key: _Key, dispatchers: asyncio.TaskGroup) -> None:
        if self._is_stopped:
            self._to_leave.add(key[1])  # Just given to this worker.
            return
        self._to_leave.discard(key[1])
        serving = _Serving(self.dispatch(*key), self.monotonic())
        serving.dispatcher.asks_first = self._resting.pop(key, None) is not None
        self._running[key] = serving
        dispatchers.create_task(self._serve(key, serving))

    def _make_room(self, waiting: int) -> None:
        """Ask as many as wait to finish, those first that have been served longest."""
        now = self.monotonic()
        served = sorted(self._running.values(), key=lambda serving: serving.since)
        for serving in [one for one in served if one.had_its_turn(now)][:waiting]:
            serving.is_retired = True
            serving.dispatcher.retire()

    async def _stop(self) -> None:
        """Begin and claim nothing more, and let somebody else have the channels."""
        self._is_stopped = True
        self._to_leave |= {channel for _, channel in self._running}
        for key in list(self._running):
            self._end(key)
        await self._leave(self._to_leave)

    def _end(self, key: _Key) -> None:
        # What is under way may take long: a new dispatcher need not wait for that.
        self._running.pop(key).dispatcher.stop()

    async def _leave(self, channels: Collection[UUID]) -> None:
        if not channels:
            return
        try:
            await self.drivers.leave(channels)
        except Unavailable as error:
            logger.warning("channels left without a word: %s", error.code)

    async def _serve(self, key: _Key, serving: _Serving) -> None:
        dispatcher = serving.dispatcher
        try:
            claimed = await dispatcher.run()
            logger.debug("served: %d claimed, %d slots forfeited", claimed, dispatcher.forfeited)
        except Unavailable as error:
            logger.warning("dispatching waits: %s", error.code)
        except Exception:
            logger.exception("dispatching failed in an unforeseen way")
        if dispatcher.resting:
            self._rest(key, min(dispatcher.resting.total_seconds(), MOST_REST_SECONDS))
        if self._running.get(key) is serving:
            del self._running[key]
            self._to_leave.add(key[1])

    def _rest(self, key: _Key, seconds: float) -> None:
        now = self.monotonic()
        if len(self._resting) >= MAX_RESTING:
            lately = now - FORGOTTEN_SECONDS
            self._resting = {one: until for one, until in self._resting.items() if until > lately}
        self._resting[key] = now + seconds

    async def _tend(self) -> int:
        """Expire, queue due retries again, give up the unreported, where the sweep saw some."""
        to_tend, self._to_tend = self._to_tend, {}
        for work in to_tend.values():
            if work.expiring:
                await _alone(self.expire(work.tenant_id, work.channel_id))
        for tenant_id in {work.tenant_id for work in to_tend.values() if work.retrying}:
            await _alone(self.retry(tenant_id))
        for work in to_tend.values():
            if work.unknown:
                await _alone(self.settle.give_up(work.tenant_id, work.channel_id))
        return 0

    async def _hold_abandoned(self) -> int:
        """Look after the channels that the last sweeps have seen."""
        seen, self._seen = self._seen, set()
        for tenant_id, channel_id in await self.settle.find_abandoned(seen):
            held = await _alone(self.settle.hold_abandoned(tenant_id, channel_id))
            if held:
                logger.warning("%d messages of unknown outcome held", held)
        return 0


async def _alone(tending: Awaitable[int]) -> int:
    """Tend one channel; trouble of its own keeps nobody else waiting, and is looked at again."""
    try:
        return await tending
    except Unavailable:  # It is gone for all of them.
        raise
    except Exception:
        logger.exception("tending a channel failed in an unforeseen way")
        return 0
