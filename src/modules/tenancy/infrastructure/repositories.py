"""Tenants and API keys in PostgreSQL."""

from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from shared.infrastructure.database import SQLAlchemyRepository
from shared.infrastructure.database.driver_errors import ConstraintErrors, translated
from shared.infrastructure.database.rls import bound_tenant
from shared.infrastructure.database.signatures import looks_at_arguments
from shared.infrastructure.database.tenant_context import TenantContextConflict
from tenancy.domain import ApiKey, ApiKeyNotFound, Scope, Tenant, TenantAlreadyExists
from tenancy.infrastructure.models import ApiKeyModel, TenantModel

MAX_PAGE = 1000


@looks_at_arguments()
class SQLAlchemyTenantRepository:
    """The tenant that the session serves; its row is guarded by its own id."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, entity: Tenant) -> Tenant:
        """Store a new tenant under its own context; TenantAlreadyExists if it is there."""
        if bound_tenant(self._session) != entity.id:
            raise TenantContextConflict("A tenant is stored under its own context")
        query = insert(TenantModel).values(id=entity.id, name=entity.name).returning(TenantModel)
        async with translated({"pk_tenants": TenantAlreadyExists}):
            return _to_tenant((await self._session.execute(query)).scalar_one())

    async def get(self) -> Tenant | None:
        """The tenant of the context, if it exists."""
        query = select(TenantModel).where(TenantModel.id == bound_tenant(self._session))
        async with translated():
            row = (await self._session.execute(query)).scalar_one_or_none()
        return None if row is None else _to_tenant(row)


def _to_tenant(row: TenantModel) -> Tenant:
    return Tenant(id=row.id, name=row.name, created_at=row.created_at)


@looks_at_arguments()
class SQLAlchemyApiKeyRepository(SQLAlchemyRepository[ApiKey, ApiKeyModel]):
    """The tenant's API keys; their secrets cannot be read back."""

    model = ApiKeyModel
    constraint_errors: ClassVar[ConstraintErrors] = {}

    async def update(self, entity: ApiKey) -> ApiKey:
        """As the base's; a revocation is for good: no older copy takes it back or moves its time.

        Raises ApiKeyNotFound.
        """
        key = self._to_model(entity)
        query = (
            update(ApiKeyModel)
            .where(ApiKeyModel.tenant_id == self.tenant_id, ApiKeyModel.id == key.id)
            .values(
                name=key.name,
                scopes=key.scopes,
                expires_at=key.expires_at,
                revoked_at=func.coalesce(ApiKeyModel.revoked_at, key.revoked_at),
            )
            .returning(ApiKeyModel)
        )
        updated = self._one(await self._execute(query))
        if updated is None:
            raise ApiKeyNotFound
        return updated

    def _to_entity(self, row: ApiKeyModel) -> ApiKey:
        return ApiKey(
            tenant_id=row.tenant_id,
            id=row.id,
            name=row.name,
            # A scope that this release does not know grants nothing.
            scopes=frozenset(Scope(text) for text in row.scopes if text in set(Scope)),
            secret_digest=row.secret_digest,
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
        )

    def _to_model(self, entity: ApiKey) -> ApiKeyModel:
        return ApiKeyModel(
            tenant_id=entity.tenant_id,
            id=entity.id,
            name=entity.name,
            scopes=sorted(entity.scopes),
            secret_digest=entity.secret_digest,
            expires_at=entity.expires_at,
            revoked_at=entity.revoked_at,
        )


class SQLAlchemyTenantDirectory:
    """Which tenants there are, as the role `tellwire_process`, which sees their ids alone."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def list_ids(self, *, limit: int = MAX_PAGE, after: UUID | None = None) -> Sequence[UUID]:
        """Up to `limit` ids in order, from behind `after`."""
        query = select(TenantModel.id).order_by(TenantModel.id).limit(min(limit, MAX_PAGE))
        if after is not None:
            query = query.where(TenantModel.id > after)
        async with translated(), self._engine.connect() as connection:
            return (await connection.scalars(query)).all()
