"""What a process knows of its channels: shared, never too old, and not without bound."""

from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from shared.kernel.ids import new_id
from whatsapp.application.fresh_channel import MAX_AGE_SECONDS, MAX_READINGS, FreshChannel
from whatsapp.application.read_together import ReadTogether
from whatsapp.domain.rate_limit import DEFAULT_RATE


class Place:
    """Channels that are read behind the port, and a clock."""

    def __init__(self) -> None:
        self.now, self.takes, self.reads, self.readings = 0.0, 0.0, [], {}

    async def find_many(self, channel_ids):
        self.reads.extend(channel_ids)
        self.now += self.takes
        return [
            SimpleNamespace(id=one, messages_per_second=250, access_token=None)
            for one in channel_ids
        ]

    @asynccontextmanager
    async def begin(self, _tenant_id):
        yield SimpleNamespace(channels=self)

    def fresh(self, channel_id) -> FreshChannel:
        return FreshChannel(
            tenant_id=new_id(),
            channel_id=channel_id,
            reads=ReadTogether(begin=self.begin),
            unreadable=None,
            monotonic=lambda: self.now,
            readings=self.readings,
        )


@pytest.fixture
def place() -> Place:
    return Place()


async def test_one_that_follows_another_reads_again_only_what_is_too_old(place) -> None:
    channel = new_id()
    for moment, reads in ((0, 1), (MAX_AGE_SECONDS, 1), (1.1 * MAX_AGE_SECONDS, 2)):
        place.now = moment
        assert (await place.fresh(channel).read()).id == channel
        assert len(place.reads) == reads


async def test_what_was_changed_just_now_is_read_again(place) -> None:
    one = place.fresh(new_id())
    assert one.messages_per_second == DEFAULT_RATE
    await one.read()
    assert one.messages_per_second == 250

    one.forget()
    await one.read()
    assert len(place.reads) == 2


async def test_a_rate_is_known_to_hold_since_reading_it_began(place) -> None:
    one = place.fresh(new_id())
    place.now, place.takes = 5.0, 0.125
    before = await one.read()
    assert one.rate_of(before) == (250, 5.0)

    before.messages_per_second = 80  # Read anew by another stage while this one had it in hand.
    assert one.rate_of(SimpleNamespace(messages_per_second=20)) == (80, 5.0)
    one.forget()
    assert one.rate_of(before) == (80, None)


async def test_of_many_channels_only_those_of_a_moment_ago_are_kept(place) -> None:
    for _ in range(MAX_READINGS):
        await place.fresh(new_id()).read()
    place.now = 2 * MAX_AGE_SECONDS
    await place.fresh(new_id()).read()

    assert len(place.readings) == 1
