"""A stream ends when it has to, however much there is to tell."""

import asyncio

import pytest

from shared.kernel.clock import utc_now
from shared.kernel.errors import Unauthenticated
from whatsapp.application.stream_events import StreamEvents
from whatsapp.domain.events import EventType, NewEvent
from whatsapp.entrypoints.http.event_stream import EventStreams, Silence, Wanted

pytestmark = pytest.mark.postgres


async def test_a_stream_of_a_revoked_key_ends_although_there_is_always_something_new(
    begin, ana
) -> None:
    async def happens():
        event = NewEvent(type=EventType.CHANNEL_PAUSED, occurred_at=utc_now(), data={})
        async with begin(ana.tenant_id) as work:
            await work.events.record(others=[event])
            await work.commit()

    async def is_revoked():
        raise Unauthenticated

    events = StreamEvents(begin=begin)
    streams = EventStreams(events=events, bell=Silence(), heartbeat_seconds=0.2)
    after = await events.start(ana.tenant_id, None)
    wanted = Wanted(
        tenant_id=ana.tenant_id, after=after, wants=lambda _: True, still_allowed=is_revoked
    )
    await happens()
    told = 0
    async with asyncio.timeout(30):
        async for piece in streams.follow(wanted):
            told += piece.count(b"event: ")
            await happens()

    assert told, "until then it hears what happens"
