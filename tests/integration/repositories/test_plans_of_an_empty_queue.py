"""A plan that was made while the queue was empty must serve when it has filled up.

A queue is empty most of the time, and PostgreSQL keeps its plans for up to a minute after
a hundred thousand messages came in. What is read is counted in rows and index entries, not in time.
"""

import time
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from shared.kernel.clock import utc_now
from shared.kernel.ids import NIL, new_id
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.send_queue import LANES
from whatsapp.domain.value_objects import (
    IdempotencyKey,
    MessageContent,
    MessageStatus,
    PhoneNumber,
    UserId,
)
from whatsapp.infrastructure.persistence.repositories import (
    message_statements,
    queue_statements,
    report_statements,
    retry_statements,
)
from whatsapp.infrastructure.persistence.repositories.accept_rows import accept_parameters
from whatsapp.infrastructure.persistence.repositories.accept_statements import ACCEPT_OUTBOUND
from whatsapp.infrastructure.persistence.repositories.send_queue import MOST_CHANNELS

TENANT, CHANNEL = new_id(), new_id()
BEFORE_PLANNING, MADE_AFTER = 6, 10_000
GROUP = 50
FILL = """
    WITH stored AS (
        INSERT INTO whatsapp_outbound_messages
            (tenant_id, id, channel_id, recipient, type, body, idempotency_key, digest, status,
             lane, details, attempts, created_at, status_at)
        SELECT $1, uuidv7(), $2, '+4915' || i, 'text', '{"body": "Hello"}', i::text, '',
               'queued', 1, '{}', 0, now(), now()
        FROM generate_series(1, $3) AS i
        RETURNING *
    )
    INSERT INTO whatsapp_send_queue
        (tenant_id, id, channel_id, recipient_key, lane, state, due_at, attempt)
    SELECT tenant_id, id, channel_id, hashtextextended(recipient, 0), 1, 'ready', now(), 0
    FROM stored
"""
ENTRIES_READ = """
    SELECT sum(pg_stat_get_xact_tuples_returned(oid)) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
"""
PAGES_READ = """
    SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
"""
# As if each of those messages had been tried, told of as failed, and queued again.
GROW_HISTORY = """
    WITH tried AS (
        UPDATE whatsapp_outbound_messages SET attempts = 1 WHERE status = 'queued' RETURNING *
    ), attempted AS (
        INSERT INTO whatsapp_message_attempts
            (tenant_id, id, message_id, number, started_at, finished_at, outcome, wamid)
        SELECT tenant_id, uuidv7(), id, 1, now(), now(), 'duplicate', 'wamid.' || id FROM tried
    )
    INSERT INTO whatsapp_status_events
        (tenant_id, id, channel_id, message_id, wamid, status, attempt, occurred_at)
    SELECT tenant_id, uuidv7(), channel_id, id, 'wamid.' || id, s.status, 1, now()
    FROM tried CROSS JOIN (VALUES ('sent'), ('failed')) AS s(status)
"""
# As if half had waited too long, some of it marked or waiting for proof, and half had an hour left.
RUN_OUT = """
    WITH numbered AS (SELECT id, row_number() OVER (ORDER BY id) AS n FROM whatsapp_send_queue)
    UPDATE whatsapp_send_queue q
    SET expires_at = now() + CASE n % 2 WHEN 0 THEN interval '-1 h' ELSE interval '1 h' END,
        state = CASE n % 8 WHEN 0 THEN 'unknown' ELSE q.state END,
        lane = q.lane + CASE n % 8 WHEN 0 THEN 20 ELSE 0 END
    FROM numbered WHERE numbered.id = q.id
"""
# As if a tenth had failed in a way that passes and were due again.
FAIL = """
    WITH failed AS (
        UPDATE whatsapp_send_queue SET state = 'retrying', lane = lane + 10
        WHERE abs(hashtext(id::text)) % 10 = 0 RETURNING id
    )
    UPDATE whatsapp_outbound_messages m SET status = 'retrying' FROM failed WHERE m.id = failed.id
"""
MEET = """
    WITH person AS (
        INSERT INTO whatsapp_conversations
            (tenant_id, id, channel_id, phone, last_inbound_at, marketing_stopped)
        SELECT $1, uuidv7(), $2, '+4915' || i, now(), i % 10 = 0
        FROM generate_series(1, $3) AS i RETURNING *
    )
    INSERT INTO whatsapp_conversation_addresses
        (tenant_id, id, conversation_id, channel_id, address)
    SELECT p.tenant_id, uuidv7(), p.id, p.channel_id, a.address
    FROM person p CROSS JOIN LATERAL (
        VALUES (p.phone), (replace(p.phone, '+4915', 'DE.'))) AS a(address)
"""
PREPARE = """
    INSERT INTO whatsapp_templates
        (tenant_id, id, provider_account_id, name, language, category)
    SELECT $1, uuidv7(), 'W', 'news', CASE i WHEN 1 THEN 'en' ELSE 'l' || i END, 'MARKETING'
    FROM generate_series(1, $2) AS i
"""
WAITING = "SELECT id FROM whatsapp_outbound_messages WHERE status = 'queued' ORDER BY id LIMIT $1"
MINUTE = timedelta(minutes=1)


