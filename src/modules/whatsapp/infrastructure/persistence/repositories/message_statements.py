"""The SQL of messages: one statement per repository method, built once.

Each statement names `tenant_id = :tenant` itself. Statements that change a message also keep its
queue entry in step, so that no crash can part the two. Which status may follow which is a list of
pairs, made from the domain's own transition table.

PostgreSQL plans a prepared statement once for all tenants (ADR 17), and so takes every channel for
a small one. So what is looked up row by row stands in a LATERAL subquery with a
LIMIT, which it cannot turn into a join that reads a whole channel (see test_generic_plans.py).
"""

from typing import Any, Final, cast

from sqlalchemy import (
    ARRAY,
    TEXT,
    Boolean,
    DateTime,
    Integer,
    Interval,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    TextClause,
    Uuid,
    bindparam,
    case,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.types import TypeEngine

from whatsapp.domain.send_queue import EXPIRED_UNSENT, RETRY_LANES, UNKNOWN_LANES
from whatsapp.domain.value_objects import FORWARD, MessageStatus
from whatsapp.infrastructure.persistence.models import (
    InboundMessageModel,
    OutboundMessageModel,
    SendQueueModel,
)
from whatsapp.infrastructure.persistence.repositories.recipient_statements import (
    known_number,
    recipient_key,
)
from whatsapp.infrastructure.persistence.repositories.times import due_by_our_clock

NOBODY_KNOWS: Final = "Nobody knows whether it was sent"
ABANDONED: Final = "The worker that was sending it has died or lost its lease"

FORWARD_PAIRS: Final = ", ".join(
    sorted(f"'{old}>{new}'" for old, following in FORWARD.items() for new in following)
)
"""Which status may follow which, spelled out: PostgreSQL looks in a constant list by its hash."""
_RANKS = ", ".join(f"('{status}', {status.rank})" for status in MessageStatus)

_MESSAGES = cast("Table", OutboundMessageModel.__table__)
_INBOUND = cast("Table", InboundMessageModel.__table__)
_QUEUE = cast("Table", SendQueueModel.__table__)
_COLUMNS = ", ".join(f"m.{column.name}" for column in _MESSAGES.c)
_QUOTED = {
    "context_wamid": "CASE WHEN m.context_wamid IS NULL THEN NULL "
    "ELSE coalesce(quoted.wamid, m.context_wamid) END AS context_wamid",
    "body": "CASE WHEN m.type = 'reaction' AND quoted.wamid IS NOT NULL "
    "THEN m.body || jsonb_build_object('message_id', quoted.wamid) ELSE m.body END AS body",
}
_SENDABLE_COLUMNS = ", ".join(_QUOTED.get(c.name, f"m.{c.name}") for c in _MESSAGES.c)


def typed(statement: str, **types: TypeEngine[Any]) -> TextClause:
    """A statement with the type of each parameter."""
    return text(statement).bindparams(*(bindparam(name, type_=t) for name, t in types.items()))


def _as_messages(statement: str, **types: TypeEngine[Any]) -> Any:
    """A text statement whose rows have the types of the messages table."""
    return typed(statement, **types).columns(*_MESSAGES.c)


def _save_outbound() -> Any:
    """Insert message and queue entry, or give the older row that holds the idempotency key.

    The no-op update makes the losing of two concurrent saves wait for the winner and then return
    the winner's row; `xmax = 0` tells which of the two happened.
    """
    row = insert(_MESSAGES).values({c.name: bindparam(c.name, type_=c.type) for c in _MESSAGES.c})
    stored = (
        row.on_conflict_do_update(
            index_elements=["tenant_id", "idempotency_key"],
            set_={"idempotency_key": row.excluded.idempotency_key},
        )
        .returning(*_MESSAGES.c, literal_column("xmax = 0", Boolean()).label("inserted"))
        .cte("stored")
    )
    due_at = bindparam("due_at", type_=DateTime(timezone=True))
    entry = select(
        stored.c.tenant_id,
        stored.c.id,
        stored.c.channel_id,
        literal_column(recipient_key("stored")),
        stored.c.lane,
        literal_column("'ready'"),
        case(
            (
                func.coalesce(stored.c.next_attempt_at, stored.c.send_at).is_(None),
                func.least(due_at, func.now()),
            ),
            else_=due_at,
        ),
        literal_column("0"),
        stored.c.expires_at,
    ).where(stored.c.inserted)
    names = [
        *("tenant_id", "id", "channel_id", "recipient_key"),
        *("lane", "state", "due_at", "attempt", "expires_at"),
    ]
    queued = insert(_QUEUE).from_select(names, entry).cte("queued")
    return select(stored).where(~stored.c.inserted).add_cte(queued)


def _save_outbound_many() -> Any:
    """As `_save_outbound`, with a column's values as one array each; gives older rows alone."""
    names = [column.name for column in _MESSAGES.c]
    # Arrays of JSON travel as text: PostgreSQL has no array constructor for the binary form.
    arrays = {c.name: TEXT() if isinstance(c.type, JSONB) else c.type for c in _MESSAGES.c}
    given = ", ".join(f"CAST(:{name} AS {_pg(kind)}[])" for name, kind in arrays.items())
    values = ", ".join(
        f"CAST(g.{c.name} AS jsonb)" if isinstance(c.type, JSONB) else f"g.{c.name}"
        for c in _MESSAGES.c
    )
    statement = f"""
        WITH given AS (
            SELECT * FROM unnest({given}, CAST(:due_at AS timestamptz[]))
                AS g({", ".join(names)}, due_at)
        ), stored AS (
            INSERT INTO whatsapp_outbound_messages AS m ({", ".join(names)})
            SELECT {values} FROM given g
            ON CONFLICT (tenant_id, idempotency_key)
            DO UPDATE SET idempotency_key = excluded.idempotency_key
            RETURNING {_COLUMNS}, xmax = 0 AS inserted
        ), queued AS (
            INSERT INTO whatsapp_send_queue
                (tenant_id, id, channel_id, recipient_key, lane, state, due_at, attempt, expires_at)
            SELECT s.tenant_id, s.id, s.channel_id, {recipient_key("s")}, s.lane, 'ready',
                   {due_by_our_clock("g")}, 0, s.expires_at
            FROM stored s JOIN given g USING (id) WHERE s.inserted
        )
        SELECT * FROM stored WHERE NOT inserted
    """  # noqa: S608  # column names of our own table, no values
    types: dict[str, TypeEngine[Any]] = {name: ARRAY(kind) for name, kind in arrays.items()}
    types |= {"due_at": ARRAY(DateTime(timezone=True))}
    return typed(statement, **types).columns(
        *_MESSAGES.c, literal_column("inserted", Boolean()).label("inserted")
    )


def _pg(kind: TypeEngine[Any]) -> str:
    names = {
        Uuid: "uuid",
        Text: "text",
        LargeBinary: "bytea",
        SmallInteger: "smallint",
        Integer: "integer",
        DateTime: "timestamptz",
    }
    return next(name for base, name in names.items() if isinstance(kind, base))


SAVE_OUTBOUND: Final = _save_outbound()
SAVE_OUTBOUND_MANY: Final = _save_outbound_many()


def _get_outbound(condition: str, **types: TypeEngine[Any]) -> Any:
    """A message, shown as `sending` while its queue entry is with a worker."""
    columns = _COLUMNS.replace(
        "m.status,",
        "CASE WHEN m.status = 'queued' AND q.state IN ('leased', 'dispatching') "
        "THEN 'sending' ELSE m.status END AS status,",
    )
    return _as_messages(
        f"""
        SELECT {columns}
        FROM whatsapp_outbound_messages m
        LEFT JOIN whatsapp_send_queue q ON q.tenant_id = m.tenant_id AND q.id = m.id
        WHERE m.tenant_id = :tenant AND {condition}
        LIMIT 1
        """,  # noqa: S608  # a condition of this module's own
        tenant=Uuid(),
        **types,
    )


GET_BY_ID: Final = _get_outbound("m.id = :id", id=Uuid())
GET_BY_WAMID: Final = _get_outbound("m.wamid = :wamid", wamid=TEXT())
GET_BY_KEY: Final = _get_outbound("m.idempotency_key = :key", key=TEXT())

GET_INBOUND_BY_WAMID: Final = (
    select(*_INBOUND.c)
    .where(_INBOUND.c.tenant_id == bindparam("tenant"), _INBOUND.c.wamid == bindparam("wamid"))
    .limit(1)
)

DUE_RETRIES: Final = f"""
        SELECT q.id, q.due_at
        FROM whatsapp_channels c
        CROSS JOIN unnest(ARRAY[{RETRY_LANES}, {RETRY_LANES + 1}, {RETRY_LANES + 2}]) AS l(lane)
        CROSS JOIN LATERAL (
            SELECT e.id, e.due_at FROM whatsapp_send_queue e
            WHERE e.tenant_id = :tenant AND e.channel_id = c.id AND e.lane = l.lane
              AND e.due_at <= now()
            ORDER BY e.due_at, e.id
            LIMIT :limit
            FOR UPDATE SKIP LOCKED
        ) q
        WHERE c.tenant_id = :tenant
        LIMIT :limit
"""  # noqa: S608  # constants of this package
"""What is due for a retry, locked; what another transaction holds is skipped."""
FAILED_FOR_RETRY: Final = _as_messages(
    f"""
    WITH due AS MATERIALIZED (
        {DUE_RETRIES}
    )
    SELECT {_COLUMNS}
    FROM due CROSS JOIN LATERAL (
        SELECT m.* FROM whatsapp_outbound_messages m
        WHERE m.tenant_id = :tenant AND m.id = due.id AND m.status = 'retrying'
        -- Who stores a report has its message before its entry: neither waits for the other.
        LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) m
    ORDER BY due.due_at, m.id
    """,  # noqa: S608  # constants of this package
    tenant=Uuid(),
    limit=Integer(),
)
"""What may be tried again now. The rows stay locked until the transaction ends, and a second worker
skips them; whoever puts them back into the queue does so in the same transaction."""

# While an entry waits for proof, nobody may send the message again by hand.
_MAY: Final = """
    (m.status = ANY(:sources) AND NOT (m.status = 'unknown' AND :status = 'queued' AND EXISTS (
        SELECT FROM whatsapp_send_queue w WHERE w.tenant_id = :tenant AND w.id = m.id)))
"""
UPDATE_OUTBOUND: Final = _as_messages(
    f"""
    WITH updated AS (
        UPDATE whatsapp_outbound_messages m
        SET status = CASE WHEN {_MAY} THEN :status ELSE m.status END,
            status_at = CASE WHEN {_MAY} THEN :status_at ELSE m.status_at END,
            next_attempt_at = CASE WHEN {_MAY}
                THEN CAST(:next_attempt_at AS timestamptz) ELSE m.next_attempt_at END,
            failure_code = CASE WHEN {_MAY}
                THEN CAST(:failure_code AS integer) ELSE m.failure_code END,
            failure_title = CASE WHEN {_MAY}
                THEN CAST(:failure_title AS text) ELSE m.failure_title END,
            failure_details = CASE WHEN {_MAY}
                THEN CAST(:failure_details AS text) ELSE m.failure_details END,
            attempts = greatest(m.attempts, CAST(:attempts AS smallint)),
            wamid = coalesce(m.wamid, CAST(:wamid AS text)),
            details = :details
        WHERE m.tenant_id = :tenant AND m.id = :id
        RETURNING {_COLUMNS}, m.status = :status AS stands
    ), settled AS (
        DELETE FROM whatsapp_send_queue q USING updated m
        WHERE m.stands AND CAST(:lane AS smallint) IS NULL AND q.tenant_id = :tenant AND q.id = m.id
    ), queued AS (
        INSERT INTO whatsapp_send_queue AS q
            (tenant_id, id, channel_id, recipient_key, lane, state, due_at, attempt, expires_at)
        SELECT m.tenant_id, m.id, m.channel_id, {recipient_key("m")}, CAST(:lane AS smallint),
               CAST(:state AS text), CAST(:due_at AS timestamptz), m.attempts, m.expires_at
        FROM updated m WHERE m.stands AND CAST(:lane AS smallint) IS NOT NULL
        ON CONFLICT (tenant_id, id) DO UPDATE
        SET lane = excluded.lane, state = excluded.state, due_at = excluded.due_at,
            lease_token = NULL, lease_until = NULL
        WHERE q.state NOT IN ('leased', 'dispatching') OR q.lease_until < now()
    )
    SELECT {_COLUMNS} FROM updated m
    """,  # noqa: S608  # constants of this module
    tenant=Uuid(),
    id=Uuid(),
    sources=ARRAY(TEXT()),
    status=TEXT(),
    status_at=DateTime(timezone=True),
    next_attempt_at=DateTime(timezone=True),
    failure_code=Integer(),
    failure_title=TEXT(),
    failure_details=TEXT(),
    attempts=SmallInteger(),
    wamid=TEXT(),
    details=JSONB(),
    lane=SmallInteger(),
    state=TEXT(),
    due_at=DateTime(timezone=True),
)
"""Change a message if `:sources` allow it, its queue entry with it; gives what is stored then.

The conditions stand in SET and not in WHERE, so that a concurrent change is waited for and judged
by its result. An entry that a live worker holds is left to that worker."""

_UNHELD: Final = """
    (q.state IN ('ready', 'retrying') OR (q.state = 'leased' AND q.lease_until < now()))
"""
CANCEL_OUTBOUND: Final = _as_messages(
    f"""
    WITH stored AS MATERIALIZED (
        -- Before its entry, as whoever stores a report or an answer has it.
        SELECT m.id FROM whatsapp_outbound_messages m
        WHERE m.tenant_id = :tenant AND m.id = :id
          AND m.status || '>cancelled' IN ({FORWARD_PAIRS})
        FOR NO KEY UPDATE
    ), taken AS (
        DELETE FROM whatsapp_send_queue q USING stored s
        WHERE q.tenant_id = :tenant AND q.id = :id AND q.id = s.id AND {_UNHELD}
        RETURNING q.id
    )
    UPDATE whatsapp_outbound_messages m
    SET status = 'cancelled', status_at = :at, next_attempt_at = NULL
    FROM taken
    WHERE m.tenant_id = :tenant AND m.id = :id AND m.id = taken.id
    RETURNING {_COLUMNS}
    """,  # noqa: S608  # constants of this module
    tenant=Uuid(),
    id=Uuid(),
    at=DateTime(timezone=True),
)

LOAD_FOR_SENDING: Final = typed(
    f"""
    SELECT {_SENDABLE_COLUMNS}, {known_number("m")} AS known_number
    FROM whatsapp_outbound_messages m
    LEFT JOIN LATERAL (
        SELECT wamid FROM whatsapp_outbound_messages o
        WHERE o.tenant_id = :tenant AND o.id = m.quoted_id
        LIMIT 1
    ) quoted ON true
    WHERE m.tenant_id = :tenant AND m.id = ANY(:ids)
    """,  # noqa: S608  # constants of this module
    tenant=Uuid(),
    ids=ARRAY(Uuid()),
).columns(*_MESSAGES.c, literal_column("known_number", TEXT()).label("known_number"))
"""The claimed messages. One that is about another of ours, named by the id that we gave for it,
names it by Meta's id here; while Meta has given none, ours stays, and Meta will refuse it. With
each comes the number by which the user id is known that it goes to."""

RECORD_ATTEMPTS: Final = typed(
    f"""
    WITH stored AS MATERIALIZED (
        SELECT m.id, m.status, m.wamid FROM whatsapp_outbound_messages m
        WHERE m.tenant_id = :tenant AND m.id = ANY(CAST(:ids AS uuid[]))
        ORDER BY m.id FOR NO KEY UPDATE
    ), result AS (
        SELECT r.*, s.wamid AS standing,
               s.status = 'queued' OR s.status || '>' || r.status IN ({FORWARD_PAIRS}) AS onward
        FROM unnest(
            CAST(:ids AS uuid[]), CAST(:tokens AS uuid[]), CAST(:numbers AS smallint[]),
            CAST(:statuses AS text[]), CAST(:outcomes AS text[]), CAST(:wamids AS text[]),
            CAST(:codes AS integer[]), CAST(:titles AS text[]), CAST(:details AS text[]),
            CAST(:started AS timestamptz[]), CAST(:finished AS timestamptz[]),
            CAST(:due AS timestamptz[]), CAST(:attempt_ids AS uuid[])
        ) AS r(id, token, number, status, outcome, wamid, code, title, details,
               started_at, finished_at, due_at, attempt_id)
        JOIN stored s ON s.id = r.id
    ), settled AS (
        -- Named by `:ids` once more wherever rows are changed: a plan from the time when the tables
        -- were empty would otherwise read all of a tenant's to find these.
        DELETE FROM whatsapp_send_queue q USING result r
        WHERE q.tenant_id = :tenant AND q.id = ANY(CAST(:ids AS uuid[]))
          AND q.id = r.id AND q.lease_token = r.token
          AND (r.status NOT IN ('queued', 'retrying', 'unknown') OR NOT r.onward)
        RETURNING q.id, q.channel_id
    ), moved AS (
        UPDATE whatsapp_send_queue q
        SET state = CASE r.status WHEN 'queued' THEN 'ready' ELSE r.status END,
            lane = q.lane % {RETRY_LANES} + CASE r.status WHEN 'retrying' THEN {RETRY_LANES}
                                                WHEN 'unknown' THEN {UNKNOWN_LANES} ELSE 0 END,
            -- A mark that is taken back leaves its number to the next one.
            attempt = q.attempt - CASE WHEN r.number = 0 AND q.state = 'dispatching'
                                       THEN 1 ELSE 0 END,
            -- What goes back keeps its place before later ones to its recipient: it is due, by
            -- this clock, whatever the worker's says, and whatever it had been held for.
            due_at = coalesce(CASE r.status
                WHEN 'queued' THEN least(coalesce(r.due_at, q.due_at), now())
                -- Nor may silence begin earlier because the worker's clock is behind.
                WHEN 'unknown' THEN now() + (r.due_at - r.finished_at)
                ELSE r.due_at END, q.due_at),
            lease_token = NULL, lease_until = NULL
        FROM result r
        WHERE q.tenant_id = :tenant AND q.id = ANY(CAST(:ids AS uuid[]))
          AND q.id = r.id AND q.lease_token = r.token
          AND r.status IN ('queued', 'retrying', 'unknown') AND r.onward
        RETURNING q.id, q.channel_id
    ), held AS (
        SELECT id, channel_id FROM settled UNION ALL SELECT id, channel_id FROM moved
    ), known AS (
        SELECT array_agg(r.id) AS ids, array_agg(held.channel_id) AS channels,
               array_agg(r.wamid) AS wamids
        FROM result r JOIN held ON held.id = r.id WHERE r.wamid IS NOT NULL
    ), parked AS MATERIALIZED (
        SELECT p.message_id AS id, p.status, p.occurred_at, p.errors, p.errors -> 0 AS error
        FROM known k CROSS JOIN LATERAL
             whatsapp_adopt_parked(:tenant, k.ids, k.channels, k.wamids) p
    ), furthest AS (
        SELECT DISTINCT ON (p.id) p.*
        FROM parked p
        JOIN (VALUES {_RANKS}) AS k(status, rank)
          ON k.status = p.status
        ORDER BY p.id, k.rank DESC, p.occurred_at
    ), outcome AS (
        SELECT r.id, r.number, r.wamid, r.due_at, r.onward,
               coalesce(f.status, r.status) AS status,
               coalesce(f.occurred_at, CASE r.status WHEN 'unknown' THEN now()
                                       ELSE r.finished_at END) AS status_at,
               CASE WHEN f.status IS DISTINCT FROM 'failed' THEN r.code
                    WHEN f.error ->> 'code' ~ '^[0-9]{{1,9}}$'
                    THEN CAST(f.error ->> 'code' AS integer) END AS code,
               CASE f.status WHEN 'failed'
                    THEN coalesce(f.error ->> 'title', 'Meta reported a failure')
                    ELSE r.title END AS title,
               CASE f.status WHEN 'failed'
                    THEN coalesce(f.error ->> 'details',
                                  f.error #>> '{{error_data,details}}', '')
                    ELSE r.details END AS details,
               r.onward AND f.status = 'failed' AS has_failed, f.errors
        FROM result r JOIN held ON held.id = r.id
        LEFT JOIN furthest f
          ON f.id = r.id AND r.status || '>' || f.status IN ({FORWARD_PAIRS})
    ), attempted AS (
        INSERT INTO whatsapp_message_attempts
            (tenant_id, id, message_id, number, started_at, finished_at, outcome, code, reason,
             retry_at, wamid)
        SELECT :tenant, r.attempt_id, r.id, r.number, r.started_at, r.finished_at,
               CASE WHEN NOT r.onward AND r.standing <> r.wamid THEN 'duplicate' ELSE r.outcome END,
               r.code, r.title, CASE WHEN r.status = 'retrying' THEN r.due_at END, r.wamid
        FROM result r WHERE r.number > 0
        ON CONFLICT (tenant_id, id) DO NOTHING
        RETURNING id
    ), updated AS (
        UPDATE whatsapp_outbound_messages m
        SET status = CASE WHEN o.onward THEN o.status ELSE m.status END,
            status_at = CASE WHEN o.onward THEN o.status_at ELSE m.status_at END,
            wamid = CASE WHEN o.onward THEN coalesce(o.wamid, m.wamid)
                         ELSE coalesce(m.wamid, o.wamid) END,
            attempts = greatest(m.attempts, o.number),
            next_attempt_at = CASE WHEN o.onward AND o.status = 'retrying' THEN o.due_at END,
            failure_code = CASE WHEN o.onward THEN o.code ELSE m.failure_code END,
            failure_title = CASE WHEN o.onward THEN o.title ELSE m.failure_title END,
            failure_details = CASE WHEN o.onward THEN o.details ELSE m.failure_details END
        FROM outcome o
        WHERE m.tenant_id = :tenant AND m.id = ANY(CAST(:ids AS uuid[])) AND m.id = o.id
        RETURNING m.id, CASE WHEN o.has_failed THEN o.number END AS attempt,
                  CASE WHEN o.has_failed THEN o.status_at END AS failed_at,
                  CASE WHEN o.has_failed THEN CAST(o.errors AS text) END AS errors
    )
    SELECT id, attempt, failed_at, errors, false AS repeated FROM updated
    UNION ALL
    SELECT r.id, NULL, NULL, NULL, true FROM result r
    WHERE r.number > 0 AND NOT EXISTS (SELECT FROM attempted a WHERE a.id = r.attempt_id)
    """,  # noqa: S608  # constants of this module
    tenant=Uuid(),
    ids=ARRAY(Uuid()),
    tokens=ARRAY(Uuid()),
    numbers=ARRAY(SmallInteger()),
    statuses=ARRAY(TEXT()),
    outcomes=ARRAY(TEXT()),
    wamids=ARRAY(TEXT()),
    codes=ARRAY(Integer()),
    titles=ARRAY(TEXT()),
    details=ARRAY(TEXT()),
    started=ARRAY(DateTime(timezone=True)),
    finished=ARRAY(DateTime(timezone=True)),
    due=ARRAY(DateTime(timezone=True)),
    attempt_ids=ARRAY(Uuid()),
)
"""Record what requests led to, if the lease still stands; gives the ids for which it did, and
where a report that had waited has failed the message, what it said.

A queued message counts as `sending` here: the worker holds it. Where a report has overtaken the
answer, the message keeps its status and its entry goes: what was delivered is not tried again. A
report that came before its wamid was known was kept without a message; it is matched here, and
counts. Attempts are kept even where the lease was lost, as evidence. Messages are locked first and
in order, as by everything that also touches their entries."""

SETTLE_ABANDONED: Final = typed(
    f"""
    WITH abandoned AS MATERIALIZED (
        SELECT q.id FROM unnest(ARRAY[0, 1, 2]) AS l(lane)
        CROSS JOIN LATERAL (
            SELECT head.id FROM (
                SELECT e.id, e.state, e.lease_until FROM whatsapp_send_queue e
                WHERE e.tenant_id = :tenant AND e.channel_id = :channel AND e.lane = l.lane
                  AND e.due_at <= now()
                ORDER BY e.due_at, e.id
                LIMIT :limit
            ) head
            WHERE head.state = 'dispatching' AND head.lease_until < now()
        ) q
        ORDER BY q.id
    ), stored AS MATERIALIZED (
        SELECT s.* FROM abandoned a CROSS JOIN LATERAL (
            SELECT m.id, m.status FROM whatsapp_outbound_messages m
            WHERE m.tenant_id = :tenant AND m.id = a.id
            LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        ) s
    ), unknown AS (
        -- The token stays: whoever still has it knows what became of the request.
        UPDATE whatsapp_send_queue q
        SET state = 'unknown', lane = q.lane + {UNKNOWN_LANES}, lease_until = NULL,
            due_at = q.lease_until - CAST(:overhang AS interval) + :unknown_for
        FROM stored s
        WHERE q.tenant_id = :tenant AND q.id = ANY(ARRAY(SELECT id FROM stored)) AND q.id = s.id
          AND q.state = 'dispatching' AND q.lease_until < now()
          AND s.status IN ('queued', 'sending', 'retrying', 'unknown')
        RETURNING q.id, q.attempt, q.due_at - :unknown_for AS left_at, true AS is_unknown
    ), proven AS (
        DELETE FROM whatsapp_send_queue q USING stored s
        WHERE q.tenant_id = :tenant AND q.id = ANY(ARRAY(SELECT id FROM stored)) AND q.id = s.id
          AND q.state = 'dispatching' AND q.lease_until < now()
          AND s.status NOT IN ('queued', 'sending', 'retrying', 'unknown')
        RETURNING q.id, q.attempt, q.lease_until - CAST(:overhang AS interval) AS left_at,
                  false AS is_unknown
    ), held AS (
        SELECT * FROM unknown UNION ALL SELECT * FROM proven
    ), attempted AS (
        INSERT INTO whatsapp_message_attempts
            (tenant_id, id, message_id, number, started_at, finished_at, outcome, reason)
        SELECT :tenant, gen_random_uuid(), id, attempt, left_at, now(), 'unknown', '{ABANDONED}'
        FROM held
    )
    UPDATE whatsapp_outbound_messages m
    SET status = CASE WHEN h.is_unknown THEN 'unknown' ELSE m.status END,
        status_at = CASE WHEN h.is_unknown THEN h.left_at ELSE m.status_at END,
        attempts = greatest(m.attempts, h.attempt),
        failure_code = CASE WHEN h.is_unknown THEN NULL ELSE m.failure_code END,
        failure_title = CASE WHEN h.is_unknown THEN '{NOBODY_KNOWS}' ELSE m.failure_title END,
        failure_details = CASE WHEN h.is_unknown THEN '{ABANDONED}' ELSE m.failure_details END
    FROM held h
    WHERE m.tenant_id = :tenant AND m.id = ANY(ARRAY(SELECT id FROM held)) AND m.id = h.id
    RETURNING m.id
    """,  # noqa: S608  # constants of this package
    tenant=Uuid(),
    channel=Uuid(),
    unknown_for=Interval(),
    overhang=Interval(),
    limit=Integer(),
)
"""Hold as unknown what was marked by a worker whose lease ran out, unless Meta has proved it sent.

`:overhang` before its end is the last moment at which a request leaves under a lease."""

_IS_UTILITY: Final = """coalesce((
                                SELECT r.pricing ->> 'category' = 'utility' FROM (
                                    SELECT s.id, s.message_id, s.pricing
                                    FROM whatsapp_status_events s
                                    WHERE s.tenant_id = :tenant AND s.channel_id = :channel
                                      AND s.pricing IS NOT NULL
                                    ORDER BY s.id DESC LIMIT 2000
                                ) r JOIN whatsapp_outbound_messages o
                                ON o.tenant_id = :tenant AND o.id = r.message_id
                                WHERE o.type = 'template' AND o.body ->> 'name' = e.template
                                ORDER BY r.id DESC LIMIT 1
                            ), false)"""
"""Whether Meta last charged this template as a utility, by the latest reports of the number."""

_REPORTED: Final = "e.id, e.channel_id, e.message_id, e.attempt, e.received_at"
GIVE_UP_UNKNOWN: Final = typed(
    f"""
    WITH RECURSIVE due AS MATERIALIZED (
        SELECT q.id FROM whatsapp_send_queue q
        WHERE q.tenant_id = :tenant AND q.channel_id = :channel
          AND q.lane >= {UNKNOWN_LANES} AND q.due_at <= now()
        ORDER BY q.lane, q.due_at, q.id
        LIMIT :limit
    ), stored AS MATERIALIZED (
        SELECT s.* FROM (SELECT id FROM due ORDER BY id) d CROSS JOIN LATERAL (
            SELECT m.id, m.status, m.status_at, m.expires_at, m.type, m.body ->> 'name' AS template
            FROM whatsapp_outbound_messages m
            WHERE m.tenant_id = :tenant AND m.id = d.id
            LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        ) s
    ), entry AS MATERIALIZED (
        SELECT s.*, e.lease_until AS silent_since
        FROM stored s CROSS JOIN LATERAL (
            SELECT q.state, q.due_at, q.lease_until FROM whatsapp_send_queue q
            WHERE q.tenant_id = :tenant AND q.id = s.id
            LIMIT 1 FOR UPDATE
        ) e
        WHERE e.state = 'unknown' AND e.due_at <= now()
    ), last AS (
        SELECT max(status_at) AS left_at FROM entry WHERE silent_since IS NULL
    ), reported AS (
        -- What came in after that, one by one: to a planner that does not know how much it is, a
        -- sort of all there ever was looks as good. Ids of reports begin with their time.
        (SELECT e.* FROM last CROSS JOIN LATERAL (
            SELECT {_REPORTED} FROM whatsapp_status_events e
            WHERE e.tenant_id = :tenant
              AND e.id > CAST(lpad(to_hex(CAST(extract(epoch FROM last.left_at) * 1000 AS bigint)),
                                   12, '0') || repeat('0', 20) AS uuid)
            ORDER BY e.id LIMIT 1
        ) e)
        UNION ALL
        SELECT n.* FROM reported r CROSS JOIN LATERAL (
            SELECT {_REPORTED} FROM whatsapp_status_events e
            WHERE e.tenant_id = :tenant AND e.id > r.id
            ORDER BY e.id LIMIT 1
        ) n
    ), heard AS (
        -- The first report about a message that left later than all of these.
        SELECT e.received_at FROM reported e CROSS JOIN last
        WHERE e.channel_id = :channel AND e.received_at > last.left_at
          -- Not EXISTS, which may become a join with every attempt there ever was.
          AND coalesce((
              SELECT true FROM whatsapp_message_attempts a
              WHERE a.tenant_id = :tenant AND a.message_id = e.message_id
                AND a.number = e.attempt AND a.outcome = 'accepted'
                AND a.started_at > last.left_at
              LIMIT 1), false)
        LIMIT 1
    ), judged AS MATERIALIZED (
        SELECT e.id,
               coalesce(e.silent_since, h.received_at) AS silent_since,
               CASE
                   WHEN e.status <> 'unknown' THEN 'settled'
                   WHEN coalesce(e.silent_since, h.received_at) IS NULL THEN 'unproven'
                   WHEN coalesce(e.silent_since, h.received_at) + :unknown_for
                        > least(now(), :heard_until) THEN 'silent'
                   WHEN c.on_unknown = 'hold' THEN 'hold'
                   WHEN (c.on_unknown = 'resend' OR c.on_unknown = 'category' AND (
                            e.type <> 'template' OR {_IS_UTILITY}))
                        AND coalesce(e.expires_at > now(), true)
                        AND 1 >= (SELECT count(DISTINCT a.number) FROM whatsapp_message_attempts a
                                  WHERE a.tenant_id = :tenant AND a.message_id = e.id
                                    AND a.outcome = 'unknown')
                   THEN 'resend'
                   ELSE 'fail'
               END AS verdict
        FROM entry e LEFT JOIN heard h ON true
        JOIN whatsapp_channels c ON c.tenant_id = :tenant AND c.id = :channel
    ), gone AS (
        DELETE FROM whatsapp_send_queue q USING judged j
        WHERE q.tenant_id = :tenant AND q.id = ANY(ARRAY(SELECT id FROM judged)) AND q.id = j.id
        RETURNING q.*, j.verdict, j.silent_since
    ), kept AS (
        -- Entered anew, with a recipient of its own: what waits behind it comes forward.
        INSERT INTO whatsapp_send_queue
            (tenant_id, id, channel_id, attempt, recipient_key, state, lane, due_at,
             lease_token, lease_until, expires_at)
        SELECT tenant_id, id, channel_id, attempt, hashtextextended(CAST(id AS text), 0),
               CASE verdict WHEN 'resend' THEN 'ready' ELSE 'unknown' END,
               CASE verdict WHEN 'resend' THEN lane % {RETRY_LANES} ELSE lane END,
               CASE verdict WHEN 'resend' THEN now()
                            WHEN 'silent' THEN greatest(silent_since + :unknown_for,
                                                        now() + interval '1 second')
                            ELSE now() + CAST(:unknown_for AS interval) / 4 END,
               CASE verdict WHEN 'resend' THEN NULL ELSE lease_token END,
               CASE verdict WHEN 'silent' THEN silent_since END, expires_at
        FROM gone WHERE verdict IN ('resend', 'silent', 'unproven')
    )
    UPDATE whatsapp_outbound_messages m
    SET status = CASE j.verdict WHEN 'fail' THEN 'failed' WHEN 'resend' THEN 'queued'
                                ELSE m.status END,
        status_at = :at,
        failure_title = '{NOBODY_KNOWS}',
        failure_details = CASE j.verdict
            WHEN 'fail' THEN 'Meta reported nothing about it in time; it was not sent again'
            WHEN 'resend' THEN 'Meta reported nothing about it in time; it is sent once more'
            ELSE 'Meta reported nothing about it in time; somebody has to decide' END
    FROM judged j
    WHERE m.tenant_id = :tenant AND m.id = ANY(ARRAY(SELECT id FROM judged)) AND m.id = j.id
      AND j.verdict IN ('fail', 'resend', 'hold')
    RETURNING m.id
    """,  # noqa: S608  # constants of this package
    tenant=Uuid(),
    channel=Uuid(),
    at=DateTime(timezone=True),
    unknown_for=Interval(),
    heard_until=DateTime(timezone=True),
    limit=Integer(),
)
"""Do by the channel's policy what silence leads to, where it is silence and not deafness.

An entry that is due waits on until a report about a later message of the same number has come in,
and from then on for `:unknown_for` again; once it is due it no longer holds up its recipient.
What Meta reported after `:heard_until` may not have been read yet: silence ends there."""

EXPIRE_UNSENT: Final = typed(
    f"""
    WITH late AS MATERIALIZED (
        SELECT q.id FROM whatsapp_send_queue q
        WHERE q.tenant_id = :tenant AND q.channel_id = :channel
          AND q.lane < {UNKNOWN_LANES} AND q.expires_at <= now() AND {_UNHELD}
        ORDER BY q.expires_at
        LIMIT :limit
    ), stored AS MATERIALIZED (
        SELECT s.* FROM (SELECT id FROM late ORDER BY id) l CROSS JOIN LATERAL (
            SELECT m.id FROM whatsapp_outbound_messages m
            WHERE m.tenant_id = :tenant AND m.channel_id = :channel AND m.id = l.id
            LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        ) s
    ), entry AS MATERIALIZED (
        -- Who claims it or queues it again at this moment has its entry before its message.
        SELECT e.spot FROM stored s CROSS JOIN LATERAL (
            -- A range and not an equality, so that only the primary key has this order; and what
            -- is deleted is named by its place. To a plan for an empty queue any index would do.
            SELECT q.ctid AS spot FROM whatsapp_send_queue q
            WHERE q.tenant_id = :tenant AND q.id BETWEEN s.id AND s.id
              AND q.expires_at <= now() AND {_UNHELD}
            ORDER BY q.id LIMIT 1 FOR UPDATE SKIP LOCKED
        ) e
    ), gone AS (
        DELETE FROM whatsapp_send_queue q USING entry e
        WHERE q.tenant_id = :tenant AND q.ctid = e.spot
        RETURNING q.id
    )
    UPDATE whatsapp_outbound_messages m
    SET status = 'expired', status_at = :at, next_attempt_at = NULL,
        failure_code = NULL, failure_title = '{EXPIRED_UNSENT}', failure_details = ''
    WHERE m.tenant_id = :tenant AND m.channel_id = :channel
      AND m.id = ANY(ARRAY(SELECT id FROM gone))
      AND m.status || '>expired' IN ({FORWARD_PAIRS})
    RETURNING m.id
    """,  # noqa: S608  # constants of this package
    tenant=Uuid(),
    channel=Uuid(),
    at=DateTime(timezone=True),
    limit=Integer(),
)
"""End what has expired while it waited, as a worker that claims it would; what may have left waits
for proof. Whoever holds message or entry is about to change it: it is looked at again."""
