"""The SQL of who is who: names that belong together, numbers given up, conversations made one."""

from typing import Final

from sqlalchemy import ARRAY, TEXT, Boolean, DateTime, Integer, Interval, Uuid, bindparam

from whatsapp.domain.webhook import MOST_AHEAD
from whatsapp.infrastructure.persistence.repositories.conversation_statements import (
    COLUMNS,
    CONVERSATIONS,
    IS_LEFT,
    typed,
)

_AT = DateTime(timezone=True)
_MOST_RECALLED: Final = 20
"""Of what went out last to an address: some of it may never have been sent."""
_TAKES = f"{IS_LEFT} AND a.left_at < coalesce(excluded.arrived_at, excluded.left_at)"

KNOW_PEOPLE: Final = typed(
    f"""
    WITH person AS MATERIALIZED (
        SELECT * FROM unnest(
            CAST(:numbers AS integer[]), CAST(:new_ids AS uuid[]), CAST(:phones AS text[]),
            CAST(:user_ids AS text[]), CAST(:moved AS boolean[]), CAST(:seen AS timestamptz[]),
            CAST(:message_ids AS uuid[]), CAST(:called AS boolean[]), CAST(:stopped AS boolean[])
        ) AS p(k, new_id, phone, user_id, moved, seen_at, message_id, called, stopped)
    ), given AS MATERIALIZED (
        SELECT g.*, p.seen_at, p.moved
        FROM unnest(
            CAST(:of AS integer[]), CAST(:addresses AS text[]), CAST(:address_ids AS uuid[]),
            CAST(:gone AS boolean[])
        ) AS g(k, address, id, gone)
        JOIN person p ON p.k = g.k
    ), known AS MATERIALIZED (
        SELECT g.k, g.address, a.id, a.conversation_id, a.is_old
        FROM (SELECT * FROM given ORDER BY address) g
        CROSS JOIN LATERAL (
            -- Old news: since then the person is known to have left this address again.
            SELECT id, conversation_id, coalesce(a.left_at > greatest(a.arrived_at, g.seen_at),
                                                 false) AS is_old
            FROM whatsapp_conversation_addresses a
            WHERE a.tenant_id = :tenant AND a.channel_id = :channel AND a.address = g.address
              AND NOT ({IS_LEFT} AND a.left_at < g.seen_at)
            LIMIT 1 FOR UPDATE
        ) a
    ), target AS (
        SELECT p.k, coalesce(
            (SELECT conversation_id FROM known n WHERE n.k = p.k ORDER BY conversation_id LIMIT 1),
            p.new_id) AS conversation_id
        FROM person p
    ), added AS (
        INSERT INTO whatsapp_conversation_addresses AS a
            (tenant_id, id, channel_id, address, conversation_id, arrived_at, left_at)
        SELECT :tenant, g.id, :channel, g.address, t.conversation_id,
               CASE WHEN NOT g.gone THEN g.seen_at END, CASE WHEN g.gone THEN g.seen_at END
        FROM given g JOIN target t ON t.k = g.k
        WHERE NOT EXISTS (SELECT FROM known n WHERE n.k = g.k AND n.address = g.address)
        ORDER BY g.address
        ON CONFLICT (tenant_id, channel_id, address) DO UPDATE SET
            conversation_id = CASE WHEN {_TAKES}
                THEN excluded.conversation_id ELSE a.conversation_id END,
            taken_at = CASE WHEN {_TAKES} THEN a.left_at ELSE a.taken_at END,
            arrived_at = CASE WHEN {_TAKES} THEN excluded.arrived_at ELSE a.arrived_at END,
            left_at = CASE WHEN {_TAKES} THEN excluded.left_at ELSE a.left_at END
        RETURNING a.address, a.conversation_id
    ), told AS (
        UPDATE whatsapp_conversation_addresses a
        SET left_at = CASE WHEN g.gone THEN greatest(a.left_at, g.seen_at) ELSE a.left_at END,
            arrived_at = CASE WHEN g.gone THEN a.arrived_at
                              ELSE greatest(a.arrived_at, g.seen_at) END
        FROM given g JOIN known n ON n.k = g.k AND n.address = g.address
        WHERE a.tenant_id = :tenant AND a.id = n.id AND g.moved
    ), found AS MATERIALIZED (
        SELECT k, conversation_id FROM known
        UNION SELECT g.k, a.conversation_id FROM added a JOIN given g ON g.address = a.address
    ), fact AS (
        SELECT f.conversation_id, p.*,
               f.conversation_id = min_of.conversation_id AS is_first,
               p.moved AND NOT EXISTS (
                   SELECT FROM known n
                   WHERE n.k = p.k AND n.address IN (p.phone, p.user_id) AND n.is_old) AS is_news
        FROM found f JOIN person p ON p.k = f.k
        JOIN LATERAL (
            SELECT o.conversation_id FROM found o WHERE o.k = f.k ORDER BY 1 LIMIT 1
        ) min_of ON true
    ), whole AS (
        SELECT conversation_id,
               (array_agg(phone ORDER BY seen_at DESC) FILTER (WHERE phone IS NOT NULL))[1]
                   AS phone,
               (array_agg(user_id ORDER BY seen_at DESC) FILTER (WHERE user_id IS NOT NULL))[1]
                   AS user_id,
               bool_or(is_news) AS is_news,
               max(seen_at) FILTER (WHERE message_id IS NOT NULL AND is_first) AS sent_at,
               (array_agg(message_id ORDER BY seen_at DESC)
                   FILTER (WHERE message_id IS NOT NULL AND is_first))[1] AS message_id,
               max(seen_at) FILTER (WHERE called) AS called_at,
               coalesce((array_agg(stopped ORDER BY seen_at DESC)
                   FILTER (WHERE stopped IS NOT NULL))[1], false) AS stopped,
               max(seen_at) FILTER (WHERE stopped IS NOT NULL) AS stopped_at,
               coalesce((
                   SELECT jsonb_agg(jsonb_build_object('address', g.address, 'until', g.seen_at))
                   FROM given g JOIN found o ON o.k = g.k
                   WHERE g.gone AND o.conversation_id = f.conversation_id), '[]') AS former
        FROM fact f GROUP BY conversation_id
    ), stored AS (
        INSERT INTO whatsapp_conversations AS v
            (tenant_id, id, channel_id, phone, user_id, last_inbound_at, last_outbound_at,
             last_message_id, last_message_at, marketing_stopped, marketing_at, former)
        SELECT :tenant, w.conversation_id, :channel, w.phone, w.user_id, w.called_at, w.sent_at,
               w.message_id, w.sent_at, w.stopped, w.stopped_at, w.former
        FROM whole w ORDER BY w.conversation_id
        ON CONFLICT (tenant_id, id) DO UPDATE SET
            phone = CASE WHEN (SELECT w.is_news FROM whole w WHERE w.conversation_id = v.id)
                THEN coalesce(excluded.phone, v.phone) ELSE coalesce(v.phone, excluded.phone) END,
            user_id = CASE WHEN (SELECT w.is_news FROM whole w WHERE w.conversation_id = v.id)
                THEN coalesce(excluded.user_id, v.user_id)
                ELSE coalesce(v.user_id, excluded.user_id) END,
            last_inbound_at = greatest(v.last_inbound_at, excluded.last_inbound_at),
            last_outbound_at = greatest(v.last_outbound_at, excluded.last_outbound_at),
            last_message_id = CASE WHEN v.last_message_at > excluded.last_message_at
                THEN v.last_message_id
                ELSE coalesce(excluded.last_message_id, v.last_message_id) END,
            last_message_at = greatest(v.last_message_at, excluded.last_message_at),
            marketing_stopped = CASE WHEN v.marketing_at > excluded.marketing_at
                OR excluded.marketing_at IS NULL
                THEN v.marketing_stopped ELSE excluded.marketing_stopped END,
            marketing_at = greatest(v.marketing_at, excluded.marketing_at),
            former = v.former || excluded.former
    )
    SELECT k, array_agg(conversation_id ORDER BY conversation_id) AS conversation_ids
    FROM found GROUP BY k ORDER BY k
    """,  # noqa: S608  # conditions of this package's own
    tenant=Uuid(),
    channel=Uuid(),
    numbers=ARRAY(Integer()),
    new_ids=ARRAY(Uuid()),
    phones=ARRAY(TEXT()),
    user_ids=ARRAY(TEXT()),
    moved=ARRAY(Boolean()),
    seen=ARRAY(_AT),
    message_ids=ARRAY(Uuid()),
    called=ARRAY(Boolean()),
    stopped=ARRAY(Boolean()),
    of=ARRAY(Integer()),
    addresses=ARRAY(TEXT()),
    address_ids=ARRAY(Uuid()),
    gone=ARRAY(Boolean()),
)
"""Let all names of each person lead to them; gives the conversations that they lead to, by person.

Where a person's names led to several before, these stay until they are merged. No address may be
given for two people at once. Facts are kept by their own time, in whatever order they come."""

