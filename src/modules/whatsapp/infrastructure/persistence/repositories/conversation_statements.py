"""The SQL of conversations, and of saving an inbound message, which opens its window.

Whoever is reached by one of several addresses is found by any of them. Two transactions that meet
a new contact at once meet on the unique address: the later one waits and joins the earlier.
"""

from typing import Any, Final, cast

from sqlalchemy import (
    ARRAY,
    TEXT,
    Boolean,
    DateTime,
    Table,
    TextClause,
    Uuid,
    bindparam,
    literal_column,
    text,
)
from sqlalchemy.types import TypeEngine

from whatsapp.infrastructure.persistence.models import ConversationModel, InboundMessageModel

_INBOUND = cast("Table", InboundMessageModel.__table__)
_CONVERSATIONS = cast("Table", ConversationModel.__table__)
_GIVEN = ", ".join(c.name for c in _INBOUND.c if c.name != "received_at")
_INBOUND_COLUMNS = ", ".join(f"m.{column.name}" for column in _INBOUND.c)
_COLUMNS = ", ".join(f"v.{column.name}" for column in _CONVERSATIONS.c)
_AT = DateTime(timezone=True)


def _typed(statement: str, **types: TypeEngine[Any]) -> TextClause:
    return text(statement).bindparams(*(bindparam(name, type_=t) for name, t in types.items()))


def _contact(condition: str) -> str:
    """CTEs that end in `contact`: the conversations that `:addresses` lead to, from now on."""
    return f"""
        known AS (
            SELECT g.address, a.conversation_id
            FROM unnest(CAST(:addresses AS text[])) AS g(address)
            CROSS JOIN LATERAL (
                SELECT conversation_id FROM whatsapp_conversation_addresses a
                WHERE a.tenant_id = :tenant AND a.channel_id = :channel AND a.address = g.address
                LIMIT 1
            ) a
        ), added AS (
            INSERT INTO whatsapp_conversation_addresses AS a
                (tenant_id, id, channel_id, address, conversation_id)
            SELECT :tenant, g.id, :channel, g.address, coalesce(
                (SELECT conversation_id FROM known ORDER BY conversation_id LIMIT 1), :new_id)
            FROM unnest(CAST(:addresses AS text[]), CAST(:address_ids AS uuid[])) AS g(address, id)
            WHERE {condition} AND NOT EXISTS (SELECT FROM known k WHERE k.address = g.address)
            ORDER BY g.address
            ON CONFLICT (tenant_id, channel_id, address)
            DO UPDATE SET address = excluded.address
            RETURNING a.conversation_id
        ), contact AS (
            SELECT conversation_id FROM known UNION SELECT conversation_id FROM added
        )"""  # noqa: S608  # a condition of this module's own


_CONTACT_TYPES: dict[str, TypeEngine[Any]] = {
    "tenant": Uuid(),
    "channel": Uuid(),
    "addresses": ARRAY(TEXT()),
    "address_ids": ARRAY(Uuid()),
    "new_id": Uuid(),
}

_PARAMETERS = {"tenant_id": "tenant", "channel_id": "channel"}
_VALUES = ", ".join(
    f":{_PARAMETERS.get(c.name, c.name)}" for c in _INBOUND.c if c.name != "received_at"
)

SAVE_INBOUND: Final = _typed(
    f"""
    WITH stored AS (
        INSERT INTO whatsapp_inbound_messages AS m ({_GIVEN}) VALUES ({_VALUES})
        ON CONFLICT (tenant_id, channel_id, wamid) DO UPDATE SET wamid = excluded.wamid
        RETURNING {_INBOUND_COLUMNS}, xmax = 0 AS inserted
    ), {_contact("(SELECT inserted FROM stored)")}, opened AS (
        INSERT INTO whatsapp_conversations AS v
            (tenant_id, id, channel_id, phone, user_id, profile_name, last_inbound_at, unread_count,
             last_message_id, last_message_at)
        SELECT s.tenant_id, c.conversation_id, s.channel_id, s.sender, s.sender_user_id,
               s.profile_name, CASE WHEN :opens_window THEN least(s.sent_at, now()) END, 1, s.id,
               least(s.sent_at, now())
        FROM stored s CROSS JOIN contact c WHERE s.inserted
        ORDER BY c.conversation_id
        ON CONFLICT (tenant_id, id) DO UPDATE SET
            phone = coalesce(v.phone, excluded.phone),
            user_id = coalesce(excluded.user_id, v.user_id),
            profile_name = coalesce(excluded.profile_name, v.profile_name),
            last_inbound_at = greatest(v.last_inbound_at, excluded.last_inbound_at),
            unread_count = v.unread_count + 1,
            last_message_id = CASE WHEN v.last_message_at > excluded.last_message_at
                THEN v.last_message_id ELSE excluded.last_message_id END,
            last_message_at = greatest(v.last_message_at, excluded.last_message_at)
    )
    SELECT {_GIVEN}, received_at, inserted FROM stored
    """,  # noqa: S608  # column names of our own tables
    **_CONTACT_TYPES,
    **{
        c.name: c.type
        for c in _INBOUND.c
        if c.name not in {"tenant_id", "channel_id", "received_at"}
    },
    opens_window=Boolean(),
).columns(
    *(c for c in _INBOUND.c if c.name != "received_at"),
    _INBOUND.c.received_at,
    literal_column("inserted", Boolean()).label("inserted"),
)
"""Store it once per channel and wamid; only the first time does it open and count anything.

The window opens at the customer's own time, or now where their clock is ahead."""

