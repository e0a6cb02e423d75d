"""Take in a new tenant."""

from dataclasses import dataclass

from tenancy.application.ports import BeginTenancyWork
from tenancy.domain import Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTenant:
    """Stores a tenant, under its own context from the first row on."""

    begin: BeginTenancyWork

    async def __call__(self, name: str) -> Tenant:
        """The new tenant; InvalidTenant for a name that cannot be."""
        tenant = Tenant(name=name)
        async with self.begin(tenant.id) as work:
            stored = await work.tenants.add(tenant)
            await work.commit()
        return stored
