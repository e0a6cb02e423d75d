"""Files through a client library of Meta's API, unchanged but for its base URL and token."""

import asyncio
import hashlib

import pytest
from aiohttp import web
from pywa import WhatsApp as BlockingWhatsApp
from pywa.errors import WhatsAppError
from pywa_async import WhatsApp

from stack import running_stack
from whatsapp.domain.value_objects import message_id_behind

TO = "14155550100"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
CLIENT = web.AppKey("client", list)
SETTINGS = {"TELLWIRE_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}


@pytest.fixture
async def stack(directory):
    async with running_stack(directory, workers=1, settings=SETTINGS) as stack:
        yield stack


def client_of(stack, sender, kind=WhatsApp, **more):
    client = kind(phone_id=sender.phone_number_id, token=sender.api_key, server=None, **more)
    client.api._session.base_url = f"{stack.api}/v26.0"
    return client


async def receive(request):
    """A webhook as pywa takes it."""
    client, raw = request.app[CLIENT][0], await request.read()
    if not isinstance(client, WhatsApp):  # Which is a blocking one as well, by its class.
        signature = request.headers["X-Hub-Signature-256"]
        assert client.webhook_update_validator(raw, signature) is None
        text, status = await asyncio.to_thread(client.webhook_update_handler, raw)
        return web.Response(text=text, status=status)
    refusal = await client.webhook_update_validator(raw, request.headers["X-Hub-Signature-256"])
    if refusal is not None:
        return web.Response(text=refusal[0], status=refusal[1])
    text, status = await client.webhook_update_handler(raw)
    return web.Response(text=text, status=status)


async def serve(app):
    """Serve webhooks; an endpoint's secret is only known after its address."""
    app.router.add_post("/hook", receive)
    app[CLIENT] = []
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    return runner, f"http://{host}:{port}/hook"


async def subscribe(stack, sender, url):
    async with stack.http.post(
        f"{stack.api}/v1/webhook-endpoints",
        json={"url": url, "format": "meta"},
        headers=sender.headers,
    ) as answer:
        assert answer.status == 201, await answer.text()
        return (await answer.json())["secret"]


@pytest.mark.timeout(540)
async def test_pywa_uploads_sends_by_id_and_by_path_looks_up_and_deletes(stack, tmp_path) -> None:
    ana = await stack.new_sender("Ana's Bakery", "4101")
    pywa = client_of(stack, ana)
    local = tmp_path / "local.png"
    local.write_bytes(PNG + b"local")
    try:
        media = await pywa.upload_media(PNG, mime_type="image/png", filename="a.png")
        sent = [
            await pywa.send_image(TO, media, caption="By object"),
            await pywa.send_image(TO, media.id, caption="By id"),
            await pywa.send_image(TO, local, caption="By path"),
            await pywa.send_document(TO, str(local), filename="local.png"),
        ]
        ids = [str(message_id_behind(one.id)) for one in sent]
        ended = await stack.follow(ana, ids, within=60)
        assert {one["status"] for one in ended.values()} == {"read"}, (ended, stack.logs())

        found = await pywa.get_media_url(media.id)
        assert (found.mime_type, found.file_size) == ("image/png", len(PNG))
        assert found.sha256 == hashlib.sha256(PNG).hexdigest()
        assert await pywa.get_media_bytes(found.url) == PNG
        kept = await pywa.download_media(url=found.url, path=tmp_path)
        assert (kept.name, kept.read_bytes()) == ("a.png", PNG)

        bea = await stack.new_sender("Bea's Bikes", "4102")
        other = client_of(stack, bea)
        with pytest.raises(WhatsAppError) as refused:
            await other.get_media_url(media.id)
        assert refused.value.code == 100
        with pytest.raises(WhatsAppError):
            await other.send_image(TO, media.id)
        await other.api._session.aclose()

        assert (await pywa.delete_media(media.id)).success
        with pytest.raises(WhatsAppError):
            await pywa.get_media_url(media.id)
    finally:
        await pywa.api._session.aclose()


@pytest.mark.timeout(540)
async def test_pywa_downloads_what_came_in(stack) -> None:
    ana = await stack.new_sender("Ana's Bakery", "4103")
    app = web.Application()
    heard: asyncio.Queue = asyncio.Queue()
    runner, url = await serve(app)
    secret = await subscribe(stack, ana, url)
    pywa = client_of(stack, ana, app_secret=secret, verify_token="unused")
    app[CLIENT].append(pywa)

    @pywa.on_message
    async def on_message(_, message):
        await heard.put(message)

    try:
        kinds = [{"type": kind, "from": TO} for kind in ("image", "audio", "document")]
        await stack.control("inbound", phone_number_id="4103", messages=kinds)
        async with asyncio.timeout(60):
            messages = [await heard.get() for _ in kinds]
            files = {one.type.value: await one.media.get_bytes() for one in messages}
        assert files == {
            kind: f"simulated {kind}".encode() for kind in ("image", "audio", "document")
        }
    finally:
        await pywa.api._session.aclose()
        await runner.cleanup()


@pytest.mark.timeout(540)
async def test_the_blocking_client_knows_what_it_sent_by_one_id_throughout(stack) -> None:
    ana = await stack.new_sender("Ana's Bakery", "4104")
    app = web.Application()
    runner, url = await serve(app)
    secret = await subscribe(stack, ana, url)
    pywa = client_of(stack, ana, BlockingWhatsApp, app_secret=secret, verify_token="unused")
    app[CLIENT].append(pywa)
    loop, statuses, messages = asyncio.get_running_loop(), asyncio.Queue(), asyncio.Queue()

    @pywa.on_message_status
    def on_status(_, status):
        loop.call_soon_threadsafe(statuses.put_nowait, status)

    @pywa.on_message
    def on_message(_, message):
        loop.call_soon_threadsafe(messages.put_nowait, message)

    try:
        sent = await asyncio.to_thread(pywa.send_message, TO, "Hello", tracker="tracker-1")
        told = []
        async with asyncio.timeout(60):
            while not told or told[-1].status.value != "read":
                told.append(await statuses.get())
        assert {(one.id, one.tracker) for one in told} == {(sent.id, "tracker-1")}

        ours = (await stack.get(ana, str(message_id_behind(sent.id))))["wamid"]
        assert ours != sent.id
        said = [
            {"type": "reaction", "reaction": {"message_id": ours, "emoji": "\N{THUMBS UP SIGN}"}},
            {"type": "text", "context": {"id": ours, "from": "4104"}},
        ]
        said = [{**one, "from": TO} for one in said]
        await stack.control("inbound", phone_number_id="4104", messages=said)
        async with asyncio.timeout(60):
            heard = {one.type.value: one for one in [await messages.get() for _ in said]}
        assert heard["reaction"].reaction.message_id == sent.id
        assert heard["text"].reply_to_message.id == sent.id
    finally:
        pywa.api._session.close()
        await runner.cleanup()