LOCK_PEOPLE: Final = typed(
    "SELECT pg_advisory_xact_lock(hashtextextended(CAST(:channel AS text), 1999))",
    channel=Uuid(),
)
"""One lock before all others. Who is one person with whom shows only on the way, so that no order
of rows could be kept by everybody."""

HOLD_PEOPLE: Final = typed(
    """
    WITH current AS MATERIALIZED (
        SELECT array_agg(DISTINCT coalesce(o.merged_into, o.id)) AS ids
        FROM whatsapp_conversations o WHERE o.tenant_id = :tenant AND o.id = ANY(:ids)
    ), address AS MATERIALIZED (
        SELECT a.id FROM whatsapp_conversation_addresses a
        WHERE a.tenant_id = :tenant
          AND a.conversation_id = ANY(CAST((SELECT ids FROM current) AS uuid[]))
        ORDER BY a.address FOR UPDATE
    )
    SELECT v.id FROM whatsapp_conversations v
    WHERE v.tenant_id = :tenant AND v.id = ANY(CAST((SELECT ids FROM current) AS uuid[]))
      AND v.merged_into IS NULL AND (SELECT count(*) FROM address) >= 0
    ORDER BY v.id FOR UPDATE
    """,
    tenant=Uuid(),
    ids=ARRAY(Uuid()),
)
"""Lock addresses and then conversations, each in one order; whoever merges reads them afterwards.

Those that this transaction has merged already stand for what they merged into.

The merge is another statement because only then does it see every address that was added by
whoever it waited for here."""