class Caller:
    """One connection that keeps its plans, as a worker's does."""

    def __init__(self, connection) -> None:
        self.connection = connection

    async def run(self, statement, **parameters):
        compiled = statement.compile(dialect=PGDialect_asyncpg())
        given = {"tenant": TENANT} | parameters
        return await self.connection.fetch(str(compiled), *map(given.get, compiled.positiontup))

    async def claim(self, token, limit: int = GROUP):
        channels = [CHANNEL, *(new_id() for _ in range(1, MOST_CHANNELS))]
        return await self.run(
            queue_statements.CLAIM,
            channels=channels,
            lanes=[",".join(map(str, LANES))] * len(channels),
            limits=[limit] * len(channels),
            in_order=[True] * len(channels),
            tokens=[token] * len(channels),
            lease=MINUTE,
        )

    async def mark(self, ids, token):
        spans = [MINUTE] * len(ids)
        return await self.run(
            queue_statements.MARK, ids=ids, tokens=[token] * len(ids), spans=spans
        )

    async def record(self, ids, token):
        none, now = [None] * len(ids), utc_now()
        names = ("codes", "titles", "details", "due")
        return await self.run(
            message_statements.RECORD_ATTEMPTS,
            ids=ids,
            tokens=[token] * len(ids),
            numbers=[1] * len(ids),
            statuses=["sent"] * len(ids),
            outcomes=["accepted"] * len(ids),
            wamids=[f"wamid.{one}" for one in ids],
            started=[now] * len(ids),
            finished=[now] * len(ids),
            attempt_ids=[new_id() for _ in ids],
            **dict.fromkeys(names, none),
        )

    async def report(self, ids, status, *, attempt: int = 1):
        none = [None] * len(ids)
        names = ("errors", "pricing", "codes", "titles", "details")
        return await self.run(
            report_statements.RECORD_STATUSES,
            channel=CHANNEL,
            event_ids=[new_id() for _ in ids],
            message_ids=ids,
            wamids=[f"wamid.{one}" for one in ids],
            statuses=[status.value] * len(ids),
            attempts=[attempt] * len(ids),
            seconds=[time.time()] * len(ids),
            **dict.fromkeys(names, none),
        )

    async def expire(self):
        return await self.run(
            message_statements.EXPIRE_UNSENT, channel=CHANNEL, at=utc_now(), limit=GROUP
        )

    async def accept(self, content, *recipients):
        messages = [
            OutboundMessage(
                tenant_id=TENANT,
                channel_id=CHANNEL,
                recipient=recipient,
                content=content,
                idempotency_key=IdempotencyKey(str(new_id())),
            )
            for recipient in recipients
        ]
        return await self.run(ACCEPT_OUTBOUND, **accept_parameters(messages, utc_now()))

    async def requeue(self):
        return await self.run(retry_statements.REQUEUE_DUE, at=utc_now(), limit=GROUP)

    async def find_work(self):
        return await self.run(
            queue_statements.WORK, after_tenant=NIL, after_channel=NIL, limit=GROUP
        )

    async def reading(self, work) -> tuple[int, int]:
        """How many entries and pages a piece of work reads."""
        async with self.connection.transaction():
            before = await self._read()
            await work
            entries, pages = await self._read()
            return entries - before[0], pages - before[1]

    async def _read(self) -> tuple[int, int]:
        """What was read since PostgreSQL took the connection's counts over, once a second."""
        entries = await self.connection.fetchval(ENTRIES_READ)
        return entries, await self.connection.fetchval(PAGES_READ)


@pytest.fixture
async def owner(database):
    connection = await asyncpg.connect(database.superuser_url.replace("+asyncpg", ""))
    await connection.execute("INSERT INTO tenants (id, name) VALUES ($1, 'Ana')", TENANT)
    await connection.execute(
        "INSERT INTO whatsapp_channels (tenant_id, id, name, phone_number_id, access_token, status,"
        " messages_per_second) VALUES ($1, $2, 'Main', '1', '', 'active', 80)",
        TENANT,
        CHANNEL,
    )
    yield connection
    await connection.close()


@pytest.fixture
async def callers(database):
    made = []
    for role in ("tellwire_dispatch", "tellwire_app"):
        connection = await asyncpg.connect(database.url(role).replace("+asyncpg", ""))
        await connection.execute(f"SELECT set_config('app.jwt_tenant', '{TENANT}', false)")
        made.append(Caller(connection))
    yield made
    for caller in made:
        await caller.connection.close()


