"""Deliveries of one tenant in PostgreSQL: what waits for its endpoints, and what was tried."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause
from sqlalchemy.ext.asyncio import AsyncSession

from shared.infrastructure.database.direct import fetch
from shared.infrastructure.database.driver_errors import translated
from shared.infrastructure.database.rls import bound_tenant
from shared.infrastructure.database.signatures import looks_at_arguments
from shared.kernel.ids import MAX
from whatsapp.domain.events import (
    DeliveryOutcome,
    DeliveryRecord,
    DeliveryResult,
    Replayed,
    WebhookEndpoint,
)
from whatsapp.infrastructure.persistence.repositories import delivery_statements as sql
from whatsapp.infrastructure.persistence.repositories import event_statements as event_sql
from whatsapp.infrastructure.persistence.repositories.storable import storable_text


@looks_at_arguments()
class SQLAlchemyDeliveryLog:
    """The deliveries of the session's tenant; every method but `replay` is one statement."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def record(self, results: Sequence[DeliveryResult]) -> frozenset[UUID]:
        """Settle claimed deliveries and log the attempts; gives those whose lease still held."""
        ordered = sorted(results, key=lambda result: result.claimed.id)
        rows = await self._fetch(sql.RECORD, **_arrays(ordered))
        return frozenset(row.id for row in rows)

    async def bring_forward(self, endpoint_id: UUID) -> int:
        """Make due at once what waits for another attempt; gives how many."""
        return len(await self._fetch(sql.BRING_FORWARD, endpoint=endpoint_id))

    async def clear(self, endpoint_id: UUID) -> int:
        """Take everything out of the queue of an endpoint; gives how many."""
        return len(await self._fetch(sql.CLEAR, endpoint=endpoint_id))

    async def replay(
        self,
        endpoint: WebhookEndpoint,
        *,
        event_ids: Sequence[UUID] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
        limit: int,
        look_at: int,
    ) -> Replayed:
        """Queue events again that the endpoint wants; see the protocol.

        Two statements: events that are being forgotten are waited for, and then gone.
        """
        await self._fetch(event_sql.KEEP_EVENTS)
        given: dict[str, Any] = {"endpoint": endpoint.id, "since": since, "until": until}
        given |= {"after": after, "limit": limit, "look_at": look_at}
        if event_ids is None:
            (row,) = await self._fetch(sql.REPLAY, **given)
        else:
            (row,) = await self._fetch(sql.REPLAY_NAMED, ids=list(event_ids), **given)
        return Replayed(row.queued, row.last)

    async def list_attempts(
        self, endpoint_id: UUID, *, limit: int, before: UUID | None, event_id: UUID | None = None
    ) -> Sequence[DeliveryRecord]:
        """Attempts, newest first, from before `before`."""
        rows = await self._fetch(
            sql.LIST_ATTEMPTS,
            endpoint=endpoint_id,
            limit=limit,
            before=before or MAX,
            event=event_id,
        )
        return [_record(row) for row in rows]

    async def _fetch(self, statement: TextClause, **parameters: Any) -> Sequence[Any]:
        tenant = bound_tenant(self._session)
        async with translated():
            return await fetch(self._session, statement, {"tenant": tenant, **parameters})


def _arrays(results: Sequence[DeliveryResult]) -> dict[str, Any]:
    return {
        "log_ids": [one.id for one in results],
        "ids": [one.claimed.id for one in results],
        "tokens": [one.claimed.lease_token for one in results],
        "endpoint_ids": [one.claimed.endpoint_id for one in results],
        "event_ids": [one.claimed.event_id for one in results],
        "attempts": [one.claimed.attempt for one in results],
        "outcomes": [one.outcome.value for one in results],
        "statuses": [one.answer.status for one in results],
        "errors": [one.answer.error for one in results],
        "excerpts": [storable_text(one.answer.excerpt) for one in results],
        "took": [int(one.answer.took / timedelta(milliseconds=1)) for one in results],
        "at": [one.at for one in results],
        "due": [one.due_at for one in results],
        "queued": [one.claimed.queued_at for one in results],
    }


def _record(row: Any) -> DeliveryRecord:
    return DeliveryRecord(
        id=row.id,
        event_id=row.event_id,
        event_type=row.event_type,
        attempt=row.attempt,
        outcome=DeliveryOutcome(row.outcome),
        status=row.status,
        error=row.error,
        excerpt=row.excerpt,
        took=timedelta(milliseconds=row.took_ms),
        at=row.attempted_at,
        next_attempt_at=row.next_attempt_at,
    )
