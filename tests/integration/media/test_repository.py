"""Each method of the repository of media: one statement, by an index, nothing for others."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from shared.infrastructure.database import create_engine, create_session_factory
from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from whatsapp.domain.entities import ChannelNotFound
from whatsapp.domain.media import Media, MediaDirection, MediaFailure, MediaStatus
from whatsapp.domain.media_repository import MediaFilter, MediaJob, MediaJobKind, Stored
from whatsapp.domain.media_type import MediaKind
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyMediaQueue,
    media_statements,
)
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

AT = utc_now()
DAY = timedelta(days=1)
STORED = Stored(size=1, sha256=bytes(32), mime_type="image/png")


class Given:
    """Ana's files, one of each kind, and the jobs of both."""

    def __init__(self, customer):
        self.customer = customer
        self.inbound, self.outbound = self.new_inbound(), self.new_outbound()
        self.fetch = self.upload = None

    def new_inbound(self):
        return Media(
            tenant_id=self.customer.tenant_id,
            direction=MediaDirection.INBOUND,
            kind=MediaKind.IMAGE,
            channel_id=self.customer.channel.id,
            message_id=new_id(),
            provider_media_id=str(new_id().int),
        )

    def new_outbound(self):
        return Media(
            tenant_id=self.customer.tenant_id,
            direction=MediaDirection.OUTBOUND,
            kind=MediaKind.IMAGE,
            status=MediaStatus.STORED,
            mime_type="image/png",
            sha256=new_id().bytes * 2,
            used_at=AT - DAY,
        )


@pytest.fixture
async def given(database, sessions, ana):
    given = Given(ana)
    channel = ana.channel.id
    async with work_in(sessions)(ana.tenant_id) as work:
        assert await work.media.expect(given.inbound)
        await work.media.save_outbound(given.outbound)
        await work.media.want_uploads(channel, [given.outbound.id], at=AT, needed_at=AT - DAY)
        await work.commit()
    engine = create_engine(database.url("tellwire_process"))
    jobs = await SQLAlchemyMediaQueue(engine).claim(limit=9, per_tenant=9, lease=DAY)
    await engine.dispose()
    by_kind = {job.kind: job for job in jobs}
    given.fetch, given.upload = by_kind[MediaJobKind.FETCH], by_kind[MediaJobKind.UPLOAD]
    return given


CALLS = {
    "get_by_id": lambda m, g: m.get_by_id(g.outbound.id),
    "find_many": lambda m, g: m.find_many([g.outbound.id, new_id()]),
    "list_media": lambda m, g: m.list_media(MediaFilter(message_id=g.inbound.message_id), limit=5),
    "expect": lambda m, g: m.expect(g.new_inbound()),
    "find_same": lambda m, g: m.find_same(g.outbound.sha256, "image/png", at=AT),
    "save_outbound": lambda m, g: m.save_outbound(g.new_outbound()),
    "record_stored": lambda m, g: m.record_stored(g.fetch, STORED),
    "record_failed": lambda m, g: m.record_failed(g.upload, MediaFailure.GONE),
    "record_uploaded": lambda m, g: m.record_uploaded(g.upload, "1", at=AT, expires_at=AT),
    "postpone": lambda m, g: m.postpone(g.fetch, DAY),
    "find_uploads": lambda m, g: m.find_uploads(g.customer.channel.id, [g.outbound.id], at=AT),
    "keep": lambda m, g: m.keep([g.outbound.id], needed_at=AT),
    "take_for_removal": lambda m, _: m.take_for_removal(before=AT, limit=5),
}
every_call = pytest.mark.parametrize("name", CALLS)


@every_call
async def test_a_method_is_one_statement_and_gives_something(database, wire, given, name) -> None:
    engine = create_engine(wire.url(database.url("tellwire_app")))
    try:
        async with work_in(create_session_factory(engine))(given.customer.tenant_id) as work:
            await work.media.get_by_id(new_id())  # Connected, and the transaction has begun.
            wire.clear()
            found = await CALLS[name](work.media, given)
            said = [one for one in wire.statements if "whatsapp_media" in one]
    finally:
        await engine.dispose()

    assert len(said) == 1
    assert found


# These two are given whose row it is.
@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"expect", "save_outbound"}))
async def test_a_method_gives_another_tenant_nothing(sessions, bea, given, name) -> None:
    async with work_in(sessions)(bea.tenant_id) as work:
        assert not await CALLS[name](work.media, given)


async def test_nothing_is_uploaded_for_anothers_channel_or_of_anothers_file(
    sessions, ana, bea, given
) -> None:
    async with work_in(sessions)(bea.tenant_id) as work:
        await work.media.want_uploads(bea.channel.id, [given.outbound.id], at=AT, needed_at=AT)
        found = await work.media.find_uploads(bea.channel.id, [given.outbound.id], at=AT)
    assert found == {}

    async with work_in(sessions)(ana.tenant_id) as work:
        with pytest.raises(ChannelNotFound):
            await work.media.want_uploads(bea.channel.id, [given.outbound.id], at=AT, needed_at=AT)


