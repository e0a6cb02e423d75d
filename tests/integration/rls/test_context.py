"""What `RLSManager` promises of a session: one tenant, one task, in every transaction."""

import asyncio
from random import Random

import pytest
from sqlalchemy import (
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import aliased

from shared.infrastructure.database import (
    RLSManager,
    SQLAlchemyUnitOfWork,
    TenantContextConflict,
    TenantContextMissing,
    create_engine,
    create_session_factory,
)
from shared.infrastructure.database.rls import TENANT_SETTING
from shared.kernel.errors import Misconfigured, TellwireError
from shared.kernel.ids import new_id
from tenancy.infrastructure.models import ApiKeyModel, TenantModel
from whatsapp.infrastructure.persistence.models import ChannelModel, OutboundMessageModel

pytestmark = pytest.mark.postgres

TENANT = text(f"SELECT current_setting('{TENANT_SETTING}', true)")
ALL_CHANNELS = text("SELECT tenant_id FROM whatsapp_channels")
_other = aliased(ChannelModel)
_cte = select(ChannelModel.id).cte("all_channels")

TENANT_STATEMENTS = {
    "entity": select(ChannelModel),
    "column": select(ChannelModel.name),
    "alias": select(_other.id),
    "table": select(ChannelModel.__table__.c.id),
    "count": select(func.count()).select_from(ChannelModel),
    "subquery": select(select(ChannelModel.id).subquery().c.id),
    "scalar subquery": select(select(func.count(ChannelModel.id)).scalar_subquery()),
    "exists": select(literal(1)).where(exists(select(ChannelModel.id))),
    "in": select(literal(1)).where(literal(new_id()).in_(select(ChannelModel.id))),
    "cte": select(_cte.c.id),
    "union": union_all(select(ChannelModel.id), select(ApiKeyModel.id)),
    "join": select(literal(1))
    .select_from(OutboundMessageModel)
    .join(ChannelModel, literal(value=True)),
    "from statement": select(ChannelModel).from_statement(text("SELECT * FROM whatsapp_channels")),
    "insert": insert(ApiKeyModel).values(tenant_id=new_id(), id=new_id(), name="x"),
    "insert from": insert(TenantModel.__table__).from_select(["id"], select(ChannelModel.id)),
    "core insert": insert(ApiKeyModel.__table__).values(tenant_id=new_id(), id=new_id()),
    "update": update(ChannelModel).values(name="x"),
    "core update": update(ChannelModel.__table__).values(name="x"),
    "delete": delete(ChannelModel),
    "core delete": delete(ChannelModel.__table__),
    "tenants": select(TenantModel),
    "insert tenant": insert(TenantModel).values(id=new_id(), name="x"),
    "core tenants": select(TenantModel.__table__.c.name),
    "update tenants": update(TenantModel).values(name="x"),
}


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@pytest.fixture
async def watched(wire, database):
    """A session factory whose words on the wire can be counted."""
    engine = create_engine(wire.url(database.url("tellwire_app")))
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    wire.clear()
    yield create_session_factory(engine)
    await engine.dispose()


@pytest.mark.parametrize("shape", TENANT_STATEMENTS)
async def test_a_tenants_table_without_a_context_raises_before_anything_is_sent(
    watched, wire, shape
):
    async with watched() as session:
        with pytest.raises(TenantContextMissing):
            await session.execute(TENANT_STATEMENTS[shape])

    assert wire.executed == []


async def test_the_ways_around_execute_raise_without_a_context_as_well(watched, wire):
    row = ApiKeyModel(tenant_id=new_id(), id=new_id(), name="x", secret_digest=b"", scopes=[])
    async with watched() as session:
        for attempt in (
            session.get(ChannelModel, (new_id(), new_id())),
            session.stream(select(ChannelModel)),
            session.scalars(select(ChannelModel)),
            session.run_sync(lambda sync: sync.query(ChannelModel).all()),
            session.run_sync(lambda sync: sync.query(func.count(ChannelModel.id)).scalar()),
            session.run_sync(lambda sync: sync.bulk_save_objects([row])),
            session.run_sync(lambda sync: sync.bulk_insert_mappings(ApiKeyModel, [{"name": "x"}])),
            session.run_sync(lambda sync: sync.bulk_update_mappings(ApiKeyModel, [{"name": "x"}])),
        ):
            with pytest.raises(TenantContextMissing):
                await attempt
        session.add(row)
        with pytest.raises(TenantContextMissing):
            await session.flush()

    assert wire.statements == []


@pytest.mark.usefixtures("ana", "bea")
async def test_raw_sql_without_a_context_sees_nothing(sessions):
    async with sessions() as session:
        assert (await session.execute(ALL_CHANNELS)).all() == []


@pytest.mark.usefixtures("bea")
async def test_a_session_of_somebody_elses_making_gets_the_same_guards(engine, ana):
    factory = async_sessionmaker(engine, class_=AsyncSession)
    async with factory() as session:
        async with RLSManager(session) as rls:
            await rls.set_context(tenant_id=ana.tenant_id)
            found = (await session.scalars(select(ChannelModel))).all()
            assert {row.tenant_id for row in found} == {ana.tenant_id}
        with pytest.raises(TenantContextMissing):
            await session.scalars(select(ChannelModel))
        assert (await session.execute(ALL_CHANNELS)).all() == []


@pytest.mark.usefixtures("bea")
async def test_every_transaction_in_the_block_has_the_tenant(sessions, ana):
    async with sessions() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        for end in (session.commit, session.rollback, session.commit):
            assert await session.scalar(TENANT) == str(ana.tenant_id)
            assert [row.tenant_id for row in await session.execute(ALL_CHANNELS)] == [ana.tenant_id]
            await end()


async def test_the_user_who_acts_is_known_to_the_database(sessions, ana):
    user = new_id()
    async with sessions() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id, user_id=user)
        assert await session.scalar(text("SELECT current_setting('app.user_id')")) == str(user)


