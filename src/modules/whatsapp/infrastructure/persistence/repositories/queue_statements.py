"""The SQL of the send queue: one statement per method, built once; times are the database's."""

from typing import Final

from sqlalchemy import (
    ARRAY,
    Boolean,
    Integer,
    Interval,
    Text,
    TextClause,
    Uuid,
    bindparam,
    text,
)

from whatsapp.domain.send_queue import RETRY_LANES, UNKNOWN_LANES, WAITING_LANES

_WALK: Final = 500
"""So many due entries of a lane are looked at by one claim, whatever stands in their way."""

# An entry that was put off by `rest` keeps its place before later ones to the same recipient; one
# that is scheduled for later does not. Only the former has a lease_until.
_BLOCKS: Final = "NOT (x.state = 'ready' AND x.due_at > now() AND x.lease_until IS NULL)"

_CLAIMABLE: Final = "(x.state = 'ready' OR (x.state = 'leased' AND x.lease_until < now()))"


def _is_due(lanes: range, condition: str = "true") -> str:
    """Whether one of these lanes of the channel `h` holds something that is due.

    As probes in index order, because EXISTS may become a scan of the whole queue.
    """
    return f"""coalesce((
        SELECT true FROM unnest(ARRAY[{", ".join(map(str, lanes))}]) AS l(lane)
        CROSS JOIN LATERAL (
            SELECT FROM whatsapp_send_queue x
            WHERE x.tenant_id = h.tenant_id AND x.channel_id = h.channel_id
              AND x.lane = l.lane AND x.due_at <= now() AND {condition}
            ORDER BY x.due_at, x.id LIMIT 1
        ) due
        LIMIT 1
    ), false)"""  # noqa: S608  # constants of this module


_IS_EXPIRING: Final = f"""coalesce((
        SELECT true FROM whatsapp_send_queue x
        WHERE x.tenant_id = h.tenant_id AND x.channel_id = h.channel_id
          AND x.lane < {UNKNOWN_LANES} AND x.expires_at <= now()
          AND (x.state = 'retrying' OR {_CLAIMABLE})
        ORDER BY x.expires_at LIMIT 1
    ), false)"""  # noqa: S608  # constants of this package
"""Whether the channel `h` holds something that has expired while nobody was about to send it."""

WORK: Final = text(
    f"""
    WITH RECURSIVE channel AS (
        (SELECT tenant_id, channel_id FROM whatsapp_send_queue
         WHERE (tenant_id, channel_id) > (:after_tenant, :after_channel)
         ORDER BY tenant_id, channel_id LIMIT 1)
        UNION ALL
        SELECT n.tenant_id, n.channel_id FROM channel c CROSS JOIN LATERAL (
            SELECT q.tenant_id, q.channel_id FROM whatsapp_send_queue q
            WHERE (q.tenant_id, q.channel_id) > (c.tenant_id, c.channel_id)
            ORDER BY q.tenant_id, q.channel_id LIMIT 1
        ) n
    ), head AS (
        SELECT c.tenant_id, c.channel_id, coalesce((
            -- Hardly a channel has any: one probe for all six of their lanes.
            SELECT true FROM whatsapp_send_queue q
            WHERE q.tenant_id = c.tenant_id AND q.channel_id = c.channel_id
              AND q.lane >= {RETRY_LANES}
            ORDER BY q.lane, q.due_at, q.id LIMIT 1
        ), false) AS has_waiting
        FROM channel c LIMIT :limit
    )
    SELECT h.tenant_id, h.channel_id,
           {_is_due(range(3), _CLAIMABLE)} AS sending,
           CASE WHEN h.has_waiting
                THEN {_is_due(range(RETRY_LANES, RETRY_LANES + 3))} ELSE false END AS retrying,
           CASE WHEN h.has_waiting
                THEN {_is_due(range(UNKNOWN_LANES, UNKNOWN_LANES + 3))} ELSE false END AS unknown,
           {_IS_EXPIRING} AS expiring
    FROM head h
    """  # noqa: S608  # constants of this package
).bindparams(
    bindparam("after_tenant", type_=Uuid()),
    bindparam("after_channel", type_=Uuid()),
    bindparam("limit", type_=Integer()),
)

ABANDONED: Final = text(
    """
    SELECT c.tenant_id, c.channel_id
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:channels AS uuid[])) AS c(tenant_id, channel_id)
    WHERE coalesce((
        SELECT true FROM unnest(ARRAY[0, 1, 2]) AS l(lane)
        CROSS JOIN LATERAL (
            SELECT q.state, q.lease_until FROM whatsapp_send_queue q
            WHERE q.tenant_id = c.tenant_id AND q.channel_id = c.channel_id AND q.lane = l.lane
              AND q.due_at <= now()
            ORDER BY q.due_at, q.id LIMIT :limit
        ) head
        WHERE head.state = 'dispatching' AND head.lease_until < now()
        LIMIT 1
    ), false)
    """
).bindparams(
    bindparam("tenants", type_=ARRAY(Uuid())),
    bindparam("channels", type_=ARRAY(Uuid())),
    bindparam("limit", type_=Integer()),
)


