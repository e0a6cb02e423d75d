"""The SQL of sending again what had ended: a dead letter, or what Meta failed in passing."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    TEXT,
    Boolean,
    DateTime,
    Integer,
    SmallInteger,
    Uuid,
    bindparam,
    text,
)
from sqlalchemy.types import TypeEngine

from shared.infrastructure.database.arguments import all_given
from shared.kernel.ids import new_ids
from whatsapp.domain.repositories import FailedAttempt, Revival
from whatsapp.domain.send_queue import RETRY_LANES
from whatsapp.domain.value_objects import RETRY, MessageStatus, sources_of
from whatsapp.infrastructure.persistence.repositories.message_statements import DUE_RETRIES
from whatsapp.infrastructure.persistence.repositories.recipient_statements import recipient_key

_TYPES: dict[str, TypeEngine[Any]] = {
    "ids": ARRAY(Uuid()),
    "due": ARRAY(DateTime(timezone=True)),
    "attempts": ARRAY(SmallInteger()),
    "occurred": ARRAY(DateTime(timezone=True)),
    "attempt_ids": ARRAY(Uuid()),
    "waits": ARRAY(Boolean()),
    "tenant": Uuid(),
    "at": DateTime(timezone=True),
    "ended": ARRAY(TEXT()),
}

SEND_AGAIN: Final = text(
    f"""
    WITH given AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:due AS timestamptz[]),
            CAST(:attempts AS smallint[]), CAST(:occurred AS timestamptz[]),
            CAST(:attempt_ids AS uuid[]), CAST(:waits AS boolean[])
        ) AS g(id, due_at, attempt, occurred_at, attempt_id, waits)
    ), again AS (
        UPDATE whatsapp_outbound_messages m
        SET status = CASE WHEN g.waits THEN 'retrying' ELSE 'queued' END,
            status_at = :at,
            next_attempt_at = CASE WHEN g.waits THEN g.due_at END,
            attempts = greatest(m.attempts, g.attempt),
            -- What is tried again by itself keeps its reason until the next attempt has one.
            failure_code = CASE WHEN g.attempt IS NOT NULL THEN m.failure_code END,
            failure_title = CASE WHEN g.attempt IS NOT NULL THEN m.failure_title END,
            failure_details = CASE WHEN g.attempt IS NOT NULL THEN m.failure_details END,
            expires_at = CASE WHEN m.expires_at > :at THEN m.expires_at END
        FROM given g
        WHERE m.tenant_id = :tenant AND m.id = g.id AND CASE
            WHEN g.attempt IS NULL THEN m.status = ANY(:ended) AND NOT EXISTS (
                SELECT FROM whatsapp_send_queue q
                WHERE q.tenant_id = :tenant AND q.id = g.id AND (m.status = 'unknown'
                    OR q.state IN ('leased', 'dispatching') AND q.lease_until >= now()))
            -- Only while no later attempt has followed the one that failed.
            ELSE m.status = 'failed' AND m.attempts <= g.attempt END
        RETURNING m.tenant_id, m.id, m.channel_id, m.recipient, m.lane, m.attempts,
                  m.failure_code, m.failure_title, m.expires_at, g.due_at,
                  g.attempt, g.occurred_at, g.attempt_id, g.waits
    ), kept AS (
        INSERT INTO whatsapp_message_attempts
            (tenant_id, id, message_id, number, started_at, finished_at, outcome, code, reason,
             retry_at)
        SELECT :tenant, a.attempt_id, a.id, a.attempt, a.occurred_at, a.occurred_at,
               'failed_later', a.failure_code, a.failure_title,
               CASE WHEN a.waits THEN a.due_at END
        FROM again a WHERE a.attempt IS NOT NULL
    ), queued AS (
        INSERT INTO whatsapp_send_queue AS q
            (tenant_id, id, channel_id, recipient_key, lane, state, due_at, attempt, expires_at)
        SELECT m.tenant_id, m.id, m.channel_id, {recipient_key("m")},
               m.lane + CASE WHEN m.waits THEN {RETRY_LANES} ELSE 0 END,
               CASE WHEN m.waits THEN 'retrying' ELSE 'ready' END,
               -- Somebody's clock may be ahead of ours, by which the queue is read.
               CASE WHEN m.waits THEN m.due_at ELSE least(m.due_at, now()) END, m.attempts,
               m.expires_at
        FROM again m ORDER BY m.id
        ON CONFLICT (tenant_id, id) DO UPDATE
        SET lane = excluded.lane, state = excluded.state, due_at = excluded.due_at,
            expires_at = excluded.expires_at,
            attempt = greatest(q.attempt, excluded.attempt),
            -- Whoever still holds the failed attempt may not settle it any more.
            lease_token = NULL, lease_until = NULL
    )
    SELECT id FROM again
    """  # noqa: S608  # constants of this package
).bindparams(*(bindparam(name, type_=kind) for name, kind in _TYPES.items()))
"""Put messages back into the queue that had ended; gives the ids of those for which it was done.

