"""What becomes of several groups, taken at once, when something happens to some of them."""

import asyncio
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from shared.kernel.clock import utc_now
from shared.kernel.errors import Unavailable
from whatsapp.application.dispatch_settings import DispatchSettings
from whatsapp.application.lateness import LATE_GROUP_SECONDS
from whatsapp.domain.outcome import Accepted
from whatsapp.domain.rate_limit import RateLimitState, Reservation, Slot

RATE = 1000
LATE_GROUP = round(RATE * LATE_GROUP_SECONDS)
MESSAGES = 400


@dataclass
class Limiter:
    """Gives as many slots as are wanted, that came a moment ago or come in a moment."""

    inner: object
    ahead: float = 0.0
    given: int = field(default=0, init=False)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def check_rate_limit(self, *_, **__):
        return RateLimitState(available=True, remaining=1, retry_after=timedelta())

    async def reserve(self, _, *, count, **__):
        self.given += count
        at = time.monotonic() + self.ahead
        return Reservation((Slot(at, at + 600),) * count, timedelta())


@dataclass
class Meta:
    """Takes everything, and says how often it was sent."""

    sent: dict = field(default_factory=dict)
    after_each: object = None

    async def send(self, _channel, message, _attempt, *, leave):
        def go() -> None:
            self.sent[message.id] = self.sent.get(message.id, 0) + 1
            if self.after_each:
                self.after_each(len(self.sent))

        await leave(go)
        return Accepted(f"wamid.{message.id}", None, None)


@dataclass
class Queue:
    """The real one, but for some calls of `mark`, by their number from 1."""

    inner: object
    failing: frozenset = frozenset()
    losing: frozenset = frozenset()
    after_each: object = None
    marks: int = field(default=0, init=False)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def mark(self, entries, *, lease):
        self.marks += 1
        number = self.marks
        if self.after_each:
            self.after_each(number)
        if number in self.failing:
            raise Unavailable
        if number in self.losing:  # As if others had claimed them after a lease that ended.
            return frozenset()
        return await self.inner.mark(entries, lease=lease)


@pytest.fixture
async def sending(office):
    """`await sending(queue, meta, limiter, ...)`: runs a late worker; gives what it broke by."""
    channel = await office.channel(messages_per_second=RATE)
    messages = await office.store(channel, *(f"+49151{n:08d}" for n in range(MESSAGES)))

    async def sending(*, queue=None, meta=None, ahead=0.0, prepare=None, **settings):
        queue, meta = queue or Queue(office.queue), meta or Meta()
        dispatcher = replace(
            office.dispatcher(channel),
            limiter=Limiter(office.limiter, ahead),
            sender=meta,
            queue=queue,
            settings=DispatchSettings(**settings),
        )
        dispatcher.gates.lateness.seconds = 0.06
        if prepare:
            prepare(dispatcher)
        trouble = None
        async with asyncio.timeout(60):
            try:
                await dispatcher.run()
            except Unavailable as error:
                trouble = error
        assert (dispatcher._open, dispatcher._aloft, dispatcher._outcomes.under_way) == (0, 0, 0)
        assert not dispatcher._gate._waiting
        return trouble

    sending.messages = [one.id for one in messages]
    return sending


@pytest.fixture
def entries(superuser, sending):
    """The states of what is still in the queue, each with how many there are."""

    async def entries():
        rows = await superuser.fetch(
            "SELECT state, count(*) AS number FROM whatsapp_send_queue WHERE id = ANY($1)"
            " GROUP BY state",
            sending.messages,
        )
        return {row["state"]: row["number"] for row in rows}

    return entries


async def and_the_rest(sending, entries, meta):
    """What was not sent waits for whoever comes next, and goes out once."""
    unsent = MESSAGES - len(meta.sent)
    assert await entries() == ({"ready": unsent} if unsent else {})
    assert await sending(meta=meta) is None
    assert sorted(meta.sent) == sorted(sending.messages)
    assert set(meta.sent.values()) == {1}
    assert await entries() == {}


@pytest.mark.parametrize("number", [1, 2, 3, 4])
async def test_a_group_that_cannot_be_marked_goes_back_and_the_others_out(
    office, sending, entries, number
) -> None:
    meta = Meta()

    trouble = await sending(queue=Queue(office.queue, failing=frozenset({number})), meta=meta)

    assert isinstance(trouble, Unavailable)
    await and_the_rest(sending, entries, meta)


@pytest.mark.parametrize("ahead", [0.0, 0.15])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
async def test_who_is_stopped_while_a_group_is_marked_sends_or_gives_back_everything(
    office, sending, entries, number, ahead
) -> None:
    meta, stopping = Meta(), []

    def stop(marks):
        if marks == number:
            stopping[0].stop()

    queue = Queue(office.queue, after_each=stop)
    assert await sending(queue=queue, meta=meta, ahead=ahead, prepare=stopping.append) is None

    await and_the_rest(sending, entries, meta)


@pytest.mark.parametrize("after", [1, 70, 160])
@pytest.mark.parametrize("way", ["stop", "retire"])
async def test_who_is_stopped_or_retired_while_groups_leave_loses_nothing(
    sending, entries, after, way
) -> None:
    ending = []

    def end(sent):
        if sent == after:
            getattr(ending[0], way)()

    meta = Meta(after_each=end)
    assert await sending(meta=meta, prepare=ending.append) is None

    meta.after_each = None
    await and_the_rest(sending, entries, meta)


@pytest.mark.parametrize("most", [1, 10, 64, 65, 149])
async def test_less_room_than_a_late_group_has_slots_sends_everything_once(
    sending, entries, most
) -> None:
    meta = Meta()

    assert await sending(meta=meta, max_in_flight=most) is None

    assert len(meta.sent) == MESSAGES
    await and_the_rest(sending, entries, meta)


async def test_a_group_whose_lease_has_ended_is_left_to_others(
    office, sending, superuser, entries
) -> None:
    meta = Meta()

    assert await sending(queue=Queue(office.queue, losing=frozenset({2})), meta=meta) is None

    left = MESSAGES - len(meta.sent)
    assert 0 < left <= 64
    assert await entries() == {"leased": left}
    await superuser.execute(
        "UPDATE whatsapp_send_queue SET lease_until = $1 WHERE state = 'leased'",
        utc_now() - timedelta(seconds=1),
    )
    assert await sending(meta=meta) is None
    assert set(meta.sent.values()) == {1}
    assert len(meta.sent) == MESSAGES
    assert await entries() == {}
