"""Who is calling: tenants and the keys that speak for them. Plain Python."""

from tenancy.domain.api_key import (
    ApiKey,
    ApiKeyNotFound,
    InvalidApiKey,
    IssuedApiKey,
    PresentedKey,
    Scope,
    parse_scopes,
    read_key,
)
from tenancy.domain.repositories import ApiKeyRepository, TenantDirectory, TenantRepository
from tenancy.domain.tenant import InvalidTenant, Tenant, TenantAlreadyExists

__all__ = [
    "ApiKey",
    "ApiKeyNotFound",
    "ApiKeyRepository",
    "InvalidApiKey",
    "InvalidTenant",
    "IssuedApiKey",
    "PresentedKey",
    "Scope",
    "Tenant",
    "TenantAlreadyExists",
    "TenantDirectory",
    "TenantRepository",
    "parse_scopes",
    "read_key",
]
