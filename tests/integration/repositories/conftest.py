"""A desk to work at: a customer's repositories in a transaction, and messages to store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from shared.infrastructure.database import (
    RLSManager,
    SessionFactory,
    SQLAlchemyUnitOfWork,
    create_engine,
)
from shared.kernel.clock import utc_now
from whatsapp.domain.entities import InboundMessage, OutboundMessage
from whatsapp.domain.value_objects import (
    IdempotencyKey,
    InboundContent,
    MessageContent,
    PhoneNumber,
)
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyChannelRepository,
    SQLAlchemyMessageRepository,
    SQLAlchemySendQueue,
)

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Desk:
    uow: SQLAlchemyUnitOfWork
    channels: SQLAlchemyChannelRepository
    messages: SQLAlchemyMessageRepository


@asynccontextmanager
async def desk(sessions: SessionFactory, customer: Any) -> AsyncIterator[Desk]:
    """The customer's repositories; what the block did is committed at its end."""
    async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
        await rls.set_context(tenant_id=customer.tenant_id)
        session = uow.session
        yield Desk(uow, SQLAlchemyChannelRepository(session), SQLAlchemyMessageRepository(session))
        await uow.commit()


@pytest.fixture
def at(sessions):
    """`async with at(ana) as desk:`"""
    return lambda customer, factory=sessions: desk(factory, customer)


@pytest.fixture
def message():
    def message(customer: Any, **values: Any) -> OutboundMessage:
        number = next(_numbers)
        given = {
            "tenant_id": customer.tenant_id,
            "channel_id": customer.channel.id,
            "recipient": PhoneNumber(f"+49151{number:08}"),
            "content": MessageContent.text("Hello"),
            "idempotency_key": IdempotencyKey(f"key-{number}"),
        }
        return OutboundMessage(**given | values)

    return message


@pytest.fixture
def inbound():
    def inbound(customer: Any, **values: Any) -> InboundMessage:
        given = {
            "tenant_id": customer.tenant_id,
            "channel_id": customer.channel.id,
            "wamid": f"wamid.in.{next(_numbers)}",
            "content": InboundContent("text", {"body": "Hi"}),
            "sent_at": utc_now(),
            "sender": PhoneNumber("+4915112345678"),
        }
        return InboundMessage(**given | values)

    return inbound


@pytest.fixture
async def send_queue(database) -> AsyncIterator[SQLAlchemySendQueue]:
    engine = create_engine(database.url("tellwire_dispatch"), pool_size=16)
    yield SQLAlchemySendQueue(engine)
    await engine.dispose()


@pytest.fixture
def claim(send_queue):
    """Claim due entries of a customer's channel."""

    async def claim(customer: Any, limit: int = 100, lease: timedelta = timedelta(minutes=1)):
        return await send_queue.claim(
            tenant_id=customer.tenant_id, channel_id=customer.channel.id, limit=limit, lease=lease
        )

    return claim


@pytest.fixture
def everything_of(superuser):
    """All rows of a customer, past every policy."""

    async def everything_of(customer: Any) -> dict[str, list[str]]:
        tables = await superuser.fetch(
            "SELECT table_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND column_name = 'tenant_id'"
        )
        return {
            row["table_name"]: [
                str(found)
                for found in await superuser.fetch(
                    f"SELECT t::text FROM {row['table_name']} t WHERE tenant_id = $1",  # noqa: S608  # our tables
                    customer.tenant_id,
                )
            ]
            for row in tables
        }

    return everything_of
