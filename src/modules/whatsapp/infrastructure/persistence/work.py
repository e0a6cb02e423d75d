"""The use cases' transaction: a unit of work under a tenant's context, with its repositories."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from shared.infrastructure.database import RLSManager, SessionFactory, SQLAlchemyUnitOfWork
from shared.infrastructure.database.driver_errors import rolling_back, translated
from whatsapp.application.ports import BeginWork, Work
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyAccountRepository,
    SQLAlchemyChannelRepository,
    SQLAlchemyConversationRepository,
    SQLAlchemyConversationViews,
    SQLAlchemyDeliveryLog,
    SQLAlchemyEndpointRepository,
    SQLAlchemyEventLog,
    SQLAlchemyMediaRepository,
    SQLAlchemyMessageRepository,
    SQLAlchemyMessageViews,
)


@dataclass(frozen=True, slots=True)
class _TenantWork:
    session: AsyncSession
    channels: SQLAlchemyChannelRepository
    conversations: SQLAlchemyConversationRepository
    media: SQLAlchemyMediaRepository
    messages: SQLAlchemyMessageRepository
    views: SQLAlchemyMessageViews
    conversation_views: SQLAlchemyConversationViews
    events: SQLAlchemyEventLog
    endpoints: SQLAlchemyEndpointRepository
    deliveries: SQLAlchemyDeliveryLog
    accounts: SQLAlchemyAccountRepository

    async def commit(self) -> None:
        async with translated():
            await self.session.commit()


def work_in(sessions: SessionFactory) -> BeginWork:
    """How use cases open transactions on `sessions`."""

    @asynccontextmanager
    async def begin(tenant_id: UUID, user_id: UUID | None = None) -> AsyncGenerator[Work]:
        async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=tenant_id, user_id=user_id)
            session = uow.session
            yield _TenantWork(
                session,
                SQLAlchemyChannelRepository(session),
                SQLAlchemyConversationRepository(session),
                SQLAlchemyMediaRepository(session),
                SQLAlchemyMessageRepository(session),
                SQLAlchemyMessageViews(session),
                SQLAlchemyConversationViews(session),
                SQLAlchemyEventLog(session),
                SQLAlchemyEndpointRepository(session),
                SQLAlchemyDeliveryLog(session),
                SQLAlchemyAccountRepository(session),
            )
            # Here and not on the way out: a transaction that is over needs no tenant taken from it.
            with rolling_back():
                await session.rollback()

    return begin
