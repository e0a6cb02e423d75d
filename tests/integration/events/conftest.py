"""Endpoints that are listened to, events that happen, and a worker's round in between."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from aiohttp import web

from shared.infrastructure.database import create_engine
from shared.kernel.clock import utc_now
from whatsapp.application.create_endpoint import CreateEndpoint, NewEndpoint
from whatsapp.application.deliver_events import DeliverEvents
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.events import AddressPolicy, EndpointWork
from whatsapp.domain.value_objects import IdempotencyKey, MessageContent, PhoneNumber
from whatsapp.infrastructure.event_delivery.guarded_session import guarded_session
from whatsapp.infrastructure.event_delivery.sender import HttpEventSender
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyDeliveryQueue
from whatsapp.infrastructure.persistence.work import work_in

LOOPBACK = AddressPolicy.parse("127.0.0.0/8")


@dataclass(slots=True)
class Received:
    """One request as an endpoint got it."""

    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Listener:
    """A tenant's own system: keeps what it got and answers as it is told."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    answer: bytes = b"thanks"
    delay: float = 0.0
    got: list[Received] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    is_held: asyncio.Event | None = None
    """Until this is set what comes now gets no answer."""

    async def handle(self, request: web.Request) -> web.Response:
        self.got.append(Received(await request.read(), dict(request.headers)))
        held = self.is_held
        self.reached.set()
        await asyncio.sleep(self.delay)
        if held is not None:
            await held.wait()
        return web.Response(status=self.status, headers=self.headers, body=self.answer)

    @property
    def types(self) -> list[str]:
        return [one.json["type"] for one in self.got]


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    app = web.Application()
    app.router.add_post("/{path:.*}", listener.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        await web.SockSite(runner, bound).start()
        listener.url = f"http://127.0.0.1:{bound.getsockname()[1]}/hook"
        yield listener
        await runner.cleanup()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    async with listening() as listener:
        yield listener


@pytest.fixture
async def other_listener() -> AsyncIterator[Listener]:
    async with listening() as listener:
        yield listener


@pytest.fixture
def begin(sessions):
    return work_in(sessions)


@pytest.fixture
async def delivery_queue(database) -> AsyncIterator[SQLAlchemyDeliveryQueue]:
    engine = create_engine(database.url("tellwire_dispatch"))
    yield SQLAlchemyDeliveryQueue(engine)
    await engine.dispose()


@pytest.fixture
def patience() -> timedelta:
    """How long a sender waits for an answer: longer than a busy machine holds up this process."""
    return timedelta(seconds=20)


@pytest.fixture
async def sender(patience) -> AsyncIterator[HttpEventSender]:
    async with guarded_session(LOOPBACK) as session:
        yield HttpEventSender(session, within=patience)


@dataclass(slots=True)
class Time:
    """A clock that can be moved on."""

    passed: timedelta = timedelta()

    def __call__(self) -> Any:
        return utc_now() + self.passed


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def deliver(begin, delivery_queue, sender, time) -> DeliverEvents:
    return DeliverEvents(
        begin=begin,
        queue=delivery_queue,
        sender=sender,
        lease=timedelta(seconds=30),
        now=time,
        rng=Random(1),
    )


@pytest.fixture
def endpoint_of(begin):
    """Take in an endpoint for a customer; gives it with its secret."""

    async def create(customer: Any, url: str, **wanted: Any):
        create = CreateEndpoint(begin=begin, policy=LOOPBACK)
        return await create(customer.tenant_id, NewEndpoint(url=url, **wanted))

    return create


@pytest.fixture
def rounds(deliver):
    """Deliver what is due for an endpoint until nothing is; gives how many were taken."""

    async def rounds(endpoint: Any, limit: int = 16) -> int:
        work, taken = EndpointWork(endpoint.tenant_id, endpoint.id), 0
        while (done := await deliver(work, limit=limit)).claimed:
            taken += done.taken
            if not done.taken:
                break
        return taken

    return rounds


_numbers = iter(range(1, 10**6))


@pytest.fixture
def sent(begin):
    """Store a message; `set_status` says how far it came."""

    async def sent(customer: Any, **given: Any) -> OutboundMessage:
        number = next(_numbers)
        message = OutboundMessage(
            tenant_id=customer.tenant_id,
            channel_id=customer.channel.id,
            recipient=PhoneNumber(f"+49151{number:08}"),
            content=MessageContent.text("Hello"),
            idempotency_key=IdempotencyKey(f"key-{number}"),
            metadata={"order": "42"},
            **given,
        )
        async with begin(customer.tenant_id) as work:
            stored = await work.messages.save_outbound(message)
            await work.commit()
        return stored

    return sent


@pytest.fixture
def set_status(superuser):
    """Put a message into a status, past every rule: what led to it is not the point."""

    async def set_status(message: Any, status: str, attempts: int = 1, **columns: Any) -> None:
        await superuser.execute(
            "UPDATE whatsapp_outbound_messages SET status = $1, attempts = $2, wamid = $3"
            " WHERE id = $4",
            status,
            attempts,
            columns.get("wamid", f"wamid.{message.id}"),
            message.id,
        )

    return set_status
