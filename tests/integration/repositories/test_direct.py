"""Look-ups that go straight to the driver: as right, as guarded and as clean as those that do not.

The first statement of a transaction opens it on the way, so most tests make one before.
"""

import asyncio
from contextlib import suppress
from contextvars import Context

import pytest
from sqlalchemy import event, text

from shared.infrastructure.database import (
    DatabaseUnavailable,
    RLSManager,
    SQLAlchemyUnitOfWork,
    create_engine,
    create_session_factory,
)
from shared.infrastructure.database.direct import fetch_on
from shared.infrastructure.database.driver_errors import InvalidValue
from shared.infrastructure.database.engine import PreludeConnection
from shared.kernel.ids import new_id
from tenancy.infrastructure.work import tenancy_work_in
from whatsapp.domain.entities import ChannelNotFound
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres


@pytest.fixture
def executed(monkeypatch):
    """The statements that went past SQLAlchemy."""
    sent = []
    fetch = PreludeConnection.fetch

    async def watched(connection, query, *args, **kwargs):
        sent.append(query)
        return await fetch(connection, query, *args, **kwargs)

    monkeypatch.setattr(PreludeConnection, "fetch", watched)
    return sent


async def begin(desk):
    await desk.messages.get_outbound_by_id(new_id())


async def test_a_look_up_in_an_open_transaction_goes_to_the_driver_and_finds_the_same(
    at, ana, message, executed
):
    async with at(ana) as desk:
        stored = await desk.messages.save_outbound(message(ana, metadata={"order": "7"}))
    executed.clear()
    async with at(ana) as desk:
        first = await desk.messages.get_outbound_by_id(stored.id)
        assert len(executed) == 1
        second = await desk.messages.get_outbound_by_id(stored.id)
        assert len(executed) == 2
        assert await desk.messages.get_outbound_by_id(new_id()) is None

    assert first == second == stored


async def test_what_a_first_statement_stored_is_undone_and_committed_as_any_other(at, ana, message):
    undone, kept = message(ana), message(ana)
    async with at(ana) as desk:
        await desk.messages.save_outbound(undone)
        await desk.uow.rollback()
        await desk.messages.save_outbound(kept)
    async with at(ana) as desk:
        assert await desk.messages.get_outbound_by_id(undone.id) is None
        assert await desk.messages.get_outbound_by_id(kept.id) == kept


async def test_a_connection_lost_in_the_pool_is_replaced(at, ana, superuser):
    async with at(ana) as desk:
        await begin(desk)
        lost = await desk.uow.session.scalar(text("SELECT pg_backend_pid()"))
    await superuser.fetchval("SELECT pg_terminate_backend($1, 5000)", lost)

    with suppress(DatabaseUnavailable):
        async with at(ana) as desk:
            await begin(desk)
    async with at(ana) as desk:
        await begin(desk)
        assert await desk.uow.session.scalar(text("SELECT pg_backend_pid()")) != lost


async def test_what_listens_to_statements_hears_them_all(at, ana, message, engine, executed):
    heard = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *given: heard.append(given[2]))
    async with at(ana) as desk:
        await begin(desk)
        await desk.messages.save_outbound(message(ana))

    assert len(heard) == 2
    assert executed == []


async def test_a_driver_error_comes_out_as_ours_and_carries_nothing(at, ana, message, executed):
    async with at(ana) as desk:
        await begin(desk)
        with pytest.raises(ChannelNotFound) as raised:
            await desk.messages.save_outbound(message(ana, channel_id=new_id()))
        await desk.uow.rollback()
        saved = await desk.messages.save_outbound(message(ana))

    assert (raised.value.__cause__, raised.value.__context__) == (None, None)
    assert len(executed) == 3
    assert saved.replayed is False


async def test_a_value_that_no_parameter_can_hold_is_refused_without_its_text(at, ana):
    async with at(ana) as desk:
        await begin(desk)
        with pytest.raises(InvalidValue) as raised:
            await desk.messages.get_outbound_by_id("canary")
        await desk.uow.rollback()

    assert "canary" not in repr((raised.value, raised.value.__context__))


async def test_a_lost_connection_says_so_and_the_next_transaction_has_another(at, ana, superuser):
    async with at(ana) as desk:
        await begin(desk)
        session = desk.uow.session
        lost = await session.scalar(text("SELECT pg_backend_pid()"))
        await superuser.fetchval("SELECT pg_terminate_backend($1, 5000)", lost)
        with pytest.raises(DatabaseUnavailable):
            await desk.messages.get_outbound_by_id(new_id())
        await desk.uow.rollback()
        assert await session.scalar(text("SELECT pg_backend_pid()")) != lost
        assert await desk.messages.get_outbound_by_id(new_id()) is None


