"""The SQL of Meta's reports: kept once each, and what they make of messages and their entries."""

from typing import Final

from sqlalchemy import ARRAY, TEXT, Double, Integer, SmallInteger, TextClause, Uuid

from whatsapp.domain.value_objects import MessageStatus
from whatsapp.infrastructure.persistence.repositories.message_statements import (
    FORWARD_PAIRS,
    typed,
)

_RANK = " ".join(
    ["CASE n.status", *(f"WHEN '{status}' THEN {status.rank}" for status in MessageStatus), "END"]
)

_ONCE: Final = "ON CONFLICT (tenant_id, channel_id, wamid, status, occurred_at) DO NOTHING"

_RECORD: Final = f"""
    WITH report AS (
        SELECT r.*, to_timestamp(r.seconds) AS occurred_at FROM unnest(
            CAST(:event_ids AS uuid[]), CAST(:message_ids AS uuid[]), CAST(:wamids AS text[]),
            CAST(:statuses AS text[]), CAST(:attempts AS smallint[]),
            CAST(:seconds AS float8[]), CAST(:errors AS text[]), CAST(:pricing AS text[]),
            CAST(:codes AS integer[]), CAST(:titles AS text[]), CAST(:details AS text[])
        ) WITH ORDINALITY AS r(event_id, message_id, wamid, status, attempt, seconds,
                               errors, pricing, code, title, details, number)
    ), matched AS MATERIALIZED (
        SELECT r.*, m.id, m.wamid AS standing,
               m.status IN ('queued', 'sending', 'retrying', 'unknown') AS has_entry,
               -- Whether a later attempt has taken the place of the one that this is about. Only a
               -- retry by hand follows a failure, so what is said of the failed one is old news.
               CASE
                   WHEN r.status = 'failed' AND r.attempt < m.attempts THEN true
                   WHEN r.status IN ('sent', 'failed') AND m.status IN ('queued', 'retrying')
                        AND (r.attempt = m.attempts OR r.attempt IS NULL AND r.wamid = m.wamid)
                   THEN coalesce((
                       SELECT true FROM whatsapp_status_events e
                       WHERE e.tenant_id = :tenant AND e.message_id = m.id
                         -- One that had waited for its wamid tells no attempt.
                         AND (e.attempt = r.attempt OR e.wamid || '' = r.wamid)
                         AND e.status || '' = 'failed'
                       LIMIT 1), false)
                   ELSE false
               END AS late
        FROM report r
        -- None is without a report: FULL only keeps PostgreSQL from looking through all messages
        -- that are named for each report, as it would where it takes them for few.
        FULL JOIN (
            SELECT i.id, i.status, i.attempts, i.wamid FROM whatsapp_outbound_messages i
            WHERE i.tenant_id = :tenant AND i.id = ANY(CAST(:message_ids AS uuid[]))
              AND (i.channel_id = :channel) IS TRUE
        ) named ON named.id = r.message_id
        CROSS JOIN LATERAL (
            SELECT named.* WHERE named.id IS NOT NULL
            UNION ALL
            SELECT w.id, w.status, w.attempts, w.wamid FROM whatsapp_outbound_messages w
            WHERE w.tenant_id = :tenant AND w.wamid = r.wamid AND (w.channel_id = :channel) IS TRUE
            UNION ALL
            -- Another report named the message, which had a wamid already: a second copy of it.
            SELECT o.id, o.status, o.attempts, o.wamid FROM whatsapp_status_events e
            JOIN whatsapp_outbound_messages o ON o.tenant_id = :tenant AND o.id = e.message_id
            WHERE e.tenant_id = :tenant AND e.channel_id = :channel AND e.wamid = r.wamid
            UNION ALL
            SELECT NULL, NULL, NULL, NULL
            LIMIT 1
        ) m
    ), awaited AS MATERIALIZED (
        -- Whoever stores reports that do not name these messages holds this first and then their
        -- keys. Taken with `:channel` as `whatsapp_adopt_parked` takes it: here before any key.
        SELECT pg_advisory_xact_lock_shared(l.lock) FROM (
            SELECT DISTINCT whatsapp_wamid_lock(:channel, x.wamid) AS lock FROM matched x
            WHERE x.id IS NOT NULL AND x.standing IS DISTINCT FROM x.wamid
            ORDER BY 1
        ) l
    ), kept AS (
        INSERT INTO whatsapp_status_events
            (tenant_id, id, channel_id, message_id, wamid, status, attempt, occurred_at,
             errors, pricing)
        SELECT :tenant, event_id, :channel, id, wamid, status, attempt, occurred_at,
               CAST(errors AS jsonb), CAST(pricing AS jsonb)
        FROM matched WHERE (SELECT count(*) FROM awaited) >= 0
        -- One order for all batches: two with the same reports wait for, not on, each other. Of
        -- two that say the same, the one that names the message is the one to keep.
        ORDER BY wamid, status, occurred_at, id IS NULL
        {_ONCE}
        RETURNING id
    ), fresh AS MATERIALIZED (
        SELECT x.* FROM matched x JOIN kept ON kept.id = x.event_id
    ), known AS (
        -- Wamids that are news of their message, and those that something was parked under.
        SELECT array_agg(x.id) AS ids, array_agg(CAST(:channel AS uuid)) AS channels,
               array_agg(x.wamid) AS wamids
        -- Of repeated ones too: what they repeat may have come without our id, and be parked.
        FROM matched x
        WHERE (SELECT count(*) FROM kept) >= 0
          AND x.id IS NOT NULL AND (x.standing IS DISTINCT FROM x.wamid OR (
            -- Hardly ever is anything parked on the channel: one look for all of them.
            coalesce((
                SELECT true FROM whatsapp_status_events s
                WHERE s.tenant_id = :tenant AND s.channel_id = :channel AND s.message_id IS NULL
                ORDER BY s.wamid LIMIT 1), false)
            AND coalesce((
                SELECT true FROM whatsapp_status_events s
                WHERE s.tenant_id = :tenant AND s.channel_id = :channel AND s.wamid = x.wamid
                  AND s.message_id IS NULL
                LIMIT 1), false)))
    ), adopted AS MATERIALIZED (
        SELECT p.* FROM known k CROSS JOIN LATERAL
             whatsapp_adopt_parked(:tenant, k.ids, k.channels, k.wamids) p
        WHERE k.ids IS NOT NULL
    ), news AS (
        SELECT event_id, id, wamid, status, attempt, occurred_at, code, title, details
        FROM fresh WHERE id IS NOT NULL AND NOT late
        UNION ALL
        SELECT a.id, a.message_id, a.wamid, a.status,
               -- The attempt that had this wamid, by what has told whose it is.
               coalesce(a.attempt, (SELECT max(x.attempt) FROM matched x
                                    WHERE x.id = a.message_id AND x.wamid = a.wamid)),
               a.occurred_at,
               CAST(a.errors -> 0 ->> 'code' AS integer), a.errors -> 0 ->> 'title',
               a.errors -> 0 ->> 'details'
        FROM adopted a
    ), best AS (
        SELECT DISTINCT ON (n.id) n.* FROM news n ORDER BY n.id, {_RANK} DESC, n.occurred_at
    ), updated AS (
        UPDATE whatsapp_outbound_messages m
        SET status = b.status, status_at = b.occurred_at, next_attempt_at = NULL,
            failure_code = b.code, failure_title = b.title, failure_details = b.details,
            wamid = CASE WHEN m.status IN ('queued', 'sending', 'retrying', 'unknown')
                         THEN b.wamid ELSE coalesce(m.wamid, b.wamid) END
        FROM best b
        -- Named once more as a list: a plan from the time when few were stored would otherwise
        -- read all of a tenant's messages to find these, and lock them in no order.
        WHERE m.tenant_id = :tenant AND m.id = ANY(ARRAY(SELECT id FROM best)) AND m.id = b.id
          AND m.status || '>' || b.status IN ({FORWARD_PAIRS})
          AND NOT (b.status = 'failed' AND coalesce(b.attempt < m.attempts, false))
        RETURNING m.id, m.wamid, m.attempts, b.event_id, b.attempt
    ), taught AS (
        -- Hardly ever any: given up without an answer, which no report moves but tells the wamid.
        UPDATE whatsapp_outbound_messages m SET wamid = b.wamid
        FROM best b
        WHERE m.tenant_id = :tenant AND m.id = b.id AND m.status = 'failed' AND m.wamid IS NULL
          AND m.id = ANY(ARRAY(
              SELECT x.id FROM matched x WHERE x.id IS NOT NULL AND x.standing IS NULL))
          AND NOT m.status || '>' || b.status IN ({FORWARD_PAIRS})
    )
    SELECT x.number, f.is_new, x.id AS message_id,
           coalesce(u.event_id = x.event_id, false) AS moved,
           coalesce(u.event_id IN (SELECT id FROM adopted), false) AS overtaken,
           CASE WHEN u.event_id = x.event_id AND x.standing = x.wamid
                THEN coalesce(u.attempt, u.attempts)
                WHEN u.event_id = x.event_id THEN u.attempt END AS attempt,
           coalesce(x.has_entry AND u.id IS NOT NULL, false) AS settles,
           coalesce(f.is_new AND x.status <> 'failed' AND x.attempt IS NOT NULL
                    AND coalesce(u.wamid, x.standing) <> x.wamid, false) AS doubles,
           CAST(NULL AS timestamptz) AS failed_at, NULL AS errors
    FROM matched x
    LEFT JOIN kept k ON k.id = x.event_id
    LEFT JOIN updated u ON u.id = x.id
    -- What was parked is news of its message with the first that tells whose it is.
    CROSS JOIN LATERAL (
        SELECT k.id IS NOT NULL OR (x.id, x.wamid) IN (SELECT message_id, wamid FROM adopted)
               AS is_new
    ) f
    -- Those that went as was expected are not told of: nearly all.
    WHERE NOT coalesce(u.event_id = x.event_id AND x.id = x.message_id AND u.attempt = x.attempt
                       AND u.wamid = x.wamid AND NOT x.has_entry, false)
    UNION ALL
    SELECT NULL, true, u.id, true, true, u.attempt, false, false, a.occurred_at,
           CAST(a.errors AS text)
    FROM adopted a JOIN updated u ON u.event_id = a.id WHERE a.status = 'failed'
"""  # noqa: S608  # constants of this module


