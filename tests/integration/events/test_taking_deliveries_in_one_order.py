"""Whoever takes several waiting deliveries takes them in one order, so that none waits in a ring.

Each test holds up one transaction at its last delivery, lets another run into what it has taken,
and then lets the first go on. In different orders PostgreSQL would end one of them.
"""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.kernel.clock import utc_now
from whatsapp.application.change_endpoint import DeleteEndpoint
from whatsapp.application.replay_events import ReplayEvents
from whatsapp.domain.events import (
    Answer,
    ClaimedDelivery,
    DeliveryOutcome,
    DeliveryResult,
    EndpointWork,
    EventType,
    NewEvent,
)

pytestmark = pytest.mark.postgres

KEEP = timedelta(days=7)
HOUR = timedelta(hours=1)
OUTCOMES = [DeliveryOutcome.DELIVERED, DeliveryOutcome.RETRYING]
LAST = UUID(int=9)


@pytest.fixture
async def claimed(begin, ana, listener, endpoint_of, superuser):
    """Deliveries of one endpoint as a worker has claimed them; the older the event, the later."""
    endpoint, _ = await endpoint_of(ana, listener.url)
    happened = [
        NewEvent(type=EventType.CHANNEL_PAUSED, occurred_at=utc_now(), data={}) for _ in range(9)
    ]
    async with begin(ana.tenant_id) as work:
        await work.events.open()
        await work.events.record(others=happened)
        await work.commit()
    await superuser.execute(  # All but the last are older than they are to be kept.
        "UPDATE events SET recorded_at = now() - interval '20d' WHERE tenant_id = $1 AND id <> $2",
        ana.tenant_id,
        happened[8].id,
    )
    token = uuid4()
    for place, one in enumerate(happened):
        await superuser.execute(
            "UPDATE webhook_delivery_queue SET id = $1, lease_token = $2, due_at = $3,"
            " lease_until = now() + interval '1h' WHERE event_id = $4",
            LAST if place == 8 else UUID(int=8 - place),
            token,
            utc_now() - HOUR - timedelta(seconds=9 - place),
            one.id,
        )
    rows = await superuser.fetch(
        "SELECT id, event_id, queued_at FROM webhook_delivery_queue WHERE tenant_id = $1"
        " ORDER BY id",
        ana.tenant_id,
    )
    return [
        ClaimedDelivery(
            tenant_id=ana.tenant_id,
            endpoint_id=endpoint.id,
            id=row["id"],
            event_id=row["event_id"],
            lease_token=token,
            attempt=1,
            queued_at=row["queued_at"],
        )
        for row in rows
    ]


@pytest.fixture
def held(database):
    """`async with held(id)`: somebody else has this delivery."""

    @asynccontextmanager
    async def held(delivery_id):
        other = await asyncpg.connect(database.superuser_url.replace("+asyncpg", ""))
        try:
            async with other.transaction():
                await other.fetch(
                    "SELECT FROM webhook_delivery_queue WHERE id = $1 FOR UPDATE", delivery_id
                )
                yield
        finally:
            await other.close()

    return held


def result(claimed, outcome):
    at = utc_now()
    due = at + HOUR if outcome is DeliveryOutcome.RETRYING else None
    return DeliveryResult(
        claimed=claimed, outcome=outcome, answer=Answer(status=200), at=at, due_at=due
    )


@pytest.fixture
def record(begin, ana):
    async def record(claimed, outcomes=OUTCOMES):
        results = [
            result(one, outcomes[place % len(outcomes)]) for place, one in enumerate(claimed)
        ]
        async with begin(ana.tenant_id) as work:
            settled = await work.deliveries.record(results)
            await work.commit()
        return len(settled)

    return record


@pytest.fixture
def forget(begin, ana):
    async def forget():
        async with begin(ana.tenant_id) as work:
            gone = await work.events.forget(before=utc_now() - KEEP, limit=100)
            await work.commit()
        return gone

    return forget


@pytest.fixture
def waiting(superuser):
    """`await waiting(n)`: until as many wait for a lock."""

    async def waiting(number, *tasks):
        async with asyncio.timeout(30):
            while await superuser.fetchval(  # noqa: ASYNC110  # PostgreSQL tells nobody
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ) < number and not any(task.done() for task in tasks):
                await asyncio.sleep(0.005)

    return waiting


