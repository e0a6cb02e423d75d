"""The SQL of conversations, and of saving an inbound message, which opens its window.

Whoever is reached by one of several addresses is found by any of them. Two transactions that meet
a new contact at once meet on the unique address: the later one waits and joins the earlier. The
addresses that a statement goes by stay locked until its transaction ends, so that nobody merges the
conversation away that they lead to.
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
_GIVEN = ", ".join(c.name for c in _INBOUND.c if c.name != "received_at")
_INBOUND_COLUMNS = ", ".join(f"m.{column.name}" for column in _INBOUND.c)
CONVERSATIONS: Final = cast("Table", ConversationModel.__table__)
COLUMNS: Final = ", ".join(f"v.{column.name}" for column in CONVERSATIONS.c)
_AT = DateTime(timezone=True)


def typed(statement: str, **types: TypeEngine[Any]) -> TextClause:
    """A statement whose parameters have these types."""
    return text(statement).bindparams(*(bindparam(name, type_=t) for name, t in types.items()))


IS_LEFT: Final = "coalesce(a.left_at > coalesce(a.arrived_at, '-infinity'), false)"
"""Whether the person whose address `a` was has given it up, and nobody has it since."""

_CONTACT = f"""
    known AS MATERIALIZED (
        SELECT g.address, a.conversation_id
        FROM (SELECT unnest(CAST(:addresses AS text[])) AS address ORDER BY 1) g
        CROSS JOIN LATERAL (
            SELECT conversation_id FROM whatsapp_conversation_addresses a
            WHERE a.tenant_id = :tenant AND a.channel_id = :channel AND a.address = g.address
              AND NOT ({IS_LEFT} AND a.left_at < :sent_at)
            LIMIT 1 FOR UPDATE
        ) a
    ), added AS (
        INSERT INTO whatsapp_conversation_addresses AS a
            (tenant_id, id, channel_id, address, conversation_id)
        SELECT :tenant, g.id, :channel, g.address, coalesce(
            (SELECT conversation_id FROM known ORDER BY conversation_id LIMIT 1), :new_id)
        FROM unnest(CAST(:addresses AS text[]), CAST(:address_ids AS uuid[])) AS g(address, id)
        WHERE (SELECT inserted FROM stored)
          AND NOT EXISTS (SELECT FROM known k WHERE k.address = g.address)
        ORDER BY g.address
        ON CONFLICT (tenant_id, channel_id, address) DO UPDATE SET
            conversation_id = CASE WHEN {IS_LEFT} AND a.left_at < :sent_at
                THEN excluded.conversation_id ELSE a.conversation_id END,
            taken_at = CASE WHEN {IS_LEFT} AND a.left_at < :sent_at
                THEN a.left_at ELSE a.taken_at END,
            arrived_at = CASE WHEN {IS_LEFT} AND a.left_at < :sent_at
                THEN a.left_at ELSE a.arrived_at END
        RETURNING a.conversation_id
    ), contact AS (
        SELECT conversation_id, row_number() OVER (ORDER BY conversation_id) = 1 AS is_first
        FROM (SELECT conversation_id FROM known UNION SELECT conversation_id FROM added) c
    )"""  # noqa: S608  # a condition of this module's own
# Locks in one order, finds or makes. Whoever writes from an address that was given up takes it.

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


def _later(name: str) -> str:
    """Of what a contact is called here and what a message calls them, in SQL, the later one.

    The window tells when they were heard last. What opens none says nothing of when, and gives way;
    a notice of another number or user id is known by the address that came with it.
    """
    known, told = f"v.{name}", f"excluded.{name}"
    return f"""CASE
                WHEN {known} IS NULL THEN {told}
                WHEN {told} IS NULL OR {told} = {known} OR NOT :opens_window
                     OR v.last_inbound_at > :sent_at THEN {known}
                WHEN coalesce((
                    SELECT true FROM whatsapp_conversation_addresses a
                    WHERE a.tenant_id = :tenant AND a.conversation_id = v.id
                      AND a.arrived_at > :sent_at AND a.address = {known} LIMIT 1), false)
                THEN {known} ELSE {told} END"""  # noqa: S608  # columns of our own


SAVE_INBOUND: Final = typed(
    f"""
    WITH stored AS (
        INSERT INTO whatsapp_inbound_messages AS m ({_GIVEN}) VALUES ({_VALUES})
        ON CONFLICT (tenant_id, channel_id, wamid) DO UPDATE SET wamid = excluded.wamid
        RETURNING {_INBOUND_COLUMNS}, xmax = 0 AS inserted
    ), {_CONTACT}, opened AS (
        -- Where the names lead to several, all stay until they are merged; the first one counts.
        INSERT INTO whatsapp_conversations AS v
            (tenant_id, id, channel_id, phone, user_id, profile_name, username, last_inbound_at,
             unread_count, last_message_id, last_message_at)
        SELECT s.tenant_id, c.conversation_id, s.channel_id, s.sender, s.sender_user_id,
               s.profile_name, :username,
               CASE WHEN c.is_first AND :opens_window THEN least(s.sent_at, now()) END,
               CASE WHEN c.is_first AND :is_news THEN 1 ELSE 0 END,
               CASE WHEN c.is_first AND :is_news THEN s.id END,
               CASE WHEN c.is_first AND :is_news THEN least(s.sent_at, now()) END
        FROM stored s CROSS JOIN contact c WHERE s.inserted
        ORDER BY c.conversation_id
        ON CONFLICT (tenant_id, id) DO UPDATE SET
            phone = {_later("phone")},
            user_id = {_later("user_id")},
            profile_name = {_later("profile_name")},
            username = {_later("username")},
            last_inbound_at = greatest(v.last_inbound_at, excluded.last_inbound_at),
            unread_count = v.unread_count + excluded.unread_count,
            last_message_id = CASE WHEN v.last_message_at > excluded.last_message_at
                THEN v.last_message_id
                ELSE coalesce(excluded.last_message_id, v.last_message_id) END,
            last_message_at = greatest(v.last_message_at, excluded.last_message_at)
    )
    SELECT {_GIVEN}, received_at, inserted, EXISTS (SELECT FROM added) AS has_new_names,
           ARRAY(SELECT conversation_id FROM contact ORDER BY conversation_id) AS conversation_ids
    FROM stored
    """,  # noqa: S608  # column names of our own tables
    **_CONTACT_TYPES,
    **{
        c.name: c.type
        for c in _INBOUND.c
        if c.name not in {"tenant_id", "channel_id", "received_at"}
    },
    opens_window=Boolean(),
    is_news=Boolean(),
    username=TEXT(),
).columns(
    *(c for c in _INBOUND.c if c.name != "received_at"),
    _INBOUND.c.received_at,
    literal_column("inserted", Boolean()).label("inserted"),
    literal_column("has_new_names", Boolean()).label("has_new_names"),
    literal_column("conversation_ids", ARRAY(Uuid())).label("conversation_ids"),
)
"""Store it once per channel and wamid; only the first time does it open and count anything.