Without an attempt somebody asks for it, and it goes at once; an expiry that has passed is dropped.
With one it is that attempt's failure, reported later, and waits for its time, if it has to."""

REQUEUE_DUE: Final = text(
    f"""
    WITH due AS MATERIALIZED (
        {DUE_RETRIES}
    ), stored AS MATERIALIZED (
        -- Who stores a report has its message before its entry: neither waits for the other.
        SELECT s.* FROM (SELECT id FROM due ORDER BY id) d CROSS JOIN LATERAL (
            SELECT m.id, m.status, coalesce(m.send_at, m.created_at) AS due_at
            FROM whatsapp_outbound_messages m
            WHERE m.tenant_id = :tenant AND m.id = d.id
            LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        ) s
    ), queued AS (
        UPDATE whatsapp_send_queue q
        SET state = 'ready', lane = q.lane - {RETRY_LANES}, due_at = least(s.due_at, now()),
            lease_token = NULL, lease_until = NULL
        FROM stored s
        WHERE q.tenant_id = :tenant AND q.id = ANY(ARRAY(SELECT id FROM stored)) AND q.id = s.id
          AND s.status = 'retrying'
        RETURNING q.id
    ), gone AS (
        DELETE FROM whatsapp_send_queue q USING stored s
        WHERE q.tenant_id = :tenant AND q.id = ANY(ARRAY(SELECT id FROM stored)) AND q.id = s.id
          AND s.status <> 'retrying'
    )
    UPDATE whatsapp_outbound_messages m
    SET status = 'queued', status_at = :at, next_attempt_at = NULL
    WHERE m.tenant_id = :tenant AND m.id = ANY(ARRAY(SELECT id FROM queued))
    RETURNING m.id
    """  # noqa: S608  # constants of this package
).bindparams(
    bindparam("tenant", type_=Uuid()),
    bindparam("limit", type_=Integer()),
    bindparam("at", type_=DateTime(timezone=True)),
)
"""Put what is due for a retry back to its old place in the queue; gives the ids.

What a report has moved on meanwhile leaves the queue instead, as it needs no further attempt."""

COUNT_ALIKE: Final = text(
    """
    SELECT coalesce((
        -- A number may have two entries: accepted, and failed later.
        SELECT count(DISTINCT a.number) FROM whatsapp_message_attempts a
        WHERE a.tenant_id = :tenant AND a.message_id = f.id AND a.number < f.number
          AND a.retry_at IS NOT NULL
          AND CASE WHEN f.code IS NULL THEN a.code IS NULL AND a.outcome = f.kind
                   ELSE a.code = f.code END
          AND a.number > coalesce((
              SELECT e.number FROM whatsapp_message_attempts e
              WHERE e.tenant_id = :tenant AND e.message_id = f.id AND e.number < f.number
                AND e.retry_at IS NULL AND e.outcome NOT IN ('accepted', 'duplicate')
              ORDER BY e.number DESC LIMIT 1), 0)
    ), 0) AS alike
    FROM unnest(CAST(:ids AS uuid[]), CAST(:numbers AS smallint[]), CAST(:kinds AS text[]),
                CAST(:codes AS integer[])) WITH ORDINALITY AS f(id, number, kind, code, place)
    ORDER BY f.place
    """
).bindparams(
    bindparam("tenant", type_=Uuid()),
    bindparam("ids", type_=ARRAY(Uuid())),
    bindparam("numbers", type_=ARRAY(SmallInteger())),
    bindparam("kinds", type_=ARRAY(TEXT())),
    bindparam("codes", type_=ARRAY(Integer())),
)
"""How many earlier attempts of each message failed in the same way since it last ended."""


def send_again_parameters(revivals: Sequence[Revival], at: datetime) -> dict[str, Any]:
    """The columns of `revivals` as arrays, in one order for all transactions."""
    all_given(Revival, revivals, "revivals")
    ordered = sorted(revivals, key=lambda one: one.message.id)
    return {
        "at": at,
        "ended": [status.value for status in sources_of(MessageStatus.QUEUED, RETRY)],
        "ids": [one.message.id for one in ordered],
        "due": [_due_at(one, at) for one in ordered],
        "attempts": [one.attempt for one in ordered],
        "occurred": [one.failed_at for one in ordered],
        "attempt_ids": new_ids(len(ordered)),
        "waits": [one.attempt is not None and one.due_at is not None for one in ordered],
    }


def count_alike_parameters(failed: Sequence[FailedAttempt]) -> dict[str, Any]:
    """The columns of `failed` as arrays, in its order."""
    all_given(FailedAttempt, failed, "failed")
    return {
        "ids": [one.message_id for one in failed],
        "numbers": [one.number for one in failed],
        "kinds": [one.kind for one in failed],
        "codes": [one.code for one in failed],
    }


def _due_at(revival: Revival, at: datetime) -> datetime:
    """When it is due in the queue; what nobody blames for its failure has its old place there."""
    old = at if revival.attempt is None else revival.message.due_at
    return revival.due_at or old