MERGE_PEOPLE: Final = typed(
    f"""
    WITH part AS MATERIALIZED (
        SELECT * FROM whatsapp_conversations v WHERE v.tenant_id = :tenant AND v.id = ANY(:ids)
    ), newest AS (
        SELECT last_message_id, last_message_at FROM part
        ORDER BY last_message_at DESC NULLS LAST, id LIMIT 1
    ), wish AS (
        SELECT marketing_stopped, marketing_at FROM part
        ORDER BY marketing_at DESC NULLS LAST, id LIMIT 1
    ), whole AS (
        SELECT
            (array_agg(phone ORDER BY last_inbound_at DESC NULLS LAST, id)
                FILTER (WHERE phone IS NOT NULL))[1] AS phone,
            (array_agg(user_id ORDER BY last_inbound_at DESC NULLS LAST, id)
                FILTER (WHERE user_id IS NOT NULL))[1] AS user_id,
            (array_agg(profile_name ORDER BY last_inbound_at DESC NULLS LAST, id)
                FILTER (WHERE profile_name IS NOT NULL))[1] AS profile_name,
            (array_agg(username ORDER BY last_inbound_at DESC NULLS LAST, id)
                FILTER (WHERE username IS NOT NULL))[1] AS username,
            max(last_inbound_at) AS last_inbound_at, max(last_outbound_at) AS last_outbound_at,
            sum(unread_count) AS unread_count, min(created_at) AS created_at
        FROM part
    ), past AS (
        SELECT coalesce(jsonb_agg(f.one), '[]') AS former
        FROM part p CROSS JOIN jsonb_array_elements(p.former) AS f(one)
    ), moved AS (
        UPDATE whatsapp_conversation_addresses a SET conversation_id = :kept
        WHERE a.tenant_id = :tenant AND a.conversation_id = ANY(:ids)
          AND a.conversation_id <> :kept
    ), emptied AS (
        UPDATE whatsapp_conversations v
        SET merged_into = :kept, phone = NULL, user_id = NULL, profile_name = NULL,
            username = NULL, last_inbound_at = NULL, last_outbound_at = NULL, unread_count = 0,
            last_message_id = NULL, last_message_at = NULL, former = '[]'
        WHERE v.tenant_id = :tenant AND v.id = ANY(:ids) AND v.id <> :kept
    ), followed AS (
        UPDATE whatsapp_conversations v SET merged_into = :kept
        WHERE v.tenant_id = :tenant AND v.merged_into = ANY(:ids)
    )
    UPDATE whatsapp_conversations v
    SET phone = w.phone, user_id = w.user_id, profile_name = w.profile_name,
        username = w.username, last_inbound_at = w.last_inbound_at,
        last_outbound_at = w.last_outbound_at, unread_count = w.unread_count,
        last_message_id = n.last_message_id, last_message_at = n.last_message_at,
        marketing_stopped = m.marketing_stopped,
        marketing_at = m.marketing_at, former = p.former, created_at = w.created_at
    FROM whole w, newest n, wish m, past p
    WHERE v.tenant_id = :tenant AND v.id = :kept
    RETURNING {COLUMNS}
    """,  # noqa: S608  # column names of our own table
    tenant=Uuid(),
    ids=ARRAY(Uuid()),
    kept=Uuid(),
).columns(*CONVERSATIONS.c)
"""Make one conversation of several that are held: `:kept` gets their addresses and what is newest.

The others stay as empty rows that say where they went, for whoever has their id."""

