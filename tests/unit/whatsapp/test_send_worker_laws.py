"""Laws of who serves and tends which channels, whatever comes, ends, rests and is answered.

Several workers share one set of drivers; what they ask for takes as many steps of the loop as the
example says. Time is the test's own, and passes between rounds of looks.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.kernel.errors import Unavailable
from shared.kernel.ids import new_id
from whatsapp.domain.driving import Stance
from whatsapp.domain.send_queue import ChannelWork
from whatsapp.entrypoints.workers.send_worker import SendWorker

PLACES = 3
ROUND_SECONDS = 0.1
DRIVEN_SECONDS = 0.4
FILLS = 2
"""In each round, side by side with the look."""


@dataclass(eq=False)
class Dispatcher:
    """Serves until it is told to end; whoever is retired sends for a few rounds more."""

    key: tuple
    messages_per_second: int = 80
    forfeited: int = 0
    resting: timedelta | None = None
    asks_first: bool = False
    has_sent: bool = True
    is_sending: bool = True
    was_stopped: bool = False
    was_retired: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    stance: Stance = Stance.ALONE

    async def run(self) -> int:
        await self.ended.wait()
        return 0

    def stop(self) -> None:
        self.was_stopped = True

    def retire(self) -> None:
        self.was_retired = True

    def wake(self) -> None:
        pass

    @property
    def serves(self) -> bool:
        return not (self.was_stopped or self.ended.is_set())


@dataclass(eq=False)
class World:
    """A queue, and drivers that forget, refuse, fail and take their time."""

    rng: Random
    is_calm: bool = False
    channels: dict = field(default_factory=dict)
    driven: dict = field(default_factory=dict)
    now: float = 0.0

    async def slowly(self) -> None:
        for _ in range(0 if self.is_calm else self.rng.choice((0, 0, 1, 3, 8))):
            await asyncio.sleep(0)

    def fail_at_times(self) -> None:
        if not self.is_calm and self.rng.random() < 0.1:
            raise Unavailable

    def driver_of(self, channel):
        driver, until = self.driven.get(channel, (None, 0.0))
        return driver if until > self.now else None

    async def find_work(self, *, after, limit):
        await self.slowly()
        self.fail_at_times()
        keys = sorted(key for key in self.channels if key > after)[:limit]
        return [self.channels[key] for key in keys]


@dataclass(eq=False)
class Seat:
    """One worker's drivers and dispatchers."""

    world: World
    served: list = field(default_factory=list)
    workers: int = 1

    async def drive(self, stances):
        await self.world.slowly()
        self.world.fail_at_times()
        ours = set()
        for channel, stance in stances.items():
            if not self.world.is_calm and self.world.rng.random() < 0.1:
                continue  # It changed its mind.
            if self.world.driver_of(channel) in (None, self):
                ours.add(channel)
                if stance is not Stance.LOOK:
                    self.world.driven[channel] = (self, self.world.now + DRIVEN_SECONDS)
        await self.world.slowly()
        return frozenset(ours)

    async def leave(self, channels) -> None:
        await self.world.slowly()
        self.world.fail_at_times()
        for channel in channels:
            if self.world.driver_of(channel) is self:
                del self.world.driven[channel]

    def dispatch(self, *key):
        self.served.append(Dispatcher(key))
        return self.served[-1]

    def ensure_lawful(self) -> None:
        live = [one.key for one in self.served if one.serves]
        assert len(live) == len(set(live)), "served twice at once"
        assert len(live) <= PLACES, "more than there is room for"

    def move_on(self, rng: Random, *, is_calm: bool) -> None:
        """Some end, some only wait for answers, some have to rest; all have turns in the calm."""
        for one in [one for one in self.served if not one.ended.is_set()]:
            chance = rng.random()
            if one.was_stopped or one.was_retired or chance < (0 if is_calm else 0.15):
                one.resting = timedelta(seconds=0.3) if chance < 0.05 and not is_calm else None
                one.is_sending = False
                if chance < 0.5 or is_calm:
                    one.ended.set()


