"""A tenant's file goes to Meta once per channel and life, before the messages that carry it."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from random import Random

import aiohttp
import pytest

from shared.infrastructure.database import create_engine
from shared.infrastructure.redis import connect
from shared.kernel.clock import utc_now
from shared.kernel.errors import TellwireError
from shared.kernel.ids import new_id
from whatsapp.application.accept_message import AcceptBatch, AcceptMessage, NewMessage
from whatsapp.application.change_message import RetryMessage
from whatsapp.application.dispatch_channel import DispatchChannel
from whatsapp.application.late_failures import LateFailures
from whatsapp.application.read_together import ReadTogether
from whatsapp.application.record_results import RecordResults
from whatsapp.application.store_media import RemoveMedia, StoreMedia
from whatsapp.application.tend_channel import RetryFailed
from whatsapp.domain.entities import WindowPolicy
from whatsapp.domain.media import InvalidMedia, MediaFailure, MediaNotFound
from whatsapp.domain.value_objects import MessageContent, MessageStatus, PhoneNumber
from whatsapp.infrastructure.cloud_api.client import CloudApiClient
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_status_errors
from whatsapp.infrastructure.cloud_api.sender import CloudApiSender
from whatsapp.infrastructure.persistence.repositories import (
    RedisRateLimiter,
    SQLAlchemySendQueue,
)
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

PNG = b"\x89PNG" + bytes(2000)


async def pieces(content: bytes):
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


@pytest.fixture
async def sending(database, redis_url, files, sessions):
    engine, redis = create_engine(database.url("tellwire_dispatch")), connect(redis_url)
    yield Sending(files, sessions, SQLAlchemySendQueue(engine), RedisRateLimiter(redis))
    await redis.aclose()
    await engine.dispose()


class Sending:
    """Accepts messages with files and sends what is due, with uploads or without."""

    def __init__(self, files, sessions, queue, limiter):
        self.files, self.queue, self.limiter = files, queue, limiter
        self.begin = work_in(sessions)
        self.numbers = iter(range(10**6))
        self.clock = utc_now

    async def open_window(self, customer):
        async with self.begin(customer.tenant_id) as work:
            channel = await work.channels.get_by_id(customer.channel.id)
            channel.window_policy = WindowPolicy.ALLOW
            await work.channels.update(channel)
            await work.commit()

    async def store(self, customer, content=PNG, mime_type="image/png"):
        self.files.tenants.add(customer.tenant_id)
        await self.open_window(customer)
        store = StoreMedia(begin=self.begin, store=self.files.store)
        media, _ = await store(customer.tenant_id, pieces(content), mime_type=mime_type)
        return media

    def new(self, customer, content, **more):
        number = PhoneNumber(f"+4915100{next(self.numbers):06d}")
        return NewMessage(channel_id=customer.channel.id, recipient=number, content=content, **more)

    async def accept(self, customer, media, **more):
        content = MessageContent.image(id=str(media.id), caption="Look")
        accept = AcceptMessage(begin=self.begin, now=self.clock)
        return await accept(customer.tenant_id, self.new(customer, content, **more))

    async def dispatch(self, customer):
        dispatcher = DispatchChannel(
            tenant_id=customer.tenant_id,
            channel_id=customer.channel.id,
            begin=self.begin,
            reads=ReadTogether(begin=self.begin),
            queue=self.queue,
            limiter=self.limiter,
            recorder=RecordResults(
                tenant_id=customer.tenant_id,
                begin=self.begin,
                late=LateFailures.judged(
                    outcome_of_status_errors, begin=self.begin, limiter=self.limiter
                ),
            ),
            sender=CloudApiSender(
                CloudApiClient(self.files.http, base_url=self.files.url, version="v25.0")
            ),
            rng=Random(1),
            now=self.clock,
        )
        return await dispatcher.run()

    async def wake(self, customer):
        """What rests or waits for a retry is due at once."""
        for statement in (
            "UPDATE whatsapp_send_queue SET due_at = now()",
            "UPDATE whatsapp_outbound_messages SET next_attempt_at = now() WHERE attempts > 0",
        ):
            await self.files.execute(customer.tenant_id, statement)
        await RetryFailed(begin=self.begin)(customer.tenant_id)

    async def message(self, customer, message):
        async with self.begin(customer.tenant_id) as work:
            return await work.messages.get_outbound_by_id(message.id)

    async def until_settled(self, customer, *messages):
        """Workers of both kinds, turn after turn."""
        async with asyncio.timeout(20):
            while True:
                await self.files.hurry()
                await self.files.move_due()
                await self.wake(customer)
                await self.dispatch(customer)
                found = [await self.message(customer, one) for one in messages]
                if all(one.status.rank > 0 for one in found):
                    return found

    async def log(self):
        url = f"{self.files.url}/_simulator/log"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            return (await answer.json())["entries"]

    async def uploads(self):
        return (await self.files.control("GET"))["uploads"]


async def test_a_message_waits_for_its_file_and_goes_with_metas_id(sending, ana) -> None:
    media = await sending.store(ana)
    message = await sending.accept(ana, media)

    await sending.dispatch(ana)
    assert (await sending.message(ana, message)).status is MessageStatus.QUEUED

    assert await sending.files.move_due() == [None]
    await sending.wake(ana)
    await sending.dispatch(ana)

    sent = await sending.message(ana, message)
    assert sent.status is MessageStatus.SENT
    # The simulator knows the id, or it would have refused the message; ours stays in our copy.
    assert sent.content.body["id"] == str(media.id)


async def test_many_messages_and_senders_upload_a_file_once(sending, ana) -> None:
    media = await sending.store(ana)
    messages = await asyncio.gather(*(sending.accept(ana, media) for _ in range(10)))

    found = await sending.until_settled(ana, *messages)
    later = await sending.accept(ana, media)
    await sending.until_settled(ana, later)

    assert {one.status for one in found} == {MessageStatus.SENT}
    assert await sending.uploads() == 1


async def test_workers_that_race_upload_a_file_once(sending, ana) -> None:
    media = await sending.store(ana)
    await asyncio.gather(*(sending.accept(ana, media) for _ in range(10)))

    claims = await asyncio.gather(*(sending.files.claim() for _ in range(5)))
    for jobs in claims:
        for job in jobs:
            await sending.files.move(job)

    assert await sending.uploads() == 1


async def test_the_same_bytes_are_stored_and_uploaded_once(sending, ana) -> None:
    media = await sending.store(ana)
    again = await sending.store(ana)
    other_type = await sending.store(ana, mime_type="image/jpeg")

    assert media.id == again.id != other_type.id
    assert len(sending.files.stored_files()) == 2


async def test_racing_uploads_of_the_same_bytes_are_one_media_and_one_file(sending, ana) -> None:
    found = await asyncio.gather(*(sending.store(ana) for _ in range(8)))

    assert len({media.id for media in found}) == 1
    assert len(sending.files.stored_files()) == 1


async def test_an_id_is_used_for_its_life_and_then_the_file_is_uploaded_again(sending, ana) -> None:
    media = await sending.store(ana)
    await sending.until_settled(ana, await sending.accept(ana, media))
    assert await sending.uploads() == 1

    sending.clock = lambda: utc_now() + timedelta(days=28)
    async with sending.begin(ana.tenant_id) as work:
        found = await work.media.find_uploads(ana.channel.id, [media.id], at=sending.clock())
    assert found[media.id].provider_media_id is not None

    sending.clock = sending.files.now = lambda: utc_now() + timedelta(days=30)
    (sent,) = await sending.until_settled(ana, await sending.accept(ana, media))
    assert sent.status is MessageStatus.SENT
    assert await sending.uploads() == 2


async def test_an_id_that_meta_has_forgotten_is_replaced_and_the_message_goes(sending, ana) -> None:
    media = await sending.store(ana)
    await sending.until_settled(ana, await sending.accept(ana, media))
    await sending.files.control("DELETE")

    (sent,) = await sending.until_settled(ana, await sending.accept(ana, media))

    assert sent.status is MessageStatus.SENT
    assert await sending.uploads() == 2


@pytest.mark.parametrize("moved", ["before", "between", "behind"])
async def test_a_file_that_is_deleted_goes_to_nobody_any_more(sending, ana, moved) -> None:
    """Whether Meta has it by then, is just getting it, or has still to get it."""
    media = await sending.store(ana)
    later = utc_now() + timedelta(hours=1)
    waiting = await sending.accept(ana, media, send_at=later)
    remove = RemoveMedia(begin=sending.begin, store=sending.files.store)
    if moved == "before":
        assert await sending.files.move_due() == [None]
    claimed = await sending.files.claim() if moved == "between" else []

    await remove(ana.tenant_id, media.id)

    sending.clock = lambda: later
    for job in claimed:
        await sending.files.move(job)
    async with sending.begin(ana.tenant_id) as work:
        assert await work.media.find_uploads(ana.channel.id, [media.id], at=later) == {}
    (failed,) = await sending.until_settled(ana, waiting)
    assert failed.status is MessageStatus.FAILED
    assert failed.failure.title == "media_not_available"


async def test_a_message_that_is_refused_with_a_new_upload_too_fails(sending, ana) -> None:
    media = await sending.store(ana)
    content = MessageContent.image(id=str(media.id))
    accept = AcceptMessage(begin=sending.begin)
    refused = replace(sending.new(ana, content), recipient=PhoneNumber("+15551000100"))
    message = await accept(ana.tenant_id, refused)

    (failed,) = await sending.until_settled(ana, message)

    assert failed.status is MessageStatus.FAILED
    assert failed.failure.code == 100
    assert failed.attempts == 2


async def test_uploads_that_fail_in_passing_are_tried_again(sending, ana) -> None:
    media = await sending.store(ana)
    message = await sending.accept(ana, media)
    await sending.files.spoil(upload_errors=2)

    assert await sending.files.move_due() == [MediaFailure.UNREACHABLE]
    (sent,) = await sending.until_settled(ana, message)

    assert sent.status is MessageStatus.SENT


async def test_a_file_that_meta_does_not_take_fails_its_messages_with_the_reason(
    sending, ana
) -> None:
    media = await sending.store(ana)
    message = await sending.accept(ana, media)
    for path in sending.files.stored_files():
        path.unlink()  # Somebody emptied the directory.

    (failed,) = await sending.until_settled(ana, message)

    assert failed.status is MessageStatus.FAILED
    assert failed.failure.title == "media_gone"


async def test_each_channel_has_an_upload_of_its_own(sending, ana, bea) -> None:
    mine, theirs = await sending.store(ana), await sending.store(bea)

    await sending.until_settled(ana, await sending.accept(ana, mine))
    await sending.until_settled(bea, await sending.accept(bea, theirs))

    assert mine.id != theirs.id
    assert await sending.uploads() == 2


async def test_another_tenants_file_cannot_be_sent(sending, ana, bea) -> None:
    theirs = await sending.store(bea)
    await sending.open_window(ana)

    with pytest.raises(MediaNotFound) as refused:
        await sending.accept(ana, theirs)

    assert refused.value.field == "image.id"
    assert await sending.files.claim() == []


async def test_a_file_goes_only_in_messages_of_its_kind(sending, ana) -> None:
    media = await sending.store(ana)
    accept = AcceptMessage(begin=sending.begin)

    with pytest.raises(InvalidMedia):
        await accept(ana.tenant_id, sending.new(ana, MessageContent.video(id=str(media.id))))
    as_document = MessageContent.document(id=str(media.id))
    await accept(ana.tenant_id, sending.new(ana, as_document))


async def test_one_bad_file_in_a_batch_keeps_no_other_message_back(sending, ana) -> None:
    media = await sending.store(ana)
    wanted = [
        sending.new(ana, MessageContent.image(id=media_id))
        for media_id in (str(media.id), str(new_id()), "1234567890")
    ]

    results = await AcceptBatch(begin=sending.begin)(ana.tenant_id, wanted)

    assert [isinstance(one, TellwireError) for one in results] == [False, True, False]
    assert isinstance(results[1], MediaNotFound)
    assert len(await sending.files.claim()) == 1


async def test_files_in_templates_go_the_same_way(sending, ana) -> None:
    media = await sending.store(ana)
    header = {
        "type": "header",
        "parameters": [{"type": "image", "image": {"id": str(media.id)}}],
    }
    content = MessageContent.template("season_sale", "en_US", [header])
    accept = AcceptMessage(begin=sending.begin)

    message = await accept(ana.tenant_id, sending.new(ana, content))

    assert await sending.files.move_due() == [None]
    await sending.wake(ana)
    await sending.dispatch(ana)
    stored = await sending.message(ana, message)
    assert await sending.uploads() == 1
    assert stored.attempts == 1


async def test_a_file_that_meta_could_not_read_is_uploaded_again(sending, ana) -> None:
    media = await sending.store(ana)
    accept = AcceptMessage(begin=sending.begin)
    content = MessageContent.image(id=str(media.id))
    message = await accept(
        ana.tenant_id, replace(sending.new(ana, content), recipient=PhoneNumber("+15551131053"))
    )
    await sending.files.move_due()
    await sending.wake(ana)
    await sending.dispatch(ana)
    assert (await sending.message(ana, message)).status is MessageStatus.RETRYING
    assert await sending.uploads() == 1

    await sending.wake(ana)
    await sending.dispatch(ana)
    assert await sending.files.move_due() == [None]

    assert await sending.uploads() == 2


async def test_a_failed_message_that_is_sent_again_by_hand_has_its_file_uploaded_again(
    sending, ana
) -> None:
    media = await sending.store(ana)
    message = await sending.accept(ana, media)
    (path,) = sending.files.stored_files()
    away = path.rename(path.with_suffix(".away"))
    (failed,) = await sending.until_settled(ana, message)
    assert failed.status is MessageStatus.FAILED
    away.rename(path)

    await RetryMessage(begin=sending.begin)(ana.tenant_id, message.id)
    (sent,) = await sending.until_settled(ana, message)

    assert sent.status is MessageStatus.SENT


async def test_messages_with_one_picture_do_not_wait_for_each_others_commits(sending, ana) -> None:
    media = await sending.store(ana)
    await sending.until_settled(ana, await sending.accept(ana, media))
    at = utc_now()

    async with sending.begin(ana.tenant_id) as one, sending.begin(ana.tenant_id) as other:
        async with asyncio.timeout(5):
            await one.media.want_uploads(ana.channel.id, [media.id], at=at, needed_at=at)
            await other.media.want_uploads(ana.channel.id, [media.id], at=at, needed_at=at)
