"""Events, endpoints, deliveries, accounts: so many statements, and nothing for another tenant."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from shared.infrastructure.database import (
    RLSManager,
    RowSecurityViolation,
    create_engine,
    create_session_factory,
)
from shared.kernel.clock import utc_now
from shared.kernel.errors import NotFoundException
from shared.kernel.ids import new_id
from whatsapp.domain.account import AccountEvent, AccountEventPage, TemplateReported
from whatsapp.domain.entities import ChannelNotFound
from whatsapp.domain.events import (
    Answer,
    ClaimedDelivery,
    DeliveryOutcome,
    DeliveryResult,
    EventType,
    MessageProgress,
    NewEvent,
    Replayed,
    StreamPosition,
    WebhookEndpoint,
    new_secret,
)
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyAccountRepository,
    SQLAlchemyDeliveryLog,
    SQLAlchemyEndpointRepository,
    SQLAlchemyEventLog,
)

pytestmark = pytest.mark.postgres

WEEK = timedelta(days=7)
REPOSITORIES = {
    "events": SQLAlchemyEventLog,
    "endpoints": SQLAlchemyEndpointRepository,
    "deliveries": SQLAlchemyDeliveryLog,
    "accounts": SQLAlchemyAccountRepository,
}


class Given:
    """What Ana has of each kind, and the repositories of whoever asks."""

    def __init__(self, ana, message):
        self.ana, self.message = ana, message
        self.endpoint = WebhookEndpoint(
            tenant_id=ana.tenant_id, url="https://example.com/hook", secret=new_secret()
        )
        self.account_event = self.new_account_event()
        self.event = self.happened()

    def sit_down(self, session):
        for name, repository in REPOSITORIES.items():
            setattr(self, name, repository(session))

    def new_account_event(self):
        return AccountEvent(
            tenant_id=self.ana.tenant_id,
            channel_id=self.ana.channel.id,
            provider_account_id="waba-1",
            field="account_update",
            digest=new_id(),
            raw={"event": "X"},
        )

    def happened(self):
        channel_id = self.ana.channel.id
        return NewEvent(
            type=EventType.CHANNEL_PAUSED, occurred_at=utc_now(), data={}, channel_id=channel_id
        )

    def progress(self):
        return MessageProgress(message_id=self.message.id, occurred_at=utc_now(), decided=True)

    def result(self):
        claimed = ClaimedDelivery(
            tenant_id=self.ana.tenant_id,
            id=new_id(),
            endpoint_id=self.endpoint.id,
            event_id=self.event.id,
            attempt=1,
            queued_at=utc_now(),
            lease_token=new_id(),
        )
        return DeliveryResult(
            claimed=claimed,
            outcome=DeliveryOutcome.DELIVERED,
            answer=Answer(status=200, took=timedelta(seconds=1)),
            at=utc_now(),
        )


TEMPLATE = TemplateReported(name="hello", language="en")
# Each method called about Ana's things: its statements, and what another tenant gets for it.
# Numbers of events come from a statement of its own, which waits; the next one sees everything.
METHODS = {
    "events.record": (lambda g: g.events.record(progress=[g.progress()]), 2, 0),
    "events.open": (lambda g: g.events.open(), 1, StreamPosition(1, 0)),
    "events.position": (lambda g: g.events.position(), 1, StreamPosition(1, 0)),
    "events.list_after": (lambda g: g.events.list_after(0, limit=9), 1, "bea's"),
    "events.load": (lambda g: g.events.load([g.event.id]), 1, []),
    "events.count": (lambda g: g.events.count([g.event.id]), 1, 0),
    "events.lacks_some_since": (
        lambda g: g.events.lacks_some_since(utc_now() - WEEK, after=0),
        1,
        False,
    ),
    # Forgetting waits for replays as well, and they for it.
    "events.forget": (lambda g: g.events.forget(before=utc_now() - WEEK, limit=9), 2, 0),
    "endpoints.get_by_id": (lambda g: g.endpoints.get_by_id(g.endpoint.id), 1, None),
    "endpoints.get_for_change": (lambda g: g.endpoints.get_for_change(g.endpoint.id), 1, None),
    "endpoints.list": (lambda g: g.endpoints.list(), 1, []),
    "endpoints.add": (
        lambda g: g.endpoints.add(replace(g.endpoint, id=new_id())),
        1,
        RowSecurityViolation,
    ),
    "endpoints.update": (lambda g: g.endpoints.update(g.endpoint), 1, NotFoundException),
    "endpoints.delete": (lambda g: g.endpoints.delete(g.endpoint.id), 1, False),
    "endpoints.note_failing": (
        lambda g: g.endpoints.note_failing(g.endpoint.id, utc_now()),
        1,
        None,
    ),
    "endpoints.note_working": (lambda g: g.endpoints.note_working(g.endpoint.id), 1, None),
    "endpoints.disable": (lambda g: g.endpoints.disable(g.endpoint.id, "gone"), 1, False),
    "deliveries.record": (lambda g: g.deliveries.record([g.result()]), 1, "refused"),
    "deliveries.bring_forward": (lambda g: g.deliveries.bring_forward(g.endpoint.id), 1, 0),
    "deliveries.clear": (lambda g: g.deliveries.clear(g.endpoint.id), 1, 0),
    "deliveries.replay": (
        lambda g: g.deliveries.replay(g.endpoint, event_ids=[g.event.id], limit=9, look_at=9),
        2,
        Replayed(0, None),
    ),
    "deliveries.list_attempts": (
        lambda g: g.deliveries.list_attempts(g.endpoint.id, limit=9, before=None),
        1,
        [],
    ),
    "accounts.get_by_id": (lambda g: g.accounts.get_by_id(g.account_event.id), 1, None),
    "accounts.list": (lambda g: g.accounts.list(), 1, []),
    "accounts.add": (
        lambda g: g.accounts.add(g.new_account_event()),
        1,
        RowSecurityViolation,
    ),
    "accounts.update": (lambda g: g.accounts.update(g.account_event), 1, NotFoundException),
    "accounts.delete": (lambda g: g.accounts.delete(g.account_event.id), 1, False),
    "accounts.record_events": (
        lambda g: g.accounts.record_events([g.new_account_event()]),
        1,
        ChannelNotFound,
    ),
    "accounts.list_events": (lambda g: g.accounts.list_events(limit=9), 1, AccountEventPage([])),
    "accounts.record_template": (
        lambda g: g.accounts.record_template("waba-1", TEMPLATE, utc_now()),
        1,
        None,
    ),
    "accounts.list_templates": (lambda g: g.accounts.list_templates(limit=9), 1, []),
    "accounts.find_state": (lambda g: g.accounts.find_state(g.ana.channel.id), 1, None),
    "accounts.save_state": (lambda g: g.accounts.save_state(g.ana.channel.id, g.state), 1, None),
}


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@pytest.fixture
async def given(at, ana, bea, message):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))
        await desk.messages.cancel_outbound(saved.id, utc_now())
    given = Given(ana, saved)
    async with at(ana) as desk:
        given.sit_down(desk.uow.session)
        await given.endpoints.add(given.endpoint)
        await given.accounts.record_events([given.account_event])
        await given.accounts.record_template("waba-1", TEMPLATE, utc_now())
        given.state = await given.accounts.find_state(ana.channel.id)
        await given.events.open()
        await given.events.record(others=[given.event])
    async with at(bea) as desk:
        given.sit_down(desk.uow.session)
        await given.events.open()
        await given.events.record(others=[replace(given.happened(), channel_id=bea.channel.id)])
    return given


@pytest.fixture
async def watched(wire, database):
    engine = create_engine(wire.url(database.url("tellwire_app")))
    yield create_session_factory(engine)
    await engine.dispose()


def test_every_method_is_in_the_table():
    public = {
        f"{name}.{method}"
        for name, repository in REPOSITORIES.items()
        for method in dir(repository)
        if callable(getattr(repository, method))
        and not method.startswith("_")
        and method != "model"
    }

    assert public == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
async def test_a_method_is_so_many_statements(watched, wire, given, name):
    call, number, _ = METHODS[name]
    async with watched() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=given.ana.tenant_id)
        given.sit_down(session)
        # On a new connection asyncpg looks up the types of arrays, once.
        await call(given)
        await session.rollback()
        await session.execute(text("SELECT 1"))
        wire.clear()
        await call(given)
        statements = wire.statements
        await session.commit()

    assert len(statements) == number, statements


async def test_recording_takes_one_statement_more_for_each_kind_and_one_where_nobody_listens(
    watched, wire, given, new_customer
):
    async def statements(tenant_id, **happened) -> int:
        async with watched() as session, RLSManager(session) as rls:
            await rls.set_context(tenant_id=tenant_id)
            log = SQLAlchemyEventLog(session)
            await log.record(**happened)
            await session.rollback()
            await session.execute(text("SELECT 1"))
            wire.clear()
            await log.record(**happened)
            return len(wire.statements)

    both = {"progress": [given.progress()], "others": [given.happened()]}
    assert await statements(given.ana.tenant_id, **both) == 3
    assert await statements(given.ana.tenant_id, others=both["others"]) == 2
    assert await statements((await new_customer()).tenant_id, **both) == 1
    assert await statements(given.ana.tenant_id) == 0


@pytest.mark.parametrize("name", METHODS)
async def test_another_tenant_gets_nothing_and_changes_nothing(
    sessions, given, bea, everything_of, name
):
    call, _, expected = METHODS[name]
    before = await everything_of(given.ana)
    async with sessions() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=bea.tenant_id)
        given.sit_down(session)
        if isinstance(expected, type):
            with pytest.raises(expected):
                await call(given)
            await session.rollback()
        elif expected == "refused":
            assert await call(given) == frozenset()
            await session.rollback()
        else:
            got = await call(given)
            if expected == "bea's":
                assert [one.channel_id for one in got] == [bea.channel.id]
            else:
                assert got == expected
            await session.commit()

    assert await everything_of(given.ana) == before
