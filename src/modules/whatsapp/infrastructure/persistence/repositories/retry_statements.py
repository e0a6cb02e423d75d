"""The SQL of sending again what had ended: a dead letter, or what Meta failed in passing."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ARRAY, TEXT, BigInteger, DateTime, SmallInteger, Uuid, bindparam, text
from sqlalchemy.types import TypeEngine

from shared.kernel.ids import new_id
from whatsapp.domain.repositories import Revival
from whatsapp.domain.send_queue import RETRY_LANES
from whatsapp.domain.value_objects import RETRY, MessageStatus, sources_of
from whatsapp.infrastructure.persistence.repositories.message_rows import recipient_key

_TYPES: dict[str, TypeEngine[Any]] = {
    "ids": ARRAY(Uuid()),
    "keys": ARRAY(BigInteger()),
    "due": ARRAY(DateTime(timezone=True)),
    "attempts": ARRAY(SmallInteger()),
    "occurred": ARRAY(DateTime(timezone=True)),
    "attempt_ids": ARRAY(Uuid()),
    "tenant": Uuid(),
    "at": DateTime(timezone=True),
    "ended": ARRAY(TEXT()),
}

SEND_AGAIN: Final = text(
    f"""
    WITH given AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:keys AS bigint[]), CAST(:due AS timestamptz[]),
            CAST(:attempts AS smallint[]), CAST(:occurred AS timestamptz[]),
            CAST(:attempt_ids AS uuid[])
        ) AS g(id, recipient_key, due_at, attempt, occurred_at, attempt_id)
    ), again AS (
        UPDATE whatsapp_outbound_messages m
        SET status = CASE WHEN g.attempt IS NULL THEN 'queued' ELSE 'retrying' END,
            status_at = :at,
            next_attempt_at = CASE WHEN g.attempt IS NOT NULL THEN g.due_at END,
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
        RETURNING m.id, m.channel_id, m.lane, m.attempts, m.failure_code, m.failure_title,
                  m.expires_at, g.recipient_key, g.due_at, g.attempt, g.occurred_at, g.attempt_id
    ), kept AS (
        INSERT INTO whatsapp_message_attempts
            (tenant_id, id, message_id, number, started_at, finished_at, outcome, code, reason,
             retry_at)
        SELECT :tenant, a.attempt_id, a.id, a.attempt, a.occurred_at, a.occurred_at,
               'failed_later', a.failure_code, a.failure_title, a.due_at
        FROM again a WHERE a.attempt IS NOT NULL
    ), queued AS (
        INSERT INTO whatsapp_send_queue AS q
            (tenant_id, id, channel_id, recipient_key, lane, state, due_at, attempt, expires_at)
        SELECT :tenant, a.id, a.channel_id, a.recipient_key,
               a.lane + CASE WHEN a.attempt IS NULL THEN 0 ELSE {RETRY_LANES} END,
               CASE WHEN a.attempt IS NULL THEN 'ready' ELSE 'retrying' END, a.due_at, a.attempts,
               a.expires_at
        FROM again a ORDER BY a.id
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
With one it is that attempt's failure, reported later, and waits for its time."""


def send_again_parameters(revivals: Sequence[Revival], at: datetime) -> dict[str, Any]:
    """The columns of `revivals` as arrays, in one order for all transactions."""
    ordered = sorted(revivals, key=lambda one: one.message.id)
    return {
        "at": at,
        "ended": [status.value for status in sources_of(MessageStatus.QUEUED, RETRY)],
        "ids": [one.message.id for one in ordered],
        "keys": [recipient_key(one.message) for one in ordered],
        "due": [one.due_at or at for one in ordered],
        "attempts": [one.attempt for one in ordered],
        "occurred": [one.failed_at for one in ordered],
        "attempt_ids": [new_id() for _ in ordered],
    }
