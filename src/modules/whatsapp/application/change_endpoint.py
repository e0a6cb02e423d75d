"""Change a webhook endpoint: what it hears and where, its secret, whether it is there at all."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from shared.kernel.secret import Secret
from whatsapp.application.create_endpoint import ensure_channels
from whatsapp.application.ports import BeginWork
from whatsapp.domain.events import (
    AddressPolicy,
    EndpointNotFound,
    EventType,
    WebhookEndpoint,
    new_secret,
)
from whatsapp.domain.events.endpoint import DEFAULT_OVERLAP

SWITCHED_OFF = "Switched off"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChange:
    """What is to be different; None leaves things as they are."""

    url: str | None = None
    description: str | None = None
    event_types: frozenset[EventType] | None = None
    channel_ids: frozenset[UUID] | None = None
    is_enabled: bool | None = None

    def apply(self, endpoint: WebhookEndpoint) -> None:
        """Make it so."""
        endpoint.url = endpoint.url if self.url is None else self.url
        endpoint.description = (
            endpoint.description if self.description is None else self.description
        )
        endpoint.event_types = (
            endpoint.event_types if self.event_types is None else self.event_types
        )
        endpoint.channel_ids = (
            endpoint.channel_ids if self.channel_ids is None else self.channel_ids
        )
        if self.is_enabled:
            endpoint.enable()
        elif self.is_enabled is False and endpoint.is_enabled:
            endpoint.disable(SWITCHED_OFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeEndpoint:
    """Stores a change; what waits for an endpoint that is switched off is dropped."""

    begin: BeginWork
    policy: AddressPolicy

    async def __call__(
        self,
        tenant_id: UUID,
        endpoint_id: UUID,
        change: EndpointChange,
        *,
        user_id: UUID | None = None,
    ) -> WebhookEndpoint:
        """The endpoint as it is then. Raises EndpointNotFound, InvalidEndpoint."""
        async with self.begin(tenant_id, user_id) as work:
            await work.events.open()
            endpoint = await work.endpoints.get_for_change(endpoint_id)
            if endpoint is None:
                raise EndpointNotFound
            change.apply(endpoint)
            endpoint.ensure_valid(self.policy)
            await ensure_channels(work, sorted(change.channel_ids or ()))
            stored = await work.endpoints.update(endpoint)
            if not stored.is_enabled:
                await work.deliveries.clear(endpoint_id)
            await work.commit()
        return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteEndpoint:
    """Forgets an endpoint with its log and what waits for it."""

    begin: BeginWork

    async def __call__(
        self, tenant_id: UUID, endpoint_id: UUID, *, user_id: UUID | None = None
    ) -> None:
        """Raises EndpointNotFound."""
        async with self.begin(tenant_id, user_id) as work:
            # Whoever records events for it at this moment comes before or after, not between.
            await work.events.open()
            if await work.endpoints.get_for_change(endpoint_id) is None:
                raise EndpointNotFound
            # Before the endpoint, which whoever records deliveries from its queue needs.
            await work.deliveries.clear(endpoint_id)
            await work.endpoints.delete(endpoint_id)
            await work.commit()


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateEndpointSecret:
    """Gives an endpoint another secret; the one before signs as well for a while."""

    begin: BeginWork
    now: Clock = utc_now

    async def __call__(
        self,
        tenant_id: UUID,
        endpoint_id: UUID,
        *,
        overlap: timedelta = DEFAULT_OVERLAP,
        user_id: UUID | None = None,
    ) -> tuple[WebhookEndpoint, Secret]:
        """The endpoint and its new secret. Raises EndpointNotFound, InvalidEndpoint."""
        secret = new_secret()
        async with self.begin(tenant_id, user_id) as work:
            endpoint = await work.endpoints.get_for_change(endpoint_id)
            if endpoint is None:
                raise EndpointNotFound
            endpoint.rotate(secret, at=self.now(), overlap=overlap)
            stored = await work.endpoints.update(endpoint)
            await work.commit()
        return stored, secret