def _due(channel: str) -> str:
    """What is due in the lane `l` of the channel whose id this is, in order."""
    return f"""
        SELECT x.id, x.recipient_key, x.due_at, x.ctid AS spot FROM whatsapp_send_queue x
        WHERE x.tenant_id = :tenant AND x.channel_id = {channel}
          AND x.lane = l.lane AND x.due_at <= now() AND {_CLAIMABLE}
        ORDER BY x.due_at, x.id
    """  # noqa: S608  # constants of this module


_DUE: Final = _due("a.channel_id")


def _spot(entry: str, condition: str = "true") -> str:
    """Where the entry with this id lies, if it is as `condition` says of `x`.

    Plans are made while the queue is empty and are kept for a minute after it has grown. To them
    all of a tenant is one row, and any of its indexes as good as another: so the order and the
    LIMIT are there to leave the primary key alone, and what is changed is found by its place.
    """
    return f"""
        SELECT x.ctid AS spot FROM whatsapp_send_queue x
        WHERE x.tenant_id = :tenant AND x.id = {entry} AND {condition}
        ORDER BY x.id LIMIT 1
    """  # noqa: S608  # constants of this module


_LANES: Final = "unnest(CAST(string_to_array(a.lanes, ',') AS smallint[]))"

CLAIM: Final = text(
    f"""
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(
            CAST(:channels AS uuid[]), CAST(:limits AS integer[]), CAST(:lanes AS text[]),
            CAST(:in_order AS boolean[]), CAST(:tokens AS uuid[])
        ) WITH ORDINALITY AS a(channel_id, most, lanes, in_order, token, place)
    ), picked AS MATERIALIZED (
        SELECT a.place, a.token, c.spot, c.turn
        FROM asked a CROSS JOIN LATERAL (
            SELECT q.spot, l.turn
            FROM {_LANES} WITH ORDINALITY AS l(lane, turn)
            CROSS JOIN LATERAL (
                SELECT e.spot
                FROM ({_DUE} LIMIT {_WALK}) head
                CROSS JOIN LATERAL ({_spot("head.id", _CLAIMABLE)} FOR UPDATE SKIP LOCKED) e
                -- Written so that the planner can neither turn it into an anti-join over the whole
                -- backlog nor believe that it leaves too little for LIMIT to stop early.
                WHERE NOT a.in_order OR coalesce((
                    SELECT false FROM whatsapp_send_queue x
                    WHERE x.tenant_id = :tenant AND x.recipient_key = head.recipient_key
                      AND x.id < head.id AND {_BLOCKS}
                    LIMIT 1
                ), true)
                ORDER BY head.due_at, head.id
                LIMIT a.most
            ) q
            LIMIT a.most
        ) c
    ), counted AS MATERIALIZED (
        SELECT a.*, coalesce(p.number, 0) AS number, coalesce(p.last, 0) AS last, p.spots
        FROM asked a LEFT JOIN (
            SELECT place, count(*) AS number, max(turn) AS last, array_agg(spot) AS spots
            FROM picked GROUP BY place
        ) p USING (place)
    ), unhurried AS MATERIALIZED (
        -- A claim that a crash of PostgreSQL undoes was not marked: nothing of it has left.
        SELECT set_config('synchronous_commit', 'off', true)
    ), claimed AS (
        UPDATE whatsapp_send_queue q
        SET state = 'leased', lease_token = p.token, lease_until = now() + :lease,
            -- Whoever looks for what became of it looks there, not among those that wait.
            lane = CASE WHEN q.lane < 0 THEN q.lane - ({WAITING_LANES}) ELSE q.lane END
        -- A LIMIT that is not known lets the planner expect a tenth: one, where ten channels are
        -- expected. With more, a plan from when the queue was empty walks through all of a tenant.
        FROM (SELECT * FROM picked LIMIT (SELECT count(*) FROM picked)) p, unhurried
        WHERE q.tenant_id = :tenant AND q.ctid = p.spot
        RETURNING p.place, q.id, q.attempt, q.due_at, p.turn
    )
    (SELECT place, id, attempt FROM claimed ORDER BY turn, due_at, id)
    UNION ALL
    -- A row without an id says that more is due, which stands behind others or is being claimed.
    SELECT a.place, CAST(NULL AS uuid), CAST(NULL AS smallint)
    FROM counted a
    WHERE a.number < a.most AND coalesce((
        SELECT true FROM {_LANES} AS l(lane)
        CROSS JOIN LATERAL ({_DUE} LIMIT a.number + 1) rest
        WHERE (rest.spot <> ALL (a.spots)) IS NOT FALSE
        LIMIT 1
    ), false)
    UNION ALL
    -- One with an attempt says that a lane gave less than was asked of it, since so many of its
    -- entries stand behind others that nobody has looked at what comes after them.
    SELECT a.place, CAST(NULL AS uuid), CAST(0 AS smallint)
    FROM counted a
    WHERE a.in_order AND coalesce((
        SELECT true FROM {_LANES} WITH ORDINALITY AS l(lane, turn)
        CROSS JOIN LATERAL ({_DUE} OFFSET {_WALK - 1} LIMIT 1) hidden
        WHERE l.turn < a.last OR a.number < a.most
        LIMIT 1
    ), false)
    """  # noqa: S608  # constants of this package
).bindparams(
    bindparam("tenant", type_=Uuid()),
    bindparam("channels", type_=ARRAY(Uuid())),
    bindparam("limits", type_=ARRAY(Integer())),
    bindparam("lease", type_=Interval()),
    bindparam("lanes", type_=ARRAY(Text())),
    bindparam("in_order", type_=ARRAY(Boolean())),
    bindparam("tokens", type_=ARRAY(Uuid())),
)
"""For channels of one tenant at once, each once, with its own limit, lanes (`0,1,2`) and token."""

