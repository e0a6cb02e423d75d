"""The SQL of deliveries: claimed by the dispatching role, settled and logged by the application."""

from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    TEXT,
    BigInteger,
    DateTime,
    Integer,
    Interval,
    SmallInteger,
    TextClause,
    Uuid,
    bindparam,
    text,
)
from sqlalchemy.types import TypeEngine

from whatsapp.infrastructure.persistence.repositories.event_statements import DELIVERY_ID


def _typed(statement: str, **types: TypeEngine[Any]) -> TextClause:
    return text(statement).bindparams(
        *(bindparam(name, type_=kind) for name, kind in types.items())
    )


WORK: Final = _typed(
    """
    WITH RECURSIVE endpoint AS (
        (SELECT tenant_id, endpoint_id FROM webhook_delivery_queue
         WHERE (tenant_id, endpoint_id) > (:after_tenant, :after_endpoint)
         ORDER BY tenant_id, endpoint_id LIMIT 1)
        UNION ALL
        SELECT n.tenant_id, n.endpoint_id FROM endpoint p CROSS JOIN LATERAL (
            SELECT q.tenant_id, q.endpoint_id FROM webhook_delivery_queue q
            WHERE (q.tenant_id, q.endpoint_id) > (p.tenant_id, p.endpoint_id)
            ORDER BY q.tenant_id, q.endpoint_id LIMIT 1
        ) n
    ), head AS (
        SELECT tenant_id, endpoint_id FROM endpoint LIMIT :limit
    )
    SELECT h.tenant_id, h.endpoint_id, coalesce((
        SELECT true FROM webhook_delivery_queue q
        WHERE q.tenant_id = h.tenant_id AND q.endpoint_id = h.endpoint_id AND q.due_at <= now()
        ORDER BY q.due_at, q.number LIMIT 1
    ), false) AS is_due
    FROM head h
    """,
    after_tenant=Uuid(),
    after_endpoint=Uuid(),
    limit=Integer(),
)
"""Endpoints with entries, and whether one is due, from endpoint to endpoint by the index."""

CLAIM: Final = _typed(
    """
    WITH picked AS MATERIALIZED (
        SELECT q.tenant_id, q.id FROM webhook_delivery_queue q
        WHERE q.tenant_id = :tenant AND q.endpoint_id = :endpoint AND q.due_at <= now()
          AND (q.lease_until IS NULL OR q.lease_until < now())
          -- Not EXISTS, which may become a join with all that waits for the endpoint.
          AND coalesce((
              SELECT true FROM webhook_delivery_queue x
              WHERE x.tenant_id = :tenant AND x.endpoint_id = :endpoint
                AND x.order_key = q.order_key AND x.number < q.number
              LIMIT 1), false) IS FALSE
        ORDER BY q.due_at, q.number
        LIMIT :limit
        FOR UPDATE OF q SKIP LOCKED
    )
    UPDATE webhook_delivery_queue q SET lease_token = :token, lease_until = now() + :lease
    FROM picked WHERE q.tenant_id = :tenant AND q.id = picked.id
    RETURNING q.id, q.event_id, q.number, q.attempt, q.queued_at
    """,
    tenant=Uuid(),
    endpoint=Uuid(),
    limit=Integer(),
    token=Uuid(),
    lease=Interval(),
)