async def test_the_context_costs_no_round_trip(watched, wire, ana):
    async def one_transaction(session):
        await session.execute(text("SELECT 1"))
        await session.commit()

    async with watched() as session:
        await one_transaction(session)
        wire.clear()
        await one_transaction(session)
        without = wire.round_trips
    async with watched() as session, RLSManager(session) as rls:
        wire.clear()
        await rls.set_context(tenant_id=ana.tenant_id)
        await one_transaction(session)

    assert wire.round_trips == without
    assert wire.statements == ["SELECT 1"]


@pytest.mark.usefixtures("bea")
async def test_a_transaction_that_was_open_before_gets_the_tenant_and_loses_it_again(sessions, ana):
    async with sessions() as session:
        await session.execute(text("SELECT 1"))
        async with RLSManager(session) as rls:
            await rls.set_context(tenant_id=ana.tenant_id)
            assert len((await session.execute(ALL_CHANNELS)).all()) == 1
        assert (await session.execute(ALL_CHANNELS)).all() == []
        assert await session.scalar(TENANT) == ""


@pytest.mark.usefixtures("bea")
async def test_the_orm_names_the_tenant_in_every_statement(watched, wire, ana):
    """The policies would do; the predicate keeps the planner's statistics, and so the speed."""
    async with watched() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        for statement in (
            select(ChannelModel),
            select(_other),
            select(func.count(ChannelModel.id)),
            update(ChannelModel).values(name="x"),
            delete(OutboundMessageModel),
        ):
            wire.clear()
            await session.execute(statement)
            assert "tenant_id = $" in wire.statements[0]


# --- One tenant, one task ------------------------------------------------------------------------


async def work(session, tenant, rounds=1):
    async with RLSManager(session) as rls:
        await rls.set_context(tenant_id=tenant)
        seen = []
        for _ in range(rounds):
            seen += [row.tenant_id for row in await session.execute(ALL_CHANNELS)]
            await session.commit()
        return seen


async def test_two_tenants_at_once_on_one_session_always_raise(sessions, ana, bea):
    for _ in range(100):
        async with sessions() as session:
            results = await asyncio.gather(
                work(session, ana.tenant_id), work(session, bea.tenant_id), return_exceptions=True
            )
        assert sum(isinstance(result, TenantContextConflict) for result in results) == 1
        assert [ana.tenant_id] in results


async def test_two_tasks_of_one_tenant_on_one_session_raise(sessions, ana):
    async with sessions() as session:
        results = await asyncio.gather(
            work(session, ana.tenant_id), work(session, ana.tenant_id), return_exceptions=True
        )

    assert sum(isinstance(result, TenantContextConflict) for result in results) == 1


async def test_a_task_that_was_handed_the_session_cannot_use_it(sessions, ana):
    async with sessions() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        for statement in (select(ChannelModel), ALL_CHANNELS):
            with pytest.raises(TenantContextConflict):
                await asyncio.create_task(session.execute(statement))
        with pytest.raises(TenantContextConflict):
            await asyncio.create_task(session.commit())


async def test_a_session_serves_one_tenant_for_life(sessions, ana, bea):
    async with sessions() as session:
        await work(session, ana.tenant_id)
        with pytest.raises(TenantContextConflict):
            await work(session, bea.tenant_id)
        assert await work(session, ana.tenant_id) == [ana.tenant_id]


