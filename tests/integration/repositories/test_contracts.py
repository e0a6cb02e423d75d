"""Each method of the repositories: one statement, and nothing for another tenant."""

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
from whatsapp.domain.conversation import ConversationNotFound, Person, Reached
from whatsapp.domain.entities import (
    Channel,
    ChannelNotFound,
    InvalidTransition,
    MessageNotFound,
)
from whatsapp.domain.repositories import (
    AttemptResult,
    AttemptsRecorded,
    FailedAttempt,
    Revival,
    StatusReport,
)
from whatsapp.domain.value_objects import AccessToken, MessageStatus, PhoneNumber
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyChannelRepository,
    SQLAlchemyConversationRepository,
    SQLAlchemyMessageRepository,
)

pytestmark = pytest.mark.postgres

SECOND = timedelta(seconds=1)


class Given:
    """Ana's channel and messages in every stage, and the repositories of whoever asks."""

    def __init__(self, ana, saved, received):
        self.ana, self.saved, self.received = ana, saved, received
        self.channels = self.messages = self.conversations = None

    def sit_down(self, session):
        self.channels = SQLAlchemyChannelRepository(session)
        self.messages = SQLAlchemyMessageRepository(session)
        self.conversations = SQLAlchemyConversationRepository(session)

    def new_channel(self):
        return Channel(
            tenant_id=self.ana.tenant_id,
            name="Second",
            phone_number_id="3003",
            access_token=AccessToken("EAAG-second"),
        )

    def attempt(self, status=MessageStatus.SENT):
        now = utc_now()
        return AttemptResult(
            message_id=self.saved.id,
            lease_token=new_id(),
            number=1,
            status=status,
            outcome="accepted",
            started_at=now,
            finished_at=now,
            wamid="wamid.x",
        )

    def report(self, status=MessageStatus.DELIVERED):
        return StatusReport(
            wamid="wamid.x", status=status, occurred_at=utc_now(), message_id=self.saved.id
        )

    async def refused(self):
        return list((await self.messages.refusals([self.saved], at=utc_now())).values())

    def reached(self):
        return Reached(
            message_id=self.saved.id, phone=self.received.sender, user_id=None, at=utc_now()
        )

    def respelled(self):
        phone = PhoneNumber("+5511987654321")
        names = (self.saved.recipient, phone)
        return Person(
            names=names, phone=phone, user_id=None, message_id=self.saved.id, at=utc_now()
        )


