"""What integration tests share: sessions as the application's role, and tenants with a channel."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from uuid import UUID

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database import (
    RLSManager,
    SessionFactory,
    SQLAlchemyUnitOfWork,
    configure_database,
    create_engine,
    create_session_factory,
)
from shared.infrastructure.encryption import EncryptionManager, KeyRing, configure_encryption
from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from tenancy.infrastructure.models import TenantModel
from whatsapp.domain.entities import Channel
from whatsapp.domain.value_objects import AccessToken
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyChannelRepository


@dataclass(frozen=True, slots=True)
class Customer:
    """A tenant that exists, with one verified channel."""

    tenant_id: UUID
    channel: Channel


@pytest.fixture(autouse=True)
def encryption() -> Iterator[EncryptionManager]:
    manager = EncryptionManager(KeyRing.generate())
    configure_encryption(manager)
    yield manager
    configure_encryption(None)


@pytest.fixture
async def engine(database) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database.url("tellwire_app"))
    yield engine
    await engine.dispose()


@pytest.fixture
def sessions(engine: AsyncEngine) -> Iterator[SessionFactory]:
    factory = create_session_factory(engine)
    configure_database(factory)
    yield factory
    configure_database(None)


@pytest.fixture
async def ana(sessions: SessionFactory) -> Customer:
    return await make_customer(sessions, phone_number_id="1001")


@pytest.fixture
async def bea(sessions: SessionFactory) -> Customer:
    return await make_customer(sessions, phone_number_id="2002")


async def make_customer(sessions: SessionFactory, *, phone_number_id: str) -> Customer:
    tenant = new_id()
    channel = Channel(
        tenant_id=tenant,
        name="Main",
        phone_number_id=phone_number_id,
        access_token=AccessToken("EAAG-test-token"),
    )
    channel.verify(utc_now())
    async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
        await rls.set_context(tenant_id=tenant)
        await uow.session.execute(insert(TenantModel).values(id=tenant, name="A tenant"))
        stored = await SQLAlchemyChannelRepository(uow.session).add(channel)
        await uow.commit()
    return Customer(tenant, stored)
