"""Files are removed when nobody used them for as long as they are kept, and no sooner."""

from datetime import timedelta

import pytest

from shared.infrastructure.database import create_engine
from shared.kernel.clock import utc_now
from tellwire.media import CleanUp
from tenancy.infrastructure.repositories import SQLAlchemyTenantDirectory
from whatsapp.application.clean_up_media import CleanUpMedia
from whatsapp.application.media_ports import MediaStoreUnavailable
from whatsapp.domain.media import Media, MediaDirection, MediaStatus
from whatsapp.domain.media_type import MediaKind
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

KEEP_FOR = timedelta(days=30)


def clean_up(files, *, after=timedelta(), store=None):
    return CleanUpMedia(
        begin=work_in(files.sessions),
        store=store or files.store,
        keep_for=KEEP_FOR,
        now=lambda: utc_now() + after,
    )


@pytest.fixture
async def fetched(files, ana):
    await files.receive(ana, await files.upload(ana, b"a file"))
    assert await files.move_due() == [None]
    (media,) = await files.media_of(ana)
    return media


async def test_a_file_is_kept_for_its_time_and_then_removed(files, ana, fetched) -> None:
    assert await clean_up(files, after=KEEP_FOR - timedelta(hours=1))(ana.tenant_id) == 0
    assert await files.read(fetched) == b"a file"

    assert await clean_up(files, after=KEEP_FOR + timedelta(hours=1))(ana.tenant_id) == 1

    assert files.stored_files() == []
    (media,) = await files.media_of(ana)
    assert media.status is MediaStatus.REMOVED
    assert await clean_up(files, after=KEEP_FOR * 2)(ana.tenant_id) == 0


@pytest.mark.usefixtures("fetched")
async def test_a_clean_up_that_dies_in_the_middle_is_finished_by_the_next(files, ana) -> None:
    class Dying:
        async def remove(self, _key):
            raise MediaStoreUnavailable

    with pytest.raises(MediaStoreUnavailable):
        await clean_up(files, after=KEEP_FOR * 2, store=Dying())(ana.tenant_id)
    (media,) = await files.media_of(ana)
    assert media.status is MediaStatus.REMOVING

    assert await clean_up(files)(ana.tenant_id) == 1

    assert files.stored_files() == []


@pytest.mark.usefixtures("fetched")
async def test_what_was_to_be_deleted_is_deleted_where_files_are_kept_for_good_too(
    files, ana, database
) -> None:
    (media,) = await files.media_of(ana)
    async with work_in(files.sessions)(ana.tenant_id) as work:
        await work.media.mark_for_removal(media.id)  # As one that died, or whose store was gone.
        await work.commit()
    kept = await files.upload(ana, b"another file")
    await files.receive(ana, kept)
    assert await files.move_due() == [None]
    engine = create_engine(database.url("tellwire_process"))
    clean_up = CleanUp(
        directory=SQLAlchemyTenantDirectory(engine),
        store=files.store,
        begin=work_in(files.sessions),
        keep_for=None,
    )

    assert await clean_up() == 1

    await engine.dispose()
    statuses = {one.provider_media_id: one.status for one in await files.media_of(ana)}
    assert statuses.pop(kept) is MediaStatus.STORED
    assert list(statuses.values()) == [MediaStatus.REMOVED]
    assert len(files.stored_files()) == 1


async def test_another_tenants_files_stay(files, bea, fetched) -> None:
    assert await clean_up(files, after=KEEP_FOR * 2)(bea.tenant_id) == 0

    assert await files.read(fetched) == b"a file"


async def test_more_than_a_handful_are_removed(files, ana) -> None:
    for number in range(105):
        async with work_in(files.sessions)(ana.tenant_id) as work:
            await work.media.save_outbound(_outbound(ana, number))
            await work.commit()

    assert await clean_up(files, after=KEEP_FOR * 2)(ana.tenant_id) == 105


async def test_what_a_scheduled_message_needs_counts_as_used_until_then(files, ana) -> None:
    at, later = utc_now(), utc_now() + timedelta(days=200)
    async with work_in(files.sessions)(ana.tenant_id) as work:
        media = await work.media.save_outbound(_outbound(ana, 1))
        await work.media.want_uploads(ana.channel.id, [media.id], at=at, needed_at=later)
        await work.commit()

    assert await clean_up(files, after=timedelta(days=220))(ana.tenant_id) == 0
    assert await clean_up(files, after=timedelta(days=231))(ana.tenant_id) == 1


def _outbound(customer, number):
    return Media(
        tenant_id=customer.tenant_id,
        direction=MediaDirection.OUTBOUND,
        kind=MediaKind.IMAGE,
        status=MediaStatus.STORED,
        mime_type="image/png",
        size=1,
        sha256=number.to_bytes(32, "big"),
        used_at=utc_now(),
    )