The window opens at the customer's own time, or now where their clock is ahead. What amends another
message is no news: it neither counts as unread nor becomes the last message."""

GET_CONVERSATION_BY_ADDRESS: Final = typed(
    f"""
    SELECT {COLUMNS}
    FROM whatsapp_conversation_addresses a
    JOIN whatsapp_conversations v ON v.tenant_id = a.tenant_id AND v.id = a.conversation_id
    WHERE a.tenant_id = :tenant AND a.channel_id = :channel
      AND a.address IN (:address, :other_address) AND NOT {IS_LEFT}
    ORDER BY v.last_inbound_at DESC NULLS LAST, v.id
    LIMIT 1
    """,  # noqa: S608  # column names of our own tables
    tenant=Uuid(),
    channel=Uuid(),
    address=TEXT(),
    other_address=TEXT(),
).columns(*CONVERSATIONS.c)

RECORD_REACHED: Final = typed(
    f"""
    WITH reached AS MATERIALIZED (
        SELECT g.*, m.recipient
        FROM unnest(CAST(:message_ids AS uuid[]), CAST(:phones AS text[]),
                    CAST(:user_ids AS text[]), CAST(:times AS timestamptz[]))
            AS g(message_id, phone, user_id, at)
        CROSS JOIN LATERAL (
            SELECT recipient FROM whatsapp_outbound_messages m
            WHERE m.tenant_id = :tenant AND m.id = g.message_id AND m.channel_id = :channel
            LIMIT 1
        ) m
    ), place AS MATERIALIZED (
        SELECT n.address, a.conversation_id
        FROM (SELECT DISTINCT address
              FROM reached r CROSS JOIN unnest(ARRAY[r.recipient, r.phone, r.user_id]) AS u(address)
              WHERE address IS NOT NULL ORDER BY address) n
        CROSS JOIN LATERAL (
            SELECT conversation_id FROM whatsapp_conversation_addresses a
            WHERE a.tenant_id = :tenant AND a.channel_id = :channel AND a.address = n.address
              AND NOT {IS_LEFT}
            LIMIT 1 FOR UPDATE
        ) a
    ), found AS MATERIALIZED (
        SELECT r.*, d.conversation_id,
               p.conversation_id AS of_phone, u.conversation_id AS of_user_id
        FROM reached r
        LEFT JOIN place d ON d.address = r.recipient
        LEFT JOIN place p ON p.address = r.phone
        LEFT JOIN place u ON u.address = r.user_id
    ), last AS (
        SELECT DISTINCT ON (r.conversation_id) r.conversation_id, r.message_id, r.at
        FROM found r WHERE r.conversation_id IS NOT NULL
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
    SELECT DISTINCT ON (r.recipient, r.phone, r.user_id)
           r.recipient, r.phone, r.user_id, r.message_id, r.at
    FROM found r
    WHERE coalesce(r.phone, r.user_id) IS NOT NULL AND CASE
        WHEN coalesce(r.conversation_id, r.of_phone, r.of_user_id) IS NOT NULL THEN
            -- Somebody we know: do all of their names lead to them?
            r.conversation_id IS NULL
            OR (r.phone IS NOT NULL AND r.of_phone IS DISTINCT FROM r.conversation_id)
            OR (r.user_id IS NOT NULL AND r.of_user_id IS DISTINCT FROM r.conversation_id)
        ELSE r.recipient IS DISTINCT FROM
            CASE WHEN r.recipient LIKE '+%' THEN r.phone ELSE r.user_id END
        END
    ORDER BY r.recipient, r.phone, r.user_id, r.at DESC
    """,  # noqa: S608  # a condition of this module's own
    tenant=Uuid(),
    channel=Uuid(),
    message_ids=ARRAY(Uuid()),
    phones=ARRAY(TEXT()),
    user_ids=ARRAY(TEXT()),
    times=ARRAY(_AT),
)
"""Note the last outbound message of conversations that exist; gives who was respelled by Meta, or
has a name that does not lead to them. Strangers whom Meta names as we do stay strangers."""
