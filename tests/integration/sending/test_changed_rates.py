"""Another rate of a channel reaches the limiter with the moment from which it is known to hold."""

import asyncio
import time
from dataclasses import replace

from sqlalchemy import text

from whatsapp.domain.value_objects import MessageStatus
from whatsapp.infrastructure.persistence.repositories import RedisRateLimiter


class Watched(RedisRateLimiter):
    """The limiter, and what it was asked."""

    def __init__(self, limiter: RedisRateLimiter) -> None:
        super().__init__(limiter._redis)
        self.asked = []
        self.was_asked = asyncio.Event()

    async def reserve(self, number, *, rate, learned_at, **more):
        reservation = await super().reserve(number, rate=rate, learned_at=learned_at, **more)
        self.asked.append((rate, learned_at))
        self.was_asked.set()
        return reservation


async def test_a_worker_that_waits_for_slots_of_a_low_rate_takes_up_a_higher_one(office) -> None:
    """At the old rate this would take three minutes; the limit of time says that it does not."""
    channel = await office.channel()
    messages = await office.store(channel, *[f"+49151000{number:05d}" for number in range(180)])
    await set_rate(office, channel, 1)
    limiter = Watched(office.limiter)

    async with asyncio.timeout(30):
        running = asyncio.create_task(replace(office.dispatcher(channel), limiter=limiter).run())
        await limiter.was_asked.wait()
        await set_rate(office, channel, 1000)
        changed_at = time.monotonic()
        await running

    assert {one.status for one in await office.read(messages)} == {MessageStatus.SENT}
    low, high = ([at for rate, at in limiter.asked if rate == one] for one in (1, 1000))
    assert max(low) < min(changed_at, *high)


async def set_rate(office, channel, rate: int) -> None:
    change = text("UPDATE whatsapp_channels SET messages_per_second = :rate WHERE id = :id")
    await office.work(lambda s: s.execute(change, {"rate": rate, "id": channel.id}))
