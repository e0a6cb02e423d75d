"""Take in a webhook endpoint of a tenant's."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.kernel.secret import Secret
from whatsapp.application.ports import BeginWork, Work
from whatsapp.domain.entities import ChannelNotFound
from whatsapp.domain.events import (
    AddressPolicy,
    EndpointFormat,
    EndpointLimitReached,
    EventType,
    WebhookEndpoint,
    new_secret,
)
from whatsapp.domain.events.endpoint import MAX_ENDPOINTS


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEndpoint:
    """What somebody wants to hear, and where; no types or channels mean all of them."""

    url: str
    description: str = ""
    event_types: frozenset[EventType] = frozenset()
    channel_ids: frozenset[UUID] = frozenset()
    format: EndpointFormat = EndpointFormat.TELLWIRE


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateEndpoint:
    """Stores an endpoint with a secret of its own, and has events recorded from then on."""

    begin: BeginWork
    policy: AddressPolicy

    async def __call__(
        self, tenant_id: UUID, wanted: NewEndpoint, *, user_id: UUID | None = None
    ) -> tuple[WebhookEndpoint, Secret]:
        """The endpoint and its secret. Raises InvalidEndpoint, EndpointLimitReached and more."""
        secret = new_secret()
        endpoint = WebhookEndpoint(
            tenant_id=tenant_id,
            url=wanted.url,
            secret=secret,
            description=wanted.description,
            event_types=wanted.event_types,
            channel_ids=wanted.channel_ids,
            format=wanted.format,
        )
        endpoint.ensure_valid(self.policy)
        async with self.begin(tenant_id, user_id) as work:
            # The stream's lock makes two that are created at once count each other.
            await work.events.open()
            if len(await work.endpoints.list(limit=MAX_ENDPOINTS)) >= MAX_ENDPOINTS:
                raise EndpointLimitReached
            await ensure_channels(work, sorted(wanted.channel_ids))
            stored = await work.endpoints.add(endpoint)
            await work.commit()
        return stored, secret


async def ensure_channels(work: Work, ids: Sequence[UUID]) -> None:
    """Raise ChannelNotFound unless all of them are the tenant's."""
    for one in ids:
        if await work.channels.get_by_id(one) is None:
            raise ChannelNotFound(field="channel_ids")
