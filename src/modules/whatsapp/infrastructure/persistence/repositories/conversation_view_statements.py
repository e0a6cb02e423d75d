"""The SQL of looking at conversations: by the time of their last message, and what was said.

Nothing here counts. Each list is a few ranges of an index, from each of them no more rows than one
page has: one range for each channel, or for each address of the contact and each direction.
"""

from typing import Final, cast

from sqlalchemy import ARRAY, TEXT, DateTime, Integer, Table, Uuid
from sqlalchemy.sql.selectable import TextualSelect

from whatsapp.domain.entities.inbound_message import EDITED_WITHIN, REVOKED_WITHIN
from whatsapp.domain.value_objects.inbound_content import REVOKE
from whatsapp.infrastructure.persistence.models import InboundMessageModel
from whatsapp.infrastructure.persistence.repositories.conversation_statements import (
    COLUMNS,
    CONVERSATIONS,
    IS_LEFT,
    typed,
)

_INBOUND = cast("Table", InboundMessageModel.__table__)
_INBOUND_COLUMNS = ", ".join(f"i.{column.name}" for column in _INBOUND.c)
_AT = DateTime(timezone=True)
_MOST_AMENDMENTS: Final = 100
"""Of each message, removals and the latest edits first."""


def _amendments_of(wamid: str, channel: str) -> str:
    """What amends a message, in SQL; a subquery with LIMIT is looked up, never joined."""
    return f"""
        SELECT * FROM whatsapp_inbound_messages i
        WHERE i.tenant_id = :tenant AND i.channel_id = {channel} AND i.amends = {wamid}
        ORDER BY i.type = '{REVOKE}' DESC, i.sent_at DESC, i.wamid DESC LIMIT {_MOST_AMENDMENTS}
    """  # noqa: S608  # names of this module's own


_STANDS_ALONE: Final = f"""
    NOT coalesce((
        SELECT i.sent_at <= o.sent_at + CASE i.type
            WHEN '{REVOKE}' THEN interval '{REVOKED_WITHIN.total_seconds():.0f} s'
            ELSE interval '{EDITED_WITHIN.total_seconds():.0f} s' END
        FROM whatsapp_inbound_messages o
        WHERE i.amends IS NOT NULL AND o.tenant_id = :tenant AND o.channel_id = i.channel_id
          AND o.wamid = i.amends AND o.amends IS NULL
        LIMIT 1
    ), false)"""  # noqa: S608  # constants of the domain
"""Whether a message is shown by itself: it amends nothing, nothing that we have, or too late."""

GET_VIEW: Final = typed(
    f"""
    SELECT {COLUMNS} FROM (
        SELECT coalesce(merged_into, id) AS id FROM whatsapp_conversations
        WHERE tenant_id = :tenant AND id = :id LIMIT 1
    ) w CROSS JOIN LATERAL (
        SELECT * FROM whatsapp_conversations v
        WHERE v.tenant_id = :tenant AND v.id = w.id LIMIT 1
    ) v
    """,  # noqa: S608  # column names of our own table
    tenant=Uuid(),
    id=Uuid(),
).columns(*CONVERSATIONS.c)
"""The conversation, also by the id of one that merged into it."""


def list_latest(*, of_channel: bool, is_unread: bool) -> TextualSelect:
    """Conversations of all channels or of one, the latest first, from behind a place."""
    channel = "AND c.id = :channel" if of_channel else ""
    which = "v.unread_count > 0" if is_unread else "v.last_message_at IS NOT NULL"
    statement = typed(
        f"""
        SELECT {COLUMNS} FROM whatsapp_channels c CROSS JOIN LATERAL (
            SELECT * FROM whatsapp_conversations v
            WHERE v.tenant_id = :tenant AND v.channel_id = c.id AND {which}
              AND (v.last_message_at, v.id) < (:before_at, :before_id)
            ORDER BY v.last_message_at DESC, v.id DESC LIMIT :limit
        ) v
        WHERE c.tenant_id = :tenant {channel}
        ORDER BY v.last_message_at DESC, v.id DESC LIMIT :limit
        """,  # noqa: S608  # conditions of this module's own
        tenant=Uuid(),
        before_at=_AT,
        before_id=Uuid(),
        limit=Integer(),
        **({"channel": Uuid()} if of_channel else {}),
    )
    return statement.columns(*CONVERSATIONS.c)


def list_contacts(*, of_channel: bool) -> TextualSelect:
    """Contacts of all channels or of one, in the order of their ids, from behind one."""
    channel = "AND v.channel_id = :channel" if of_channel else ""
    statement = typed(
        f"""
        SELECT {COLUMNS} FROM whatsapp_conversations v
        WHERE v.tenant_id = :tenant AND v.id > :after AND v.merged_into IS NULL {channel}
        ORDER BY v.id LIMIT :limit
        """,  # noqa: S608  # conditions of this module's own
        tenant=Uuid(),
        after=Uuid(),
        limit=Integer(),
        **({"channel": Uuid()} if of_channel else {}),
    )
    return statement.columns(*CONVERSATIONS.c)


