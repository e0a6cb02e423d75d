"""The SQL of media: each statement ends or begins a job together with what the job is about."""

from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Integer,
    Interval,
    LargeBinary,
    TextClause,
    Uuid,
    bindparam,
    text,
)
from sqlalchemy import Text as TextType
from sqlalchemy.types import TypeEngine

from whatsapp.domain.media import MediaFailure

_TYPES: dict[str, TypeEngine[Any]] = {
    "after": Uuid(),
    "at": DateTime(timezone=True),
    "before": DateTime(timezone=True),
    "begun_before": DateTime(timezone=True),
    "channel": Uuid(),
    "channel_id": Uuid(),
    "created_at": DateTime(timezone=True),
    "expires_at": DateTime(timezone=True),
    "id": Uuid(),
    "ids": ARRAY(Uuid()),
    "job": Uuid(),
    "lease": Interval(),
    "limit": Integer(),
    "message_id": Uuid(),
    "needed_at": DateTime(timezone=True),
    "per_tenant": Integer(),
    "sha256": LargeBinary(),
    "size": BigInteger(),
    "tenant": Uuid(),
    "token": Uuid(),
    "upload_ids": ARRAY(Uuid()),
    "wait": Interval(),
    "without": ARRAY(Uuid()),
}


def _statement(sql: str) -> TextClause:
    statement = text(sql)
    names = statement.compile().params
    return statement.bindparams(*(bindparam(n, type_=_TYPES.get(n, TextType())) for n in names))


_COLUMNS: Final = (
    "tenant_id, id, direction, kind, status, channel_id, message_id, provider_media_id, mime_type,"
    " filename, size, sha256, failure, created_at, used_at"
)
_GIVEN: Final = (
    ":tenant, :id, :direction, :kind, :status, :channel_id, :message_id, :provider_media_id,"
    " :mime_type, :filename, :size, :sha256, :failure, :created_at, :at"
)
# Whoever lost the lease ends nothing: the row that the rest of the statement needs is not there.
_END_OF_JOB: Final = """
    ended AS (
        DELETE FROM whatsapp_media_jobs
        WHERE tenant_id = :tenant AND id = :job AND lease_token = :token
        RETURNING id, media_id, kind
    )
"""

