"""Replaying events while they are forgotten: either comes first, and neither fails the other."""

import asyncio
from datetime import timedelta
from functools import partial

import pytest

from shared.kernel.clock import utc_now
from whatsapp.application.replay_events import ReplayEvents
from whatsapp.domain.events import EventType, NewEvent

pytestmark = pytest.mark.postgres

KEEP = timedelta(days=7)


@pytest.fixture
async def old_events(begin, ana, superuser):
    """The ids of four events of Ana's, two of them older than they are to be kept."""
    happened = [
        NewEvent(type=EventType.CHANNEL_PAUSED, occurred_at=utc_now(), data={}) for _ in range(4)
    ]
    async with begin(ana.tenant_id) as work:
        await work.events.open()
        await work.events.record(others=happened)
        await work.commit()
    await superuser.execute(
        "UPDATE events SET recorded_at = now() - (20 - number * 5) * interval '1d'"
        " WHERE tenant_id = $1",
        ana.tenant_id,
    )
    await superuser.execute(
        "DELETE FROM webhook_delivery_queue WHERE tenant_id = $1", ana.tenant_id
    )
    return [one.id for one in happened]


@pytest.mark.parametrize("is_named", [False, True])
async def test_a_replay_beside_the_forgetting_queues_what_is_left(
    begin, ana, listener, endpoint_of, old_events, is_waiting, superuser, is_named
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    replay = partial(ReplayEvents(begin=begin, keep=KEEP), ana.tenant_id, endpoint.id)
    wanted = {"event_ids": old_events} if is_named else {"since": utc_now() - timedelta(days=30)}

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks, begin(ana.tenant_id) as work:
        assert await work.events.forget(before=utc_now() - KEEP, limit=10) == 2
        replaying = tasks.create_task(replay(**wanted))
        await is_waiting(replaying)
        await work.commit()

    assert replaying.result() == (2, None, True)
    queued = await superuser.fetch("SELECT event_id FROM webhook_delivery_queue")
    assert {row["event_id"] for row in queued} == set(old_events[2:])


async def test_forgetting_beside_a_replay_takes_what_it_queued_with_it(
    begin, ana, listener, endpoint_of, old_events, is_waiting, superuser
):
    endpoint, _ = await endpoint_of(ana, listener.url)

    async def forget():
        async with begin(ana.tenant_id) as work:
            gone = await work.events.forget(before=utc_now() - KEEP, limit=10)
            await work.commit()
        return gone

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks, begin(ana.tenant_id) as work:
        replayed = await work.deliveries.replay(
            endpoint, since=utc_now() - timedelta(days=30), limit=10, look_at=10
        )
        forgetting = tasks.create_task(forget())
        await is_waiting(forgetting)
        await work.commit()

    assert (replayed.queued, forgetting.result()) == (4, 2)
    queued = await superuser.fetch("SELECT event_id FROM webhook_delivery_queue")
    assert {row["event_id"] for row in queued} == set(old_events[2:])


async def test_a_replay_waits_for_no_forgetting_of_another_tenant(
    begin, ana, bea, listener, endpoint_of, old_events
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    replay = ReplayEvents(begin=begin, keep=KEEP)

    forgets, go = asyncio.Event(), asyncio.Event()

    async def forget():
        async with begin(bea.tenant_id) as work:
            await work.events.forget(before=utc_now() - KEEP, limit=10)
            forgets.set()
            await go.wait()

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(forget())
        await forgets.wait()
        replayed = await replay(ana.tenant_id, endpoint.id, event_ids=old_events)
        go.set()

    assert replayed.queued == 4
