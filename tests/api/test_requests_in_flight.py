"""A worker has a bounded number of requests to Meta under way, of all tenants together."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from aiohttp import web

from ports import free_port
from shared.infrastructure.database import RLSManager, SQLAlchemyUnitOfWork
from tellwire.worker import CONCURRENCY_OF_ALL, run_worker
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.value_objects import MessageContent, PhoneNumber
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMessageRepository

TENANTS = CONCURRENCY_OF_ALL + 1
ANSWER_SECONDS = 5.5
"""Longer than anything may wait for a connection."""


@dataclass
class SlowMeta:
    """Takes every message, and takes its time to say so."""

    url: str = ""
    here: int = 0
    most: int = 0

    async def take(self, request: web.Request) -> web.Response:
        await request.read()
        self.here += 1
        self.most = max(self.most, self.here)
        await asyncio.sleep(ANSWER_SECONDS)
        self.here -= 1
        return web.json_response({"messages": [{"id": f"wamid.{self.most}.{id(request)}"}]})


@pytest.fixture
async def meta() -> AsyncIterator[SlowMeta]:
    slow, app = SlowMeta(), web.Application()
    app.router.add_post("/{path:.*}", slow.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    slow.url = "http://{}:{}".format(*runner.addresses[0])
    yield slow
    await runner.cleanup()


async def shown(port: int) -> float:
    """How many are under way by the worker's own account; none before it listens."""
    async with httpx.AsyncClient() as client:
        try:
            answer = await client.get(f"http://127.0.0.1:{port}/metrics")
        except httpx.ConnectError:
            return 0
    (found,) = re.findall(r"^tellwire_requests_in_flight (\S+)$", answer.text, re.MULTILINE)
    return float(found)


async def test_tenants_share_what_a_worker_may_have_under_way(world, settings, meta) -> None:
    for _ in range(TENANTS):
        customer = await world.customer()
        message = OutboundMessage(
            tenant_id=customer.tenant_id,
            channel_id=customer.channel_id,
            recipient=PhoneNumber("+4915155000001"),
            content=MessageContent.text("Hello"),
        )
        async with SQLAlchemyUnitOfWork(world.sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=customer.tenant_id)
            await SQLAlchemyMessageRepository(uow.session).save_outbound(message)
            await uow.commit()
    stopping, port, seen = asyncio.Event(), free_port(), list[float]()
    few = settings.model_copy(
        update={
            "graph_base_url": meta.url,
            "worker_concurrency": 1,
            "worker_metrics_port": port,
        }
    )
    sent = "SELECT attempts FROM whatsapp_outbound_messages WHERE status = 'sent'"

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(run_worker(few, stopping))
        while len(await world.query(sent)) < TENANTS:  # nobody tells
            seen.append(await shown(port))
            await asyncio.sleep(0.1)
        stopping.set()

    assert 1 < meta.most <= max(seen) <= CONCURRENCY_OF_ALL
    assert {one.attempts for one in await world.query(sent)} == {1}
