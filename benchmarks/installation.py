"""A tenant with a channel in a database, sessions on it, and messages for it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from benchmarks.servers import Database
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database import (
    RLSManager,
    SessionFactory,
    SQLAlchemyUnitOfWork,
    create_engine,
    create_session_factory,
)
from shared.infrastructure.encryption import EncryptionManager, KeyRing, configure_encryption
from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from tenancy.infrastructure.models import TenantModel
from whatsapp.domain.entities import Channel, OutboundMessage
from whatsapp.domain.value_objects import AccessToken, MessageContent, PhoneNumber
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyChannelRepository


@dataclass(frozen=True, slots=True)
class Installation:
    """Tellwire's own way to a database, for one tenant with one verified channel."""

    engine: AsyncEngine
    sessions: SessionFactory
    tenant_id: UUID
    channel_id: UUID

    def message(self, number: int) -> OutboundMessage:
        """A new text message to the recipient with this number."""
        return OutboundMessage(
            tenant_id=self.tenant_id,
            channel_id=self.channel_id,
            recipient=PhoneNumber(f"+4915{number % 10**9:09}"),
            content=MessageContent.text(f"Your order {number} is on its way, see you tomorrow!"),
        )


@asynccontextmanager
async def installed(database: Database) -> AsyncGenerator[Installation]:
    """Make tenant and channel as the application would, through the repositories."""
    configure_encryption(EncryptionManager(KeyRing.generate()))
    engine = create_engine(database.url("tellwire_app"))
    sessions = create_session_factory(engine)
    tenant = new_id()
    channel = Channel(
        tenant_id=tenant,
        name="Main",
        phone_number_id="1001",
        access_token=AccessToken("EAAG-benchmark"),
    )
    channel.verify(utc_now())
    try:
        async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=tenant)
            await uow.session.execute(insert(TenantModel).values(id=tenant, name="A tenant"))
            await SQLAlchemyChannelRepository(uow.session).add(channel)
            await uow.commit()
        yield Installation(engine, sessions, tenant, channel.id)
    finally:
        await engine.dispose()
        configure_encryption(None)