def _recording(statement: str) -> TextClause:
    return typed(
        statement,
        tenant=Uuid(),
        channel=Uuid(),
        event_ids=ARRAY(Uuid()),
        message_ids=ARRAY(Uuid()),
        wamids=ARRAY(TEXT()),
        statuses=ARRAY(TEXT()),
        attempts=ARRAY(SmallInteger()),
        seconds=ARRAY(Double()),
        errors=ARRAY(TEXT()),
        pricing=ARRAY(TEXT()),
        codes=ARRAY(Integer()),
        titles=ARRAY(TEXT()),
        details=ARRAY(TEXT()),
    )


RECORD_STATUSES: Final = _recording(_RECORD)
"""Keep every report once and move each message to the furthest new one, never back.

Gives what did not go as each report says for itself, by `number`, counted from 1: those that were
not new, that moved nothing or by another attempt, whose message was found by wamid or had another
one; and without a number, the failures of messages that had waited for their wamid.

A repeated report changes nothing, unless it is the first to tell whose wamid that is; one about an
attempt that a later one replaced cannot fail it. A report is matched by our own id, which Meta
echoes, and otherwise by wamid; what was parked under that wamid before counts now.
`SETTLE_REPORTED` and `NOTE_DOUBLES` follow in the same transaction
where a row says so: hardly ever, so that this statement does not look."""

