"""A tenant: one organisation that an installation serves."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from shared.kernel.errors import Conflict, InvalidInput
from shared.kernel.ids import new_id
from tenancy.domain.name import checked_name


class InvalidTenant(InvalidInput):
    """A property of the tenant is not what it may be."""

    code = "invalid_tenant"
    title = "The tenant is not valid"


class TenantAlreadyExists(Conflict):
    """A tenant with this id exists."""

    code = "tenant_already_exists"
    title = "A tenant with this id already exists"


@dataclass(slots=True, kw_only=True)
class Tenant:
    """An organisation; what belongs to it is visible under its id alone."""

    name: str
    id: UUID = field(default_factory=new_id)
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        self.name = checked_name(self.name, InvalidTenant)