@dataclass(eq=False)
class Life:
    """Rounds of looks, fills and words to the drivers, all side by side."""

    world: World
    seats: list
    workers: list
    dispatchers: asyncio.TaskGroup

    async def round_of(self, seat: Seat, worker: SendWorker) -> None:
        async def do(work) -> None:
            with suppress(Unavailable):  # As `Loop` does.
                await work
            seat.ensure_lawful()
            await asyncio.sleep(0)

        async def fills() -> None:
            for _ in range(FILLS):
                await do(worker._fill(self.dispatchers))

        await asyncio.gather(do(worker._sweep(self.dispatchers)), fills(), do(worker._go_on()))

    async def rounds(self, number: int, after=lambda: None) -> None:
        for _ in range(number):
            both = zip(self.seats, self.workers, strict=True)
            await asyncio.gather(*(self.round_of(*one) for one in both))
            for seat in self.seats:
                seat.move_on(self.world.rng, is_calm=self.world.is_calm)
            after()
            await asyncio.sleep(0)
            self.world.now += ROUND_SECONDS

    def come_and_go(self) -> None:
        world = self.world
        for _ in range(world.rng.randrange(3)):
            if world.rng.random() < 0.6 or len(world.channels) < 5:
                key = (new_id(), new_id())
                world.channels[key] = work_of(key, world.rng)
            else:
                del world.channels[world.rng.choice(list(world.channels))]

    async def ensure_nobody_is_forgotten(self) -> None:
        """From any state, once nothing fails any more."""
        channels = self.world.channels
        self.world.is_calm = True
        over = {one for seat in self.seats for one in seat.served if not one.serves}
        for worker in self.workers:
            worker._to_tend = {}
        await self.rounds(10)
        for worker in self.workers:
            assert worker._to_tend.keys() >= {key for key, work in channels.items() if work.unknown}
        await self.rounds(20 + 12 * len(channels))
        begun = {one.key for seat in self.seats for one in seat.served if one not in over}
        assert begun >= {key for key, work in channels.items() if work.sending}

    async def ensure_a_stop_ends_all(self) -> None:
        """Also what is begun at this moment."""
        self.world.is_calm = False
        stops = [asyncio.create_task(worker._stop()) for worker in self.workers]
        self.world.rng.shuffle(stops)
        await asyncio.gather(self.rounds(2), *stops, return_exceptions=True)
        self.world.is_calm = True
        await self.rounds(1)
        for seat, worker in zip(self.seats, self.workers, strict=True):
            await worker._leave(worker._to_leave)
            assert not any(one.serves for one in seat.served)
            for one in seat.served:
                one.ended.set()


def work_of(key, rng: Random) -> ChannelWork:
    sending, tended = rng.choice(((True, False), (True, False), (True, True), (False, True)))
    return ChannelWork(*key, sending=sending, retrying=tended, unknown=tended, expiring=tended)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**9), st.integers(1, 3), st.integers(0, 16))
def test_nobody_is_served_twice_or_beyond_the_room_or_forgotten(seed, number, channels) -> None:
    world = World(Random(seed))
    keys = [(new_id(), new_id()) for _ in range(channels)]
    world.channels = {key: work_of(key, world.rng) for key in keys}
    seats = [Seat(world) for _ in range(number)]
    workers = [
        SendWorker(
            queue=world,
            dispatch=seat.dispatch,
            drivers=seat,
            retry=None,
            settle=None,
            expire=None,
            max_channels=PLACES,
            monotonic=lambda: world.now,
        )
        for seat in seats
    ]

    async def all_of_it() -> None:
        async with asyncio.timeout(30), asyncio.TaskGroup() as dispatchers:
            life = Life(world, seats, workers, dispatchers)
            await life.rounds(30, life.come_and_go)
            await life.ensure_nobody_is_forgotten()
            await life.ensure_a_stop_ends_all()

    asyncio.run(all_of_it())
