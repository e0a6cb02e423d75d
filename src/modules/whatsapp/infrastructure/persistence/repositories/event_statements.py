"""The SQL of events: numbered under a lock, written for every endpoint that wants them."""

from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    TEXT,
    BigInteger,
    Boolean,
    DateTime,
    Integer,
    SmallInteger,
    TextClause,
    Uuid,
    bindparam,
    text,
)
from sqlalchemy.types import TypeEngine

from whatsapp.domain.value_objects import MessageStatus


def _typed(statement: str, **types: TypeEngine[Any]) -> TextClause:
    return text(statement).bindparams(
        *(bindparam(name, type_=kind) for name, kind in types.items())
    )


def _rank(status: str) -> str:
    """The rank of a status, in SQL."""
    cases = " ".join(f"WHEN '{one.value}' THEN {one.rank}" for one in MessageStatus)
    return f"CASE {status} {cases} ELSE 0 END"


RESERVE: Final = _typed(
    "SELECT before, is_open FROM whatsapp_reserve_events(:tenant, :count)",
    tenant=Uuid(),
    count=BigInteger(),
)
"""Take `:count` numbers where the stream is open: until the transaction ends, nobody else of the
tenant records anything. Where it is closed nobody waits, but whoever opens it: so that it misses
nothing after."""

OPEN: Final = _typed("SELECT last, forgotten FROM whatsapp_open_events(:tenant)", tenant=Uuid())

# One entry for an event and an endpoint, however often it is asked for: the id says so.
DELIVERY_ID: Final = """
    CAST(substr(encode(sha256(CAST(CAST(w.id AS text) || CAST(f.id AS text) AS bytea)), 'hex'),
                1, 32) AS uuid)
"""
_QUEUED: Final = f"""
    queued AS (
        INSERT INTO webhook_delivery_queue
            (tenant_id, id, endpoint_id, event_id, number, order_key, due_at, attempt, queued_at)
        SELECT :tenant, {DELIVERY_ID}, w.id, f.id, f.number, coalesce(f.subject_id, f.id),
               now(), 0, now()
        FROM told f JOIN webhook_endpoints w ON w.tenant_id = :tenant AND w.is_enabled
          AND CASE f.type
              WHEN 'webhook_endpoint.test' THEN f.data->>'endpoint_id' = CAST(w.id AS text)
              ELSE (w.event_types = '[]' OR jsonb_exists(w.event_types, f.type))
                   AND (w.channel_ids = '[]' OR f.channel_id IS NULL
                        OR jsonb_exists(w.channel_ids, CAST(f.channel_id AS text)))
                   AND (w.format = 'tellwire' OR f.meta IS NOT NULL OR f.type LIKE 'message.%')
              END
    )
"""  # noqa: S608  # constants of this module
_COLUMNS: Final = (
    "tenant_id, id, number, type, subject_id, attempt, channel_id, data, meta, occurred_at"
)

