"""What the use cases of tenancy need from outside."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from tenancy.domain import ApiKeyRepository, TenantRepository


class TenancyWork(Protocol):
    """One transaction for one tenant; what is not committed is undone."""

    @property
    def tenants(self) -> TenantRepository:
        """The tenant itself."""
        ...

    @property
    def api_keys(self) -> ApiKeyRepository:
        """The tenant's keys."""
        ...

    async def commit(self) -> None:
        """Make it durable."""
        ...


class BeginTenancyWork(Protocol):
    """Opens a transaction for a tenant: `async with begin(tenant_id) as work: ...`."""

    def __call__(self, tenant_id: UUID) -> AbstractAsyncContextManager[TenancyWork]:
        """A transaction that sees and takes what belongs to `tenant_id` only."""
        ...