async def test_what_was_planned_for_an_empty_queue_reads_no_more_of_a_long_one_than_it_needs(
    owner, callers
) -> None:
    dispatch, app = callers
    await owner.execute(FILL, TENANT, CHANNEL, BEFORE_PLANNING)
    for _ in range(BEFORE_PLANNING):  # From the sixth time on a plan is kept.
        token = new_id()
        ids = [row["id"] for row in await dispatch.claim(token, 1)]
        await dispatch.mark(ids, token)
        await app.record(ids, token)
    for table in ("whatsapp_send_queue", "whatsapp_outbound_messages"):
        await owner.execute(f"VACUUM (ANALYZE) {table}")
    for caller in callers:
        await caller.connection.execute("SET plan_cache_mode = force_generic_plan")
        token = new_id()
        await caller.claim(token, 1)
        await caller.mark([], token)
        if caller is app:
            await caller.record([], token)
    await owner.execute(FILL.replace("i::text", "'n' || i"), TENANT, CHANNEL, MADE_AFTER)

    token = new_id()
    claimed = await dispatch.reading(dispatch.claim(token))
    ids = [
        row["id"]
        for row in await owner.fetch(
            "SELECT id FROM whatsapp_send_queue WHERE lease_token = $1", token
        )
    ]
    marked = await dispatch.reading(dispatch.mark(ids, token))
    recorded = await app.reading(app.record(ids, token))

    assert len(ids) == GROUP
    others = 20 * MOST_CHANNELS  # To see that nothing is due on a channel takes a few pages too.
    for (entries, pages), more in ((claimed, others), (marked, 0), (recorded, 0)):
        assert 0 < entries <= 20 * GROUP
        assert 0 < pages <= 60 * GROUP + more


async def test_what_was_planned_before_there_was_a_history_reads_no_more_of_it_than_it_needs(
    owner, callers
) -> None:
    _, app = callers
    await owner.execute(FILL, TENANT, CHANNEL, BEFORE_PLANNING)
    ids = [row["id"] for row in await owner.fetch(WAITING, BEFORE_PLANNING)]
    for one in ids:
        await app.report([one], MessageStatus.SENT)
    for table in ("whatsapp_send_queue", "whatsapp_outbound_messages", "whatsapp_status_events"):
        await owner.execute(f"VACUUM (ANALYZE) {table}")
    await app.connection.execute("SET plan_cache_mode = force_generic_plan")
    await app.report([], MessageStatus.SENT)
    await owner.execute(FILL.replace("i::text", "'n' || i"), TENANT, CHANNEL, MADE_AFTER)
    await owner.execute(GROW_HISTORY)

    ids = [row["id"] for row in await owner.fetch(WAITING, 2 * GROUP)]
    # Late ones, which have to be found among the failures, and ones that settle an entry.
    late = await app.reading(app.report(ids[:GROUP], MessageStatus.SENT))
    settling = await app.reading(app.report(ids[GROUP:], MessageStatus.READ))

    for entries, pages in (late, settling):
        assert 0 < entries <= 20 * GROUP
        assert 0 < pages <= 80 * GROUP


async def test_what_is_planned_while_nobody_has_looked_at_the_messages_reads_those_reported_alone(
    owner, callers
) -> None:
    _, app = callers
    await owner.execute("ALTER TABLE whatsapp_outbound_messages SET (autovacuum_enabled = false)")
    await owner.execute(FILL, TENANT, CHANNEL, MADE_AFTER)
    await app.connection.execute("SET plan_cache_mode = force_generic_plan")
    ids = [row["id"] for row in await owner.fetch(WAITING, GROUP)]

    entries, pages = await app.reading(app.report(ids, MessageStatus.DELIVERED))

    told = "SELECT count(*) FROM whatsapp_outbound_messages WHERE status = 'delivered'"
    assert await owner.fetchval(told) == GROUP
    assert 0 < entries <= 20 * GROUP
    assert 0 < pages <= 80 * GROUP


