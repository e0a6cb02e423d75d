"""Taking slots: for how long they are asked to last, and what is counted."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from shared.kernel.ids import new_id
from whatsapp.application.departures import Departures
from whatsapp.application.fresh_channel import FreshChannel
from whatsapp.application.gates import Gates
from whatsapp.application.read_together import ReadTogether
from whatsapp.application.slot_use import SlotUse
from whatsapp.application.take_slots import TakeSlots
from whatsapp.domain.entities import Channel
from whatsapp.domain.rate_limit import LATENESS, Reservation
from whatsapp.domain.value_objects import AccessToken

CHANNEL = Channel(
    tenant_id=new_id(), name="Main", phone_number_id="1", access_token=AccessToken("t")
)


class Limiter:
    """A port that notes for how long slots are to last, and gives none."""

    def __init__(self) -> None:
        self.asked: list[timedelta] = []
        self.forfeited = 0

    async def reserve(self, _number: str, *, lateness: timedelta, **_: object) -> Reservation:
        self.asked.append(lateness)
        return Reservation((), timedelta(), self.forfeited)


class Place:
    """One channel's taking of slots, with all gates of its process."""

    def __init__(self) -> None:
        async def unreadable(*_: object) -> None:
            raise AssertionError

        self.limiter, self.use, gates = Limiter(), SlotUse(), Gates()
        self.mine, self.others = [
            Departures(use=use, changed=lambda: None, gates=gates) for use in (self.use, SlotUse())
        ]
        self.waiting: list[asyncio.Task[None]] = []
        fresh = FreshChannel(
            tenant_id=CHANNEL.tenant_id,
            channel_id=CHANNEL.id,
            reads=ReadTogether(begin=None),
            unreadable=unreadable,
            monotonic=lambda: 100.0,
        )
        self.take = TakeSlots(limiter=self.limiter, gate=self.mine, fresh=fresh)

    async def wait_at(self, gate: Departures, number: int) -> None:
        """So many requests wait there for slots."""
        leaving = (gate.leave(lambda: None, until=float("inf")) for _ in range(number))
        self.waiting += [asyncio.create_task(one) for one in leaving]
        await asyncio.sleep(0)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    place = Place()
    yield place
    for gate in (place.mine, place.others):
        gate.close()
    await asyncio.gather(*place.waiting, return_exceptions=True)


async def test_whoever_is_alone_takes_short_slots_however_many_it_needs(place) -> None:
    await place.wait_at(place.mine, 400)

    await place.take(CHANNEL, 50)

    assert place.limiter.asked == [LATENESS]


async def test_slots_last_while_the_requests_of_all_other_channels_leave(place) -> None:
    await place.wait_at(place.others, 400)
    await place.wait_at(place.mine, 4)

    await place.take(CHANNEL, 4)

    assert place.limiter.asked == [timedelta(milliseconds=40)]


async def test_slots_that_were_over_when_they_came_are_counted(place) -> None:
    place.limiter.forfeited = 3

    await place.take(CHANNEL, 4)

    assert place.use.forfeited == 3
