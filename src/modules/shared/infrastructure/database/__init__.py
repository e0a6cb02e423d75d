"""PostgreSQL for everybody: engines, sessions bound to a tenant, and the base of repositories."""

from shared.infrastructure.database.base import (
    TENANTS_THEMSELVES,
    Base,
    TenantScoped,
    of_tenant,
)
from shared.infrastructure.database.driver_errors import (
    AlreadyExists,
    DatabaseFailed,
    DatabaseUnavailable,
    InvalidReference,
    InvalidValue,
    RowSecurityViolation,
    StillReferenced,
    TenantNotFound,
    TransactionConflict,
)
from shared.infrastructure.database.engine import (
    SessionFactory,
    create_engine,
    create_session_factory,
    refuse_endless_transactions,
    refuse_unsafe_role,
)
from shared.infrastructure.database.repository import SQLAlchemyRepository
from shared.infrastructure.database.rls import InvalidTenantId, RLSManager, TenantSession
from shared.infrastructure.database.tenant_context import (
    TenantContext,
    TenantContextConflict,
    TenantContextMissing,
    current_context,
    current_tenant,
)
from shared.infrastructure.database.unit_of_work import SQLAlchemyUnitOfWork, configure_database

__all__ = [
    "TENANTS_THEMSELVES",
    "AlreadyExists",
    "Base",
    "DatabaseFailed",
    "DatabaseUnavailable",
    "InvalidReference",
    "InvalidTenantId",
    "InvalidValue",
    "RLSManager",
    "RowSecurityViolation",
    "SQLAlchemyRepository",
    "SQLAlchemyUnitOfWork",
    "SessionFactory",
    "StillReferenced",
    "TenantContext",
    "TenantContextConflict",
    "TenantContextMissing",
    "TenantNotFound",
    "TenantScoped",
    "TenantSession",
    "TransactionConflict",
    "configure_database",
    "create_engine",
    "create_session_factory",
    "current_context",
    "current_tenant",
    "of_tenant",
    "refuse_endless_transactions",
    "refuse_unsafe_role",
]