FIND_CONTACTS: Final = typed(
    f"""
    SELECT DISTINCT ON (v.id) {COLUMNS}
    FROM whatsapp_channels c
    CROSS JOIN LATERAL (
        SELECT conversation_id FROM whatsapp_conversation_addresses a
        WHERE a.tenant_id = :tenant AND a.channel_id = c.id
          AND a.address IN (:address, :other_address) AND NOT {IS_LEFT}
    ) a
    CROSS JOIN LATERAL (
        SELECT * FROM whatsapp_conversations v
        WHERE v.tenant_id = :tenant AND v.id = a.conversation_id LIMIT 1
    ) v
    WHERE c.tenant_id = :tenant AND c.id = coalesce(:channel, c.id) AND v.id > :after
    ORDER BY v.id LIMIT :limit
    """,  # noqa: S608  # column names of our own tables
    tenant=Uuid(),
    channel=Uuid(),
    address=TEXT(),
    other_address=TEXT(),
    after=Uuid(),
    limit=Integer(),
).columns(*CONVERSATIONS.c)
"""Whom an address leads to on each channel."""

_PLACES = f"""
    v AS MATERIALIZED (
        SELECT id, channel_id, former FROM whatsapp_conversations
        WHERE tenant_id = :tenant AND id = :id
    ), place AS MATERIALIZED (
        SELECT v.channel_id, a.address, a.taken_at AS since,
               CASE WHEN {IS_LEFT} THEN a.left_at END AS until
        FROM v JOIN whatsapp_conversation_addresses a
          ON a.tenant_id = :tenant AND a.conversation_id = v.id
        UNION ALL
        SELECT v.channel_id, f.one ->> 'address', NULL, CAST(f.one ->> 'until' AS timestamptz)
        FROM v CROSS JOIN jsonb_array_elements(v.former) AS f(one)
    )"""  # noqa: S608  # a condition of this package's own

LIST_THREAD: Final = typed(
    f"""
    WITH {_PLACES}, found AS (
        SELECT m.id FROM place p CROSS JOIN LATERAL (
            SELECT i.id FROM whatsapp_inbound_messages i
            WHERE i.tenant_id = :tenant AND i.channel_id = p.channel_id
              AND i.author = p.address AND i.id < :before AND {_STANDS_ALONE}
              AND (p.since IS NULL OR i.sent_at > p.since)
              AND (p.until IS NULL OR i.sent_at <= p.until)
            ORDER BY i.id DESC LIMIT :limit
        ) m
        UNION
        SELECT m.id FROM place p CROSS JOIN LATERAL (
            SELECT o.id FROM whatsapp_outbound_messages o
            WHERE o.tenant_id = :tenant AND o.channel_id = p.channel_id
              AND o.recipient = p.address AND o.id < :before
              AND (p.since IS NULL OR o.created_at > p.since)
              AND (p.until IS NULL OR o.created_at <= p.until)
            ORDER BY o.id DESC LIMIT :limit
        ) m
    )
    SELECT id FROM found ORDER BY id DESC LIMIT :limit
    """,  # noqa: S608  # a condition of this package's own
    tenant=Uuid(),
    id=Uuid(),
    before=Uuid(),
    limit=Integer(),
)
"""What was heard and said under any of the contact's addresses while it was theirs, newest first.

Messages name addresses and no conversation, so that whatever merges takes its messages along."""

GET_NEWEST_INBOUND: Final = typed(
    f"""
    WITH {_PLACES}
    SELECT {_INBOUND_COLUMNS} FROM place p CROSS JOIN LATERAL (
        SELECT * FROM whatsapp_inbound_messages i
        WHERE i.tenant_id = :tenant AND i.channel_id = p.channel_id AND i.author = p.address
          AND i.type <> 'system' AND i.amends IS NULL
          AND (p.since IS NULL OR i.sent_at > p.since)
          AND (p.until IS NULL OR i.sent_at <= p.until)
        ORDER BY i.id DESC LIMIT 1
    ) i
    ORDER BY i.id DESC LIMIT 1
    """,  # noqa: S608  # column names of our own table
    tenant=Uuid(),
    id=Uuid(),
).columns(*_INBOUND.c)

GET_INBOUND_MANY: Final = typed(
    f"""
    WITH wanted AS MATERIALIZED (
        SELECT * FROM whatsapp_inbound_messages WHERE tenant_id = :tenant AND id = ANY(:ids)
    )
    SELECT {_INBOUND_COLUMNS} FROM wanted i
    UNION ALL
    SELECT {_INBOUND_COLUMNS} FROM wanted w
    CROSS JOIN LATERAL ({_amendments_of("w.wamid", "w.channel_id")}) i
    """,  # noqa: S608  # column names of our own table
    tenant=Uuid(),
    ids=ARRAY(Uuid()),
).columns(*_INBOUND.c)
"""Messages, and what amends them."""

LIST_AMENDED: Final = typed(
    f"""
    WITH amendment AS MATERIALIZED (
        SELECT i.* FROM unnest(:wamids) AS w(wamid)
        CROSS JOIN LATERAL ({_amendments_of("w.wamid", ":channel")}) i
    )
    SELECT {_INBOUND_COLUMNS} FROM amendment i
    UNION ALL
    SELECT {_INBOUND_COLUMNS} FROM (SELECT DISTINCT amends FROM amendment) a CROSS JOIN LATERAL (
        SELECT * FROM whatsapp_inbound_messages i
        WHERE i.tenant_id = :tenant AND i.channel_id = :channel AND i.wamid = a.amends LIMIT 1
    ) i
    """,  # noqa: S608  # column names of our own table
    tenant=Uuid(),
    channel=Uuid(),
    wamids=ARRAY(TEXT()),
).columns(*_INBOUND.c)
"""What amends the messages with these wamids, and those of them that we have."""
