"""PostgreSQL takes no writes for a while: it was told so, or another server is primary by now."""

import pytest
from sqlalchemy import update

from shared.infrastructure.database import (
    DatabaseUnavailable,
    RLSManager,
    SQLAlchemyUnitOfWork,
)
from shared.infrastructure.database.driver_errors import translated
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.value_objects import MessageContent, PhoneNumber
from whatsapp.infrastructure.persistence.models import ChannelModel
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMessageRepository

pytestmark = pytest.mark.postgres


async def save(session, customer) -> None:
    """A statement that goes past SQLAlchemy."""
    message = OutboundMessage(
        tenant_id=customer.tenant_id,
        channel_id=customer.channel.id,
        recipient=PhoneNumber("+4915112345678"),
        content=MessageContent.text("Hello"),
    )
    await SQLAlchemyMessageRepository(session).save_outbound(message)


async def rename(session, customer) -> None:
    """A statement of SQLAlchemy's own."""
    renamed = update(ChannelModel).where(ChannelModel.id == customer.channel.id)
    async with translated():
        await session.execute(renamed.values(name="Other"))


@pytest.mark.parametrize("write", [save, rename])
async def test_a_database_without_writes_is_away_and_is_asked_anew(
    engine, sessions, ana, superuser, write
) -> None:
    async def written() -> None:
        async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=ana.tenant_id)
            await write(uow.session, ana)
            await uow.commit()

    name = await superuser.fetchval("SELECT quote_ident(current_database())")
    await engine.dispose()
    await superuser.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(DatabaseUnavailable):
        await written()

    # Connections of before stay as they are, as those to a server that was demoted do.
    await superuser.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await written()