# Each method, called about Ana's things, and what another tenant gets for it.
METHODS = {
    "channels.get_by_id": (lambda g: g.channels.get_by_id(g.ana.channel.id), None),
    "channels.find": (lambda g: g.channels.find(g.ana.channel.id, for_change=True), None),
    "channels.find_many": (lambda g: g.channels.find_many([g.ana.channel.id]), []),
    "channels.get_by_phone_number_id": (
        lambda g: g.channels.get_by_phone_number_id(g.ana.channel.phone_number_id),
        None,
    ),
    "channels.get_by_organization": (
        lambda g: g.channels.get_by_organization(g.ana.tenant_id),
        [],
    ),
    "channels.rest": (lambda g: g.channels.rest(g.ana.channel.id, SECOND), None),
    "channels.get_active_channels": (lambda g: g.channels.get_active_channels(), "bea's"),
    "channels.add": (lambda g: g.channels.add(g.new_channel()), RowSecurityViolation),
    "channels.update": (lambda g: g.channels.update(g.ana.channel), NotFoundException),
    "channels.delete": (lambda g: g.channels.delete(new_id()), False),
    "channels.list": (lambda g: g.channels.list(), "bea's"),
    "messages.get_by_id": (lambda g: g.messages.get_by_id(g.saved.id), None),
    "messages.add": (lambda g: g.messages.add(g.fresh), RowSecurityViolation),
    "messages.update": (lambda g: g.messages.update(g.saved), MessageNotFound),
    "messages.delete": (lambda g: g.messages.delete(g.saved.id), False),
    "messages.list": (lambda g: g.messages.list(), []),
    "messages.save_outbound": (lambda g: g.messages.save_outbound(g.fresh), RowSecurityViolation),
    "messages.save_outbound_many": (
        lambda g: g.messages.save_outbound_many([g.fresh]),
        RowSecurityViolation,
    ),
    "messages.accept_outbound": (
        lambda g: g.messages.accept_outbound([g.fresh], at=utc_now()),
        "no channel",
    ),
    "messages.get_outbound_by_id": (lambda g: g.messages.get_outbound_by_id(g.saved.id), None),
    "messages.get_outbound_by_wa_id": (
        lambda g: g.messages.get_outbound_by_wa_id("wamid.out"),
        None,
    ),
    "messages.get_outbound_by_idempotency_key": (
        lambda g: g.messages.get_outbound_by_idempotency_key(g.saved.idempotency_key),
        None,
    ),
    "messages.get_failed_for_retry": (lambda g: g.messages.get_failed_for_retry(), []),
    "messages.requeue_due": (lambda g: g.messages.requeue_due(at=utc_now()), 0),
    "messages.update_outbound": (lambda g: g.messages.update_outbound(g.saved), MessageNotFound),
    "messages.cancel_outbound": (
        lambda g: g.messages.cancel_outbound(g.saved.id, utc_now()),
        InvalidTransition,
    ),
    "messages.send_again": (
        lambda g: g.messages.send_again([Revival(message=g.saved)], at=utc_now()),
        frozenset(),
    ),
    "messages.count_alike": (
        lambda g: g.messages.count_alike([FailedAttempt(g.saved.id, 9, "deferred", 131000)]),
        [0],
    ),
    "messages.refusals": (lambda g: g.refused(), "no channel"),
    "messages.load_for_sending": (lambda g: g.messages.load_for_sending([g.saved.id]), []),
    "messages.record_attempts": (
        lambda g: g.messages.record_attempts([g.attempt()]),
        AttemptsRecorded(failed=[]),
    ),
    "messages.record_statuses": (
        lambda g: g.messages.record_statuses(g.ana.channel.id, [g.report()]),
        ChannelNotFound,
    ),
    "messages.expect_answers": (
        lambda g: g.messages.expect_answers(g.ana.channel.id, ["wamid.1"]),
        None,
    ),
    "messages.step_aside": (lambda g: g.messages.step_aside(g.ana.channel.id), 0),
    "messages.step_forward": (lambda g: g.messages.step_forward(g.ana.channel.id), 0),
    "messages.settle_abandoned": (
        lambda g: g.messages.settle_abandoned(g.ana.channel.id, unknown_for=SECOND),
        0,
    ),
    "messages.give_up_unknown": (
        lambda g: g.messages.give_up_unknown(g.ana.channel.id, at=utc_now(), unknown_for=SECOND),
        [],
    ),
    "messages.expire_unsent": (
        lambda g: g.messages.expire_unsent(g.ana.channel.id, at=utc_now()),
        [],
    ),
    "messages.save_inbound": (lambda g: g.messages.save_inbound(g.heard), RowSecurityViolation),
    "messages.get_inbound_by_wa_id": (
        lambda g: g.messages.get_inbound_by_wa_id(g.received.wamid),
        None,
    ),
    "conversations.get_by_id": (lambda g: g.conversations.get_by_id(g.conversation.id), None),
    "conversations.get_by_address": (
        lambda g: g.conversations.get_by_address(g.ana.channel.id, g.received.sender),
        None,
    ),
    "conversations.add": (
        lambda g: g.conversations.add(replace(g.conversation, id=new_id())),
        RowSecurityViolation,
    ),
    "conversations.update": (
        lambda g: g.conversations.update(g.conversation),
        NotFoundException,
    ),
    "conversations.delete": (lambda g: g.conversations.delete(g.conversation.id), False),
    "conversations.list": (lambda g: g.conversations.list(), []),
    "conversations.record_reached": (
        lambda g: g.conversations.record_reached(g.ana.channel.id, [g.reached()]),
        [],
    ),
    "conversations.lock_people": (
        lambda g: g.conversations.lock_people(g.ana.channel.id),
        None,
    ),
    "conversations.know": (
        lambda g: g.conversations.know(g.ana.channel.id, [g.respelled()]),
        ChannelNotFound,
    ),
    "conversations.hold": (lambda g: g.conversations.hold([g.conversation.id]), []),
    "conversations.merge": (
        lambda g: g.conversations.merge([g.conversation.id]),
        ConversationNotFound,
    ),
    "conversations.recall_sent": (
        lambda g: g.conversations.recall_sent([g.conversation.id]),
        None,
    ),
    "conversations.mark_read": (lambda g: g.conversations.mark_read(g.conversation.id), None),
}


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@pytest.fixture
async def given(at, ana, message, inbound):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana, wamid="wamid.out"))
        received = await desk.messages.save_inbound(inbound(ana))
        conversations = SQLAlchemyConversationRepository(desk.uow.session)
        conversation = await conversations.get_by_address(ana.channel.id, received.sender)
    given = Given(ana, saved, received)
    given.conversation = conversation
    given.fresh, given.heard = message(ana), inbound(ana)
    return given


@pytest.fixture
async def watched(wire, database):
    engine = create_engine(wire.url(database.url("tellwire_app")))
    yield create_session_factory(engine)
    await engine.dispose()


SEVERAL = {"messages.record_statuses": 2}
"""Methods that need another statement here: the reports settle what waits, and that is rare."""


def test_every_method_is_in_the_table():
    public = {
        f"{name}.{method}"
        for name, repository in (
            ("channels", SQLAlchemyChannelRepository),
            ("messages", SQLAlchemyMessageRepository),
            ("conversations", SQLAlchemyConversationRepository),
        )
        for method in dir(repository)
        if callable(getattr(repository, method))
        and not method.startswith("_")
        and method != "model"
    }

    assert public == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
async def test_a_method_is_one_statement(watched, wire, given, name):
    async with watched() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=given.ana.tenant_id)
        given.sit_down(session)
        # On a new connection asyncpg looks up the types of arrays, once.
        await METHODS[name][0](given)
        await session.rollback()
        await session.execute(text("SELECT 1"))
        wire.clear()
        await METHODS[name][0](given)
        statements = wire.statements
        await session.commit()

    assert len(statements) == SEVERAL.get(name, 1), statements


@pytest.mark.parametrize("name", METHODS)
async def test_another_tenant_gets_nothing_and_changes_nothing(
    sessions, given, bea, everything_of, name
):
    call, expected = METHODS[name]
    before = await everything_of(given.ana)
    async with sessions() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=bea.tenant_id)
        given.sit_down(session)
        if isinstance(expected, type):
            with pytest.raises(expected):
                await call(given)
            await session.rollback()
        else:
            got = await call(given)
            if expected == "bea's":
                assert [row.id for row in got] == [bea.channel.id]
            elif expected == "no channel":
                assert [type(one) for one in got] == [ChannelNotFound]
            else:
                assert got == expected
            await session.commit()

    assert await everything_of(given.ana) == before