EXPECT: Final = _statement(
    f"""
    WITH new AS (
        INSERT INTO whatsapp_media ({_COLUMNS}) VALUES ({_GIVEN})
        ON CONFLICT (tenant_id, provider_media_id, channel_id) DO NOTHING
        RETURNING id, channel_id
    )
    INSERT INTO whatsapp_media_jobs (tenant_id, id, kind, media_id, channel_id)
    SELECT :tenant, id, 'fetch', id, channel_id FROM new
    RETURNING id
    """  # noqa: S608  # constants of this module
)
FIND_SAME: Final = _statement(
    f"""
    UPDATE whatsapp_media SET used_at = greatest(used_at, :at)
    WHERE tenant_id = :tenant AND direction = 'outbound' AND status = 'stored'
      AND sha256 = :sha256 AND mime_type = :mime_type
    RETURNING {_COLUMNS}
    """  # noqa: S608  # constants of this module
)
SAVE_OUTBOUND: Final = _statement(
    f"""
    WITH announced AS (
        DELETE FROM whatsapp_media
        WHERE tenant_id = :tenant AND id = :id AND direction = 'outbound' AND status = 'pending'
        RETURNING id
    )
    INSERT INTO whatsapp_media ({_COLUMNS})
    SELECT {_GIVEN} FROM (SELECT count(*) FROM announced) before
    ON CONFLICT (tenant_id, sha256, mime_type) WHERE direction = 'outbound' AND status = 'stored'
    DO UPDATE SET used_at = greatest(whatsapp_media.used_at, excluded.used_at)
    RETURNING {_COLUMNS}
    """  # noqa: S608  # constants of this module
)
RECORD_STORED: Final = _statement(
    f"""
    WITH {_END_OF_JOB}
    UPDATE whatsapp_media m
    SET status = 'stored', size = :size, sha256 = :sha256, mime_type = :mime_type,
        failure = NULL, used_at = now()
    FROM ended WHERE m.tenant_id = :tenant AND m.id = ended.media_id
    RETURNING m.id
    """  # noqa: S608  # constants of this module
)
RECORD_FAILED: Final = _statement(
    f"""
    WITH {_END_OF_JOB}, not_fetched AS (
        UPDATE whatsapp_media m SET status = 'failed', failure = :failure
        FROM ended
        WHERE m.tenant_id = :tenant AND m.id = ended.media_id AND ended.kind = 'fetch'
          AND m.status = 'pending'
    ), not_taken AS (
        UPDATE whatsapp_media_uploads u SET failure = :failure, settled_at = now()
        FROM ended
        WHERE u.tenant_id = :tenant AND u.id = ended.id AND ended.kind = 'upload'
    )
    SELECT id FROM ended
    """  # noqa: S608  # constants of this module
)
# Deleted since the bytes were read: no message may find an id by which it could still be sent.
RECORD_UPLOADED: Final = _statement(
    f"""
    WITH {_END_OF_JOB}
    UPDATE whatsapp_media_uploads u
    SET provider_media_id = CASE WHEN m.status = 'stored' THEN :provider_media_id END,
        settled_at = :at,
        expires_at = CASE WHEN m.status = 'stored' THEN CAST(:expires_at AS timestamptz) END,
        failure = CASE WHEN m.status = 'stored' THEN NULL ELSE '{MediaFailure.GONE}' END
    FROM ended JOIN whatsapp_media m ON m.tenant_id = :tenant AND m.id = ended.media_id
    WHERE u.tenant_id = :tenant AND u.id = ended.id
    RETURNING u.id
    """  # noqa: S608  # constants of this module
)
POSTPONE: Final = _statement(
    """
    UPDATE whatsapp_media_jobs SET due_at = now() + :wait, lease_token = NULL
    WHERE tenant_id = :tenant AND id = :job AND lease_token = :token
    RETURNING id
    """
)
# An upload without id and failure always has a job: both are written and ended together. What is
# as it should be is only read: thousands of messages may carry one picture, and must not wait for
# each other's commits at its row.
# The media come before their uploads, as where somebody deletes one.
_USED: Final = """
    used AS MATERIALIZED (
        SELECT id FROM whatsapp_media
        WHERE tenant_id = :tenant AND id = ANY(:ids) AND status = 'stored'
          AND direction = 'outbound' AND used_at < :needed_at - interval '1 hour'
        ORDER BY id FOR NO KEY UPDATE
    ), noted AS (
        UPDATE whatsapp_media m SET used_at = :needed_at FROM used
        WHERE m.tenant_id = :tenant AND m.id = used.id
        RETURNING m.id
    )
"""
KEEP: Final = _statement(f"WITH {_USED} SELECT id FROM noted")  # noqa: S608  # a constant of this module
WANT_UPLOADS: Final = _statement(
    f"""
    WITH {_USED}, wanted AS (
        INSERT INTO whatsapp_media_uploads AS u (tenant_id, id, media_id, channel_id)
        SELECT :tenant, given.upload_id, m.id, :channel
        FROM (SELECT count(*) FROM noted) before
        CROSS JOIN unnest(CAST(:upload_ids AS uuid[]), CAST(:ids AS uuid[])) AS given(upload_id, id)
        JOIN whatsapp_media m ON m.tenant_id = :tenant AND m.id = given.id
          AND m.status = 'stored' AND m.direction = 'outbound'
        LEFT JOIN whatsapp_media_uploads old ON old.tenant_id = :tenant
          AND old.channel_id = :channel AND old.media_id = m.id
        WHERE old.id IS NULL OR old.failure IS NOT NULL OR old.expires_at <= :at
        ORDER BY m.id
        ON CONFLICT (tenant_id, channel_id, media_id)
        DO UPDATE SET provider_media_id = NULL, expires_at = NULL, failure = NULL
        WHERE u.failure IS NOT NULL OR u.expires_at <= :at
        RETURNING id, media_id
    )
    INSERT INTO whatsapp_media_jobs (tenant_id, id, kind, media_id, channel_id)
    SELECT :tenant, id, 'upload', media_id, :channel FROM wanted
    ON CONFLICT (tenant_id, id) DO NOTHING
    """  # noqa: S608  # a constant of this module
)
FIND_UPLOADS: Final = _statement(
    """
    SELECT media_id, provider_media_id, settled_at, failure FROM whatsapp_media_uploads
    WHERE tenant_id = :tenant AND channel_id = :channel AND media_id = ANY(:ids)
      AND (expires_at IS NULL OR expires_at > :at)
    """
)
FORGET_UPLOADS: Final = _statement(
    """
    UPDATE whatsapp_media_uploads SET expires_at = settled_at - interval '1 day'
    WHERE tenant_id = :tenant AND channel_id = :channel AND media_id = ANY(:ids)
      AND provider_media_id IS NOT NULL
    RETURNING id
    """
)
TAKE_FOR_REMOVAL: Final = _statement(
    f"""
    WITH old AS (
        SELECT id FROM whatsapp_media
        WHERE tenant_id = :tenant
          AND (status = 'stored' AND used_at < :before OR status = 'removing'
               OR status = 'pending' AND direction = 'outbound' AND used_at < :begun_before)
        ORDER BY status, used_at LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
    UPDATE whatsapp_media m SET status = 'removing'
    FROM old WHERE m.tenant_id = :tenant AND m.id = old.id
    RETURNING {", ".join(f"m.{name}" for name in _COLUMNS.split(", "))}
    """  # noqa: S608  # constants of this module
)
# By the oldest of each kind, tenant by tenant: PostgreSQL may answer EXISTS by reading a whole
# table, and a subquery for one value never so.
WHOSE_ARE_OLD: Final = _statement(
    """
    SELECT t.id, coalesce((
        SELECT m.used_at FROM whatsapp_media m
        WHERE m.tenant_id = t.id AND m.status = 'stored' ORDER BY m.used_at LIMIT 1
    ) < :before, false) OR coalesce((
        SELECT m.used_at FROM whatsapp_media m
        WHERE m.tenant_id = t.id AND m.status = 'pending' AND m.direction = 'outbound'
        ORDER BY m.used_at LIMIT 1
    ) < :begun_before, false) OR coalesce((
        SELECT true FROM whatsapp_media m
        WHERE m.tenant_id = t.id AND m.status = 'removing' LIMIT 1
    ), false) AS is_due
    FROM tenants t WHERE t.id > :after ORDER BY t.id LIMIT :limit
    """
)
# What Meta has of it is forgotten too, and what is on its way is not waited for: a message that
# waits to send the file must not find an id by which it still could. Jobs first, as where one ends;
# uploads by their channels, as where messages are accepted.
MARK_FOR_REMOVAL: Final = _statement(
    f"""
    WITH marked AS (
        UPDATE whatsapp_media
        SET status = CASE status WHEN 'stored' THEN 'removing' ELSE status END
        WHERE tenant_id = :tenant AND id = :id
        RETURNING {_COLUMNS}
    ), uploads AS MATERIALIZED (
        SELECT u.id FROM marked
        JOIN whatsapp_channels c ON c.tenant_id = :tenant
        JOIN whatsapp_media_uploads u ON u.tenant_id = :tenant
          AND u.channel_id = c.id AND u.media_id = marked.id
        WHERE marked.status = 'removing'
    ), undone AS (
        DELETE FROM whatsapp_media_jobs j USING uploads
        WHERE j.tenant_id = :tenant AND j.id = uploads.id
        RETURNING j.id
    ), in_order AS MATERIALIZED (
        SELECT u.id FROM (SELECT count(*) FROM undone) afterwards CROSS JOIN uploads
        JOIN whatsapp_media_uploads u ON u.tenant_id = :tenant AND u.id = uploads.id
        ORDER BY u.channel_id FOR UPDATE OF u
    ), forgotten AS (
        DELETE FROM whatsapp_media_uploads u USING in_order
        WHERE u.tenant_id = :tenant AND u.id = in_order.id
    )
    SELECT {_COLUMNS} FROM marked
    """  # noqa: S608  # constants of this module
)
RECORD_REMOVED: Final = _statement(
    """
    UPDATE whatsapp_media SET status = 'removed'
    WHERE tenant_id = :tenant AND id = ANY(:ids) AND status = 'removing'
    RETURNING id
    """
)

