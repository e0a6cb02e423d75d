"""What a look for work costs before many channels that have none."""

import asyncio

import asyncpg
import pytest
from sqlalchemy import insert
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from shared.infrastructure.database import RLSManager, SQLAlchemyUnitOfWork, create_engine
from shared.kernel.clock import utc_now
from shared.kernel.ids import NIL, new_id
from tenancy.infrastructure.models import TenantModel
from whatsapp.domain.entities import Channel, OutboundMessage
from whatsapp.domain.value_objects import AccessToken, MessageContent, PhoneNumber
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyChannelRepository,
    SQLAlchemyMessageRepository,
    SQLAlchemySendQueue,
)
from whatsapp.infrastructure.persistence.repositories.queue_statements import WORK

IDLE = """
    WITH tenant AS (
        INSERT INTO tenants (id, name)
        SELECT uuidv7(), 'Tenant ' || i FROM generate_series(1, $1::int) AS i RETURNING id
    )
    INSERT INTO whatsapp_channels
        (tenant_id, id, name, phone_number_id, access_token, status, messages_per_second)
    SELECT id, uuidv7(), 'Main', '9' || row_number() OVER (), '', 'active', 80 FROM tenant
"""
PAGES_READ = """
    SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
"""


@pytest.fixture
async def server(database):
    connection = await asyncpg.connect(database.superuser_url.replace("+asyncpg", ""))
    # Whether foreign keys hold is tested elsewhere; here the rows come in one statement.
    await connection.execute("SET session_replication_role = replica")
    yield connection
    await connection.close()


@pytest.fixture
async def queue(database):
    engine = create_engine(database.url("tellwire_dispatch"), pool_size=10)
    yield SQLAlchemySendQueue(engine)
    await engine.dispose()


async def fill(sessions, *, channels: int, each: int) -> None:
    """Tenants with a channel each, and messages due on it."""

    async def one(number: int) -> None:
        tenant = new_id()
        channel = Channel(
            tenant_id=tenant,
            name="Main",
            phone_number_id=str(1000 + number),
            access_token=AccessToken("EAAG-many"),
        )
        channel.verify(utc_now())
        messages = [
            OutboundMessage(
                tenant_id=tenant,
                channel_id=channel.id,
                recipient=PhoneNumber(f"+4915100{i:06d}"),
                content=MessageContent.text("Hello"),
            )
            for i in range(each)
        ]
        async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=tenant)
            await uow.session.execute(insert(TenantModel).values(id=tenant, name="A tenant"))
            await SQLAlchemyChannelRepository(uow.session).add(channel)
            await SQLAlchemyMessageRepository(uow.session).save_outbound_many(messages)
            await uow.commit()

    for start in range(0, channels, 10):
        await asyncio.gather(*(one(n) for n in range(start, min(start + 10, channels))))


async def test_looking_for_work_costs_the_same_whatever_stands_idle(
    database, server, sessions, queue
) -> None:
    await fill(sessions, channels=5, each=2)
    before = await pages(database)
    await server.execute(IDLE, 2000)
    after = await pages(database)

    assert len(await queue.find_work()) == 5
    assert 0 < after <= before + 5


async def pages(database) -> int:
    """How many pages one look for work reads."""
    compiled = WORK.compile(dialect=PGDialect_asyncpg())
    given = {"after_tenant": NIL, "after_channel": NIL, "limit": 500, "lanes": [0, 1, 2]}
    url = database.url("tellwire_dispatch").replace("+asyncpg", "")
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.fetch(str(compiled), *map(given.get, compiled.positiontup))
            return await connection.fetchval(PAGES_READ)
    finally:
        await connection.close()
