"""Make keys for a tenant, show them, and take them back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from tenancy.application.ports import BeginTenancyWork
from tenancy.domain import ApiKey, ApiKeyNotFound, IssuedApiKey, parse_scopes


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateApiKey:
    """Makes a key; its text is in the answer and nowhere else."""

    begin: BeginTenancyWork
    now: Clock = utc_now

    async def __call__(
        self,
        tenant_id: UUID,
        *,
        name: str,
        scopes: Iterable[str],
        expires_at: datetime | None = None,
    ) -> IssuedApiKey:
        """The new key with its text; raises InvalidApiKey, TenantNotFound."""
        issued = IssuedApiKey.issue(
            tenant_id=tenant_id,
            name=name,
            scopes=parse_scopes(scopes),
            at=self.now(),
            expires_at=expires_at,
        )
        async with self.begin(tenant_id) as work:
            stored = await work.api_keys.add(issued.key)
            await work.commit()
        return IssuedApiKey(stored, issued.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListApiKeys:
    """Shows a tenant's keys, revoked and expired ones too; their texts nobody knows any more."""

    begin: BeginTenancyWork

    async def __call__(self, tenant_id: UUID) -> Sequence[ApiKey]:
        """All keys, the oldest first."""
        keys: list[ApiKey] = []
        async with self.begin(tenant_id) as work:
            while page := await work.api_keys.list(after=keys[-1].id if keys else None):
                keys += page
        return keys


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeApiKey:
    """Takes a key back for good; processes that just recognised it notice within seconds."""

    begin: BeginTenancyWork
    now: Clock = utc_now

    async def __call__(self, tenant_id: UUID, key_id: UUID) -> ApiKey:
        """The key as it is stored then; a second time changes nothing. Raises ApiKeyNotFound."""
        async with self.begin(tenant_id) as work:
            key = await work.api_keys.get_by_id(key_id)
            if key is None:
                raise ApiKeyNotFound
            key.revoke(self.now())
            stored = await work.api_keys.update(key)
            await work.commit()
        return stored
