"""The declarative base, and the mixin that makes a table belong to tenants."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKeyConstraint,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING_CONVENTION = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(referred_table_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}
"""Constraint names are contracts: driver errors are translated by them."""


class Base(DeclarativeBase):
    """Every row class of Tellwire; one metadata, so that one migration history describes it all."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: DateTime(timezone=True),
        UUID: Uuid(),
        str: Text(),
        bytes: LargeBinary(),
        int: BigInteger(),
        dict[str, Any]: JSONB(),
        list[str]: JSONB(),
        list[dict[str, Any]]: JSONB(),
    }


class TenantScoped:
    """A row of one tenant: its keys begin with `tenant_id`, and policies guard its table.

    The primary key of every such table is `(tenant_id, id)`, so that no constraint tells one tenant
    of another, the identity map cannot mix tenants, and the table can be distributed by tenant.
    """

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)


TENANTS_THEMSELVES = {"info": {"tellwire_tenants": True}}
"""`__table_args__` of the table whose rows are the tenants: guarded like theirs."""


def belongs_to_tenants(table: Table) -> bool:
    """Whether rows of `table` are a tenant's, or are tenants."""
    return "tenant_id" in table.c or "tellwire_tenants" in table.info


def of_tenant() -> ForeignKeyConstraint:
    """The reference to the tenant itself, for tables that reach it through no other reference."""
    return ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE")
