"""Whoever takes many slots at once has a request ready for each of them."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

from whatsapp.application.handfuls import MAX_AT_ONCE
from whatsapp.application.lateness import LATE_GROUP_SECONDS
from whatsapp.domain.outcome import Accepted
from whatsapp.domain.rate_limit import RateLimitState, Reservation, Slot
from whatsapp.domain.value_objects import MessageStatus

HIGHEST_RATE = MESSAGES = 1000
LATE_GROUP = round(HIGHEST_RATE * LATE_GROUP_SECONDS)
LATE_SECONDS = 0.06


@dataclass
class Limiter:
    """Gives slots that came a moment ago, until it has given a whole group; then nothing."""

    inner: object
    given: int = field(default=0, init=False)
    is_asked_for_more: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _gave_a_group: bool = field(default=False, init=False)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def check_rate_limit(self, *_, **__):
        return RateLimitState(available=True, remaining=1, retry_after=timedelta())

    async def reserve(self, _, *, count, **__):
        if self._gave_a_group:
            self.is_asked_for_more.set()
            await self.may_go_on.wait()
        self._gave_a_group = count == LATE_GROUP
        self.given += count
        now = time.monotonic()
        return Reservation((Slot(now - LATE_SECONDS, now + 600),) * count, timedelta())


@dataclass
class Meta:
    """Counts what leaves."""

    left: int = field(default=0, init=False)
    _one_left: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def has_sent(self, number: int) -> None:
        while self.left < number:
            self._one_left.clear()
            await self._one_left.wait()

    async def send(self, _channel, message, _attempt, *, leave):
        def go() -> None:
            self.left += 1
            self._one_left.set()

        await leave(go)
        return Accepted(f"wamid.{message.id}", None, None)


async def test_every_slot_of_a_late_group_has_a_request_that_is_marked(office) -> None:
    channel = await office.channel(messages_per_second=HIGHEST_RATE)
    await office.store(channel, *(f"+49151{number:08d}" for number in range(MESSAGES)))
    limiter, meta = Limiter(office.limiter), Meta()
    dispatcher = replace(office.dispatcher(channel), limiter=limiter, sender=meta)
    dispatcher.gates.lateness.seconds = LATE_SECONDS

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(dispatcher.run())
        await limiter.is_asked_for_more.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(meta.has_sent(limiter.given), 20)
        given, left = limiter.given, meta.left
        limiter.may_go_on.set()
        await running

    assert left == given >= LATE_GROUP
    assert meta.left == MESSAGES


async def test_a_long_report_is_applied_in_handfuls_and_whole(office, webhooks) -> None:
    channel = await office.channel(messages_per_second=HIGHEST_RATE)
    number = 2 * MAX_AT_ONCE + 1
    messages = await office.store(channel, *(f"+49151{n:08d}" for n in range(number)))
    await office.dispatch(channel)
    handfuls = []
    apply = webhooks.process.apply

    async def counted(route, belonging):
        handfuls.append(len(belonging))
        return await apply(route, belonging)

    webhooks.process = replace(webhooks.process, apply=counted)
    await webhooks.fail(channel, *(None,) * number, status="delivered")

    assert handfuls == [MAX_AT_ONCE, MAX_AT_ONCE, 1]
    assert {one.status for one in await office.read(messages)} == {MessageStatus.DELIVERED}