RECORD_PROGRESS: Final = _typed(
    f"""
    WITH given AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:message_ids AS uuid[]), CAST(:wamids AS text[]),
            CAST(:statuses AS text[]), CAST(:attempts AS smallint[]), CAST(:decided AS boolean[]),
            CAST(:occurred AS timestamptz[]), CAST(:metas AS text[])
        ) WITH ORDINALITY
          AS g(id, message_id, wamid, status, attempt, decided, occurred_at, meta, place)
    ), matched AS (
        SELECT g.id, g.place, g.decided, CAST(g.meta AS jsonb) AS meta,
               CASE WHEN g.status IS NULL THEN m.status_at ELSE g.occurred_at END AS occurred_at,
               coalesce(g.status, m.status) AS status, coalesce(g.attempt, m.attempts) AS attempt,
               m.id AS subject_id, m.status AS current, m.channel_id,
               jsonb_build_object(
                   'message_id', m.id, 'channel_id', m.channel_id,
                   'wamid', coalesce(g.wamid, m.wamid), 'status', coalesce(g.status, m.status),
                   'recipient', m.recipient, 'metadata', m.details,
                   'callback_data', m.callback_data, 'attempt', coalesce(g.attempt, m.attempts)
               ) || CASE WHEN m.status IN ('failed', 'expired') THEN jsonb_build_object(
                   'failure', jsonb_build_object(
                       'code', m.failure_code, 'title', m.failure_title,
                       'details', m.failure_details)) ELSE '{{}}' END AS data
        FROM given g CROSS JOIN LATERAL (
            SELECT i.* FROM whatsapp_outbound_messages i
            WHERE i.tenant_id = :tenant AND i.id = g.message_id
            UNION ALL
            SELECT o.* FROM whatsapp_outbound_messages o
            WHERE o.tenant_id = :tenant AND o.wamid = g.wamid
            LIMIT 1
        ) m
    ), placed AS (
        SELECT m.*, bool_or(NOT m.decided) OVER earlier AS reported_before,
               max(m.attempt) FILTER (WHERE NOT m.decided) OVER earlier AS attempt_before
        FROM matched m
        WINDOW earlier AS (PARTITION BY m.subject_id, m.status ORDER BY m.place
                           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ), onward AS (
        SELECT x.* FROM placed x
        WHERE x.status = ANY(:told)
          -- As far as it stands, or a step on the way there.
          AND (x.status = x.current
               OR (x.status <> 'failed' AND x.current IN ('delivered', 'read', 'played')
                   AND {_rank("x.status")} < {_rank("x.current")}))
          AND NOT EXISTS (
              SELECT FROM events e
              WHERE e.tenant_id = :tenant AND e.subject_id = x.subject_id
                AND CASE
                    WHEN x.decided THEN e.type = 'message.' || x.status
                         AND e.occurred_at = x.occurred_at
                    -- What was decided belongs to no attempt, and ends those before it. What
                    -- the phone has stands, whatever becomes of a copy that was sent later.
                    ELSE {_rank("substr(e.type, 9)")} >= {_rank("x.status")}
                         AND (e.type IN ('message.delivered', 'message.read', 'message.played')
                              OR coalesce(e.attempt, CAST(e.data ->> 'attempt' AS smallint))
                                 >= x.attempt) END)
          -- Nor one that this statement tells before it: of both copies of a message, for one.
          AND (x.decided OR NOT coalesce(
              CASE WHEN x.status IN ('delivered', 'read', 'played') THEN x.reported_before
                   ELSE x.attempt_before >= x.attempt END, false))
    ), told AS (
        INSERT INTO events ({_COLUMNS})
        SELECT :tenant, x.id, :before + row_number() OVER (ORDER BY {_rank("x.status")}, x.place),
               'message.' || x.status, x.subject_id, CASE WHEN NOT x.decided THEN x.attempt END,
               x.channel_id, x.data, x.meta, x.occurred_at
        FROM onward x
        ON CONFLICT (tenant_id, subject_id, type, attempt) DO NOTHING
        RETURNING id, number, type, subject_id, channel_id, data, meta
    ), {_QUEUED}
    SELECT count(*) AS told FROM told
    """,  # noqa: S608  # constants of this module
    tenant=Uuid(),
    before=BigInteger(),
    ids=ARRAY(Uuid()),
    message_ids=ARRAY(Uuid()),
    wamids=ARRAY(TEXT()),
    statuses=ARRAY(TEXT()),
    attempts=ARRAY(SmallInteger()),
    decided=ARRAY(Boolean()),
    occurred=ARRAY(DateTime(timezone=True)),
    metas=ARRAY(TEXT()),
    told=ARRAY(TEXT()),
)
"""Tell how messages came on: each step once, never one behind another that was told already.

What Meta failed to do and Tellwire tries again by itself stands as queued by now, and is not told.
"""

RECORD_OTHERS: Final = _typed(
    f"""
    WITH told AS (
        INSERT INTO events ({_COLUMNS})
        SELECT :tenant, g.id, :before + g.place, g.type, g.subject_id, g.number, g.channel_id,
               CAST(g.data AS jsonb) || CASE WHEN o.id IS NULL THEN '{{}}'
                   ELSE jsonb_build_object('answers', o.id) END,
               CAST(g.meta AS jsonb), g.occurred_at
        FROM unnest(
            CAST(:ids AS uuid[]), CAST(:types AS text[]), CAST(:subject_ids AS uuid[]),
            CAST(:numbers AS smallint[]), CAST(:channel_ids AS uuid[]), CAST(:contexts AS text[]),
            CAST(:occurred AS timestamptz[]), CAST(:datas AS text[]), CAST(:metas AS text[])
        ) WITH ORDINALITY
          AS g(id, type, subject_id, number, channel_id, context, occurred_at, data, meta,
               place)
        LEFT JOIN LATERAL (
            SELECT m.id FROM whatsapp_outbound_messages m
            WHERE m.tenant_id = :tenant AND m.wamid = g.context
            LIMIT 1
        ) o ON true
        ON CONFLICT (tenant_id, subject_id, type, attempt) DO NOTHING
        RETURNING id, number, type, subject_id, channel_id, data, meta
    ), {_QUEUED}
    SELECT count(*) AS told FROM told
    """,  # noqa: S608  # constants of this module
    tenant=Uuid(),
    before=BigInteger(),
    ids=ARRAY(Uuid()),
    types=ARRAY(TEXT()),
    subject_ids=ARRAY(Uuid()),
    numbers=ARRAY(SmallInteger()),
    channel_ids=ARRAY(Uuid()),
    contexts=ARRAY(TEXT()),
    occurred=ARRAY(DateTime(timezone=True)),
    datas=ARRAY(TEXT()),
    metas=ARRAY(TEXT()),
)

