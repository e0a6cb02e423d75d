"""What people send is fetched once, whole and checked, whatever happens on the way."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.infrastructure.encryption import EncryptionManager, KeyRing, configure_encryption
from shared.kernel.clock import utc_now
from whatsapp.domain.media import MediaFailure, MediaStatus
from whatsapp.domain.media_repository import MediaJobKind
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

CONTENT = bytes(range(256)) * 4000  # about a megabyte


async def only(files, customer):
    (media,) = await files.media_of(customer)
    return media


async def test_a_file_that_a_person_sent_is_fetched_checked_and_stored(files, ana) -> None:
    media_id = await files.upload(ana, CONTENT)
    await files.receive(ana, media_id)

    assert await files.move_due() == [None]

    media = await only(files, ana)
    assert media.status is MediaStatus.STORED
    assert (media.size, media.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).digest())
    assert await files.read(media) == CONTENT
    assert await files.claim() == []


async def test_the_job_is_stored_with_the_message_or_not_at_all(files, ana) -> None:
    media_id = await files.upload(ana, CONTENT)

    await files.receive(ana, media_id, dies=True)

    assert await files.media_of(ana) == []
    assert await files.claim() == []


async def test_a_message_that_comes_twice_is_fetched_once(files, ana) -> None:
    media_id = await files.upload(ana, CONTENT)
    await files.receive(ana, media_id)
    await files.receive(ana, media_id)  # Another message, the same file.

    assert await files.move_all() == [None]

    assert (await files.control("GET"))["downloads"][media_id] == 1
    assert len(await files.media_of(ana)) == 1


async def test_two_workers_never_get_the_same_file(files, ana) -> None:
    for number in range(20):
        await files.receive(ana, await files.upload(ana, b"%d" % number))

    claims = await asyncio.gather(*(files.claim(limit=5) for _ in range(6)))

    jobs = [job.id for some in claims for job in some]
    assert len(jobs) == len(set(jobs)) == 20


@pytest.mark.parametrize(
    ("faults", "first"),
    [
        ({"truncated": 1}, MediaFailure.UNREACHABLE),
        ({"errors": 1}, MediaFailure.UNREACHABLE),
        ({"wrong_hash": 1}, MediaFailure.WRONG_HASH),
        ({"endless": 1}, MediaFailure.WRONG_SIZE),
        ({"pages": 1}, MediaFailure.WRONG_TYPE),
        ({"missing": 1}, MediaFailure.GONE),
        ({"expired": 3}, MediaFailure.UNREACHABLE),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
async def test_trouble_that_passes_is_tried_again(files, ana, faults, first) -> None:
    media_id = await files.upload(ana, CONTENT)
    await files.receive(ana, media_id)
    await files.spoil(**faults)

    assert await files.move_due() == [first]
    media = await only(files, ana)
    assert media.status is MediaStatus.PENDING
    assert files.stored_files() == []
    assert await files.claim() == [], "it waits before the next attempt"

    assert await files.move_all() == [None]
    assert await files.read(await only(files, ana)) == CONTENT


async def test_an_address_that_expired_is_asked_for_again_at_once(files, ana) -> None:
    media_id = await files.upload(ana, CONTENT)
    await files.receive(ana, media_id)
    await files.spoil(expired=2)

    assert await files.move_due() == [None]

    assert await files.read(await only(files, ana)) == CONTENT


@pytest.mark.parametrize(
    ("faults", "attempts", "failure"),
    [
        ({"wrong_hash": 99}, 5, MediaFailure.WRONG_HASH),
        ({"endless": 99}, 5, MediaFailure.WRONG_SIZE),
        ({"pages": 99}, 3, MediaFailure.WRONG_TYPE),
        ({"missing": 99}, 3, MediaFailure.GONE),
    ],
    ids=["hash", "size", "type", "gone"],
)
async def test_trouble_that_stays_is_recorded_with_its_code(
    files, ana, faults, attempts, failure
) -> None:
    media_id = await files.upload(ana, CONTENT)
    await files.receive(ana, media_id)
    await files.spoil(**faults)

    assert await files.move_all() == [failure] * attempts

    media = await only(files, ana)
    assert (media.status, media.failure) == (MediaStatus.FAILED, failure.value)
    assert files.stored_files() == []
    assert await files.claim() == []


async def test_a_file_that_is_too_large_is_not_even_begun(files, ana) -> None:
    media_id = await files.upload(ana, CONTENT)
    await files.receive(ana, media_id)
    files.limit(max_bytes=len(CONTENT) - 1)

    assert await files.move_all() == [MediaFailure.TOO_LARGE]

    assert (await only(files, ana)).failure == "media_too_large"
    assert (await files.control("GET"))["downloads"][media_id] == 0


async def test_a_file_that_comes_too_slowly_gives_its_place_to_others(files, ana) -> None:
    media_id = await files.upload(ana, CONTENT)
    await files.receive(ana, media_id)
    await files.spoil(bytes_per_second=1000)
    files.limit(transfer=timedelta(seconds=0.3))

    assert await files.move_due() == [MediaFailure.UNREACHABLE]

    assert files.stored_files() == []
    assert (await only(files, ana)).status is MediaStatus.PENDING


async def test_a_type_that_the_message_cannot_bring_is_refused(files, ana) -> None:
    media_id = await files.upload(ana, b"words", "text/plain")
    await files.receive(ana, media_id, kind="image")

    assert set(await files.move_all()) == {MediaFailure.WRONG_TYPE}


async def test_documents_may_be_of_any_type(files, ana) -> None:
    media_id = await files.upload(ana, b"words", "text/plain")
    await files.receive(ana, media_id, kind="document", filename="../../etc/words.txt")

    assert await files.move_all() == [None]

    media = await only(files, ana)
    assert (media.mime_type, media.filename) == ("text/plain", "words.txt")


async def test_an_operator_may_do_without_metas_hash(files, ana) -> None:
    media_id = await files.upload(ana, CONTENT)
    await files.receive(ana, media_id)
    await files.spoil(wrong_hash=1)
    files.limit(verify_hash=False)

    assert await files.move_due() == [None]


async def test_a_worker_that_lost_its_lease_records_nothing(files, ana) -> None:
    media_id = await files.upload(ana, CONTENT)
    await files.receive(ana, media_id)
    (stopped,) = await files.claim()
    await files.hurry()  # Its lease is over.
    (taken_over,) = await files.claim()
    await files.spoil(missing=1)

    assert await files.move(stopped) is MediaFailure.GONE
    assert (await only(files, ana)).status is MediaStatus.PENDING
    assert await files.move(taken_over) is None
    assert await files.move(replace(stopped)) is MediaFailure.GONE

    media = await only(files, ana)
    assert media.status is MediaStatus.STORED
    assert await files.read(media) == CONTENT


async def test_a_file_that_meta_does_not_have_any_more_is_given_up_after_its_life(
    files, ana
) -> None:
    media_id = await files.upload(ana, CONTENT)
    await files.receive(ana, media_id)
    await files.spoil(errors=99)
    move = replace(files.move, now=lambda: utc_now() + timedelta(days=7))

    (job,) = await files.claim()

    assert await move(job) is MediaFailure.UNREACHABLE
    assert (await only(files, ana)).failure == "media_unreachable"


async def test_one_tenants_files_do_not_hold_up_anothers(files, ana, bea) -> None:
    for number in range(30):
        await files.receive(ana, await files.upload(ana, b"%d" % number))
    await files.receive(bea, await files.upload(bea, CONTENT))

    jobs = await files.claim(limit=8, per_tenant=4)

    assert sorted(job.tenant_id for job in jobs).count(bea.tenant_id) == 1
    assert {job.kind for job in jobs} == {MediaJobKind.FETCH}


async def test_a_tenant_sees_and_moves_its_own_files_alone(files, ana, bea) -> None:
    media_id = await files.upload(ana, CONTENT)
    await files.receive(ana, media_id)
    (job,) = await files.claim()
    (media,) = await files.media_of(ana)

    async with work_in(files.sessions)(bea.tenant_id) as work:
        assert await work.media.get_by_id(media.id) is None
        assert not await work.media.record_failed(job, MediaFailure.GONE)
        assert not await work.media.postpone(job, timedelta())
        await work.commit()
    assert await files.media_of(bea) == []
    assert await files.move(job) is None


async def test_meta_gives_the_same_id_to_two_tenants_and_each_has_its_own_file(
    files, ana, bea
) -> None:
    media_id = await files.upload(ana, CONTENT)
    await files.receive(ana, media_id)
    await files.receive(bea, media_id)

    outcomes = await files.move_all()

    # Meta gives it to the number alone that it was sent to.
    assert sorted(map(str, outcomes)) == sorted(["None", *["media_gone"] * 3])
    assert (await only(files, ana)).status is MediaStatus.STORED
    assert (await only(files, bea)).status is MediaStatus.FAILED


async def test_a_token_that_does_not_open_waits_until_it_is_mended(files, ana, encryption) -> None:
    media_id = await files.upload(ana, CONTENT)
    await files.receive(ana, media_id)
    configure_encryption(EncryptionManager(KeyRing.generate()))

    assert await files.move_due() == [MediaFailure.TOKEN_REFUSED]
    assert (await only(files, ana)).status is MediaStatus.PENDING

    configure_encryption(encryption)
    assert await files.move_all() == [None]


async def test_no_name_that_a_person_gives_a_file_leads_out_of_the_directory(files, ana) -> None:
    for name in ("../../x", "/etc/passwd", "..\\x", "a/../../b"):
        media_id = await files.upload(ana, name.encode(), "text/plain")
        await files.receive(ana, media_id, kind="document", filename=name)

    assert await files.move_all() == [None] * 4

    below = files.root / str(ana.tenant_id)
    assert all(path.is_relative_to(below) for path in files.stored_files())