async def test_one_task_serves_one_tenant_at_a_time(sessions, ana, bea):
    async with sessions() as one, sessions() as two, RLSManager(one) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        with pytest.raises(TenantContextConflict):
            await work(two, bea.tenant_id)
        assert await work(two, ana.tenant_id) == [ana.tenant_id]


async def test_blocks_of_one_tenant_may_be_nested(sessions, ana):
    async with sessions() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        await work(session, ana.tenant_id)
        assert len((await session.execute(ALL_CHANNELS)).all()) == 1
        with pytest.raises(TenantContextConflict):
            await rls.set_context(tenant_id=ana.tenant_id)


@pytest.mark.parametrize("tenant", ["x'; select 1 --", "", None, 7])
async def test_a_tenant_that_is_no_uuid_is_refused_before_any_sql(watched, wire, tenant):
    async with watched() as session, RLSManager(session) as rls:
        with pytest.raises(TellwireError) as refused:
            await rls.set_context(tenant_id=tenant)

    assert refused.value.code == "invalid_tenant_id"
    assert wire.executed == []


@pytest.mark.usefixtures("sessions")
async def test_thousands_of_interleaved_requests_see_their_own_tenants_rows(database, ana, bea):
    engine = create_engine(database.url("tellwire_app"), pool_size=3, max_overflow=0)
    factory = create_session_factory(engine)
    rng = Random(1)
    foreign = []

    async def request(tenant, fate):
        async with factory() as session, RLSManager(session) as rls:
            await rls.set_context(tenant_id=tenant)
            for _ in range(4):
                rows = await session.scalars(select(ChannelModel.tenant_id))
                raw = await session.execute(ALL_CHANNELS)
                seen = {*rows, *(row.tenant_id for row in raw)}
                if seen != {tenant}:
                    foreign.append(seen)
                await (session.commit if fate < 0.5 else session.rollback)()
            if fate > 0.9:
                raise ValueError

    async def client():
        for _ in range(40):
            tenant = rng.choice([ana.tenant_id, bea.tenant_id])
            task = asyncio.create_task(request(tenant, rng.random()))
            if rng.random() < 0.1:
                await asyncio.sleep(rng.random() / 100)
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    await asyncio.gather(*(client() for _ in range(8)))
    async with engine.connect() as connection:
        assert (await connection.execute(ALL_CHANNELS)).all() == []
    await engine.dispose()

    assert foreign == []


# --- Objects, savepoints, streams ----------------------------------------------------------------


async def test_objects_of_a_block_are_forgotten_when_it_is_left(sessions, ana):
    key = (ana.tenant_id, ana.channel.id)
    async with sessions() as session:
        async with RLSManager(session) as rls:
            await rls.set_context(tenant_id=ana.tenant_id)
            assert await session.get(ChannelModel, key) is not None
        with pytest.raises(TenantContextMissing):
            await session.get(ChannelModel, key)


async def test_another_tenants_session_never_gets_an_object_of_ours(sessions, ana, bea):
    async with sessions() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=bea.tenant_id)
        assert await session.get(ChannelModel, (ana.tenant_id, ana.channel.id)) is None
        assert await session.get(ChannelModel, (bea.tenant_id, ana.channel.id)) is None


async def test_a_savepoint_keeps_the_tenant_whatever_becomes_of_it(sessions, ana):
    async with sessions() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        async with session.begin_nested():
            assert await session.scalar(TENANT) == str(ana.tenant_id)
        savepoint = await session.begin_nested()
        await savepoint.rollback()
        assert await session.scalar(TENANT) == str(ana.tenant_id)


async def test_a_context_is_not_entered_inside_a_savepoint_whose_end_would_take_it_away(
    sessions, ana
):
    async with sessions() as session:
        await session.begin_nested()
        async with RLSManager(session) as rls:
            with pytest.raises(TenantContextConflict, match="savepoint"):
                await rls.set_context(tenant_id=ana.tenant_id)
        with pytest.raises(TenantContextMissing):
            await session.scalars(select(ChannelModel))


async def test_a_block_left_with_an_open_savepoint_undoes_all_and_says_so(sessions, ana):
    """Rolled back later, the savepoint would bring the tenant back."""
    async with sessions() as session:
        with pytest.raises(TenantContextConflict, match="savepoint"):
            await _leave_with_a_savepoint(session, ana)
        assert not session.in_transaction()
        assert (await session.execute(ALL_CHANNELS)).all() == []


@pytest.mark.usefixtures("bea")
async def _leave_with_a_savepoint(session, customer):
    async with RLSManager(session) as rls:
        await rls.set_context(tenant_id=customer.tenant_id)
        await session.begin_nested()


