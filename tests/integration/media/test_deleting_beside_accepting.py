"""A file is deleted while messages with it are accepted: they wait for, not on, each other."""

import asyncio
from datetime import timedelta

import pytest

from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from whatsapp.application.send_uploads import find_uploads, want_uploads
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.media import Media, MediaDirection, MediaStatus
from whatsapp.domain.media_type import MediaKind
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.value_objects import MessageContent, PhoneNumber
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

AT = utc_now()
DAY = timedelta(days=1)
_LOST = FailureReason(100, "Invalid parameter", "")


@pytest.fixture
def begin(sessions):
    return work_in(sessions)


@pytest.fixture
async def media(begin, ana):
    media = Media(
        tenant_id=ana.tenant_id,
        direction=MediaDirection.OUTBOUND,
        kind=MediaKind.IMAGE,
        status=MediaStatus.STORED,
        mime_type="image/png",
        sha256=new_id().bytes * 2,
        used_at=AT,
    )
    async with begin(ana.tenant_id) as work:
        await work.media.save_outbound(media)
        await work.commit()
    return media


@pytest.fixture
async def channels(ana, superuser):
    """Two channels of Ana's, in the order in which acceptance takes them."""
    other = new_id()
    columns = [
        row["column_name"]
        for row in await superuser.fetch(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name = 'whatsapp_channels'"
        )
        if row["column_name"] not in {"id", "phone_number_id"}
    ]
    names = ", ".join(columns)
    await superuser.execute(
        f"INSERT INTO whatsapp_channels (id, phone_number_id, {names})"  # noqa: S608  # its columns
        f" SELECT $1, $2, {names} FROM whatsapp_channels WHERE id = $3",
        other,
        str(new_id().int)[:15],
        ana.channel.id,
    )
    return sorted([ana.channel.id, other])


@pytest.fixture
def carrying(ana, media):
    """A message with the file, over a channel, to be sent at some time."""

    def carrying(channel_id, **given):
        return OutboundMessage(
            tenant_id=ana.tenant_id,
            channel_id=channel_id,
            recipient=PhoneNumber("+4915112345678"),
            content=MessageContent("image", {"id": str(media.id)}),
            **given,
        )

    return carrying


@pytest.fixture
def expired(begin, ana, superuser):
    """Meta had the file for these channels, and has it no longer."""

    async def expired(media, *channel_ids):
        async with begin(ana.tenant_id) as work:
            for channel_id in channel_ids:
                await work.media.want_uploads(channel_id, [media.id], at=AT, needed_at=AT)
            await work.commit()
        await superuser.execute("DELETE FROM whatsapp_media_jobs WHERE media_id = $1", media.id)
        await superuser.execute(
            "UPDATE whatsapp_media_uploads SET provider_media_id = '1',"
            " settled_at = now() - interval '30 days', expires_at = now() - interval '1 day'"
            " WHERE media_id = $1",
            media.id,
        )

    return expired


@pytest.fixture
def remove(begin, ana, media):
    async def remove():
        async with begin(ana.tenant_id) as work:
            removed = await work.media.mark_for_removal(media.id)
            await work.commit()
        return removed.status

    return remove


async def _stored(superuser, media):
    return await superuser.fetchval("SELECT status FROM whatsapp_media WHERE id = $1", media.id)


async def test_a_file_is_deleted_while_messages_with_it_are_accepted_over_two_channels(
    begin, ana, media, channels, carrying, expired, is_waiting, remove, superuser
):
    """The second is to go tomorrow: so long the file is needed, which its row has to say."""
    await expired(media, *channels)
    reached, go = asyncio.Event(), asyncio.Event()

    async def accept():
        async with begin(ana.tenant_id) as work:
            want = work.media.want_uploads

            async def stopping(channel_id, *args, **given):
                await want(channel_id, *args, **given)
                if channel_id == channels[0]:
                    reached.set()
                    await go.wait()

            work.media.want_uploads = stopping
            messages = [carrying(channels[0]), carrying(channels[1], send_at=AT + DAY)]
            await want_uploads(work, messages, AT)
            await work.commit()

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        accepting = tasks.create_task(accept())
        await reached.wait()
        removing = tasks.create_task(remove())
        await is_waiting(removing)
        go.set()

    assert accepting.done()
    assert removing.result() is MediaStatus.REMOVING
    assert await _stored(superuser, media) == "removing"


async def test_a_file_is_deleted_while_what_meta_lost_of_it_is_asked_for_again(
    begin, ana, media, channels, carrying, expired, is_waiting, remove, superuser
):
    await expired(media, *channels)
    await superuser.execute(
        "UPDATE whatsapp_media_uploads SET expires_at = now() + interval '1 day'"
    )
    await superuser.execute("UPDATE whatsapp_media SET used_at = now() - interval '9 days'")
    message = carrying(channels[0], status_at=utc_now())
    message.failure = _LOST
    reached, go = asyncio.Event(), asyncio.Event()

    async def find():
        async with begin(ana.tenant_id) as work:
            forget = work.media.forget_uploads

            async def stopping(*args):
                await forget(*args)
                reached.set()
                await go.wait()

            work.media.forget_uploads = stopping
            found = await find_uploads(work, channels[0], [message], utc_now())
            await work.commit()
        return found

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        finding = tasks.create_task(find())
        await reached.wait()
        removing = tasks.create_task(remove())
        await is_waiting(removing)
        go.set()

    assert finding.result().waiting == {message.id}
    assert removing.result() is MediaStatus.REMOVING


async def test_a_deletion_takes_uploads_in_the_order_in_which_acceptance_does(
    begin, ana, media, channels, expired, is_waiting, remove, superuser
):
    await expired(media, *reversed(channels))  # The last is the first in the table.

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks, begin(ana.tenant_id) as work:
        # As fresh as is needed: acceptance holds no media, and uploads alone.
        await work.media.want_uploads(channels[0], [media.id], at=AT, needed_at=AT)
        removing = tasks.create_task(remove())
        await is_waiting(removing)
        await work.media.want_uploads(channels[1], [media.id], at=AT, needed_at=AT)
        await work.commit()

    assert removing.result() is MediaStatus.REMOVING
    assert await _stored(superuser, media) == "removing"
