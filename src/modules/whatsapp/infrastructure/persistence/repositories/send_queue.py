"""The send queue as the dispatching role sees it: whose turn it is, not what is said to whom."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import (
    ARRAY,
    Integer,
    Interval,
    Row,
    SmallInteger,
    TextClause,
    Uuid,
    bindparam,
    text,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database.driver_errors import translated
from whatsapp.domain.send_queue import (
    LANES,
    NIL,
    RETRY_LANES,
    UNKNOWN_LANES,
    ChannelWork,
    ClaimedEntry,
)

_WORK = text(
    f"""
    WITH RECURSIVE channel AS (
        (SELECT tenant_id, channel_id FROM whatsapp_send_queue
         WHERE (tenant_id, channel_id) > (:after_tenant, :after_channel)
         ORDER BY tenant_id, channel_id LIMIT 1)
        UNION ALL
        SELECT n.tenant_id, n.channel_id FROM channel c CROSS JOIN LATERAL (
            SELECT q.tenant_id, q.channel_id FROM whatsapp_send_queue q
            WHERE (q.tenant_id, q.channel_id) > (c.tenant_id, c.channel_id)
            ORDER BY q.tenant_id, q.channel_id LIMIT 1
        ) n
    ), head AS (
        SELECT tenant_id, channel_id FROM channel LIMIT :limit
    ), due AS (
        -- As a probe in index order, because EXISTS may become a scan of the whole queue.
        SELECT h.tenant_id, h.channel_id, l.lane, coalesce((
            SELECT true FROM whatsapp_send_queue q
            WHERE q.tenant_id = h.tenant_id AND q.channel_id = h.channel_id
              AND q.lane = l.lane AND q.due_at <= now()
            ORDER BY q.due_at, q.id LIMIT 1
        ), false) AS is_due
        FROM head h CROSS JOIN unnest(CAST(:lanes AS smallint[])) AS l(lane)
    )
    SELECT tenant_id, channel_id,
           bool_or(is_due AND lane < {RETRY_LANES}) AS sending,
           bool_or(is_due AND lane >= {RETRY_LANES} AND lane < {UNKNOWN_LANES}) AS retrying,
           bool_or(is_due AND lane >= {UNKNOWN_LANES}) AS unknown
    FROM due GROUP BY tenant_id, channel_id
    """  # noqa: S608  # constants of this package
).bindparams(
    bindparam("after_tenant", type_=Uuid()),
    bindparam("after_channel", type_=Uuid()),
    bindparam("limit", type_=Integer()),
    bindparam("lanes", type_=ARRAY(SmallInteger())),
)
_ALL_LANES: Final = [base + lane for base in (0, RETRY_LANES, UNKNOWN_LANES) for lane in range(3)]

_CLAIM = text(
    """
    WITH picked AS MATERIALIZED (
        SELECT q.tenant_id, q.id
        FROM unnest(CAST(:lanes AS smallint[])) WITH ORDINALITY AS l(lane, turn)
        CROSS JOIN LATERAL (
            SELECT e.tenant_id, e.id FROM whatsapp_send_queue e
            WHERE e.tenant_id = :tenant AND e.channel_id = :channel
              AND e.lane = l.lane AND e.due_at <= now()
              AND (e.state = 'ready' OR (e.state = 'leased' AND e.lease_until < now()))
              -- Written so that the planner can neither turn it into an anti-join over the whole
              -- backlog nor believe that it leaves too little for LIMIT to stop early.
              AND coalesce((
                  SELECT false FROM whatsapp_send_queue earlier
                  WHERE earlier.tenant_id = :tenant
                    AND earlier.recipient_key = e.recipient_key AND earlier.id < e.id
                    AND NOT (earlier.state = 'ready' AND earlier.due_at > now())
                  LIMIT 1
              ), true)
            ORDER BY e.due_at, e.id
            LIMIT :limit
            FOR UPDATE SKIP LOCKED
        ) q
        LIMIT :limit
    )
    UPDATE whatsapp_send_queue q
    SET state = 'leased', lease_token = :token, lease_until = now() + :lease
    FROM picked
    WHERE q.tenant_id = picked.tenant_id AND q.id = picked.id
    RETURNING q.id, q.attempt
    """
).bindparams(
    bindparam("tenant", type_=Uuid()),
    bindparam("channel", type_=Uuid()),
    bindparam("lanes", type_=ARRAY(SmallInteger())),
    bindparam("limit", type_=Integer()),
    bindparam("token", type_=Uuid()),
    bindparam("lease", type_=Interval()),
)

_OF_LEASE = "tenant_id = :tenant AND id = ANY(:ids) AND lease_token = :token"


def _of_lease(assignments: str, condition: str) -> TextClause:
    return text(
        f"UPDATE whatsapp_send_queue SET {assignments} "  # noqa: S608  # literals of this module
        f"WHERE {_OF_LEASE} AND {condition} RETURNING id"
    ).bindparams(
        bindparam("tenant", type_=Uuid()),
        bindparam("ids", type_=ARRAY(Uuid())),
        bindparam("token", type_=Uuid()),
        *([bindparam("lease", type_=Interval())] if ":lease" in assignments else []),
    )


_MARK = _of_lease(
    "state = 'dispatching', attempt = attempt + 1, lease_until = now() + :lease",
    "state = 'leased'",
)
_UNMARK = _of_lease("state = 'leased', attempt = attempt - 1", "state = 'dispatching'")
_RELEASE = _of_lease(
    "state = 'ready', lease_token = NULL, lease_until = NULL",
    "state = 'leased'",
)


class SQLAlchemySendQueue:
    """Claims and marks entries of all tenants' queues, as the role `tellwire_dispatch`.

    That role sees the queue's columns and nothing else: payload and token are loaded afterwards as
    the application's role under the entry's own tenant. Every method is one statement in a
    transaction of its own; times are the database's.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def find_work(
        self, *, after: tuple[UUID, UUID] = (NIL, NIL), limit: int = 500
    ) -> Sequence[ChannelWork]:
        """Up to `limit` channels with entries, by (tenant, channel) from behind `after`.

        Walks from channel to channel by the index, whatever the length of their queues; a caller
        that moves `after` on and starts over at the end serves all of them in turn.
        """
        rows = await self._run(
            _WORK,
            after_tenant=after[0],
            after_channel=after[1],
            limit=limit,
            lanes=_ALL_LANES,
        )
        return [
            ChannelWork(row.tenant_id, row.channel_id, row.sending, row.retrying, row.unknown)
            for row in rows
        ]

    async def claim(
        self,
        *,
        tenant_id: UUID,
        channel_id: UUID,
        limit: int,
        lease: timedelta,
        lanes: Sequence[int] = LANES,
    ) -> Sequence[ClaimedEntry]:
        """Claim up to `limit` due entries for `lease`; other workers never get the same ones.

        Lanes are emptied in the order given. Of each recipient only the oldest entry is given out,
        and none while another of theirs is under way, so that their order is kept. An entry whose
        lease ended before it was marked is given out again.
        """
        token = uuid4()
        rows = await self._run(
            _CLAIM,
            tenant=tenant_id,
            channel=channel_id,
            lanes=list(lanes),
            limit=limit,
            token=token,
            lease=lease,
        )
        return [ClaimedEntry(tenant_id, channel_id, row.id, token, row.attempt + 1) for row in rows]

    async def mark(self, entries: Sequence[ClaimedEntry], *, lease: timedelta) -> frozenset[UUID]:
        """Write down that these may leave now, and renew their lease; gives those still ours.

        From this moment on a crash makes them `unknown`: send only what comes back from here.
        """
        return await self._settle(_MARK, entries, lease=lease)

    async def unmark(self, entries: Sequence[ClaimedEntry]) -> frozenset[UUID]:
        """Take a mark back from entries of which no byte has left."""
        return await self._settle(_UNMARK, entries)

    async def release(self, entries: Sequence[ClaimedEntry]) -> frozenset[UUID]:
        """Give claimed entries back unsent, for any worker."""
        return await self._settle(_RELEASE, entries)

    async def _settle(
        self, statement: TextClause, entries: Sequence[ClaimedEntry], **more: Any
    ) -> frozenset[UUID]:
        if not entries:
            return frozenset()
        first = entries[0]
        rows = await self._run(
            statement,
            tenant=first.tenant_id,
            ids=[entry.message_id for entry in entries],
            token=first.lease_token,
            **more,
        )
        return frozenset(row.id for row in rows)

    async def _run(self, statement: TextClause, **parameters: Any) -> Sequence[Row[Any]]:
        async with translated(), self._engine.connect() as connection:
            return (await connection.execute(statement, parameters)).all()
