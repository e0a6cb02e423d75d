"""The example that the repository layer was asked for in, as its users will write it."""

from uuid import UUID

import pytest
from sqlalchemy import text

from shared.kernel.errors import NotFoundException
from shared.kernel.ids import new_id
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.value_objects import IdempotencyKey, MessageContent, PhoneNumber

EXAMPLE = """
from shared.infrastructure.database import SQLAlchemyUnitOfWork, RLSManager
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyChannelRepository,
    SQLAlchemyMessageRepository
)

async def send_message(tenant_id: UUID, channel_id: UUID, ...):
    async with SQLAlchemyUnitOfWork() as uow:
        # Set RLS context
        async with RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=tenant_id, user_id=user_id)
            
            # Initialize repositories
            channel_repo = SQLAlchemyChannelRepository(uow.session)
            message_repo = SQLAlchemyMessageRepository(uow.session)
            
            # Get channel
            channel = await channel_repo.get_by_id(channel_id)
            if not channel:
                raise NotFoundException("Channel not found")
            
            # Check idempotency
            existing = await message_repo.get_outbound_by_idempotency_key(key)
            if existing:
                return existing  # Already sent
            
            # Create message
            message = OutboundMessage(...)
            saved = await message_repo.save_outbound(message)
            
            # Commit transaction
            await uow.commit()
            
            return saved
"""  # noqa: W293  # the example stands here word for word
PARAMETERS = "user_id: UUID, key: IdempotencyKey, to: PhoneNumber, content: MessageContent"
FIELDS = (
    "tenant_id=tenant_id, channel_id=channel.id, recipient=to, content=content, idempotency_key=key"
)


@pytest.fixture
def send_message(sessions):  # noqa: ARG001  # configures SQLAlchemyUnitOfWork()
    code = EXAMPLE.replace("...", PARAMETERS, 1).replace("...", FIELDS, 1)
    names = {
        "UUID": UUID,
        "NotFoundException": NotFoundException,
        "OutboundMessage": OutboundMessage,
        "IdempotencyKey": IdempotencyKey,
        "PhoneNumber": PhoneNumber,
        "MessageContent": MessageContent,
    }
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102  # the example is ours
    return names["send_message"]


def given(key: str) -> dict:
    return {
        "user_id": new_id(),
        "key": IdempotencyKey(key),
        "to": PhoneNumber("+4915123456789"),
        "content": MessageContent.text("Your order is on its way"),
    }


async def test_the_usage_example_stores_and_queues_a_message(send_message, ana) -> None:
    saved = await send_message(ana.tenant_id, ana.channel.id, **given("order-1"))

    assert saved.status == "queued"
    assert not saved.replayed


async def test_the_usage_example_twice_gives_the_same_message(send_message, ana) -> None:
    first = await send_message(ana.tenant_id, ana.channel.id, **given("order-1"))
    second = await send_message(ana.tenant_id, ana.channel.id, **given("order-1"))

    assert first.id == second.id


async def test_the_usage_example_cannot_see_another_tenants_channel(send_message, ana, bea) -> None:
    with pytest.raises(NotFoundException, match="Channel not found"):
        await send_message(ana.tenant_id, bea.channel.id, **given("order-1"))


async def test_the_token_in_the_table_is_ciphertext(ana, database) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    engine = create_async_engine(database.superuser_url)
    async with engine.connect() as connection:
        stored = await connection.scalar(text("SELECT access_token FROM whatsapp_channels"))
    await engine.dispose()

    assert b"EAAG" not in stored
    assert ana.channel.access_token.reveal() == "EAAG-test-token"