@pytest.mark.parametrize(
    "content", [MessageContent.text("Hello"), MessageContent.template("news", "en")], ids=repr
)
@pytest.mark.parametrize(
    "address",
    [lambda n: UserId(f"DE.{n}"), lambda n: PhoneNumber(f"+4915{n}")],
    ids=["id", "phone"],
)
async def test_what_was_planned_before_anybody_was_known_reads_no_more_of_people_than_it_needs(
    owner, callers, content, address
) -> None:
    _, app = callers
    await owner.execute("UPDATE whatsapp_channels SET provider_account_id = 'W'")
    for table in (
        *("outbound_messages", "send_queue", "templates"),
        *("conversations", "conversation_addresses"),
    ):
        # Nobody shall look at them again before the plan is used.
        await owner.execute(f"ALTER TABLE whatsapp_{table} SET (autovacuum_enabled = false)")
        await owner.execute(f"VACUUM (ANALYZE) whatsapp_{table}")
    await app.connection.execute("SET plan_cache_mode = force_generic_plan")
    await app.accept(content, address(1000))
    await owner.execute(FILL, TENANT, CHANNEL, MADE_AFTER)
    await owner.execute(MEET, TENANT, CHANNEL, MADE_AFTER)
    await owner.execute(PREPARE, TENANT, MADE_AFTER)

    # Those who became known last: whoever walks from person to person comes to them late.
    people = [address(MADE_AFTER - number) for number in range(GROUP)]
    before = await owner.fetchval("SELECT count(*) FROM whatsapp_send_queue")
    entries, _ = await app.reading(app.accept(content, *people))

    # Each has written, and one in ten wants no marketing.
    stored = await owner.fetchval("SELECT count(*) FROM whatsapp_send_queue") - before
    assert stored == GROUP * (1.0 if content.type == "text" else 0.9)
    assert 0 < entries <= 20 * GROUP


async def test_what_was_planned_before_anything_failed_reads_no_more_than_goes_again(
    owner, callers
) -> None:
    _, app = callers
    await owner.execute(FILL, TENANT, CHANNEL, BEFORE_PLANNING)
    await owner.execute("DELETE FROM whatsapp_send_queue")
    for table in ("whatsapp_send_queue", "whatsapp_outbound_messages"):
        await owner.execute(f"VACUUM (ANALYZE) {table}")
    await app.connection.execute("SET plan_cache_mode = force_generic_plan")
    await app.requeue()
    await owner.execute(FILL.replace("i::text", "'n' || i"), TENANT, CHANNEL, MADE_AFTER)
    await owner.execute(FAIL)
    due = "SELECT count(*) FROM whatsapp_send_queue WHERE state = 'retrying'"
    before = await owner.fetchval(due)

    entries, pages = await app.reading(app.requeue())

    assert before - await owner.fetchval(due) == GROUP
    assert 0 < entries <= 20 * GROUP
    assert 0 < pages <= 60 * GROUP


async def test_what_was_planned_before_anything_expired_reads_no_more_than_it_ends(
    owner, callers
) -> None:
    dispatch, app = callers
    await owner.execute(FILL, TENANT, CHANNEL, BEFORE_PLANNING)
    await owner.execute("DELETE FROM whatsapp_send_queue")
    for table in ("whatsapp_send_queue", "whatsapp_outbound_messages"):
        await owner.execute(f"VACUUM (ANALYZE) {table}")
    for caller in callers:
        await caller.connection.execute("SET plan_cache_mode = force_generic_plan")
    await dispatch.find_work()
    await app.expire()
    await owner.execute(FILL.replace("i::text", "'n' || i"), TENANT, CHANNEL, MADE_AFTER)
    idle = await dispatch.reading(dispatch.find_work())
    await owner.execute(RUN_OUT)

    looked = await dispatch.reading(dispatch.find_work())
    entries, pages = await app.reading(app.expire())
    left = "SELECT count(*) FROM whatsapp_outbound_messages WHERE status = 'expired'"

    assert await owner.fetchval(left) == GROUP
    assert 0 < entries <= 20 * GROUP
    assert 0 < pages <= 60 * GROUP
    for found in (idle, looked):
        assert 0 < found[0] <= GROUP
        assert 0 < found[1] <= 2 * GROUP


REPORT = """
    INSERT INTO whatsapp_account_events
        (tenant_id, id, channel_id, field, digest, raw, subject, came_as, place)
    SELECT $1, uuidv7(), $2, 'account_update', uuidv7(), '{}', $2, uuidv7(), 0
    FROM generate_series(1, $3) AS i
"""
WAS_TOLD = "SELECT whatsapp_was_told($1, $2, uuidv7(), 0, '{}')"


async def test_what_was_planned_before_there_were_reports_reads_its_neighbours_alone(
    owner, callers
) -> None:
    _, app = callers
    await owner.execute(REPORT, TENANT, CHANNEL, BEFORE_PLANNING)
    await owner.execute("VACUUM (ANALYZE) whatsapp_account_events")
    await app.connection.execute("SET plan_cache_mode = force_generic_plan")
    await app.connection.fetch(WAS_TOLD, TENANT, CHANNEL)
    await owner.execute(REPORT, TENANT, CHANNEL, MADE_AFTER)

    entries, pages = await app.reading(app.connection.fetch(WAS_TOLD, TENANT, CHANNEL))

    assert 0 < entries <= 4
    assert 0 < pages <= 16
