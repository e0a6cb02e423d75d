"""Events in PostgreSQL: recorded in the transaction of what happened, read in order."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import TextClause, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.infrastructure.database.direct import fetch
from shared.infrastructure.database.driver_errors import translated
from shared.infrastructure.database.rls import bound_tenant
from shared.infrastructure.database.signatures import looks_at_arguments
from shared.kernel.ids import new_ids
from whatsapp.domain.events import (
    TOLD_STATUSES,
    Event,
    EventType,
    MessageProgress,
    NewEvent,
    StreamPosition,
)
from whatsapp.infrastructure.persistence.models import EventStreamModel
from whatsapp.infrastructure.persistence.repositories import event_statements as sql
from whatsapp.infrastructure.persistence.repositories.storable import json_text, storable_attempt

TOLD: Final = sorted(status.value for status in TOLD_STATUSES)


@looks_at_arguments()
class SQLAlchemyEventLog:
    """The events of the tenant that the session serves.

    Recording takes the lock of the tenant's stream until the transaction ends: call it last in a
    transaction, and commit at once. Where nobody listens it is one short statement, and no lock
    that another one that records would wait for.
    """

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def record(
        self, *, progress: Sequence[MessageProgress] = (), others: Sequence[NewEvent] = ()
    ) -> int:
        """Write down what happened, for every endpoint that wants it; gives how many were new."""
        count = len(progress) + len(others)
        if not count:
            return 0
        reserved = (await self._fetch(sql.RESERVE, count=count))[0]
        if not reserved.is_open:
            return 0
        told, before = 0, reserved.before
        if progress:
            parameters = _progress_arrays(progress) | {"before": before, "told": TOLD}
            told += (await self._fetch(sql.RECORD_PROGRESS, **parameters))[0].told
        if others:
            parameters = _event_arrays(others) | {"before": before + len(progress)}
            told += (await self._fetch(sql.RECORD_OTHERS, **parameters))[0].told
        return told

    async def open(self) -> StreamPosition:
        """Have events recorded from now on; gives where they stand.

        Waits for transactions that are recording: what commits after this is recorded.
        """
        row = (await self._fetch(sql.OPEN))[0]
        return StreamPosition(row.last, row.forgotten)

    async def position(self) -> StreamPosition:
        """Where the events stand; zeros where nobody ever opened them."""
        query = select(EventStreamModel.last_number, EventStreamModel.forgotten_number).where(
            EventStreamModel.tenant_id == bound_tenant(self._session)
        )
        async with translated():
            row = (await self._session.execute(query)).one_or_none()
        return StreamPosition(0, 0) if row is None else StreamPosition(*row)

    async def list_after(self, number: int, *, limit: int) -> Sequence[Event]:
        """Up to `limit` events behind `number`, in order; one that is missing comes never."""
        return [
            _event(row) for row in await self._fetch(sql.LIST_AFTER, number=number, limit=limit)
        ]

    async def load(self, ids: Sequence[UUID]) -> Sequence[Event]:
        """The events with these ids, in order of their numbers."""
        return [_event(row) for row in await self._fetch(sql.LOAD, ids=list(ids))]

    async def lacks_some_since(self, moment: datetime, *, after: int) -> bool:
        """Whether events behind `after` were deleted that may have been recorded since then."""
        rows = await self._fetch(sql.LACKS_SINCE, since=moment, after=after)
        return any(row.is_lacking for row in rows)

    async def count(self, ids: Sequence[UUID]) -> int:
        """How many of these events there are."""
        found: int = (await self._fetch(sql.COUNT, ids=list(ids)))[0].found
        return found

    async def forget(self, *, before: datetime, limit: int) -> int:
        """Delete up to `limit` of the oldest events, and as many logged deliveries.

        Takes the lock that replays share until the transaction ends: commit at once.
        """
        await self._fetch(sql.BEGIN_FORGETTING)
        count: int = (await self._fetch(sql.FORGET, before=before, limit=limit))[0].forgotten
        return count

    async def _fetch(self, statement: TextClause, **parameters: Any) -> Sequence[Any]:
        tenant = bound_tenant(self._session)
        async with translated():
            return await fetch(self._session, statement, {"tenant": tenant, **parameters})


def _progress_arrays(progress: Sequence[MessageProgress]) -> dict[str, Any]:
    return {
        "ids": new_ids(len(progress)),
        "message_ids": [one.message_id for one in progress],
        "wamids": [one.wamid for one in progress],
        "statuses": [one.status and one.status.value for one in progress],
        "attempts": [storable_attempt(one.attempt) for one in progress],
        "decided": [one.decided for one in progress],
        "occurred": [one.occurred_at for one in progress],
        "metas": [_json(one.meta) for one in progress],
    }


def _event_arrays(events: Sequence[NewEvent]) -> dict[str, Any]:
    return {
        "ids": [one.id for one in events],
        "types": [one.type.value for one in events],
        "subject_ids": [one.subject_id for one in events],
        "numbers": [one.number for one in events],
        "channel_ids": [one.channel_id for one in events],
        "contexts": [one.context_wamid for one in events],
        "occurred": [one.occurred_at for one in events],
        "datas": [_json(one.data) for one in events],
        "metas": [_json(one.meta) for one in events],
    }


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json_text(value)


def _event(row: Any) -> Event:
    return Event(
        id=row.id,
        number=row.number,
        type=EventType(row.type),
        occurred_at=row.occurred_at,
        data=_mapping(row.data) or {},
        subject_id=row.subject_id,
        channel_id=row.channel_id,
        phone_number_id=row.phone_number_id,
        display_phone_number=row.display_phone_number,
        account_id=row.account_id,
        meta=_mapping(row.meta),
    )


def _mapping(value: Any) -> Mapping[str, Any] | None:
    """A JSON object; the driver may give its text."""
    found: Mapping[str, Any] | None = json.loads(value) if isinstance(value, str) else value
    return found
