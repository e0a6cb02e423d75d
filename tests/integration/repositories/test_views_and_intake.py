"""What the API reads and takes in: pages, histories, Meta apps."""

from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy import text

from shared.infrastructure.database import (
    RLSManager,
    create_engine,
    create_session_factory,
)
from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from shared.kernel.secret import Secret
from whatsapp.application.message_views import MessageFilter
from whatsapp.domain.entities.meta_app import MetaApp
from whatsapp.domain.value_objects import MessageStatus, PhoneNumber
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyMessageViews,
    SQLAlchemyMetaAppRepository,
    SQLAlchemyWebhookInbox,
    message_views,
)
from whatsapp.infrastructure.persistence.repositories.webhook_queue import SQLAlchemyWebhookQueue

pytestmark = pytest.mark.postgres

EVERYTHING = MessageFilter()
RECIPIENT = MessageFilter(recipient=PhoneNumber("+4915199999999"))
LARGE = 20_000


@pytest.fixture
async def watched(wire, database):
    engine = create_engine(wire.url(database.url("tellwire_app")))
    yield create_session_factory(engine)
    await engine.dispose()


@pytest.fixture
def looking(sessions):
    """Run `call` on the views of a tenant."""

    async def looking(tenant_id, call, factory=sessions):
        async with factory() as session, RLSManager(session) as rls:
            await rls.set_context(tenant_id=tenant_id)
            return await call(SQLAlchemyMessageViews(session))

    return looking


@pytest.fixture
async def saved(at, ana, message):
    async with at(ana) as desk:
        return await desk.messages.save_outbound(message(ana))


@pytest.mark.parametrize(
    ("call", "statements"),
    [
        (lambda views, _: views.get_history(new_id()), 1),
        (lambda views, saved: views.get_history(saved.id), 3),
        (lambda views, _: views.list_outbound(EVERYTHING, limit=50), 1),
        (lambda views, _: views.list_outbound(RECIPIENT, limit=50), 2),
    ],
)
async def test_a_view_takes_few_statements(watched, wire, looking, ana, saved, call, statements):
    async def count(views):
        await views._session.execute(text("SELECT 1"))
        wire.clear()
        await call(views, saved)
        return len(wire.statements)

    assert await looking(ana.tenant_id, count, watched) == statements


async def test_another_tenant_sees_nothing(looking, ana, bea, saved) -> None:
    of_channel = MessageFilter(channel_id=ana.channel.id)

    assert await looking(bea.tenant_id, lambda views: views.get_history(saved.id)) is None
    for wanted in (EVERYTHING, of_channel):
        page = await looking(bea.tenant_id, lambda v, w=wanted: v.list_outbound(w, limit=9))
        assert (page.messages, page.next_before) == ([], None)
    page = await looking(ana.tenant_id, lambda views: views.list_outbound(of_channel, limit=9))
    assert [message.id for message in page.messages] == [saved.id]


@pytest.fixture
async def many(database, ana):
    """Very many messages of Ana's and as many of others, with their queue entries."""
    connection = await asyncpg.connect(database.superuser_url.replace("+asyncpg", ""))
    await connection.execute(f"""
        SET session_replication_role = replica;
        INSERT INTO whatsapp_outbound_messages
            (tenant_id, id, channel_id, recipient, type, body, idempotency_key, digest, status,
             lane, details, attempts, created_at, status_at)
        SELECT tenant, uuidv7(), channel, '+4915' || i, 'text', '{{"body": "Hello"}}', i::text, '',
               'queued', 1, '{{}}', 0, now(), now()
        FROM generate_series(1, {LARGE}) AS i CROSS JOIN (VALUES
            ('{ana.tenant_id}'::uuid, '{ana.channel.id}'::uuid), (uuidv7(), uuidv7())
        ) AS owner (tenant, channel);
        INSERT INTO whatsapp_send_queue
            (tenant_id, id, channel_id, recipient_key, lane, state, due_at, attempt)
        SELECT tenant_id, id, channel_id, 1, 1, 'ready', now(), 0 FROM whatsapp_outbound_messages;
        ANALYZE whatsapp_outbound_messages;
        ANALYZE whatsapp_send_queue;
    """)  # noqa: S608  # our own ids and numbers
    await connection.close()


ENTRIES_READ = text("""
    SELECT sum(pg_stat_get_xact_tuples_returned(oid)) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
""")


@pytest.mark.parametrize(
    ("wanted", "most"),
    [
        (EVERYTHING, 1_000),
        (MessageFilter(created_before=utc_now() + timedelta(hours=1)), 1_000),
        (RECIPIENT, 4 * message_views.MAX_LOOKED_AT),
        (MessageFilter(status=MessageStatus.FAILED), 4 * message_views.MAX_LOOKED_AT),
    ],
)
@pytest.mark.usefixtures("many")
async def test_a_page_reads_little_however_many_messages_there_are(looking, ana, wanted, most):
    async def read(views):
        page = await views.list_outbound(wanted, limit=50)
        return page, await views._session.scalar(ENTRIES_READ)

    page, entries = await looking(ana.tenant_id, read)

    assert page.next_before is not None
    assert 0 < entries <= most


async def test_a_meta_app_is_kept_encrypted_and_replaced_as_a_whole(sessions, superuser) -> None:
    apps = SQLAlchemyMetaAppRepository(sessions)
    first = MetaApp(
        app_id="1", secret=Secret("one"), previous_secret=Secret("zero"), verify_token=Secret("v")
    )
    second = MetaApp(app_id="1", secret=Secret("two"), verify_token=Secret("w"))

    assert await apps.find_app("1") is None
    await apps.save_app(first)
    assert await apps.find_app("1") == first
    await apps.save_app(second)
    assert await apps.find_app("1") == second

    row = await superuser.fetchrow("SELECT * FROM meta_apps")
    assert b"two" not in row["secret"]
    assert row["previous_secret"] is None
    assert "two" not in repr(second)
    assert await apps.delete_app("1") is True
    assert await apps.delete_app("1") is False


async def test_everything_is_read_up_to_the_oldest_body_in_the_inbox(database, superuser) -> None:
    writing = create_engine(database.url("tellwire_intake"))
    reading = create_engine(database.url("tellwire_process"))
    inbox, queue = SQLAlchemyWebhookInbox(writing), SQLAlchemyWebhookQueue(reading)
    try:
        before = await superuser.fetchval("SELECT now()")
        empty = await queue.read_until()
        for body in (b"{}", b"[]"):
            await inbox.append("1", body)
        came = await superuser.fetch("SELECT received_at FROM webhook_inbox ORDER BY id")
        unread = await queue.read_until()
        first, second = await queue.claim(limit=2, lease=timedelta(minutes=1))
        leased = await queue.read_until()
        await queue.finish([first], [])
        half = await queue.read_until()
        await queue.finish([second], [])

        assert before <= empty <= came[0][0]
        assert (unread, leased, half) == (came[0][0], came[0][0], came[1][0])
        assert await queue.read_until() > came[1][0]
    finally:
        await writing.dispose()
        await reading.dispose()
