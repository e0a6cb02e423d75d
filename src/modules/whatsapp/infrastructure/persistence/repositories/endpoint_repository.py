"""Webhook endpoints in PostgreSQL."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, select, update

from shared.infrastructure.database import SQLAlchemyRepository
from shared.infrastructure.database.signatures import looks_at_arguments
from whatsapp.domain.events import EndpointFormat, EventType, WebhookEndpoint
from whatsapp.infrastructure.persistence.models import WebhookEndpointModel


@looks_at_arguments()
class SQLAlchemyEndpointRepository(SQLAlchemyRepository[WebhookEndpoint, WebhookEndpointModel]):
    """The tenant's webhook endpoints; secrets are ciphertext in the table."""

    model = WebhookEndpointModel

    async def get_for_change(self, endpoint_id: UUID) -> WebhookEndpoint | None:
        """As `get_by_id`, and nobody else changes it until the transaction ends."""
        # Not against those that only refer to it: whoever records deliveries does, and holds
        # entries of the queue meanwhile.
        one = select(WebhookEndpointModel).where(self._is(endpoint_id))
        query = one.with_for_update(key_share=True)
        return self._one(await self._execute(query))

    async def note_failing(self, endpoint_id: UUID, at: datetime) -> None:
        """Note the first failure after a success; a later one changes nothing."""
        await self._change(
            endpoint_id, WebhookEndpointModel.failing_since.is_(None), failing_since=at
        )

    async def note_working(self, endpoint_id: UUID) -> None:
        """Note that it took something."""
        await self._change(
            endpoint_id, WebhookEndpointModel.failing_since.is_not(None), failing_since=None
        )

    async def disable(self, endpoint_id: UUID, reason: str) -> bool:
        """Switch it off; False where it was already."""
        return await self._change(
            endpoint_id,
            WebhookEndpointModel.is_enabled.is_(True),
            is_enabled=False,
            disabled_reason=reason,
        )

    async def _change(
        self, endpoint_id: UUID, condition: ColumnElement[bool], **values: Any
    ) -> bool:
        """Change these columns alone: whoever edits the endpoint meanwhile loses nothing."""
        query = update(WebhookEndpointModel).where(self._is(endpoint_id), condition).values(values)
        changed = await self._execute(query.returning(WebhookEndpointModel.id))
        return changed.first() is not None

    def _is(self, endpoint_id: UUID) -> ColumnElement[bool]:
        model = WebhookEndpointModel
        return and_(model.tenant_id == self.tenant_id, model.id == endpoint_id)

    def _to_entity(self, row: WebhookEndpointModel) -> WebhookEndpoint:
        return WebhookEndpoint(
            tenant_id=row.tenant_id,
            id=row.id,
            url=row.url,
            description=row.description,
            event_types=frozenset(EventType(one) for one in row.event_types),
            channel_ids=frozenset(UUID(one) for one in row.channel_ids),
            format=EndpointFormat(row.format),
            secret=row.secret,
            previous_secret=row.previous_secret,
            previous_secret_until=row.previous_secret_until,
            is_enabled=row.is_enabled,
            disabled_reason=row.disabled_reason,
            failing_since=row.failing_since,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    def _to_model(self, entity: WebhookEndpoint) -> WebhookEndpointModel:
        return WebhookEndpointModel(
            tenant_id=entity.tenant_id,
            id=entity.id,
            url=entity.url,
            description=entity.description,
            event_types=sorted(one.value for one in entity.event_types),
            channel_ids=sorted(str(one) for one in entity.channel_ids),
            format=entity.format.value,
            secret=entity.secret,
            previous_secret=entity.previous_secret,
            previous_secret_until=entity.previous_secret_until,
            is_enabled=entity.is_enabled,
            disabled_reason=entity.disabled_reason,
            failing_since=entity.failing_since,
        )
