"""The queue of deliveries as the dispatching role sees it: who is due, not what they get."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, TextClause
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database.driver_errors import translated
from shared.infrastructure.database.engine import alone
from whatsapp.domain.events import ClaimedDelivery, EndpointWork
from whatsapp.infrastructure.persistence.repositories import delivery_statements as sql


class SQLAlchemyDeliveryQueue:
    """Claims deliveries of all tenants, as the role `tellwire_dispatch`.

    URL, secret and event are loaded afterwards as the application's role under the entry's own
    tenant. Every method is one statement in a transaction of its own; times are the database's.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = alone(engine)

    async def find_work(
        self, *, after: tuple[UUID, UUID], limit: int
    ) -> tuple[Sequence[EndpointWork], tuple[UUID, UUID] | None]:
        """The endpoints with something due among the next `limit`, and where to go on from."""
        rows = await self._run(
            sql.WORK, after_tenant=after[0], after_endpoint=after[1], limit=limit
        )
        due = [EndpointWork(row.tenant_id, row.endpoint_id) for row in rows if row.is_due]
        more = len(rows) == limit
        return due, max((row.tenant_id, row.endpoint_id) for row in rows) if more else None

    async def claim(
        self, work: EndpointWork, *, limit: int, lease: timedelta
    ) -> Sequence[ClaimedDelivery]:
        """Claim up to `limit` due deliveries for `lease`, of each message the oldest alone."""
        token = uuid4()
        rows = await self._run(
            sql.CLAIM,
            tenant=work.tenant_id,
            endpoint=work.endpoint_id,
            limit=limit,
            token=token,
            lease=lease,
        )
        return [
            ClaimedDelivery(
                tenant_id=work.tenant_id,
                endpoint_id=work.endpoint_id,
                id=row.id,
                event_id=row.event_id,
                lease_token=token,
                attempt=row.attempt + 1,
                queued_at=row.queued_at,
            )
            for row in sorted(rows, key=lambda row: row.number)
        ]

    async def _run(self, statement: TextClause, **parameters: Any) -> Sequence[Row[Any]]:
        async with translated(), self._engine.begin() as connection:
            return (await connection.execute(statement, parameters)).all()