@pytest.mark.parametrize("place", range(9))
async def test_recording_and_forgetting_end_whoever_comes_first(
    claimed, held, record, forget, waiting, superuser, place
):
    """Wherever in its deliveries the one that records has to wait when the other comes."""
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks, held(claimed[place].id):
        recording = tasks.create_task(record(claimed))
        await waiting(1, recording)
        forgetting = tasks.create_task(forget())
        await waiting(2, forgetting)

    assert recording.result() == 9
    assert forgetting.result() == 8
    left = await superuser.fetch("SELECT id FROM webhook_delivery_queue")
    assert [row["id"] for row in left] == []


@pytest.mark.parametrize("place", range(9))
async def test_forgetting_and_recording_end_whoever_comes_first(
    claimed, held, record, forget, waiting, superuser, place
):
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks, held(claimed[place].id):
        forgetting = tasks.create_task(forget())
        await waiting(1, forgetting)  # It takes all but the last, and ends where that one is held.
        recording = tasks.create_task(record(claimed, OUTCOMES[:1]))
        await waiting(1 if place == 8 else 2, recording)

    assert forgetting.result() == 8
    assert recording.result() == 1
    assert await superuser.fetchval("SELECT count(*) FROM webhook_delivery_queue") == 0


@pytest.mark.parametrize("place", range(9))
async def test_an_endpoint_is_deleted_while_its_deliveries_are_recorded(
    begin, claimed, held, record, waiting, superuser, place
):
    delete = DeleteEndpoint(begin=begin)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks, held(claimed[place].id):
        recording = tasks.create_task(record(claimed))
        await waiting(1, recording)
        deleting = tasks.create_task(delete(claimed[0].tenant_id, claimed[0].endpoint_id))
        await waiting(2, deleting)

    assert recording.result() == 9
    assert await superuser.fetchval("SELECT count(*) FROM webhook_delivery_queue") == 0
    assert await superuser.fetchval("SELECT count(*) FROM webhook_endpoints") == 0


@pytest.fixture
async def claimed_by_id(claimed, delivery_queue, superuser):
    """The same as a replay knows them again, by ids made of endpoint and event; in their order."""
    await superuser.execute("UPDATE webhook_delivery_queue SET lease_until = now() - interval '1s'")
    await superuser.execute(
        "UPDATE webhook_delivery_queue SET id = CAST(substr(encode(sha256(CAST(CAST(endpoint_id AS"
        " text) || CAST(event_id AS text) AS bytea)), 'hex'), 1, 32) AS uuid)"
    )
    work = EndpointWork(claimed[0].tenant_id, claimed[0].endpoint_id)
    again = await delivery_queue.claim(work, limit=9, lease=HOUR)
    return sorted(again, key=lambda one: one.id)


@pytest.mark.parametrize("replays_first", [True, False])
@pytest.mark.parametrize("place", range(9))
async def test_what_is_being_recorded_is_replayed_whoever_comes_first(
    begin, claimed_by_id, held, record, waiting, superuser, place, replays_first
):
    claimed = claimed_by_id

    async def replay():
        tenant_id, endpoint_id = claimed[0].tenant_id, claimed[0].endpoint_id
        wanted = [one.event_id for one in claimed]
        return await ReplayEvents(begin=begin, keep=KEEP)(tenant_id, endpoint_id, event_ids=wanted)

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks, held(claimed[place].id):
        begun = [tasks.create_task(replay() if replays_first else record(claimed))]
        await waiting(1, *begun)
        begun.append(tasks.create_task(record(claimed) if replays_first else replay()))
        await waiting(2, *begun)

    replaying, recording = begun if replays_first else reversed(begun)
    assert (replaying.result().queued, recording.result()) == (9, 9)
    left = await superuser.fetch("SELECT lease_token FROM webhook_delivery_queue")
    assert [row["lease_token"] for row in left] == [None] * 9


async def test_who_brings_forward_waits_for_nobody(begin, ana, claimed, record, held):
    """It has others of the queue already: what somebody else has at this moment is theirs."""
    await record(claimed, [DeliveryOutcome.RETRYING])
    async with asyncio.timeout(30), held(claimed[3].id), begin(ana.tenant_id) as work:
        assert await work.deliveries.bring_forward(claimed[0].endpoint_id) == 8
        await work.commit()


async def test_forgetting_takes_the_stream_before_deliveries(begin, ana, claimed, forget, waiting):
    """As whoever switches an endpoint off, which then records and clears its deliveries."""
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks, begin(ana.tenant_id) as work:
        await work.events.open()
        forgetting = tasks.create_task(forget())
        await waiting(1, forgetting)
        await work.deliveries.record([result(one, OUTCOMES[0]) for one in claimed])
        await work.commit()

    assert forgetting.result() == 8