RECORD: Final = _typed(
    """
    WITH result AS (
        SELECT * FROM unnest(
            CAST(:log_ids AS uuid[]), CAST(:ids AS uuid[]), CAST(:tokens AS uuid[]),
            CAST(:endpoint_ids AS uuid[]), CAST(:event_ids AS uuid[]),
            CAST(:attempts AS smallint[]), CAST(:outcomes AS text[]), CAST(:statuses AS smallint[]),
            CAST(:errors AS text[]), CAST(:excerpts AS text[]), CAST(:took AS integer[]),
            CAST(:at AS timestamptz[]), CAST(:due AS timestamptz[]),
            CAST(:queued AS timestamptz[])
        ) AS r(log_id, id, token, endpoint_id, event_id, attempt, outcome, status, error, excerpt,
               took_ms, at, due_at, queued_at)
    ), held AS MATERIALIZED (
        -- One order for all that take several: they wait for, and not on, each other.
        SELECT q.id, r.outcome = 'retrying' AS is_retried, r.attempt, r.due_at,
               q.queued_at <> r.queued_at AS is_asked_for
        FROM webhook_delivery_queue q JOIN result r ON r.id = q.id AND r.token = q.lease_token
        WHERE q.tenant_id = :tenant AND q.id = ANY(CAST(:ids AS uuid[]))
        ORDER BY q.id FOR UPDATE OF q
    ), gone AS (
        DELETE FROM webhook_delivery_queue q USING held h
        WHERE q.tenant_id = :tenant AND q.id = h.id AND NOT h.is_retried AND NOT h.is_asked_for
        RETURNING q.id
    ), moved AS (
        UPDATE webhook_delivery_queue q
        SET attempt = CASE WHEN h.is_asked_for THEN 0 ELSE h.attempt END,
            due_at = CASE WHEN h.is_asked_for THEN now() ELSE h.due_at END,
            lease_token = NULL, lease_until = NULL
        FROM held h
        WHERE q.tenant_id = :tenant AND q.id = h.id AND (h.is_retried OR h.is_asked_for)
        RETURNING q.id
    ), logged AS (
        INSERT INTO webhook_deliveries
            (tenant_id, id, endpoint_id, event_id, event_type, attempt, outcome, status, error,
             excerpt, took_ms, attempted_at, next_attempt_at)
        SELECT :tenant, r.log_id, r.endpoint_id, r.event_id, e.type, r.attempt, r.outcome,
               r.status, r.error, r.excerpt, r.took_ms, r.at, r.due_at
        FROM result r
        JOIN events e ON e.tenant_id = :tenant AND e.id = r.event_id
        -- Locked, so that one that is being deleted is waited for and then gone, as is its log.
        JOIN (
            SELECT w.id FROM webhook_endpoints w
            WHERE w.tenant_id = :tenant AND w.id = ANY(CAST(:endpoint_ids AS uuid[]))
            FOR KEY SHARE
        ) w ON w.id = r.endpoint_id
        ON CONFLICT (tenant_id, id) DO NOTHING
    )
    SELECT id FROM gone UNION ALL SELECT id FROM moved
    """,
    tenant=Uuid(),
    log_ids=ARRAY(Uuid()),
    ids=ARRAY(Uuid()),
    tokens=ARRAY(Uuid()),
    endpoint_ids=ARRAY(Uuid()),
    event_ids=ARRAY(Uuid()),
    attempts=ARRAY(SmallInteger()),
    outcomes=ARRAY(TEXT()),
    statuses=ARRAY(SmallInteger()),
    errors=ARRAY(TEXT()),
    excerpts=ARRAY(TEXT()),
    took=ARRAY(Integer()),
    at=ARRAY(DateTime(timezone=True)),
    due=ARRAY(DateTime(timezone=True)),
    queued=ARRAY(DateTime(timezone=True)),
)
"""Settle what still bears the lease's token, and log every attempt: it was made in any case.

What was replayed since it was claimed begins anew, whatever was said."""

BRING_FORWARD: Final = _typed(
    """
    WITH held AS MATERIALIZED (
        SELECT id FROM webhook_delivery_queue
        WHERE tenant_id = :tenant AND endpoint_id = :endpoint AND due_at > now()
        FOR UPDATE SKIP LOCKED
    )
    UPDATE webhook_delivery_queue q SET due_at = now() FROM held h
    WHERE q.tenant_id = :tenant AND q.id = h.id
    RETURNING q.id
    """,
    tenant=Uuid(),
    endpoint=Uuid(),
)
"""Waits for nobody, as whoever brings forward has recorded deliveries, and so holds some: what
somebody else has at this moment is being forgotten, or gets a time of its own."""

CLEAR: Final = _typed(
    """
    WITH held AS MATERIALIZED (
        SELECT id FROM webhook_delivery_queue
        WHERE tenant_id = :tenant AND endpoint_id = :endpoint
        ORDER BY id FOR UPDATE
    )
    DELETE FROM webhook_delivery_queue q USING held h WHERE q.tenant_id = :tenant AND q.id = h.id
    RETURNING q.id
    """,
    tenant=Uuid(),
    endpoint=Uuid(),
)

