"""The transactions of tenancy's use cases."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from shared.infrastructure.database import RLSManager, SessionFactory, SQLAlchemyUnitOfWork
from shared.infrastructure.database.driver_errors import rolling_back, translated
from tenancy.application.ports import BeginTenancyWork, TenancyWork
from tenancy.infrastructure.repositories import (
    SQLAlchemyApiKeyRepository,
    SQLAlchemyTenantRepository,
)


@dataclass(frozen=True, slots=True)
class _TenancyWork:
    session: AsyncSession
    tenants: SQLAlchemyTenantRepository
    api_keys: SQLAlchemyApiKeyRepository

    async def commit(self) -> None:
        async with translated():
            await self.session.commit()


def tenancy_work_in(sessions: SessionFactory) -> BeginTenancyWork:
    """How tenancy's use cases open transactions on `sessions`."""

    @asynccontextmanager
    async def begin(tenant_id: UUID) -> AsyncGenerator[TenancyWork]:
        async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=tenant_id)
            session = uow.session
            yield _TenancyWork(
                session, SQLAlchemyTenantRepository(session), SQLAlchemyApiKeyRepository(session)
            )
            # Here and not on the way out: a transaction that is over needs no tenant taken from it.
            with rolling_back():
                await session.rollback()

    return begin
