"""A tenant that is deleted while its work is under way takes nobody and nothing along."""

import asyncio

import pytest
from sqlalchemy import text

from shared.infrastructure.database import Base, TenantNotFound, TransactionConflict
from shared.kernel.errors import NotFoundException
from tellwire.database import load_models
from whatsapp.domain.entities import ChannelNotFound

pytestmark = pytest.mark.postgres

load_models()
TABLES = [table.name for table in Base.metadata.sorted_tables if "tenant_id" in table.c]


@pytest.fixture
def delete(office):
    """Delete the office's tenant, as docs/operations.md has it, in its own context."""

    async def delete(*_given):
        statement = text("DELETE FROM tenants WHERE id = :tenant")
        await office.work(lambda s: s.execute(statement, {"tenant": office.tenant}))

    return delete


@pytest.fixture
def left(superuser, office):
    """The tables in which the deleted tenant still has rows."""

    async def left():
        return {
            name
            for name in TABLES
            if await superuser.fetchval(
                f"SELECT EXISTS (SELECT FROM {name} WHERE tenant_id = $1)",  # noqa: S608  # our tables
                office.tenant,
            )
        }

    return left


@pytest.mark.usefixtures("told")
async def test_a_worker_whose_tenant_is_deleted_while_a_request_runs_ends(
    office, delete, left, new_customer, superuser
):
    other = await new_customer()
    channel = await office.channel()
    await office.store(channel, "+4915112345001", "+4915112345002", "+4915112345003")
    office.meta.before_answering = delete

    async with asyncio.timeout(30):
        await office.dispatch(channel)

    assert await left() == set()
    assert await superuser.fetchval("SELECT name FROM tenants WHERE id = $1", other.tenant_id)
    sent = len(office.meta.sent)
    await office.dispatch(channel)
    assert len(office.meta.sent) == sent


@pytest.mark.usefixtures("told")
async def test_reports_and_messages_to_a_deleted_tenant_are_left_over_and_not_tried_for_ever(
    office, webhooks, delete, left, superuser
):
    channel = await office.channel()
    await office.send(channel, "+4915112345001")
    accepted = office.meta.accepted[-1:]
    await delete()

    async with asyncio.timeout(30):
        await webhooks.fail(channel, 131026, accepted=accepted)

    assert await left() == set()
    assert await superuser.fetchval("SELECT count(*) FROM webhook_inbox") == 0
    assert await superuser.fetchval("SELECT count(*) FROM webhook_quarantine") == 1


async def test_messages_that_are_accepted_beside_the_deletion_are_refused_or_deleted_with_it(
    office, delete, left
):
    channel = await office.channel()
    refused = []

    async def accept(number):
        try:
            await office.store(channel, f"+49151{number:08}")
        except (TenantNotFound, ChannelNotFound, TransactionConflict) as error:
            refused.append(error)

    async with asyncio.timeout(30):
        accepting = [asyncio.create_task(accept(number)) for number in range(1, 40)]
        await asyncio.sleep(0)
        await delete()
        await asyncio.gather(*accepting)
        await accept(99)

    assert isinstance(refused[-1], NotFoundException)
    assert await left() == set()
