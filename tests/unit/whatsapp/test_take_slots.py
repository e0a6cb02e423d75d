"""Taking slots: for how long they are asked to last, and what is counted."""

from datetime import timedelta

import pytest

from shared.kernel.ids import new_id
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

        self.limiter, self.gates, self.use, self.now = Limiter(), Gates(), SlotUse(), 100.0
        fresh = FreshChannel(
            tenant_id=CHANNEL.tenant_id,
            channel_id=CHANNEL.id,
            reads=ReadTogether(begin=None),
            unreadable=unreadable,
            monotonic=lambda: self.now,
        )
        self.take = TakeSlots(limiter=self.limiter, gates=self.gates, use=self.use, fresh=fresh)


@pytest.fixture
def place() -> Place:
    return Place()


async def test_whoever_is_alone_takes_short_slots_however_many_it_needs(place) -> None:
    place.gates.lacking = 400

    await place.take(CHANNEL, 400)

    assert place.limiter.asked == [LATENESS]


async def test_slots_last_while_the_requests_of_all_other_channels_leave(place) -> None:
    place.gates.lacking = 404

    await place.take(CHANNEL, 4)

    assert place.limiter.asked == [timedelta(milliseconds=40)]


async def test_slots_that_were_over_when_they_came_are_counted(place) -> None:
    place.limiter.forfeited = 3

    await place.take(CHANNEL, 4)

    assert place.use.forfeited == 3
