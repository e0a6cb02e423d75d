"""Whatever goes wrong on the way to the database: no error and no log holds what it was about."""

import logging
import traceback

import pytest
from sqlalchemy import text

from shared.infrastructure.database import (
    RLSManager,
    SQLAlchemyUnitOfWork,
)
from shared.infrastructure.encryption import EncryptionManager, KeyRing, configure_encryption
from shared.kernel.clock import utc_now
from shared.kernel.errors import TellwireError
from shared.kernel.ids import new_id
from whatsapp.domain.entities import Channel, InboundMessage, OutboundMessage
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.value_objects import (
    AccessToken,
    IdempotencyKey,
    InboundContent,
    MessageContent,
    PhoneNumber,
)
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyChannelRepository,
    SQLAlchemyMessageRepository,
)

pytestmark = pytest.mark.postgres

CANARY = "CANARY-7f3a"
PHONE = "+4915199999999"
SECRETS = (CANARY, PHONE, PHONE[1:])


def channel_of(customer, **values):
    given = {"name": CANARY, "phone_number_id": "7", "access_token": AccessToken(CANARY)}
    return Channel(tenant_id=customer.tenant_id, **given | values)


def message_of(customer, **values):
    given = {
        "tenant_id": customer.tenant_id,
        "channel_id": customer.channel.id,
        "recipient": PhoneNumber(PHONE),
        "content": MessageContent.text(CANARY),
        "idempotency_key": IdempotencyKey(CANARY),
        "metadata": {"note": CANARY},
    }
    return OutboundMessage(**given | values)


def inbound_of(customer, **values):
    given = {
        "tenant_id": customer.tenant_id,
        "channel_id": customer.channel.id,
        "wamid": f"wamid.{CANARY}",
        "content": InboundContent("text", {"body": CANARY}),
        "sent_at": utc_now(),
        "sender": PhoneNumber(PHONE),
        "profile_name": CANARY,
        "raw": {"text": {"body": CANARY}},
    }
    return InboundMessage(**given | values)


class Case:
    """Repositories of one customer in a session, and ways to get them into trouble."""

    def __init__(self, session, ana, bea, superuser):
        self.session, self.ana, self.bea, self.superuser = session, ana, bea, superuser
        self.channels = SQLAlchemyChannelRepository(session)
        self.messages = SQLAlchemyMessageRepository(session)

    async def end_backend(self):
        pid = await self.session.scalar(text("SELECT pg_backend_pid()"))
        await self.superuser.execute("SELECT pg_terminate_backend($1, 5000)", pid)


async def unique_channel(case):
    await case.channels.add(channel_of(case.ana, phone_number_id="1001"))


async def other_tenants_channel(case):
    await case.channels.add(channel_of(case.bea))


async def rate_beyond_an_integer(case):
    channel = channel_of(case.ana)
    channel.messages_per_second = 2**40
    await case.channels.add(channel)


async def rate_below_what_the_table_takes(case):
    channel = channel_of(case.ana)
    channel.messages_per_second = -1
    await case.channels.add(channel)


async def name_that_is_no_text(case):
    channel = channel_of(case.ana)
    channel.name = [CANARY]
    await case.channels.add(channel)


async def id_that_is_no_uuid(case):
    await case.channels.get_by_id(CANARY)


async def text_with_a_nul(case):
    await case.channels.get_by_phone_number_id(f"{CANARY}\0")


async def text_with_a_surrogate(case):
    await case.channels.get_by_phone_number_id(f"{CANARY}\ud800")


async def token_without_encryption(case):
    configure_encryption(None)
    await case.channels.add(channel_of(case.ana))


async def token_under_an_unknown_key(case):
    configure_encryption(EncryptionManager(KeyRing.generate(key_id=2)))
    await case.channels.get_by_id(case.ana.channel.id)


async def token_cut_off(case):
    await case.superuser.execute(
        "UPDATE whatsapp_channels SET access_token = substr(access_token, 1, 9)"
    )
    await case.channels.get_by_id(case.ana.channel.id)


async def token_as_plain_text(case):
    await case.superuser.execute("UPDATE whatsapp_channels SET access_token = $1", CANARY.encode())
    await case.channels.get_by_id(case.ana.channel.id)


async def unknown_channel(case):
    await case.messages.save_outbound(message_of(case.ana, channel_id=new_id()))


async def other_tenants_message(case):
    await case.messages.save_outbound(message_of(case.bea))


async def unknown_channel_inbound(case):
    await case.messages.save_inbound(inbound_of(case.ana, channel_id=new_id()))


async def inbound_that_is_no_json(case):
    await case.messages.save_inbound(inbound_of(case.ana, raw={CANARY: object()}))