RECORD_NEW_STATUSES: Final = _recording(_RECORD.replace(_ONCE, ""))
"""The same for reports of which none is stored: a unique violation where one is, or is meanwhile.

Looking for each, and holding its place until it is stored, would be a twentieth of the price."""

SETTLE_REPORTED: Final = typed(
    """
    WITH entry AS MATERIALIZED (
        -- Locked before it is judged: the statement's own snapshot may be older than the message.
        SELECT q.id, q.state, q.lease_until FROM whatsapp_send_queue q
        WHERE q.tenant_id = :tenant AND q.id = ANY(CAST(:ids AS uuid[]))
        ORDER BY q.id FOR UPDATE
    )
    DELETE FROM whatsapp_send_queue q USING entry e
    WHERE q.tenant_id = :tenant AND q.id = ANY(CAST(:ids AS uuid[])) AND q.id = e.id
      AND NOT (e.state = 'dispatching' AND e.lease_until >= now())
    RETURNING q.id
    """,
    tenant=Uuid(),
    ids=ARRAY(Uuid()),
)
"""Settle the entries of messages that reports have moved: one that waits for a retry, or for an
answer that never came. One whose request is under way is its worker's to settle."""

NOTE_DOUBLES: Final = typed(
    """
    INSERT INTO whatsapp_message_attempts
        (tenant_id, id, message_id, number, started_at, finished_at, outcome, reason, wamid)
    SELECT DISTINCT ON (x.message_id, x.wamid)
           :tenant, x.event_id, x.message_id, x.attempt, to_timestamp(x.seconds),
           to_timestamp(x.seconds), 'duplicate', 'Meta reports that it sent this one too', x.wamid
    FROM unnest(
        CAST(:event_ids AS uuid[]), CAST(:message_ids AS uuid[]), CAST(:wamids AS text[]),
        CAST(:statuses AS text[]), CAST(:attempts AS smallint[]), CAST(:seconds AS float8[])
    ) AS x(event_id, message_id, wamid, status, attempt, seconds)
    WHERE NOT coalesce((
              SELECT true FROM whatsapp_message_attempts a
              WHERE a.tenant_id = :tenant AND a.message_id = x.message_id AND a.wamid = x.wamid
                AND a.outcome = 'duplicate'
              LIMIT 1), false)
      AND NOT (x.status = 'sent' AND coalesce((
              SELECT true FROM whatsapp_status_events e
              WHERE e.tenant_id = :tenant AND e.message_id = x.message_id
                AND e.wamid || '' = x.wamid AND e.status || '' = 'failed'
              LIMIT 1), false))
    ORDER BY x.message_id, x.wamid
    ON CONFLICT (tenant_id, id) DO NOTHING
    RETURNING id
    """,
    tenant=Uuid(),
    event_ids=ARRAY(Uuid()),
    message_ids=ARRAY(Uuid()),
    wamids=ARRAY(TEXT()),
    statuses=ARRAY(TEXT()),
    attempts=ARRAY(SmallInteger()),
    seconds=ARRAY(Double()),
)
"""Note second copies of messages among their attempts, each once; gives those that are noted."""

EXPECT_ANSWERS: Final = typed(
    "SELECT whatsapp_expect_answers(:channel, CAST(:wamids AS text[]))",
    channel=Uuid(),
    wamids=ARRAY(TEXT()),
)
"""A statement of its own before the reports are stored: what it waited for is visible to them."""
