"""Where Meta takes long to answer, messages wait for their turn and do not fail for want of it."""

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from whatsapp.application.in_flight import InFlight
from whatsapp.domain.value_objects import MessageStatus

MOST = 10


@dataclass
class Slow:
    """Answers as `meta` does what it was sent by a number, once it may."""

    meta: object
    may_answer: dict = field(default_factory=lambda: defaultdict(asyncio.Event))
    under_way: Counter = field(default_factory=Counter)
    most: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, channel, message, attempt, **until):
        self.count(channel, 1)
        await self.may_answer[channel.phone_number_id].wait()
        self.count(channel, -1)
        return await self.meta.send(channel, message, attempt, **until)

    def count(self, channel, number: int) -> None:
        self.under_way[channel.phone_number_id] += number
        self.most = max(self.most, self.under_way.total())
        self.changed.set()

    async def has(self, channel, number: int) -> None:
        """Wait until so many of a channel are under way, and see that they are no more."""
        while self.under_way[channel.phone_number_id] < number:
            self.changed.clear()
            await self.changed.wait()
        await asyncio.sleep(0.3)
        assert self.under_way[channel.phone_number_id] == number

    def answer(self, channel) -> None:
        self.may_answer[channel.phone_number_id].set()


def people(number: int) -> list[str]:
    return [f"+4915155{n:06d}" for n in range(number)]


async def test_a_channel_without_answers_leaves_room_to_others_and_loses_nothing(office) -> None:
    office.meta, office.in_flight = Slow(office.meta), InFlight(most=MOST)
    silent, other, third = [await office.channel() for _ in range(3)]
    stored = await office.store(silent, *people(30))
    stored += await office.store(other, *people(3))
    stored += await office.store(third, *people(8))

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(office.dispatch(silent))
        await office.meta.has(silent, MOST // 2)
        tasks.create_task(office.dispatch(other))
        await office.meta.has(other, 2)
        tasks.create_task(office.dispatch(third))
        await office.meta.has(third, 1)
        # What others do not need any more is used at once, though the first still waits.
        office.meta.answer(other)
        await office.meta.has(third, 2)
        await office.meta.has(silent, MOST // 2)
        office.meta.answer(third)
        office.meta.answer(silent)

    read = await office.read(stored)
    assert {one.status for one in read} == {MessageStatus.SENT}
    assert {one.attempts for one in read} == {1}
    assert office.meta.most <= MOST
    assert office.in_flight.number == 0