async def save_in_vain(work, waiting):
    async with asyncio.timeout(0.3), work as desk:
        await begin(desk)
        await desk.messages.save_outbound(waiting)


async def test_a_look_up_cut_off_while_it_waits_leaves_a_clean_connection_behind(
    database, at, ana, message
):
    engine = create_engine(database.url("tellwire_app"), pool_size=1, max_overflow=0)
    single = create_session_factory(engine)
    waiting = message(ana)
    async with at(ana) as desk:
        await desk.messages.save_outbound(waiting)
        late = asyncio.create_task(save_in_vain(at(ana, single), waiting))
        with pytest.raises(TimeoutError):
            await late
    async with at(ana, single) as other:
        await begin(other)
        assert (await other.messages.save_outbound(waiting)).replayed is True
    async with SQLAlchemyUnitOfWork(single) as uow:
        tenant = await uow.session.scalar(text("SELECT current_setting('app.jwt_tenant', true)"))
        assert tenant in {None, ""}
    await engine.dispose()


async def test_after_a_commit_a_session_never_uses_the_connection_it_gave_back(
    at, ana, bea, message
):
    async with at(ana) as hers:
        await begin(hers)
        stored = await hers.messages.save_outbound(message(ana))
        await hers.uow.commit()

        async def look_as_bea():
            async with at(bea) as theirs:
                await begin(theirs)
                assert await theirs.messages.get_outbound_by_id(stored.id) is None
                yield_to_ana.set()
                await ana_looked.wait()
                assert await theirs.messages.get_outbound_by_id(stored.id) is None

        yield_to_ana, ana_looked = asyncio.Event(), asyncio.Event()
        # A task of another request: it does not inherit whom this one works for.
        bea_at_work = asyncio.create_task(look_as_bea(), context=Context())
        async with asyncio.timeout(10):
            await yield_to_ana.wait()
        assert await hers.messages.get_outbound_by_id(stored.id) == stored
        assert await hers.messages.get_outbound_by_id(stored.id) == stored
        ana_looked.set()
        await bea_at_work


async def end_connection(session, superuser):
    lost = await session.scalar(text("SELECT pg_backend_pid()"))
    await superuser.fetchval("SELECT pg_terminate_backend($1, 5000)", lost)


@pytest.mark.parametrize("way", [tenancy_work_in, work_in])
async def test_what_was_read_counts_although_the_connection_is_lost_behind_it(
    sessions, ana, superuser, way
):
    async with way(sessions)(ana.tenant_id) as work:
        await end_connection(work.session, superuser)


@pytest.mark.parametrize("way", [tenancy_work_in, work_in])
async def test_why_a_block_failed_is_told_although_its_connection_is_lost_too(
    sessions, ana, superuser, way
):
    async def fail():
        async with way(sessions)(ana.tenant_id) as work:
            await end_connection(work.session, superuser)
            raise ChannelNotFound

    with pytest.raises(ChannelNotFound):
        await fail()


async def test_a_block_whose_connection_is_lost_before_its_end_says_so(sessions, ana, superuser):
    async def leave():
        async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=ana.tenant_id)
            await end_connection(uow.session, superuser)

    with pytest.raises(DatabaseUnavailable) as raised:
        await leave()
    assert raised.value.__context__ is None


async def test_a_unit_of_work_ends_in_peace_although_its_connection_is_lost(
    sessions, ana, superuser
):
    async with SQLAlchemyUnitOfWork(sessions) as uow:
        async with RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=ana.tenant_id)
            await uow.session.execute(text("SELECT 1"))
        await end_connection(uow.session, superuser)


async def test_rows_have_their_columns_by_name_the_first_time_and_ever_after(engine):
    columns = text("SELECT 1 AS one, 2 AS keys, 3 AS three")
    async with engine.connect() as connection:
        for _ in range(3):
            (row,) = await fetch_on(connection, columns, {})
            assert (row.one, row["keys"], row.three) == (1, 2, 3)
            assert list(row.keys()) == ["one", "keys", "three"]
            with pytest.raises(AttributeError):
                _ = row.two


async def test_a_column_that_a_migration_takes_away_leaves_the_others_where_they_are(
    engine, superuser
):
    await superuser.execute(
        "CREATE TABLE seen (gone int, kept int); GRANT SELECT ON seen TO PUBLIC"
    )
    await superuser.execute("INSERT INTO seen VALUES (1, 2)")
    everything = text("SELECT * FROM seen")
    async with engine.connect() as connection:
        (row,) = await fetch_on(connection, everything, {})
        assert (row.gone, row.kept) == (1, 2)
    await superuser.execute("ALTER TABLE seen DROP COLUMN gone")
    await engine.dispose()
    async with engine.connect() as connection:
        for _ in range(2):
            (row,) = await fetch_on(connection, everything, {})
            assert row.kept == 2