async def test_a_job_of_another_token_ends_nothing(sessions, ana, given) -> None:
    stale = MediaJob(
        ana.tenant_id,
        given.fetch.id,
        MediaJobKind.FETCH,
        given.inbound.id,
        ana.channel.id,
        1,
        new_id(),
    )
    async with work_in(sessions)(ana.tenant_id) as work:
        assert not await work.media.record_stored(stale, STORED)
        assert not await work.media.record_failed(stale, MediaFailure.GONE)
        assert not await work.media.postpone(stale, DAY)
        assert (await work.media.get_by_id(given.inbound.id)).status is MediaStatus.PENDING


async def test_forgotten_and_expired_uploads_are_missing_until_they_are_wanted(
    sessions, ana, given
) -> None:
    channel, ids = ana.channel.id, [given.outbound.id]
    async with work_in(sessions)(ana.tenant_id) as work:
        assert await work.media.record_uploaded(given.upload, "1", at=AT, expires_at=AT + DAY)
        assert (await work.media.find_uploads(channel, ids, at=AT))[ids[0]].provider_media_id == "1"
        assert await work.media.find_uploads(channel, ids, at=AT + DAY) == {}

        assert await work.media.forget_uploads(channel, ids) == 1
        assert await work.media.find_uploads(channel, ids, at=AT) == {}
        await work.media.want_uploads(channel, ids, at=AT, needed_at=AT)
        found = await work.media.find_uploads(channel, ids, at=AT)
        assert found[ids[0]].provider_media_id is None


MANY = """
    INSERT INTO whatsapp_media (tenant_id, id, direction, kind, status, channel_id, message_id,
                                provider_media_id, sha256, mime_type, used_at)
    SELECT :tenant, gen_random_uuid(), 'inbound', 'image', 'stored', :channel, gen_random_uuid(),
           n::text, sha256(n::text::bytea), 'image/png', now() - n * interval '1 minute'
    FROM generate_series(1, 20000) n
"""
MANY_JOBS = """
    INSERT INTO whatsapp_media_jobs (tenant_id, id, kind, media_id, channel_id, due_at)
    SELECT tenant_id, id, 'fetch', id, channel_id, now() + interval '1 hour' FROM whatsapp_media
    WHERE channel_id IS NOT NULL AND tenant_id = :tenant AND status = 'stored'
"""


async def test_hot_statements_walk_no_table(database, ana, given) -> None:
    superuser = create_engine(database.superuser_url)
    values = {"tenant": ana.tenant_id, "channel": ana.channel.id}
    async with superuser.begin() as connection:
        for statement in (MANY, MANY_JOBS, "ANALYZE"):
            bound = text(statement)
            used = {name: values[name] for name in bound.compile().params}
            await connection.execute(bound, used)
    plans = {}
    async with superuser.connect() as connection:
        for name, parameters in {
            "CLAIM": {
                "after": new_id(),
                "per_tenant": 4,
                "limit": 8,
                "lease": DAY,
                "token": new_id(),
                "without": [],
            },
            "FIND_UPLOADS": {
                "tenant": ana.tenant_id,
                "channel": ana.channel.id,
                "ids": [given.outbound.id],
                "at": AT,
            },
            "TAKE_FOR_REMOVAL": {
                "tenant": ana.tenant_id,
                "before": AT - 13 * DAY,
                "begun_before": AT - DAY,
                "limit": 10,
            },
        }.items():
            statement = getattr(media_statements, name)
            explained = text(f"EXPLAIN {statement.text}").bindparams(
                *statement._bindparams.values()
            )
            rows = await connection.execute(explained, parameters)
            plans[name] = "\n".join(row[0] for row in rows)
            await connection.rollback()
    await superuser.dispose()

    for name in ("CLAIM", "TAKE_FOR_REMOVAL"):
        assert "Seq Scan on whatsapp_media" not in plans[name], plans[name]
    assert "Seq Scan on whatsapp_media " not in plans["FIND_UPLOADS"]


async def test_an_upload_that_was_asked_for_beside_the_deletion_leads_nobody_to_the_file(
    sessions, ana, given, superuser, is_waiting
) -> None:
    """Accepted while somebody deletes: the deletion waits, and does not see the new upload."""
    media, channel, begin = given.new_outbound(), ana.channel.id, work_in(sessions)
    async with begin(ana.tenant_id) as work:
        await work.media.save_outbound(media)
        await work.commit()

    async def remove():
        async with begin(ana.tenant_id) as other:
            await other.media.mark_for_removal(media.id)
            await other.commit()

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks, begin(ana.tenant_id) as work:
        await work.media.want_uploads(channel, [media.id], at=AT, needed_at=AT + DAY)
        removing = tasks.create_task(remove())
        await is_waiting(removing)
        assert not removing.done()
        await work.commit()
    token = new_id()
    job = await superuser.fetchrow(
        "UPDATE whatsapp_media_jobs SET lease_token = $2 WHERE media_id = $1 RETURNING id",
        media.id,
        token,
    )
    async with begin(ana.tenant_id) as work:
        # The worker had read the file in the last moment in which it was there.
        done = MediaJob(
            tenant_id=ana.tenant_id,
            id=job["id"],
            kind=MediaJobKind.UPLOAD,
            media_id=media.id,
            channel_id=channel,
            attempts=1,
            lease_token=token,
        )
        assert await work.media.record_uploaded(done, "1", at=AT, expires_at=AT + DAY)
        found = (await work.media.find_uploads(channel, [media.id], at=AT))[media.id]

    assert (found.provider_media_id, found.failure) == (None, "media_gone")
