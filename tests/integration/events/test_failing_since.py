"""Since when an endpoint fails, where several workers ask it at once: the last answer counts."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from shared.kernel.clock import utc_now
from whatsapp.domain.events import EndpointWork, EventType, NewEvent

pytestmark = pytest.mark.postgres


@pytest.fixture
async def endpoint(ana, listener, endpoint_of, begin):
    """An endpoint for which two events wait that are about nothing in common."""
    endpoint, _ = await endpoint_of(ana, listener.url)
    happened = [
        NewEvent(type=EventType.CHANNEL_PAUSED, occurred_at=utc_now(), data={}) for _ in range(2)
    ]
    async with begin(ana.tenant_id) as work:
        await work.events.record(others=happened)
        await work.commit()
    return endpoint


@pytest.fixture
def failing_since(begin, endpoint):
    async def failing_since():
        async with begin(endpoint.tenant_id) as work:
            return (await work.endpoints.get_by_id(endpoint.id)).failing_since

    return failing_since


@pytest.fixture
def under_way(deliver, endpoint, listener):
    """`async with under_way(status):` a worker has asked; it is answered so when the block ends."""

    @asynccontextmanager
    async def under_way(status):
        held = listener.is_held = asyncio.Event()
        listener.reached.clear()
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(deliver(EndpointWork(endpoint.tenant_id, endpoint.id), limit=1))
            await listener.reached.wait()
            listener.is_held = None
            yield
            listener.status = status
            held.set()

    return under_way


async def test_a_success_clears_the_failure_of_another_worker_that_came_while_it_was_under_way(
    endpoint, deliver, listener, under_way, failing_since
):
    async with under_way(200):
        listener.status = 500
        await deliver(EndpointWork(endpoint.tenant_id, endpoint.id), limit=1)
        assert await failing_since() is not None

    assert await failing_since() is None


async def test_a_failure_is_noted_behind_the_success_of_another_worker(
    endpoint, deliver, listener, under_way, failing_since, superuser
):
    await superuser.execute("UPDATE webhook_endpoints SET failing_since = now() - interval '1 h'")
    long_ago = await failing_since()
    async with under_way(500):
        listener.status = 200
        await deliver(EndpointWork(endpoint.tenant_id, endpoint.id), limit=1)
        assert await failing_since() is None

    assert (await failing_since()) > long_ago


async def test_a_failure_leaves_the_first_one_since_the_last_success_as_it_was(
    endpoint, deliver, listener, under_way, failing_since
):
    async with under_way(500):
        listener.status = 500
        await deliver(EndpointWork(endpoint.tenant_id, endpoint.id), limit=1)
        first = await failing_since()

    assert await failing_since() == first is not None
