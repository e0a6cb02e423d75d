"""What an embedding program can still do with a transaction of which something has failed."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shared.infrastructure.database import DatabaseFailed, RLSManager, SQLAlchemyUnitOfWork
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMessageRepository

pytestmark = pytest.mark.postgres

FAILING = text("SELECT 1 / 0")


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


async def test_after_a_commit_that_failed_the_unit_of_work_goes_on_in_its_tenant(
    at, ana, message, sessions
):
    undone, kept = message(ana), message(ana)
    async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        messages = SQLAlchemyMessageRepository(uow.session)
        await messages.save_outbound(undone)
        with pytest.raises(DBAPIError):
            await uow.session.execute(FAILING)
        with pytest.raises(DatabaseFailed):
            await uow.commit()
        await messages.save_outbound(kept)
        await uow.commit()

    async with at(ana) as desk:
        assert await desk.messages.get_outbound_by_id(undone.id) is None
        assert await desk.messages.get_outbound_by_id(kept.id) == kept


async def test_a_block_is_left_in_peace_after_a_commit_that_failed(ana, message, sessions):
    async with sessions() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        messages = SQLAlchemyMessageRepository(session)
        await messages.save_outbound(message(ana))
        with pytest.raises(DBAPIError):
            await session.execute(FAILING)
        with pytest.raises(Exception, match="nothing was stored"):
            await session.commit()  # Not the unit of work's, which would begin anew.