async def test_a_stream_that_outlives_its_block_holds_nothing_but_the_tenants_own_rows(
    sessions, ana
):
    async with sessions() as session:
        async with RLSManager(session) as rls:
            await rls.set_context(tenant_id=ana.tenant_id)
            stream = await session.stream(ALL_CHANNELS)
        assert [row.tenant_id async for row in stream] == [ana.tenant_id]
        assert (await session.execute(ALL_CHANNELS)).all() == []


# --- Connections and what is left on them --------------------------------------------------------


@pytest.fixture
async def single(database):
    """An engine with one connection, which everybody gets in turn."""
    engine = create_engine(database.url("tellwire_app"), pool_size=1, max_overflow=0)
    yield engine
    await engine.dispose()


async def _nothing(_session):
    pass


async def _rollback(session):
    await session.rollback()


async def _commit(session):
    await session.commit()


async def _begin(session):
    await session.connection()


async def _begin_and_rollback(session):
    await session.connection()
    await session.rollback()


async def _begin_and_commit(session):
    await session.connection()
    await session.commit()


async def _begin_nested(session):
    savepoint = await session.begin_nested()
    await savepoint.rollback()


async def _read(session):
    await session.execute(ALL_CHANNELS)


async def _fail(session):
    await session.execute(text("SELECT 1 / 0"))


async def _begin_and_invalidate(session):
    await session.connection()
    await session.invalidate()


USES = [
    *(_nothing, _rollback, _commit, _begin, _begin_and_rollback, _begin_and_commit),
    *(_begin_nested, _read, _fail, _begin_and_invalidate),
]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__[1:])
async def test_the_connections_next_user_finds_neither_tenant_nor_prelude(single, ana, use):
    factory = create_session_factory(single)
    try:
        async with factory() as session, RLSManager(session) as rls:
            await rls.set_context(tenant_id=ana.tenant_id)
            await use(session)
    except Exception as error:  # noqa: BLE001  # whatever came of it, the connection goes on
        assert use is _fail, error  # noqa: PT017  # one of them is meant to fail

    async with single.connect() as connection:
        assert not (await connection.scalar(TENANT))
        assert (await connection.execute(ALL_CHANNELS)).all() == []
    assert single.pool.checkedout() == 0


async def test_a_session_that_loses_its_connection_unused_leaves_no_prelude(single, ana):
    factory = create_session_factory(single)
    session = factory()
    async with RLSManager(session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        await session.connection()
        await session.close()
        async with single.connect() as connection:
            assert not (await connection.scalar(TENANT))


async def test_an_engine_without_transactions_is_refused(engine, ana):
    """The setting would hold for its own statement alone, and every read would find nothing."""
    factory = create_session_factory(engine.execution_options(isolation_level="AUTOCOMMIT"))
    async with factory() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        with pytest.raises(Misconfigured, match="AUTOCOMMIT"):
            await session.execute(ALL_CHANNELS)


async def test_an_error_that_was_caught_in_the_block_lets_it_be_left(sessions, ana):
    async with sessions() as session:
        async with RLSManager(session) as rls:
            await rls.set_context(tenant_id=ana.tenant_id)
            with pytest.raises(Exception, match="division by zero"):
                await session.execute(text("SELECT 1 / 0"))
        await session.rollback()
        assert (await session.execute(ALL_CHANNELS)).all() == []


async def test_a_commit_after_an_error_does_not_pretend_to_have_stored_anything(sessions, ana):
    """PostgreSQL answers ROLLBACK to the COMMIT of a failed transaction, and drivers keep still."""
    user = insert(ApiKeyModel).values(
        tenant_id=ana.tenant_id, id=new_id(), name="x", secret_digest=b"", scopes=[]
    )
    async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        await uow.session.execute(user)
        with pytest.raises(Exception, match="division by zero"):
            await uow.session.execute(text("SELECT 1 / 0"))
        with pytest.raises(TellwireError) as refused:
            await uow.commit()
        await uow.rollback()
        assert await uow.session.scalar(select(func.count(ApiKeyModel.id))) == 0

    assert refused.value.code == "database_failed"


async def test_a_unit_of_work_that_is_not_committed_stores_nothing(sessions, ana):
    async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        await uow.session.execute(update(ChannelModel).values(name="changed"))

    async with sessions() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        assert await session.scalar(select(ChannelModel.name)) == "Main"


@pytest.mark.usefixtures("ana", "bea")
async def test_rls_is_not_switched_off_by_a_setting(sessions):
    async with sessions() as session:
        await session.execute(text("SET LOCAL row_security = off"))
        with pytest.raises(Exception, match="row-level security"):
            await session.execute(select(literal_column("1")).select_from(text("api_keys")))