RECALL_SENT: Final = typed(
    f"""
    WITH place AS MATERIALIZED (
        SELECT a.conversation_id, a.channel_id, a.address, a.taken_at
        FROM (SELECT DISTINCT coalesce(merged_into, id) AS id FROM whatsapp_conversations
              WHERE tenant_id = :tenant AND id = ANY(:ids)) v
        CROSS JOIN LATERAL (
            SELECT * FROM whatsapp_conversation_addresses a
            WHERE a.tenant_id = :tenant AND a.conversation_id = v.id AND NOT {IS_LEFT}
            OFFSET 0
        ) a
    ), last AS MATERIALIZED (
        SELECT DISTINCT ON (p.conversation_id) p.conversation_id, o.id AS message_id, e.at
        FROM place p CROSS JOIN LATERAL (
            SELECT o.id FROM whatsapp_outbound_messages o
            WHERE o.tenant_id = :tenant AND o.channel_id = p.channel_id
              AND o.recipient = p.address AND (p.taken_at IS NULL OR o.created_at > p.taken_at)
            ORDER BY o.id DESC LIMIT {_MOST_RECALLED}
        ) o CROSS JOIN LATERAL (
            SELECT max(CASE WHEN e.occurred_at > e.received_at + CAST(:most_ahead AS interval)
                            THEN e.received_at ELSE e.occurred_at END) AS at
            FROM whatsapp_status_events e
            WHERE e.tenant_id = :tenant AND e.message_id = o.id
              AND e.status || '' = 'sent' AND e.attempt IS NOT NULL
        ) e
        WHERE e.at IS NOT NULL
        ORDER BY p.conversation_id, e.at DESC
    )
    UPDATE whatsapp_conversations v
    SET last_outbound_at = greatest(v.last_outbound_at, l.at),
        last_message_id = CASE WHEN v.last_message_at > l.at
            THEN v.last_message_id ELSE l.message_id END,
        last_message_at = greatest(v.last_message_at, l.at)
    FROM last l WHERE v.tenant_id = :tenant AND v.id = l.conversation_id
    """,  # noqa: S608  # constants of this package's own
    tenant=Uuid(),
    ids=ARRAY(Uuid()),
    most_ahead=Interval(),
).bindparams(bindparam("most_ahead", MOST_AHEAD))
"""What `RECORD_REACHED` would have noted, had the names been known as theirs when it was sent."""

MARK_READ: Final = typed(
    """
    UPDATE whatsapp_conversations v SET unread_count = 0
    WHERE v.tenant_id = :tenant AND v.id = :id AND v.unread_count > 0
    """,
    tenant=Uuid(),
    id=Uuid(),
)
