"""A tenant's upload that breaks off anywhere leaves no bytes behind that nobody would ever find."""

import asyncio
import hashlib
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from shared.kernel.clock import utc_now
from shared.kernel.errors import TellwireError, Unavailable
from whatsapp.application.clean_up_media import FORGOTTEN, CleanUpMedia
from whatsapp.application.media_ports import MediaStoreUnavailable
from whatsapp.application.store_media import StoreMedia
from whatsapp.domain.media import MediaStatus
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

PNG = b"\x89PNG" + bytes(2000)
AN_HOUR = timedelta(hours=1)


class Watched:
    """The real store, that does something of ours behind each file that it keeps or removes."""

    def __init__(self, store, *, kept=None, removing=None):
        self.store, self.kept, self.removing = store, kept, removing

    @asynccontextmanager
    async def drafting(self):
        async with self.store.drafting() as draft:
            if self.kept is not None:
                draft.keep = self._then(draft.keep)
            yield draft

    def _then(self, keep):
        async def keep_and(key, **given):
            await keep(key, **given)
            await self.kept()

        return keep_and

    async def remove(self, key):
        if self.removing is not None:
            await self.removing()
        await self.store.remove(key)


async def pieces(content):
    yield content


async def die():
    raise Unavailable


async def be_gone():
    raise MediaStoreUnavailable


@pytest.fixture
def take_in(files, ana):
    """Take in a file of Ana's, as the API does."""

    async def take_in(content=PNG, **watched):
        store = StoreMedia(
            begin=work_in(files.sessions), store=Watched(files.store, **watched), now=utc_now
        )
        return await store(ana.tenant_id, pieces(content), mime_type="image/png")

    return take_in


@pytest.fixture
def clean_up(files, ana):
    """The cleaning up of Ana's files, so much later."""

    async def clean_up(later):
        clean = CleanUpMedia(
            begin=work_in(files.sessions),
            store=files.store,
            keep_for=None,
            now=lambda: utc_now() + later,
        )
        return await clean(ana.tenant_id)

    return clean_up


async def test_the_bytes_of_an_upload_that_broke_off_are_removed_when_nobody_can_need_them(
    files, ana, take_in, clean_up
) -> None:
    with pytest.raises(Unavailable):
        await take_in(kept=die)
    assert len(files.stored_files()) == 1

    assert await clean_up(FORGOTTEN - AN_HOUR) == 0
    assert len(files.stored_files()) == 1, "it may still be under way"
    assert await clean_up(FORGOTTEN + AN_HOUR) == 1

    assert files.stored_files() == []
    assert {one.status for one in await files.media_of(ana)} == {MediaStatus.REMOVED}


async def test_the_same_file_can_be_uploaded_again_at_once_and_stays(
    files, take_in, clean_up
) -> None:
    with pytest.raises(Unavailable):
        await take_in(kept=die)

    media, is_new = await take_in()
    assert is_new
    assert await clean_up(FORGOTTEN + AN_HOUR) == 1

    assert await files.read(media) == PNG
    assert len(files.stored_files()) == 1
    again, is_new = await take_in()
    assert (again.id, is_new) == (media.id, False)


async def test_the_same_file_twice_at_once_is_one_and_its_bytes_lie_there_once(
    files, ana, take_in
) -> None:
    both, kept = asyncio.Barrier(2), files.stored_files

    async with asyncio.timeout(30):
        one, other = await asyncio.gather(*(take_in(kept=both.wait) for _ in range(2)))

    assert one[0].id == other[0].id
    assert sorted((one[1], other[1])) == [False, True]
    assert len(kept()) == 1
    assert await files.read(one[0]) == PNG
    assert len(await files.media_of(ana)) == 1


async def test_a_second_copy_that_cannot_be_removed_now_is_removed_later_and_fails_nobody(
    files, take_in, clean_up
) -> None:
    both = asyncio.Barrier(2)

    async with asyncio.timeout(30):
        one, other = await asyncio.gather(
            *(take_in(kept=both.wait, removing=be_gone) for _ in range(2))
        )
    assert one[0].id == other[0].id
    assert len(files.stored_files()) == 2

    assert await clean_up(FORGOTTEN + AN_HOUR) == 1

    assert len(files.stored_files()) == 1
    assert await files.read(one[0]) == PNG


async def test_an_upload_that_stood_still_until_it_was_given_up_stores_nothing_without_bytes(
    files, ana, take_in, clean_up
) -> None:
    async def sleep_long():
        assert await clean_up(FORGOTTEN + AN_HOUR) == 1

    with pytest.raises(TellwireError) as refused:
        await take_in(kept=sleep_long)

    assert refused.value.retryable
    assert {one.status for one in await files.media_of(ana)} == {MediaStatus.REMOVED}
    media, is_new = await take_in()
    assert is_new
    assert (await files.read(media), media.sha256) == (PNG, hashlib.sha256(PNG).digest())
