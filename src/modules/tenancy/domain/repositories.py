"""What tenancy asks of storage; SQLAlchemy answers in `tenancy.infrastructure`."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from tenancy.domain.api_key import ApiKey
from tenancy.domain.tenant import Tenant


class TenantRepository(Protocol):
    """The tenant of the context, which is the only one to be seen."""

    async def add(self, entity: Tenant) -> Tenant:
        """Store a new tenant; its id is the context's."""
        ...

    async def get(self) -> Tenant | None:
        """The tenant of the context."""
        ...


class ApiKeyRepository(Protocol):
    """The API keys of one tenant."""

    async def add(self, entity: ApiKey) -> ApiKey:
        """Store a new key."""
        ...

    async def get_by_id(self, entity_id: UUID) -> ApiKey | None:
        """The key with this id."""
        ...

    async def update(self, entity: ApiKey) -> ApiKey:
        """Store what changed."""
        ...

    async def list(self, *, limit: int = 100, after: UUID | None = None) -> Sequence[ApiKey]:
        """Keys in order of their ids, from behind `after`."""
        ...


class TenantDirectory(Protocol):
    """Which tenants there are, for operators; their names are known under their own contexts."""

    async def list_ids(self, *, limit: int = 1000, after: UUID | None = None) -> Sequence[UUID]:
        """Ids of tenants in order, from behind `after`."""
        ...
