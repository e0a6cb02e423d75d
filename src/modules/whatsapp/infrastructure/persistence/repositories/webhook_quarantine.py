"""The quarantine of webhooks: what nobody could be given, looked through and tried anew."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import ARRAY, TEXT, DateTime, Integer, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database.driver_errors import translated
from shared.infrastructure.database.engine import alone
from shared.kernel.ids import new_ids
from whatsapp.domain.webhook_inbox import LeftOver, LeftOverFilter, Quarantined, SetAside

_SET_ASIDE: Final = text(
    """
    SELECT reason, field, count(*) AS number, min(received_at) AS first_at,
           max(received_at) AS last_at
    FROM webhook_quarantine GROUP BY reason, field ORDER BY number DESC, reason LIMIT :limit
    """
)
_LIST: Final = text(
    """
    SELECT id, inbox_id, app_id, reason, phone_number_id, raw, body, field, waba_id, received_at,
           requeues
    FROM webhook_quarantine ORDER BY received_at DESC, id DESC LIMIT :limit
    """
)
_TIME: Final = text("SELECT clock_timestamp()")
_REQUEUE: Final = text(
    """
    WITH picked AS MATERIALIZED (
        SELECT id FROM webhook_quarantine
        WHERE body IS NOT NULL
          AND (cardinality(:ids) = 0 OR id = ANY(:ids))
          AND (:reason IS NULL OR reason = :reason)
          AND (:app_id IS NULL OR app_id = :app_id)
          AND (:number IS NULL OR phone_number_id = :number)
          AND (:since IS NULL OR received_at >= :since)
          AND (:until IS NULL OR received_at < :until)
        ORDER BY received_at, id
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM webhook_quarantine q USING picked p WHERE q.id = p.id
        RETURNING q.*
    ), numbered AS (
        SELECT g.*, row_number() OVER (ORDER BY g.received_at, g.id) AS place FROM gone g
    )
    INSERT INTO webhook_inbox (id, app_id, body, origin_id, requeues)
    SELECT u.id, n.app_id, n.body, n.inbox_id, n.requeues + 1
    FROM numbered n
    JOIN unnest(CAST(:new_ids AS uuid[])) WITH ORDINALITY AS u(id, place) USING (place)
    """
).bindparams(
    bindparam("ids", type_=ARRAY(Uuid())),
    bindparam("reason", type_=TEXT()),
    bindparam("app_id", type_=TEXT()),
    bindparam("number", type_=TEXT()),
    bindparam("since", type_=DateTime(timezone=True)),
    bindparam("until", type_=DateTime(timezone=True)),
    bindparam("limit", type_=Integer()),
    bindparam("new_ids", type_=ARRAY(Uuid())),
)


class SQLAlchemyWebhookQuarantine:
    """Shows and requeues as the role `tellwire_process`; each method is one statement."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = alone(engine)

    async def find_time(self) -> datetime:
        """The time by the clock that puts things aside."""
        async with translated(), self._engine.begin() as connection:
            return cast("datetime", (await connection.execute(_TIME)).scalar_one())

    async def count_set_aside(self, *, limit: int = 100) -> Sequence[SetAside]:
        """What lies in quarantine, by reason, the most frequent first."""
        async with translated(), self._engine.begin() as connection:
            rows = (await connection.execute(_SET_ASIDE, {"limit": limit})).all()
        return [
            SetAside(
                reason=row.reason,
                field_name=row.field,
                number=row.number,
                first_at=row.first_at,
                last_at=row.last_at,
            )
            for row in rows
        ]

    async def list_left_over(self, *, limit: int) -> Sequence[LeftOver]:
        """What was put aside last, as it came."""
        async with translated(), self._engine.begin() as connection:
            rows = (await connection.execute(_LIST, {"limit": limit})).all()
        return [_left_over(row) for row in rows]

    async def requeue(self, wanted: LeftOverFilter, *, limit: int) -> int:
        """Move up to `limit` elements back into the inbox, the oldest first; gives how many.

        Left out is what cannot be written as a webhook of its own.
        """
        parameters: dict[str, Any] = {
            "ids": list(wanted.ids),
            "reason": wanted.reason,
            "app_id": wanted.app_id,
            "number": wanted.phone_number_id,
            "since": wanted.since,
            "until": wanted.until,
            "limit": limit,
            "new_ids": new_ids(limit),
        }
        async with translated(), self._engine.begin() as connection:
            return (await connection.execute(_REQUEUE, parameters)).rowcount


def _left_over(row: Any) -> LeftOver:
    element = Quarantined(
        inbox_id=row.inbox_id,
        app_id=row.app_id,
        reason=row.reason,
        phone_number_id=row.phone_number_id,
        raw=bytes(row.raw),
        body=None if row.body is None else bytes(row.body),
        field_name=row.field,
        waba_id=row.waba_id,
    )
    return LeftOver(id=row.id, element=element, put_aside_at=row.received_at, requeues=row.requeues)
