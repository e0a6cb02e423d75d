"""What channel methods give, and what they leave in the database."""

import pytest
from asyncpg.exceptions import LockNotAvailableError
from sqlalchemy import text

from shared.infrastructure.database import InvalidReference, StillReferenced
from shared.kernel.clock import utc_now
from shared.kernel.errors import NotFoundException
from shared.kernel.ids import new_id
from whatsapp.domain.entities import Channel, ChannelAlreadyExists
from whatsapp.domain.value_objects import AccessToken, AccessTokenUnreadable

pytestmark = pytest.mark.postgres


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


def channel(customer, number="7", **values):
    given = {"name": "Second", "phone_number_id": number, "access_token": AccessToken("EAAG-2")}
    return Channel(tenant_id=customer.tenant_id, **given | values)


async def test_a_channel_comes_back_as_it_was_stored(at, ana):
    given = channel(ana, provider_account_id="9", app_id="8", display_phone_number="+49 1")
    async with at(ana) as desk:
        stored = await desk.channels.add(given)
        given.created_at, given.updated_at = stored.created_at, stored.updated_at
        assert stored == given
        assert await desk.channels.get_by_id(given.id) == given
        assert await desk.channels.get_by_phone_number_id("7") == given
        assert await desk.channels.get_by_id(new_id()) is None
        assert await desk.channels.get_by_phone_number_id("8") is None


async def test_active_channels_are_verified_and_neither_paused_nor_disabled(at, ana):
    async with at(ana) as desk:
        pending = await desk.channels.add(channel(ana, "1"))
        paused = channel(ana, "2", verified_at=utc_now())
        paused.verify(utc_now())
        paused.pause("quality")
        await desk.channels.add(paused)

        active = await desk.channels.get_active_channels()
        everything = await desk.channels.get_by_organization(ana.tenant_id)

    assert [c.id for c in active] == [ana.channel.id]
    assert [c.id for c in everything] == [ana.channel.id, pending.id, paused.id]


async def test_pages_follow_the_ids(at, ana):
    async with at(ana) as desk:
        added = [await desk.channels.add(channel(ana, str(number))) for number in range(5)]
        ids = [ana.channel.id, *(c.id for c in added)]
        first = await desk.channels.list(limit=4)
        rest = await desk.channels.list(limit=4, after=first[-1].id)

    assert [c.id for c in (*first, *rest)] == ids
    assert len(rest) == 2


async def test_changes_are_stored_with_the_new_token_encrypted(at, ana, superuser):
    ana.channel.rotate_token(AccessToken("EAAG-new"))
    ana.channel.pause("asked for")
    async with at(ana) as desk:
        changed = await desk.channels.update(ana.channel)
    async with at(ana) as desk:
        found = await desk.channels.get_by_id(ana.channel.id)

    assert changed == found
    assert found.access_token.reveal() == "EAAG-new"
    assert found.status == "paused"
    assert found.updated_at > found.created_at
    stored = await superuser.fetchval(
        "SELECT access_token FROM whatsapp_channels WHERE id = $1", found.id
    )
    assert b"EAAG" not in stored


async def test_a_second_channel_for_one_number_is_refused(at, ana):
    async with at(ana) as desk:
        with pytest.raises(ChannelAlreadyExists):
            await desk.channels.add(channel(ana, ana.channel.phone_number_id))
        await desk.uow.rollback()


async def test_updating_a_channel_that_is_gone_says_so(at, ana):
    async with at(ana) as desk:
        with pytest.raises(NotFoundException):
            await desk.channels.update(channel(ana))


async def test_a_channel_without_messages_can_be_deleted(at, ana):
    async with at(ana) as desk:
        assert await desk.channels.delete(ana.channel.id)
        assert not await desk.channels.delete(ana.channel.id)


async def test_a_channel_with_messages_cannot_be_deleted(at, ana, message):
    async with at(ana) as desk:
        await desk.messages.save_outbound(message(ana))
        with pytest.raises(StillReferenced) as refused:
            await desk.channels.delete(ana.channel.id)
        await desk.uow.rollback()

    assert refused.value.status == 409
    assert not isinstance(refused.value, InvalidReference)


async def test_a_token_moved_to_another_tenants_row_does_not_open(at, ana, bea, superuser):
    await superuser.execute(
        "UPDATE whatsapp_channels SET access_token ="
        " (SELECT access_token FROM whatsapp_channels WHERE id = $1) WHERE id = $2",
        ana.channel.id,
        bea.channel.id,
    )
    async with at(bea) as desk:
        with pytest.raises(Exception, match="access_token") as refused:
            await desk.channels.get_by_id(bea.channel.id)

        assert refused.value.code == "decryption_tampered"
        assert await desk.uow.session.scalar(text("SELECT 1")) == 1


async def test_a_token_that_does_not_open_spoils_its_own_channel_alone(at, ana, superuser):
    async with at(ana) as desk:
        second = channel(ana)
        second.verify(utc_now())
        await desk.channels.add(second)
    await superuser.execute(
        "UPDATE whatsapp_channels SET access_token = substr(access_token, 1, 40) WHERE id = $1",
        ana.channel.id,
    )
    before = await superuser.fetchval(
        "SELECT access_token FROM whatsapp_channels WHERE id = $1", ana.channel.id
    )
    async with at(ana) as desk:
        for found in (
            await desk.channels.list(),
            await desk.channels.get_by_organization(ana.tenant_id),
            await desk.channels.get_active_channels(),
            sorted(
                await desk.channels.find_many([second.id, ana.channel.id, new_id()]),
                key=lambda one: one.id,
            ),
        ):
            assert [c.id for c in found] == [ana.channel.id, second.id]
            assert [c.access_token.is_readable for c in found] == [False, True]
            assert found[1].access_token.reveal() == "EAAG-2"
            with pytest.raises(AccessTokenUnreadable, match="decryption_"):
                found[0].access_token.reveal()

        broken = await desk.channels.find(ana.channel.id, for_change=True)
        broken.pause("mend it")
        stored = await desk.channels.update(broken)

    assert (stored.status, stored.access_token.is_readable) == ("paused", False)
    after = await superuser.fetchval(
        "SELECT access_token FROM whatsapp_channels WHERE id = $1", ana.channel.id
    )
    assert after == before

    async with at(ana) as desk:
        with pytest.raises(AccessTokenUnreadable):
            stored.resume()
        stored.rotate_token(AccessToken("EAAG-mended"))
        stored.resume()
        await desk.channels.update(stored)
        assert (
            await desk.channels.get_by_id(ana.channel.id)
        ).access_token.reveal() == "EAAG-mended"


async def test_a_channel_that_is_to_be_changed_is_locked_until_the_transaction_ends(
    at, ana, superuser
):
    async with at(ana) as desk:
        await desk.channels.find(ana.channel.id, for_change=True)
        with pytest.raises(LockNotAvailableError):
            await superuser.execute(
                "SELECT 1 FROM whatsapp_channels WHERE id = $1 FOR UPDATE NOWAIT", ana.channel.id
            )
    await superuser.execute(
        "SELECT 1 FROM whatsapp_channels WHERE id = $1 FOR UPDATE NOWAIT", ana.channel.id
    )