GET_CONVERSATION_BY_ADDRESS: Final = _typed(
    f"""
    SELECT {_COLUMNS}
    FROM whatsapp_conversation_addresses a
    JOIN whatsapp_conversations v ON v.tenant_id = a.tenant_id AND v.id = a.conversation_id
    WHERE a.tenant_id = :tenant AND a.channel_id = :channel
      AND a.address IN (:address, :other_address)
    ORDER BY v.last_inbound_at DESC NULLS LAST, v.id
    LIMIT 1
    """,  # noqa: S608  # column names of our own tables
    tenant=Uuid(),
    channel=Uuid(),
    address=TEXT(),
    other_address=TEXT(),
).columns(*_CONVERSATIONS.c)

RECORD_REACHED: Final = _typed(
    """
    WITH reached AS MATERIALIZED (
        SELECT g.*, m.recipient, a.conversation_id
        FROM unnest(CAST(:message_ids AS uuid[]), CAST(:phones AS text[]),
                    CAST(:user_ids AS text[]), CAST(:times AS timestamptz[]))
            AS g(message_id, phone, user_id, at)
        CROSS JOIN LATERAL (
            SELECT recipient FROM whatsapp_outbound_messages m
            WHERE m.tenant_id = :tenant AND m.id = g.message_id AND m.channel_id = :channel
            LIMIT 1
        ) m
        LEFT JOIN LATERAL (
            SELECT conversation_id FROM whatsapp_conversation_addresses a
            WHERE a.tenant_id = :tenant AND a.channel_id = :channel AND a.address = m.recipient
            LIMIT 1
        ) a ON true
    ), last AS (
        SELECT DISTINCT ON (r.conversation_id) r.conversation_id, r.message_id, r.at
        FROM reached r WHERE r.conversation_id IS NOT NULL
        ORDER BY r.conversation_id, r.at DESC
    ), locked AS (
        SELECT v.id FROM whatsapp_conversations v JOIN last l ON l.conversation_id = v.id
        WHERE v.tenant_id = :tenant ORDER BY v.id FOR UPDATE OF v
    ), noted AS (
        UPDATE whatsapp_conversations v
        SET last_outbound_at = greatest(v.last_outbound_at, l.at),
            last_message_id = CASE WHEN v.last_message_at > l.at
                THEN v.last_message_id ELSE l.message_id END,
            last_message_at = greatest(v.last_message_at, l.at)
        FROM last l JOIN locked ON locked.id = l.conversation_id
        WHERE v.tenant_id = :tenant AND v.id = l.conversation_id
    )
    SELECT DISTINCT ON (r.recipient) r.recipient, r.phone, r.user_id, r.message_id, r.at
    FROM reached r
    WHERE r.conversation_id IS NULL AND coalesce(r.phone, r.user_id) IS NOT NULL AND (
        r.recipient IS DISTINCT FROM
            CASE WHEN r.recipient LIKE '+%' THEN r.phone ELSE r.user_id END
        OR EXISTS (
            SELECT FROM whatsapp_conversation_addresses a
            WHERE a.tenant_id = :tenant AND a.channel_id = :channel
              AND a.address IN (r.phone, r.user_id)
        )
    )
    ORDER BY r.recipient, r.at DESC
    """,
    tenant=Uuid(),
    channel=Uuid(),
    message_ids=ARRAY(Uuid()),
    phones=ARRAY(TEXT()),
    user_ids=ARRAY(TEXT()),
    times=ARRAY(_AT),
)
"""Note the last outbound message of conversations that exist; gives who was respelled by Meta, or
belongs to a conversation under another name. Strangers whom Meta names as we do stay strangers."""

JOIN_CONVERSATION: Final = _typed(
    f"""
    WITH {_contact("true")}, joined AS (
        INSERT INTO whatsapp_conversations AS v
            (tenant_id, id, channel_id, phone, user_id, last_outbound_at, last_message_id,
             last_message_at)
        SELECT :tenant, c.conversation_id, :channel, :phone, :user_id, :at, :message_id, :at
        FROM contact c ORDER BY c.conversation_id
        ON CONFLICT (tenant_id, id) DO UPDATE SET
            phone = coalesce(v.phone, excluded.phone),
            user_id = coalesce(excluded.user_id, v.user_id),
            last_outbound_at = greatest(v.last_outbound_at, excluded.last_outbound_at),
            last_message_id = CASE WHEN v.last_message_at > excluded.last_message_at
                THEN v.last_message_id ELSE excluded.last_message_id END,
            last_message_at = greatest(v.last_message_at, excluded.last_message_at)
        RETURNING {_COLUMNS}
    )
    SELECT * FROM joined ORDER BY id LIMIT 1
    """,  # noqa: S608  # column names of our own table
    **_CONTACT_TYPES,
    phone=TEXT(),
    user_id=TEXT(),
    at=_AT,
    message_id=Uuid(),
).columns(*_CONVERSATIONS.c)