# From tenant to tenant by the index, so that one with a million jobs costs no more than its share.
# A lease is a due time in the future: what is leased stands behind what is due. One whose workers
# always die is counted as far as the column goes, so that it keeps no other from being claimed.
CLAIM: Final = _statement(
    """
    WITH RECURSIVE tenants AS (
        (SELECT tenant_id FROM whatsapp_media_jobs WHERE tenant_id > :after
         ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT j.tenant_id FROM whatsapp_media_jobs j WHERE j.tenant_id > t.tenant_id
                ORDER BY j.tenant_id LIMIT 1)
        FROM tenants t WHERE t.tenant_id IS NOT NULL
    ), picked AS MATERIALIZED (
        SELECT due.tenant_id, due.id FROM tenants t CROSS JOIN LATERAL (
            SELECT j.tenant_id, j.id FROM whatsapp_media_jobs j
            WHERE j.tenant_id = t.tenant_id AND j.due_at <= now()
              AND t.tenant_id <> ALL(:without)
            ORDER BY j.due_at, j.id LIMIT :per_tenant
            FOR UPDATE SKIP LOCKED
        ) due
        LIMIT :limit
    )
    UPDATE whatsapp_media_jobs j
    SET due_at = now() + :lease, attempts = least(j.attempts, 32766) + 1, lease_token = :token
    FROM picked WHERE j.tenant_id = picked.tenant_id AND j.id = picked.id
    RETURNING j.tenant_id, j.id, j.kind, j.media_id, j.channel_id, j.attempts
    """
)
