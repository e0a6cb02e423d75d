"""An installation of the test's own: a queue, drivers, dispatchers, and what tends channels."""

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from shared.kernel.errors import Unavailable
from whatsapp.application.tend_channel import ExpireUnsent, RetryFailed, SettleUnknown
from whatsapp.domain.driving import Stance
from whatsapp.domain.send_queue import ChannelWork, Lease
from whatsapp.entrypoints.workers.send_worker import SendWorker


@dataclass
class Dispatcher:
    """Serves until it is stopped or told that nothing is due."""

    key: tuple
    stance: Stance = Stance.ALONE
    forfeited: int = 0
    resting: timedelta | None = None
    asks_first: bool = False
    has_sent: bool = True
    is_sending: bool = True
    messages_per_second: int = 80
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    was_stopped: bool = False
    was_retired: bool = False

    async def run(self) -> int:
        await self.ended.wait()
        return 0

    def stop(self) -> None:
        self.was_stopped = True
        self.ended.set()

    def retire(self) -> None:
        self.was_retired = True
        if self.is_sending:
            self.ended.set()

    def wake(self) -> None:
        pass


@dataclass
class Installation:
    """A queue in which every channel has work, and drivers that give what they are told to."""

    channels: list
    given_away: set = field(default_factory=set)
    workers: int = 1
    is_gone: bool = False
    is_tended: bool = False
    served: list[Dispatcher] = field(default_factory=list)
    stances: dict = field(default_factory=dict)
    left: list = field(default_factory=list)
    asked: int = 0
    rate: int = 80
    looks: list[int] = field(default_factory=list)
    may_look: asyncio.Event = field(default_factory=asyncio.Event)
    seconds: float = 0.0  # That whoever asks has to wait.
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: set = field(default_factory=set)  # Whom to begin was asked, and not answered yet.
    only_tended: set = field(default_factory=set)

    def __post_init__(self) -> None:
        self.may_look.set()
        self.may_answer.set()

    async def find_work(self, *, after, limit):
        await self.may_look.wait()
        self.looks.append(limit)
        await asyncio.sleep(self.seconds)
        keys = sorted(key for key in self.channels if key > after)[:limit]
        return [self.work_of(key) for key in keys]

    def work_of(self, key) -> ChannelWork:
        tended = self.is_tended or key in self.only_tended
        sending = key not in self.only_tended
        return ChannelWork(*key, sending=sending, retrying=tended, unknown=tended, expiring=tended)

    async def find_abandoned(self, _channels, *, limit):
        assert limit
        return []

    async def drive(self, stances):
        self.asked += 1
        alone = {channel for channel, stance in stances.items() if stance is Stance.ALONE}
        if wanted := alone - self.serving:
            self.wanted |= wanted
            await self.may_answer.wait()
            self.wanted -= wanted
        await asyncio.sleep(self.seconds)
        if self.is_gone:
            raise Unavailable
        self.stances |= stances
        return frozenset(stances) - self.given_away

    async def leave(self, channels) -> None:
        self.left += channels

    def dispatch(self, *key) -> Dispatcher:
        self.served.append(Dispatcher(key, messages_per_second=self.rate))
        return self.served[-1]

    @property
    def serving(self) -> set:
        return {one.key[1] for one in self.served if not one.ended.is_set()}


@asynccontextmanager
async def working(installation, stopping=None, **more):
    stopping = stopping or asyncio.Event()
    untended = {
        "retry": RetryFailed(begin=None),
        "settle": SettleUnknown(begin=None, queue=installation, inbox=None, unknown_for=None),
        "expire": ExpireUnsent(begin=None),
    }
    worker = SendWorker(
        queue=installation,
        dispatch=installation.dispatch,
        drivers=installation,
        **untended | more,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run(stopping))
        yield worker
        stopping.set()


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # of tasks that set no event
            await asyncio.sleep(0.01)


@dataclass
class Tending:
    """Retries, and outcomes that are unknown, of which one tenant's are beyond mending."""

    broken: object
    lease: Lease = field(default_factory=lambda: Lease(timedelta(seconds=1)))
    done: dict = field(default_factory=lambda: defaultdict(set))
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_end.set()

    async def tend(self, what, tenant_id) -> int:
        self.done[what].add(tenant_id)
        await self.may_end.wait()
        if tenant_id == self.broken:
            raise ValueError("a row that nobody can read")
        return 0

    async def __call__(self, tenant_id) -> int:
        return await self.tend("retry", tenant_id)

    async def give_up(self, tenant_id, _channel_id) -> int:
        return await self.tend("give up", tenant_id)

    async def find_abandoned(self, channels):
        return channels

    async def hold_abandoned(self, tenant_id, _channel_id) -> int:
        return await self.tend("hold", tenant_id)


@dataclass
class Expiring:
    """Messages whose time has run out, of which one tenant's are beyond mending."""

    tending: Tending

    async def __call__(self, tenant_id, _channel_id) -> int:
        return await self.tending.tend("expire", tenant_id)