_LOOKED_AT: Final = """
    SELECT e.number, e.id, e.type, e.subject_id, e.channel_id, e.recorded_at,
           e.meta IS NOT NULL AS has_meta
    FROM events e WHERE e.tenant_id = :tenant
"""
_QUEUE_AGAIN: Final = f"""
    ), wanted AS (
        SELECT w.id AS endpoint_id, f.id AS event_id, f.number, f.subject_id, {DELIVERY_ID} AS id
        FROM looked f JOIN webhook_endpoints w ON w.tenant_id = :tenant AND w.id = :endpoint
        WHERE (CAST(:since AS timestamptz) IS NULL OR f.recorded_at >= :since)
          AND (CAST(:until AS timestamptz) IS NULL OR f.recorded_at < :until)
          AND f.type <> 'webhook_endpoint.test'
          AND (w.event_types = '[]' OR jsonb_exists(w.event_types, f.type))
          AND (w.channel_ids = '[]' OR f.channel_id IS NULL
               OR jsonb_exists(w.channel_ids, CAST(f.channel_id AS text)))
          AND (w.format = 'tellwire' OR f.has_meta OR f.type LIKE 'message.%')
        ORDER BY f.number
        LIMIT :limit
    ), there AS MATERIALIZED (
        SELECT q.id, q.lease_token IS NULL AS is_waiting FROM webhook_delivery_queue q
        WHERE q.tenant_id = :tenant AND q.id = ANY(ARRAY(SELECT id FROM wanted))
          AND (q.lease_token IS NOT NULL OR q.due_at > now())
        ORDER BY q.id FOR UPDATE
    ), asked_for AS (
        UPDATE webhook_delivery_queue q
        SET queued_at = clock_timestamp(),
            due_at = CASE WHEN t.is_waiting THEN now() ELSE q.due_at END,
            attempt = CASE WHEN t.is_waiting THEN 0 ELSE q.attempt END
        FROM there t WHERE q.tenant_id = :tenant AND q.id = t.id
    ), queued AS (
        INSERT INTO webhook_delivery_queue
            (tenant_id, id, endpoint_id, event_id, number, order_key, due_at, attempt, queued_at)
        SELECT :tenant, id, endpoint_id, event_id, number, coalesce(subject_id, event_id),
               now(), 0, now()
        FROM wanted
        -- Behind the locks: none of those can be settled any more, and so be missed by both.
        WHERE id NOT IN (SELECT id FROM there)
        ON CONFLICT (tenant_id, id) DO NOTHING
    ), furthest AS (
        SELECT number, recorded_at FROM looked ORDER BY number DESC LIMIT 1
    )
    SELECT count(*) AS queued,
           CASE WHEN count(*) = :limit THEN max(number)
                WHEN (SELECT count(*) FROM looked) < :look_at THEN NULL
                ELSE (SELECT f.number FROM furthest f
                      WHERE CAST(:until AS timestamptz) IS NULL
                         OR f.recorded_at < CAST(:until AS timestamptz) + {{slack}})
           END AS last
    FROM wanted
"""  # noqa: S608  # constants of this package
_OF_REPLAY: Final[dict[str, TypeEngine[Any]]] = {
    "tenant": Uuid(),
    "endpoint": Uuid(),
    "after": BigInteger(),
    "since": DateTime(timezone=True),
    "until": DateTime(timezone=True),
    "limit": Integer(),
    "look_at": Integer(),
}
_SLACK: Final = "interval '1 hour'"
REPLAY: Final = _typed(
    f"""
    WITH RECURSIVE halving AS (
        SELECT CAST(:after AS bigint) AS low,
               coalesce((SELECT s.last_number FROM event_streams s WHERE s.tenant_id = :tenant), 0)
                   AS high
        UNION ALL
        SELECT CASE WHEN e.is_before THEN h.middle ELSE h.low END,
               CASE WHEN e.is_before THEN h.high ELSE h.middle END
        FROM (SELECT low, high, (low + high) / 2 AS middle FROM halving) h
        CROSS JOIN LATERAL (
            SELECT coalesce((
                SELECT n.recorded_at < CAST(:since AS timestamptz) - {_SLACK} FROM events n
                WHERE n.tenant_id = :tenant AND n.number > h.middle ORDER BY n.number LIMIT 1
            ), false) AS is_before
        ) e
        WHERE h.high - h.low > greatest(:look_at / 10, 1)
    ), looked AS MATERIALIZED (
        {_LOOKED_AT} AND e.number > (SELECT max(low) FROM halving)
        ORDER BY e.number LIMIT :look_at
    {_QUEUE_AGAIN.format(slack=_SLACK)}
    """,  # noqa: S608  # constants of this module
    **_OF_REPLAY,
)
"""Queue what the endpoint wants of the events that were recorded then, as far as it looks.

What waits for another attempt is due at once and begins anew. What a worker delivers at this moment
may have left before anybody asked, and so gets another time of queueing, by which `RECORD` knows.

An event is recorded by the time at which its transaction began and numbered later, so that times
follow numbers only roughly: by less than an hour, which no transaction lasts. Halving finds the
number from which to look."""
REPLAY_NAMED: Final = _typed(
    f"""
    WITH looked AS MATERIALIZED (
        {_LOOKED_AT} AND e.number > :after AND e.id = ANY(:ids)
    {_QUEUE_AGAIN.format(slack=_SLACK)}
    """,  # constants of this module
    ids=ARRAY(Uuid()),
    **_OF_REPLAY,
)
"""The same, of the events with these ids: by their index, which one statement for both would miss
where it is planned once."""

LIST_ATTEMPTS: Final = _typed(
    """
    SELECT d.* FROM webhook_deliveries d
    WHERE d.tenant_id = :tenant AND d.endpoint_id = :endpoint
      AND d.id < :before
      AND (CAST(:event AS uuid) IS NULL OR d.event_id = :event)
    ORDER BY d.id DESC LIMIT :limit
    """,
    tenant=Uuid(),
    endpoint=Uuid(),
    before=Uuid(),
    event=Uuid(),
    limit=Integer(),
)
