"""Row classes of tenancy: tenants and the API keys that speak for them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from shared.infrastructure.database import TENANTS_THEMSELVES, Base, TenantScoped, of_tenant


class TenantModel(Base):
    """An organisation; its policies compare `id` itself with the tenant of the context."""

    __tablename__ = "tenants"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (CheckConstraint("name <> ''", "name"), TENANTS_THEMSELVES)


class ApiKeyModel(TenantScoped, Base):
    """An API key: of its secret only the SHA-256 is kept; it is random enough to need no salt."""

    __tablename__ = "api_keys"

    name: Mapped[str]
    secret_digest: Mapped[bytes]
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    __table_args__ = (of_tenant(),)