STEP_ASIDE: Final = text(
    f"""
    WITH behind AS MATERIALIZED (
        SELECT q.tenant_id, q.id
        FROM unnest(ARRAY[0, 1, 2]) AS l(lane)
        CROSS JOIN LATERAL (
            SELECT e.tenant_id, e.id
            FROM ({_due(":channel")} LIMIT :limit) head
            -- Whoever deletes the first entry waits for us, and then sees who has to come forward;
            -- one that is being deleted at this moment is in nobody's way any more.
            CROSS JOIN LATERAL (
                SELECT x.id FROM whatsapp_send_queue x
                -- A range and not an equality, so that only the recipients' index has this order.
                WHERE x.tenant_id = :tenant
                  AND x.recipient_key BETWEEN head.recipient_key AND head.recipient_key
                  AND x.id < head.id AND {_BLOCKS}
                ORDER BY x.recipient_key, x.id LIMIT 1
                FOR KEY SHARE SKIP LOCKED
            ) first
            JOIN whatsapp_send_queue e ON e.tenant_id = :tenant AND e.id = head.id
            WHERE e.state = 'ready'
            FOR UPDATE OF e SKIP LOCKED
        ) q
    )
    UPDATE whatsapp_send_queue q SET lane = q.lane + ({WAITING_LANES})
    FROM behind
    WHERE q.tenant_id = behind.tenant_id AND q.id = behind.id
    RETURNING q.id
    """  # noqa: S608  # constants of this package
).bindparams(
    bindparam("tenant", type_=Uuid()),
    bindparam("channel", type_=Uuid()),
    bindparam("limit", type_=Integer()),
)
"""Move what stands behind an earlier entry to its recipient out of the way of claims.

It comes forward when the earlier one leaves the queue: a trigger of the table sees to that."""

STEP_FORWARD: Final = text(
    f"""
    WITH waiting AS MATERIALIZED (
        -- Who holds one brings it forward, gives it out or removes it.
        SELECT q.id, q.ctid AS spot FROM whatsapp_send_queue q
        WHERE q.tenant_id = :tenant AND q.channel_id = :channel AND q.lane < 0
        ORDER BY q.lane, q.due_at, q.id
        FOR UPDATE SKIP LOCKED
    )
    UPDATE whatsapp_send_queue q SET lane = q.lane - ({WAITING_LANES})
    WHERE q.tenant_id = :tenant AND q.ctid = ANY(ARRAY(SELECT spot FROM waiting))
    RETURNING q.id
    """  # noqa: S608  # constants of this package
).bindparams(bindparam("tenant", type_=Uuid()), bindparam("channel", type_=Uuid()))
"""Bring forward all that stepped aside: their channel keeps no order any more."""


def _own(values: str) -> str:
    """What stands in this array at the place of the entry's id in `:ids`."""
    return f"({values})[array_position(CAST(:ids AS uuid[]), q.id)]"


_SPAN: Final = _own("CAST(:spans AS interval[])")


def _of_lease(assignments: str, condition: str) -> TextClause:
    """Change entries that the caller still holds: each by its own token.

    Without a join, which a plan from when the queue was empty would turn into a walk per entry.
    """
    return text(
        f"""
        UPDATE whatsapp_send_queue q SET {assignments}
        WHERE q.tenant_id = :tenant AND q.id = ANY(CAST(:ids AS uuid[]))
          AND q.lease_token = {_own("CAST(:tokens AS uuid[])")} AND {condition}
        RETURNING q.id
        """  # noqa: S608  # literals of this module
    ).bindparams(
        bindparam("tenant", type_=Uuid()),
        bindparam("ids", type_=ARRAY(Uuid())),
        bindparam("tokens", type_=ARRAY(Uuid())),
        *([bindparam("spans", type_=ARRAY(Interval()))] if ":spans" in assignments else []),
    )


MARK: Final = _of_lease(
    f"state = 'dispatching', attempt = attempt + 1, lease_until = now() + {_SPAN}",
    "q.state = 'leased'",
)
UNMARK: Final = _of_lease("state = 'leased', attempt = attempt - 1", "q.state = 'dispatching'")
RELEASE: Final = _of_lease(
    "state = 'ready', lease_token = NULL, lease_until = NULL", "q.state = 'leased'"
)
REST: Final = _of_lease(
    f"state = 'ready', lease_token = NULL, due_at = now() + {_SPAN}, lease_until = now() + {_SPAN}",
    "q.state = 'leased'",
)