_EVENT: Final = """
    SELECT e.id, e.number, e.type, e.occurred_at, e.data, e.meta, e.subject_id, e.channel_id,
           c.phone_number_id, c.display_phone_number, c.provider_account_id AS account_id
    FROM events e
    LEFT JOIN whatsapp_channels c ON c.tenant_id = :tenant AND c.id = e.channel_id
    WHERE e.tenant_id = :tenant
"""
LIST_AFTER: Final = _typed(
    f"{_EVENT} AND e.number > :number ORDER BY e.number LIMIT :limit",
    tenant=Uuid(),
    number=BigInteger(),
    limit=Integer(),
)
LOAD: Final = _typed(
    f"{_EVENT} AND e.id = ANY(:ids) ORDER BY e.number", tenant=Uuid(), ids=ARRAY(Uuid())
)

LACKS_SINCE: Final = _typed(
    """
    SELECT s.forgotten_number > :after AND NOT coalesce((
        SELECT e.recorded_at < :since FROM events e
        WHERE e.tenant_id = :tenant AND e.number > s.forgotten_number ORDER BY e.number LIMIT 1
    ), false) AS is_lacking
    FROM event_streams s WHERE s.tenant_id = :tenant
    """,
    tenant=Uuid(),
    after=BigInteger(),
    since=DateTime(timezone=True),
)
"""What is kept of an earlier time shows that nothing since then was deleted."""
COUNT: Final = _typed(
    "SELECT count(*) AS found FROM events WHERE tenant_id = :tenant AND id = ANY(:ids)",
    tenant=Uuid(),
    ids=ARRAY(Uuid()),
)

KEEP_EVENTS: Final = _typed(
    "SELECT pg_advisory_xact_lock_shared(hashtextextended(CAST(:tenant AS text), 3002))",
    tenant=Uuid(),
)
"""Until the transaction ends nothing of the tenant is forgotten, so that what refers to an event
finds it. A statement of its own: the next one sees what was forgotten before."""
BEGIN_FORGETTING: Final = _typed(
    "SELECT pg_advisory_xact_lock(hashtextextended(CAST(:tenant AS text), 3002))",
    tenant=Uuid(),
)
"""Waits for those that need events to stay, and lets others wait."""

FORGET: Final = _typed(
    """
    WITH old AS MATERIALIZED (
        SELECT x.id, x.number FROM (
            SELECT e.id, e.number, e.recorded_at FROM events e
            WHERE e.tenant_id = :tenant ORDER BY e.number LIMIT :limit
        ) x WHERE x.recorded_at < :before
    ), stream AS MATERIALIZED (
        -- Before any delivery, as whoever switches an endpoint off.
        SELECT s.id FROM event_streams s
        WHERE s.tenant_id = :tenant AND EXISTS (SELECT FROM old)
        FOR UPDATE
    ), held AS MATERIALIZED (
        -- What the events take with them, in the order of those who record deliveries.
        SELECT q.id FROM webhook_delivery_queue q
        WHERE q.tenant_id = :tenant AND q.event_id = ANY(ARRAY(SELECT id FROM old))
          AND EXISTS (SELECT FROM stream)
        ORDER BY q.id FOR UPDATE
    ), gone AS (
        DELETE FROM events e USING old
        WHERE e.tenant_id = :tenant AND e.id = old.id AND (SELECT count(*) FROM held) >= 0
        RETURNING e.number
    ), logged AS (
        DELETE FROM webhook_deliveries d USING (
            SELECT x.id FROM (
                SELECT l.id, l.attempted_at FROM webhook_deliveries l
                WHERE l.tenant_id = :tenant ORDER BY l.id LIMIT :limit
            ) x WHERE x.attempted_at < :before
        ) o WHERE d.tenant_id = :tenant AND d.id = o.id
        RETURNING d.id
    ), noted AS (
        UPDATE event_streams s
        SET forgotten_number = greatest(s.forgotten_number, (SELECT max(number) FROM gone))
        WHERE s.tenant_id = :tenant AND EXISTS (SELECT FROM gone)
    )
    SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM logged) AS forgotten
    """,
    tenant=Uuid(),
    before=DateTime(timezone=True),
    limit=Integer(),
)
"""Delete the oldest events and logged deliveries, as far as they are older than `:before`."""

WHOSE_ARE_OLD: Final = _typed(
    """
    SELECT t.id, coalesce((
        SELECT e.recorded_at FROM events e WHERE e.tenant_id = t.id ORDER BY e.number LIMIT 1
    ) < :before, false) OR coalesce((
        SELECT d.attempted_at FROM webhook_deliveries d
        WHERE d.tenant_id = t.id ORDER BY d.id LIMIT 1
    ) < :before, false) AS is_due
    FROM tenants t WHERE t.id > :after ORDER BY t.id LIMIT :limit
    """,
    before=DateTime(timezone=True),
    after=Uuid(),
    limit=Integer(),
)
"""As whoever works for all tenants may ask: which of the next have events or deliveries from before
`:before`. Subqueries for one value go by the index, where EXISTS may read a whole table."""
