"""The worker: who hangs or is dead delays nobody, and nothing is lost when it stops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise

import pytest

from shared.infrastructure.database import create_engine
from shared.kernel.clock import utc_now
from whatsapp.application.deliver_events import DeliverEvents
from whatsapp.application.forget_events import ForgetEvents
from whatsapp.domain.events import EventType, NewEvent
from whatsapp.entrypoints.workers.event_worker import MAX_ENDPOINTS, EventWorker
from whatsapp.entrypoints.workers.loop import Seldom
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyDeliveryQueue,
    SQLAlchemyOverdue,
)

pytestmark = pytest.mark.postgres


async def tell(begin, customer, count):
    async with begin(customer.tenant_id) as work:
        paused = [
            NewEvent(type=EventType.CHANNEL_PAUSED, occurred_at=utc_now(), data={"n": n})
            for n in range(count)
        ]
        await work.events.record(others=paused)
        await work.commit()


@asynccontextmanager
async def running(worker: EventWorker) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(worker.run(stopping))
        try:
            yield
        finally:
            stopping.set()
            await asyncio.wait([task], timeout=10)


async def until(condition, seconds=30.0):
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not condition():
        assert loop.time() - began < seconds, "too late"
        await asyncio.sleep(0.01)
    return loop.time() - began


@pytest.fixture
async def worker(begin, database, sender) -> AsyncIterator[EventWorker]:
    engine = create_engine(database.url("tellwire_dispatch"), pool_size=3, max_overflow=0)
    queue = SQLAlchemyDeliveryQueue(engine)
    deliver = DeliverEvents(begin=begin, queue=queue, sender=sender, lease=timedelta(seconds=30))
    yield EventWorker(queue=queue, deliver=deliver)
    await engine.dispose()


@pytest.mark.parametrize("patience", [timedelta(seconds=1)])
async def test_a_hanging_endpoint_of_one_tenant_delays_no_other_tenant(
    begin, ana, bea, listener, other_listener, endpoint_of, worker
):
    for _ in range(10):
        await endpoint_of(ana, listener.url)
    listener.delay = 30
    await endpoint_of(bea, other_listener.url)
    await tell(begin, ana, 200)

    async with running(worker):
        await until(lambda: len(listener.got) >= 50)
        for _ in range(5):
            before = len(other_listener.got)
            await tell(begin, bea, 10)
            took = await until(lambda goal=before + 10: len(other_listener.got) >= goal)
            assert took < 1.0


async def test_a_dead_endpoint_is_asked_ever_more_seldom_and_with_one_event(
    begin, ana, listener, endpoint_of, worker
):
    await endpoint_of(ana, listener.url)
    listener.status = 500
    await tell(begin, ana, 100)

    async with running(worker):
        await until(lambda: len(listener.got) >= 16)
        await asyncio.sleep(1.5)

    assert 16 <= len(listener.got) <= 18


async def test_stopping_finishes_what_is_under_way_and_leaves_the_rest(
    begin, ana, listener, endpoint_of, worker, superuser
):
    await endpoint_of(ana, listener.url)
    listener.delay = 0.3
    await tell(begin, ana, 100)

    async with running(worker):
        await until(lambda: len(listener.got) >= 16)

    left = await superuser.fetchval("SELECT count(*) FROM webhook_delivery_queue")
    assert left == 100 - len(listener.got)
    assert await superuser.fetchval("SELECT count(*) FROM webhook_deliveries") == len(listener.got)


async def test_old_events_of_every_tenant_are_forgotten_and_nothing_is_begun_for_others(
    begin, ana, bea, new_customer, superuser, endpoint_of, database
):
    young, begun = await new_customer(), []

    def watched(tenant_id):
        begun.append(tenant_id)
        return begin(tenant_id)

    for customer in (ana, bea, young):
        await endpoint_of(customer, "http://127.0.0.1:1/")
        await tell(begin, customer, 3)
    await superuser.execute(
        "UPDATE events SET recorded_at = now() - interval '15 days'"
        " WHERE number <= 2 AND tenant_id <> $1",
        young.tenant_id,
    )
    engine = create_engine(database.url("tellwire_process"))
    overdue = SQLAlchemyOverdue(engine).of_events
    forget = ForgetEvents(begin=watched, overdue=overdue, keep=timedelta(days=14))

    assert await forget() == 4
    await engine.dispose()
    assert set(begun) == {ana.tenant_id, bea.tenant_id}
    assert await superuser.fetchval("SELECT count(*) FROM events") == 2 + 3
    assert await superuser.fetchval("SELECT count(*) FROM webhook_delivery_queue") == 2 + 3


async def test_what_is_done_seldom_is_done_when_its_time_has_come() -> None:
    now, done = [0.0], []

    async def work() -> int:
        done.append(now[0])
        return 5

    seldom = Seldom(work=work, every_seconds=10, monotonic=lambda: now[0])
    for second in range(40):
        now[0] = float(second)
        assert await seldom() == 0

    assert 3 <= len(done) <= 4
    assert all(later - earlier == 10 for earlier, later in pairwise(done))


@pytest.mark.parametrize("patience", [timedelta(seconds=120)])
async def test_250_hanging_endpoints_of_as_many_tenants_delay_no_other_tenant(
    begin, bea, new_customer, listener, other_listener, endpoint_of, worker
):
    listener.is_held = asyncio.Event()
    await endpoint_of(bea, other_listener.url)
    for _ in range(250):
        hanging = await new_customer()
        await endpoint_of(hanging, listener.url)
        await tell(begin, hanging, 1)

    async with running(worker):
        await until(lambda: len(listener.got) >= MAX_ENDPOINTS)
        await tell(begin, bea, 10)
        # They hold on for two minutes: whoever waits for one of their places is too late.
        await until(lambda: len(other_listener.got) >= 10)
        listener.is_held.set()