async def inbound_without_a_time(case):
    message = inbound_of(case.ana)
    message.sent_at = CANARY  # Past what looks at it when it is made.
    await case.messages.save_inbound(message)


async def key_used_for_another_message(case):
    await case.messages.save_outbound(message_of(case.ana))
    await case.messages.save_outbound(message_of(case.ana, content=MessageContent.text("other")))


async def batch_with_an_unknown_channel(case):
    await case.messages.save_outbound_many([message_of(case.ana, channel_id=new_id())])


async def update_of_an_unknown_message(case):
    await case.messages.update_outbound(message_of(case.ana))


async def update_with_a_code_beyond_an_integer(case):
    saved = await case.messages.save_outbound(message_of(case.ana))
    saved.fail(FailureReason(2**40, CANARY, CANARY), utc_now())
    await case.messages.update_outbound(saved)


async def failed_transaction(case):
    try:
        await unknown_channel(case)
    except TellwireError:
        await case.messages.save_outbound(message_of(case.ana))


async def ended_by_the_server(case):
    await case.end_backend()
    await case.messages.save_outbound(message_of(case.ana))


async def ended_before_the_commit(case):
    await case.messages.save_outbound(message_of(case.ana))
    await case.end_backend()
    await SQLAlchemyUnitOfWork.commit(_Holding(case.session))


async def statement_timeout(case):
    many = [message_of(case.ana, idempotency_key=IdempotencyKey(f"{n}")) for n in range(1000)]
    # The time-out ends with the savepoint: it cancels what is under test and nothing that follows.
    async with case.session.begin_nested():
        await case.session.execute(text("SET LOCAL statement_timeout = '1ms'"))
        await case.messages.save_outbound_many(many)


async def lock_timeout(case):
    saved = await case.messages.save_outbound(message_of(case.ana))
    await case.session.commit()
    transaction = case.superuser.transaction()
    await transaction.start()
    await case.superuser.execute("LOCK whatsapp_outbound_messages")
    await case.session.execute(text("SET LOCAL lock_timeout = '10ms'"))
    try:
        await case.messages.update_outbound(saved)
    finally:
        await transaction.rollback()


class _Holding:
    def __init__(self, session):
        self.session = session


TROUBLES = {
    unique_channel: "channel_already_exists",
    other_tenants_channel: "row_security_violation",
    rate_beyond_an_integer: "invalid_value",
    rate_below_what_the_table_takes: "invalid_channel",
    name_that_is_no_text: "invalid_value",
    id_that_is_no_uuid: "invalid_value",
    text_with_a_nul: "invalid_value",
    text_with_a_surrogate: "invalid_value",
    token_without_encryption: "encryption_not_configured",
    token_under_an_unknown_key: "decryption_unknown_key",
    token_cut_off: "decryption_malformed",
    token_as_plain_text: "decryption_unknown_version",
    unknown_channel: "channel_not_found",
    other_tenants_message: "row_security_violation",
    unknown_channel_inbound: "channel_not_found",
    inbound_that_is_no_json: "invalid_value",
    inbound_without_a_time: "invalid_value",
    key_used_for_another_message: "idempotency_key_reused",
    batch_with_an_unknown_channel: "channel_not_found",
    update_of_an_unknown_message: "message_not_found",
    update_with_a_code_beyond_an_integer: "invalid_value",
    failed_transaction: "database_failed",
    ended_by_the_server: "database_unavailable",
    ended_before_the_commit: "database_unavailable",
    statement_timeout: "database_unavailable",
    lock_timeout: "transaction_conflict",
}


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
async def test_an_error_has_its_code_and_shows_nothing(
    sessions, ana, bea, superuser, caplog, trouble
):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(TellwireError) as raised:
        await get_into(trouble, sessions, ana, bea, superuser)

    assert raised.value.code == TROUBLES[trouble]
    assert [seen for seen in everything_about(raised.value) if shows(seen)] == []
    assert not shows(caplog.text)


async def get_into(trouble, sessions, ana, bea, superuser):
    async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        await trouble(Case(uow.session, ana, bea, superuser))


def shows(text_):
    return any(secret in text_ for secret in SECRETS)


def everything_about(error, seen=None):
    """What a log, a person or an error tracker would look at."""
    seen = seen if seen is not None else set()
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield str(error)
    yield repr(error)
    yield repr(error.args)
    yield repr({name: value for name, value in vars(error).items() if name != "orig"})
    yield "".join(traceback.format_exception(error))
    for other in (error.__cause__, error.__context__, getattr(error, "orig", None)):
        if isinstance(other, BaseException):
            yield from everything_about(other, seen)
    for part in getattr(error, "exceptions", ()):
        yield from everything_about(part, seen)
