"""Files are removed when nobody used them for as long as they are kept, and no sooner."""

from datetime import timedelta

import pytest

from shared.infrastructure.database import create_engine
from shared.kernel.clock import utc_now
from tellwire.media import CleanUp
from whatsapp.application.clean_up_media import MOST_FAILURES, CleanUpMedia
from whatsapp.application.media_ports import MediaStoreUnavailable
from whatsapp.domain.media import Media, MediaDirection, MediaStatus
from whatsapp.domain.media_type import MediaKind
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyOverdue
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
        overdue=SQLAlchemyOverdue(engine),
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


class Stubborn:
    """The real store, but for files that it does not give up."""

    def __init__(self, store, *kept):
        self.store, self.kept, self.asked = store, {one.place for one in kept}, 0
        self.sweep = store.sweep

    async def remove(self, key):
        self.asked += 1
        if key in self.kept:
            raise MediaStoreUnavailable
        await self.store.remove(key)


async def marked(files, customer, number):
    """A file that is to be removed, and is not yet."""
    async with work_in(files.sessions)(customer.tenant_id) as work:
        media = await work.media.save_outbound(_outbound(customer, number))
        await work.media.mark_for_removal(media.id)
        await work.commit()
    return media


@pytest.fixture
async def everybody(files, database):
    """The cleaning up of all tenants, with a store of ours."""
    engine = create_engine(database.url("tellwire_process"))

    def everybody(store):
        return CleanUp(
            overdue=SQLAlchemyOverdue(engine),
            store=store,
            begin=work_in(files.sessions),
            keep_for=None,
        )

    yield everybody
    await engine.dispose()


async def statuses(files, customer):
    return {one.id: one.status for one in await files.media_of(customer)}


async def test_a_file_that_cannot_be_removed_keeps_no_other_of_any_tenant(
    files, ana, bea, everybody
) -> None:
    first, *others = sorted([ana, bea], key=lambda one: one.tenant_id)
    kept = await marked(files, first, 1)
    gone = [await marked(files, one, number) for one in (first, *others) for number in (2, 3)]

    with pytest.raises(MediaStoreUnavailable):  # So that somebody hears of it.
        await everybody(Stubborn(files.store, kept))()

    found = await statuses(files, first) | await statuses(files, others[0])
    assert found.pop(kept.id) is MediaStatus.REMOVING
    assert found == {one.id: MediaStatus.REMOVED for one in gone}


async def test_a_store_that_is_gone_is_not_asked_for_each_of_many_files(
    files, ana, everybody
) -> None:
    all_of_them = [await marked(files, ana, number) for number in range(20)]
    store = Stubborn(files.store, *all_of_them)

    with pytest.raises(MediaStoreUnavailable):
        await everybody(store)()

    assert store.asked == MOST_FAILURES
    assert set((await statuses(files, ana)).values()) == {MediaStatus.REMOVING}


@pytest.mark.usefixtures("fetched")
async def test_nothing_is_begun_for_a_tenant_that_has_nothing_to_remove(
    files, ana, bea, database
) -> None:
    begun, begin = [], work_in(files.sessions)

    def watched(tenant_id):
        begun.append(tenant_id)
        return begin(tenant_id)

    await marked(files, bea, 1)
    engine = create_engine(database.url("tellwire_process"))
    overdue = SQLAlchemyOverdue(engine)
    clean_up = CleanUp(overdue=overdue, store=files.store, begin=watched, keep_for=KEEP_FOR)

    assert await clean_up() == 1

    await engine.dispose()
    assert set(begun) == {bea.tenant_id}
    assert [one.status for one in await files.media_of(ana)] == [MediaStatus.STORED]


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
