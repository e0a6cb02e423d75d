"""The base of every repository: maps an entity to a row, in one tenant, one statement a method."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar, get_args
from uuid import UUID

from sqlalchemy import Executable, Result, delete, insert, inspect, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from shared.infrastructure.database.arguments import given, limit_given, zoned
from shared.infrastructure.database.base import TenantScoped
from shared.infrastructure.database.direct import fetch
from shared.infrastructure.database.driver_errors import (
    ConstraintErrors,
    InvalidReference,
    StillReferenced,
    translated,
)
from shared.infrastructure.database.rls import SCOPED, bound_tenant
from shared.kernel.errors import NotFoundException

Entity = TypeVar("Entity")
Model = TypeVar("Model", bound=TenantScoped)

MAX_PAGE = 1000
# What comes back is mapped to entities at once: nothing is read from, or kept in step with, objects
# that the session may hold.
_OPTIONS = {SCOPED: True, "populate_existing": True, "synchronize_session": False}


class SQLAlchemyRepository(ABC, Generic[Entity, Model]):
    """Stores entities of one kind as rows of `model`, for the tenant that the session serves.

    Each method is one statement, carries `tenant_id = :tenant` besides the policies, and raises
    TenantContextMissing before anything is sent when the session has no tenant. Driver errors come
    out translated (`shared.infrastructure.database.driver_errors`). Nothing here commits.
    """

    model: ClassVar[type[Any]]
    constraint_errors: ClassVar[ConstraintErrors] = {}
    _entity_type: ClassVar[type[Any]] = object

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Learn what it stores, to refuse what is something else."""
        super().__init_subclass__(**kwargs)
        for base in vars(cls).get("__orig_bases__", ()):
            stored = get_args(base)
            if stored and isinstance(stored[0], type):
                cls._entity_type = stored[0]

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    @abstractmethod
    def _to_entity(self, row: Model) -> Entity:
        """The entity that `row` stores."""

    @abstractmethod
    def _to_model(self, entity: Entity) -> Model:
        """The row that stores `entity`; not added to any session."""

    @property
    def tenant_id(self) -> UUID:
        """The tenant that the session serves; raises TenantContextMissing where there is none."""
        return bound_tenant(self._session)

    async def get_by_id(self, entity_id: UUID) -> Entity | None:
        """The entity with this id, or None where this tenant has none."""
        tenant, ident = self.tenant_id, given(UUID, entity_id, "id")
        query = select(self.model).where(self.model.tenant_id == tenant, self.model.id == ident)
        return self._one(await self._execute(query))

    async def add(self, entity: Entity) -> Entity:
        """Insert `entity` and return it as stored (defaults of the database filled in)."""
        entity = given(self._entity_type, entity, "entity")
        values = self._values(self._to_model(entity))
        stored = await self._execute(insert(self.model).values(**values).returning(self.model))
        return self._to_entity(stored.scalar_one())

    async def update(self, entity: Entity) -> Entity:
        """Overwrite the stored row with `entity`; NotFoundException where this tenant has none."""
        entity = given(self._entity_type, entity, "entity")
        values = self._values(self._to_model(entity))
        query = (
            update(self.model)
            .where(self.model.tenant_id == self.tenant_id, self.model.id == values.pop("id"))
            .values(**{k: v for k, v in values.items() if k not in {"tenant_id", "created_at"}})
            .returning(self.model)
        )
        updated = self._one(await self._execute(query))
        if updated is None:
            raise NotFoundException
        return updated

    async def delete(self, entity_id: UUID) -> bool:
        """Delete the row with this id; False where this tenant has none.

        Raises StillReferenced where other rows need it.
        """
        query = (
            delete(self.model)
            .where(
                self.model.tenant_id == self.tenant_id,
                self.model.id == given(UUID, entity_id, "id"),
            )
            .returning(self.model.id)
        )
        try:
            return (await self._execute(query)).first() is not None
        except InvalidReference:
            raise StillReferenced from None

    async def list(self, *, limit: int = 100, after: UUID | None = None) -> Sequence[Entity]:
        """Up to `limit` (at most 1000) entities in order of their ids, from behind `after`."""
        query = (
            select(self.model)
            .where(self.model.tenant_id == self.tenant_id)
            .order_by(self.model.id)
            .limit(limit_given(limit, MAX_PAGE))
        )
        if after is not None:
            query = query.where(self.model.id > given(UUID, after, "after"))
        rows = await self._execute(query)
        return [self._to_entity(row) for row in rows.scalars()]

    def _one(self, result: Result[Any]) -> Entity | None:
        row = result.scalar_one_or_none()
        return None if row is None else self._to_entity(row)

    async def _execute(
        self, statement: Executable, parameters: dict[str, Any] | None = None
    ) -> Result[Any]:
        """Run a statement that names the tenant itself; driver errors come out as ours."""
        async with translated(self.constraint_errors):
            return await self._session.execute(statement, parameters, execution_options=_OPTIONS)

    async def _run(self, statement: Executable, parameters: dict[str, Any]) -> Result[Any]:
        """Run a statement built beforehand, that names the tenant itself; gives rows, not objects.

        It goes to the transaction's connection past the ORM, which would only look it through.
        """
        _ = self.tenant_id  # Raises where there is none, before anything is sent.
        async with translated(self.constraint_errors):
            return await self._session.run_sync(_on_connection, statement, parameters)

    async def _find(self, statement: Executable, parameters: dict[str, Any]) -> Any:
        """As `_fetch` for the row of a look-up by key, or None."""
        rows = await self._fetch(statement, parameters)
        return rows[0] if rows else None

    async def _fetch(self, statement: Executable, parameters: dict[str, Any]) -> Sequence[Any]:
        """As `_run` for all rows of one of a module's constants; straight to the driver."""
        _ = self.tenant_id
        async with translated(self.constraint_errors):
            return await fetch(self._session, statement, parameters)

    @staticmethod
    def _values(row: TenantScoped) -> dict[str, Any]:
        """The values that were given to `row`; what was not given is the database's to fill."""
        return zoned({name: value for name, value in inspect(row).dict.items() if name[0] != "_"})


def _on_connection(
    session: Session, statement: Executable, parameters: dict[str, Any]
) -> Result[Any]:
    return session.connection().execute(statement, parameters)
