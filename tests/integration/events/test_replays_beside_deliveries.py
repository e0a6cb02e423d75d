"""Replays that meet deliveries under way, changes of the endpoint and its end: nothing is lost."""

import asyncio
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from standardwebhooks.webhooks import Webhook

from shared.kernel.clock import utc_now
from whatsapp.application.change_endpoint import (
    ChangeEndpoint,
    DeleteEndpoint,
    EndpointChange,
    RotateEndpointSecret,
)
from whatsapp.application.replay_events import ReplayEvents
from whatsapp.domain.events import AddressPolicy, Answer, EndpointWork, EventType, NewEvent
from whatsapp.domain.events.delivery import judge

pytestmark = pytest.mark.postgres

KEEP = timedelta(days=14)
POLICY = AddressPolicy.parse("127.0.0.0/8")
SUBJECT_TYPES = (EventType.MESSAGE_SENT, EventType.MESSAGE_DELIVERED, EventType.MESSAGE_READ)


@pytest.fixture
async def endpoint(ana, listener, endpoint_of):
    return (await endpoint_of(ana, listener.url))[0]


@pytest.fixture
def tell(begin, ana, sent):
    """`await tell()`: three events of one message, in order; gives their ids."""

    async def tell():
        message = await sent(ana)
        happened = [
            NewEvent(type=one, occurred_at=utc_now(), data={}, subject_id=message.id, number=1)
            for one in SUBJECT_TYPES
        ]
        async with begin(ana.tenant_id) as work:
            await work.events.record(others=happened)
            await work.commit()
        return [str(one.id) for one in happened]

    return tell


@pytest.fixture
def replay(begin, ana, endpoint):
    async def replay(ids):
        return await ReplayEvents(begin=begin, keep=KEEP)(
            ana.tenant_id, endpoint.id, event_ids=[UUID(one) for one in ids]
        )

    return replay


@pytest.fixture
def under_way(deliver, endpoint, listener):
    """One round whose requests have reached the endpoint, which answers when it is told to."""

    async def under_way(tasks):
        listener.is_held = asyncio.Event()
        listener.reached.clear()
        work = EndpointWork(endpoint.tenant_id, endpoint.id)
        delivering = tasks.create_task(deliver(work, limit=16))
        await listener.reached.wait()
        return delivering

    return under_way


def ids(listener):
    return [one.json["id"] for one in listener.got]


async def left(superuser):
    return await superuser.fetchval("SELECT count(*) FROM webhook_delivery_queue")


@pytest.mark.parametrize("status", [200, 500])
async def test_what_is_replayed_while_a_later_one_is_under_way_comes_again_in_order(
    tell, replay, under_way, listener, endpoint, rounds, superuser, status
):
    first, second, third = await tell()
    await rounds(endpoint, limit=1)  # One at a time, as they are of one message.
    assert ids(listener) == [first, second, third]
    await replay([third])

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        delivering = await under_way(tasks)
        assert (await replay([first, second, third])).queued == 3
        listener.status = status
        listener.is_held.set()
        await delivering
    listener.status = 200
    await superuser.execute("UPDATE webhook_delivery_queue SET due_at = now()")
    await rounds(endpoint)

    # The one under way too, whatever came of it: it may have left before anybody asked.
    assert ids(listener) == [first, second, third, third, first, second, third]
    assert await left(superuser) == 0


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("status", [200, 500])
async def test_what_is_replayed_while_it_is_under_way_is_delivered_once_more_and_no_oftener(
    begin, ana, tell, under_way, listener, endpoint, rounds, superuser, status, named
):
    first, *_ = await tell()
    wanted = {"event_ids": [UUID(first)]} if named else {"since": utc_now() - timedelta(minutes=1)}

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        delivering = await under_way(tasks)
        for _ in range(3):
            replayed = await ReplayEvents(begin=begin, keep=KEEP)(
                ana.tenant_id, endpoint.id, **wanted
            )
            assert replayed.queued == (1 if named else 3)
        listener.status = status
        listener.is_held.set()
        assert (await delivering).taken == (status == 200)
    row = await superuser.fetchrow(
        "SELECT attempt, lease_token, due_at <= now() AS is_due FROM webhook_delivery_queue"
        " WHERE event_id = $1",
        UUID(first),
    )
    assert tuple(row) == (0, None, True)
    listener.status = 200
    await rounds(endpoint)

    assert ids(listener)[:2] == [first, first]
    assert len(ids(listener)) == 4
    assert await left(superuser) == 0


