"""A store that fails while a file goes to Meta: the store is named as the reason, and Meta not."""

from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from shared.kernel.clock import utc_now
from whatsapp.application.media_ports import MediaStoreUnavailable
from whatsapp.application.store_media import ReadMedia, RemoveMedia, StoreMedia
from whatsapp.domain.media import MediaFailure, MediaNotAvailable
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

PNG = b"\x89PNG" + bytes(600_000)


async def in_pieces(content):
    for start in range(0, len(content), 100_000):
        yield content[start : start + 100_000]


class BreaksOff:
    """The real store, whose line breaks after so many pieces of a file."""

    def __init__(self, store, after):
        self.store, self.after = store, after

    @asynccontextmanager
    async def reading(self, key, **part):
        async with self.store.reading(key, **part) as pieces:
            yield self._some(pieces)

    async def _some(self, pieces):
        left = self.after
        async for piece in pieces:
            if not left:
                raise MediaStoreUnavailable
            left -= 1
            yield piece


@pytest.fixture
async def waiting(files, ana):
    """A file of Ana's that waits for its upload to Meta."""
    files.tenants.add(ana.tenant_id)
    begin, at = work_in(files.sessions), utc_now()
    store = StoreMedia(begin=begin, store=files.store)
    media, _ = await store(ana.tenant_id, in_pieces(PNG), mime_type="image/png")
    async with begin(ana.tenant_id) as work:
        await work.media.want_uploads(ana.channel.id, [media.id], at=at, needed_at=at)
        await work.commit()
    return media


@pytest.mark.usefixtures("waiting")
async def test_a_store_that_breaks_off_during_an_upload_is_the_reason_and_is_tried_again(
    files,
) -> None:
    (job,) = await files.claim()
    move = replace(files.move, store=BreaksOff(files.store, after=1))

    assert await move(job) is MediaFailure.STORE_FAILED
    assert (await files.control("GET"))["uploads"] == 0

    assert await files.move_all() == [None]


@pytest.mark.parametrize("change", [PNG[:-1], PNG + b"x", b""], ids=["short", "long", "empty"])
async def test_what_is_not_the_file_any_more_goes_to_nobody(files, waiting, change) -> None:
    (path,) = files.stored_files()
    path.write_bytes(change)

    assert await files.move_all() == [MediaFailure.GONE] * 3

    assert (await files.control("GET"))["uploads"] == 0
    read = ReadMedia(begin=work_in(files.sessions), store=files.store)
    with pytest.raises(MediaNotAvailable):
        [piece async for piece in read.content(waiting)]


async def test_a_part_of_a_file_is_the_part_that_was_asked_for(files, waiting) -> None:
    read = ReadMedia(begin=work_in(files.sessions), store=files.store)

    got = [piece async for piece in read.content(waiting, start=1)]
    part = [piece async for piece in read.content(waiting, start=1, length=3)]

    assert (b"".join(got), b"".join(part)) == (PNG[1:], b"PNG")


async def test_who_reads_a_file_while_it_is_deleted_gets_it_whole_and_nobody_after_that(
    files, ana, waiting
) -> None:
    begin = work_in(files.sessions)
    pieces = ReadMedia(begin=begin, store=files.store).content(waiting)
    got = await anext(pieces)

    await RemoveMedia(begin=begin, store=files.store)(ana.tenant_id, waiting.id)
    got += b"".join([piece async for piece in pieces])

    assert got == PNG
    assert files.stored_files() == []
    with pytest.raises(MediaNotAvailable):
        await anext(ReadMedia(begin=begin, store=files.store).content(waiting))


async def test_a_job_that_was_begun_ever_so_often_keeps_no_other_from_being_claimed(
    files, ana, waiting
) -> None:
    await files.execute(ana.tenant_id, "UPDATE whatsapp_media_jobs SET attempts = 32767")

    (job,) = await files.claim()

    assert job.attempts == 32767
    assert job.media_id == waiting.id
    assert await files.move(job) is None
