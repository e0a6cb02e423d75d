"""The SQL of accepting: channel, window and key are judged where the message is stored, at once.

One statement takes one message or a thousand. A message that its channel does not take is not
stored, and what it was judged by comes back, for the domain to say why; where its key is known
already, the stored message comes back in any case. Of what was stored just now nothing comes back:
the caller has it.
"""

from typing import Any, Final, cast

from sqlalchemy import (
    ARRAY,
    TEXT,
    Boolean,
    DateTime,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    bindparam,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from whatsapp.infrastructure.persistence.models import OutboundMessageModel
from whatsapp.infrastructure.persistence.repositories.conversation_statements import IS_LEFT
from whatsapp.infrastructure.persistence.repositories.recipient_statements import recipient_key
from whatsapp.infrastructure.persistence.repositories.times import due_by_our_clock

_MESSAGES = cast("Table", OutboundMessageModel.__table__)
_NAMES = ", ".join(column.name for column in _MESSAGES.c)
_COLUMNS = ", ".join(f"m.{column.name}" for column in _MESSAGES.c)
_FOUND = ", ".join(f"r.{column.name}" for column in _MESSAGES.c)
# Arrays of JSON travel as text: PostgreSQL has no array constructor for the binary form.
_KINDS: dict[str, TypeEngine[Any]] = {
    **{c.name: TEXT() if isinstance(c.type, JSONB) else c.type for c in _MESSAGES.c},
    "due_at": DateTime(timezone=True),
    "other_address": TEXT(),
    "template_name": TEXT(),
    "template_language": TEXT(),
    "needed_after": DateTime(timezone=True),
}
_VALUES = ", ".join(
    f"CAST(j.{c.name} AS jsonb)" if isinstance(c.type, JSONB) else f"j.{c.name}"
    for c in _MESSAGES.c
)


def _pg(kind: TypeEngine[Any]) -> str:
    names: dict[type[TypeEngine[Any]], str] = {
        Uuid: "uuid",
        Text: "text",
        LargeBinary: "bytea",
        SmallInteger: "smallint",
        Integer: "integer",
        DateTime: "timestamptz",
    }
    return next(name for base, name in names.items() if isinstance(kind, base))


# Here and below ranges and not equalities, in the order of one index: a plan from when nobody was
# known, to which every way is as good, would otherwise read everybody for each message.
_KNOWN = f"""(VALUES (g.recipient), (g.other_address)) AS n(address)
            CROSS JOIN LATERAL (
                SELECT a.conversation_id FROM whatsapp_conversation_addresses a
                WHERE a.tenant_id = :tenant AND a.channel_id = g.channel_id
                  AND a.address BETWEEN n.address AND n.address AND NOT {IS_LEFT}
                ORDER BY a.address LIMIT 1
            ) a
            CROSS JOIN LATERAL (
                SELECT v.last_inbound_at, v.marketing_stopped FROM whatsapp_conversations v
                WHERE v.tenant_id = :tenant
                  AND v.id BETWEEN a.conversation_id AND a.conversation_id
                ORDER BY v.id LIMIT 1
            ) v"""  # noqa: S608  # a condition of this package
"""The conversations of whom `g` goes to, under either spelling of the number."""
_TERMS = f"""LEFT JOIN LATERAL (
            SELECT status, window_policy, marketing_policy, provider_account_id
            FROM whatsapp_channels c
            WHERE c.tenant_id = :tenant AND c.id BETWEEN g.channel_id AND g.channel_id
            ORDER BY c.id LIMIT 1
        ) c ON true
        LEFT JOIN LATERAL (
            SELECT max(v.last_inbound_at) AS last_inbound_at FROM {_KNOWN}
            WHERE g.needed_after IS NOT NULL
        ) w ON true
        LEFT JOIN LATERAL (
            SELECT true AS marketing_stopped FROM {_KNOWN}
            WHERE g.template_name IS NOT NULL AND c.marketing_policy = 'enforce'
              AND v.marketing_stopped
              AND 'MARKETING' = (
                  SELECT upper(t.category) FROM whatsapp_templates t
                  WHERE t.tenant_id = :tenant AND t.provider_account_id = c.provider_account_id
                    AND t.name = g.template_name
                    AND t.language BETWEEN g.template_language AND g.template_language
                  ORDER BY t.language LIMIT 1)
            LIMIT 1
        ) o ON true
"""  # noqa: S608  # as above
"""What decides whether a channel takes `g`, whichever statement asks."""
_GIVEN = ", ".join(f"CAST(:{name} AS {_pg(kind)}[])" for name, kind in _KINDS.items())
_STATEMENT = f"""
    WITH judged AS MATERIALIZED (
        SELECT g.*, c.status AS channel_status, c.window_policy, w.last_inbound_at,
               o.marketing_stopped,
               coalesce(c.status = ANY(:accepting) AND o.marketing_stopped IS NULL AND (
                   g.needed_after IS NULL OR c.window_policy = 'allow'
                   OR w.last_inbound_at > g.needed_after
               ), false) AS allowed
        FROM unnest({_GIVEN}) AS g({", ".join(_KINDS)})
        {_TERMS}
    ), stored AS (
        INSERT INTO whatsapp_outbound_messages AS m ({_NAMES})
        SELECT {_VALUES} FROM judged j WHERE j.allowed
        ON CONFLICT (tenant_id, idempotency_key)
        DO UPDATE SET idempotency_key = excluded.idempotency_key
        RETURNING {_COLUMNS}, xmax = 0 AS inserted
    ), queued AS (
        INSERT INTO whatsapp_send_queue
            (tenant_id, id, channel_id, recipient_key, lane, state, due_at, attempt, expires_at)
        SELECT s.tenant_id, s.id, s.channel_id, {recipient_key("s")}, s.lane, 'ready',
               {due_by_our_clock("j")}, 0, s.expires_at
        FROM stored s JOIN judged j USING (id) WHERE s.inserted
    ), found AS (
        SELECT {_NAMES}, inserted FROM stored
        UNION ALL
        SELECT {_COLUMNS}, false FROM judged j CROSS JOIN LATERAL (
            SELECT * FROM whatsapp_outbound_messages m
            WHERE m.tenant_id = :tenant
              AND m.idempotency_key BETWEEN j.idempotency_key AND j.idempotency_key
            ORDER BY m.idempotency_key LIMIT 1
        ) m WHERE NOT j.allowed
    )
    SELECT {_FOUND}, r.inserted, j.idempotency_key AS given_key, j.channel_status,
           j.window_policy, j.last_inbound_at, j.needed_after, j.marketing_stopped
    FROM judged j LEFT JOIN found r ON r.idempotency_key = j.idempotency_key
    WHERE r.inserted IS NOT TRUE
"""  # noqa: S608  # column names of our own table, no values


def _accept_outbound() -> Any:
    types: dict[str, TypeEngine[Any]] = {name: ARRAY(kind) for name, kind in _KINDS.items()}
    types |= {"tenant": Uuid(), "accepting": ARRAY(TEXT())}
    return (
        text(_STATEMENT)
        .bindparams(*(bindparam(name, type_=kind) for name, kind in types.items()))
        .columns(
            *_MESSAGES.c,
            literal_column("inserted", Boolean()).label("inserted"),
            literal_column("given_key", TEXT()).label("given_key"),
            literal_column("channel_status", TEXT()).label("channel_status"),
            literal_column("window_policy", TEXT()).label("window_policy"),
            literal_column("last_inbound_at", DateTime(timezone=True)).label("last_inbound_at"),
            literal_column("needed_after", DateTime(timezone=True)).label("needed_after"),
            literal_column("marketing_stopped", Boolean()).label("marketing_stopped"),
        )
    )


ACCEPT_OUTBOUND: Final = _accept_outbound()


_ASKED: dict[str, TypeEngine[Any]] = {
    name: _KINDS[name]
    for name in (
        *("id", "channel_id", "recipient", "other_address"),
        *("template_name", "template_language", "needed_after"),
    )
}
JUDGE: Final = text(
    f"""
    SELECT g.id, g.needed_after, c.status AS channel_status, c.window_policy, w.last_inbound_at,
           o.marketing_stopped
    FROM unnest({", ".join(f"CAST(:{name} AS {_pg(kind)}[])" for name, kind in _ASKED.items())})
        AS g({", ".join(_ASKED)})
    {_TERMS}
    """  # noqa: S608  # column names of our own table, no values
).bindparams(
    bindparam("tenant", type_=Uuid()),
    *(bindparam(name, type_=ARRAY(kind)) for name, kind in _ASKED.items()),
)
"""By what messages that are stored already would be judged now; stores nothing."""