@pytest.mark.parametrize("named", [True, False])
async def test_what_waits_for_another_attempt_gets_it_when_it_is_replayed(
    begin, ana, tell, listener, endpoint, rounds, time, superuser, named
):
    """Whoever has mended their system does not wait for the half of a day that is left."""
    first, *_ = told = await tell()
    listener.status = 503
    await rounds(endpoint)
    await superuser.execute(
        "UPDATE webhook_delivery_queue SET attempt = 9, due_at = now() + interval '12 h',"
        " queued_at = now() - interval '71 h' WHERE event_id = $1",
        UUID(first),
    )
    listener.status = 200
    assert await rounds(endpoint) == 0

    wanted = {"event_ids": [UUID(first)]} if named else {"since": utc_now() - timedelta(minutes=1)}
    await ReplayEvents(begin=begin, keep=KEEP)(ana.tenant_id, endpoint.id, **wanted)
    time.passed = timedelta(hours=2)  # More than three days after it was queued at first.
    listener.status = 503
    await rounds(endpoint)
    log = await superuser.fetch("SELECT attempt, outcome FROM webhook_deliveries ORDER BY id")
    assert [tuple(row) for row in log] == [(1, "retrying")] * 2
    await superuser.execute("UPDATE webhook_delivery_queue SET due_at = now()")
    listener.status = 200
    await rounds(endpoint)

    assert ids(listener) == [first, first, *told]
    assert await left(superuser) == 0


async def test_a_replay_waits_for_what_is_being_settled_and_queues_it_then(
    begin, ana, tell, replay, delivery_queue, endpoint, listener, rounds, superuser
):
    """Neither finds it waiting, as it is being taken out, nor forgets to put it in."""
    first, *_ = await tell()
    work = EndpointWork(endpoint.tenant_id, endpoint.id)
    (claimed,) = await delivery_queue.claim(work, limit=1, lease=timedelta(minutes=1))
    result = judge(claimed, Answer(status=200), at=utc_now(), rng=Random(1))
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        async with begin(ana.tenant_id) as settling:
            assert await settling.deliveries.record([result])
            replaying = tasks.create_task(replay([first]))
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while not await superuser.fetchval(waiting):  # noqa: ASYNC110  # PostgreSQL tells nobody
                await asyncio.sleep(0.01)
            await settling.commit()
        assert (await replaying).queued == 1
    await rounds(endpoint)

    assert ids(listener)[0] == first


async def test_each_of_a_replay_verifies_while_the_secret_is_rotated(
    begin, ana, tell, replay, under_way, listener, endpoint, rounds
):
    told = await tell()
    await rounds(endpoint)
    await replay(told)

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        delivering = await under_way(tasks)
        rotated, new = await RotateEndpointSecret(begin=begin)(ana.tenant_id, endpoint.id)
        listener.is_held.set()
        await delivering
    await rounds(endpoint)

    assert ids(listener) == told * 2
    for one in listener.got:
        Webhook(endpoint.secret.reveal()).verify(one.body, one.headers)
    for one in listener.got[4:]:
        Webhook(new.reveal()).verify(one.body, one.headers)
    assert rotated.previous_secret == endpoint.secret


@pytest.mark.parametrize("status", [200, 500, 410])
async def test_switched_off_and_on_again_while_one_is_under_way_a_replay_still_comes(
    begin, ana, tell, replay, under_way, listener, endpoint, rounds, superuser, status
):
    """Who was asked before it was switched off has no say in what was queued after."""
    told = await tell()
    change = ChangeEndpoint(begin=begin, policy=POLICY)

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        delivering = await under_way(tasks)
        for is_enabled in (False, True):
            await change(ana.tenant_id, endpoint.id, EndpointChange(is_enabled=is_enabled))
        if status != 410:
            assert (await replay(told)).queued == 3
        listener.status = status
        listener.is_held.set()
        await delivering
    if status == 410:  # It was this address that said so, and still is.
        assert await left(superuser) == 0
        await change(ana.tenant_id, endpoint.id, EndpointChange(is_enabled=True))
        assert (await replay(told)).queued == 3
    listener.status = 200
    await rounds(endpoint)

    assert ids(listener) == [told[0], *told]
    assert await left(superuser) == 0


@pytest.mark.parametrize("status", [200, 500, 410])
async def test_an_endpoint_may_be_deleted_while_its_delivery_is_under_way(
    begin, ana, tell, under_way, listener, endpoint, superuser, status
):
    await tell()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        delivering = await under_way(tasks)
        await DeleteEndpoint(begin=begin)(ana.tenant_id, endpoint.id)
        listener.status = status
        listener.is_held.set()
        assert (await delivering).claimed == 1

    assert await left(superuser) == 0
    assert await superuser.fetchval("SELECT count(*) FROM webhook_deliveries") == 0
    kinds = await superuser.fetch("SELECT type FROM events WHERE type LIKE 'webhook_endpoint%'")
    assert kinds == []
