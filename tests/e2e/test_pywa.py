"""An outside client of the Cloud API and `tellwire simulator`, a process of its own, by themselves.

pywa knows nothing of Tellwire: it takes the simulator for Meta, sends, follows and receives.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from pywa.errors import RateLimitHit, WhatsAppError
from pywa_async import WhatsApp, types
from pywa_async.types.templates import BodyText, TemplateLanguage

from command_line import CommandLine
from ports import free_port
from stack import APP_SECRET, VERIFY_TOKEN, Stack

NUMBER, TOKEN, TO = "1001", "EAAG-pywa", "14155550100"


@dataclass
class Shop:
    """A program that uses pywa: what it sends with, and what its handlers were given."""

    client: WhatsApp
    stack: Stack
    statuses: list = field(default_factory=list)
    messages: list = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def receive(self, request: web.Request) -> web.Response:
        """A webhook as pywa takes it: the signature first, then its handlers."""
        raw = await request.read()
        signature = request.headers["X-Hub-Signature-256"]
        refusal = await self.client.webhook_update_validator(raw, signature)
        if refusal is not None:
            return web.Response(text=refusal[0], status=refusal[1])
        text, status = await self.client.webhook_update_handler(raw)
        return web.Response(text=text, status=status)

    async def shake_hands(self, request: web.Request) -> web.Response:
        """Meta's question whether this address is ours."""
        text, status = await self.client.webhook_challenge_handler(
            request.query["hub.verify_token"], request.query["hub.challenge"]
        )
        return web.Response(text=text, status=status)

    async def heard(self, kept: list, update) -> None:
        """One of pywa's handlers was called."""
        async with self.changed:
            kept.append(update)
            self.changed.notify_all()

    async def until(self, done) -> None:
        """Wait until `done()` is true; it is asked after every call of a handler."""
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(done)

    def told(self, message) -> list[str]:
        return [one.status.value for one in self.statuses if one.id == message.id]


@asynccontextmanager
async def listening(shop: Shop) -> AsyncIterator[str]:
    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_post("/hook", shop.receive)
    app.router.add_get("/hook", shop.shake_hands)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/hook"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def simulating(directory, http, hook: list[str]) -> AsyncIterator[Stack]:
    """`tellwire simulator` as a process; pywa acts on one element of a POST, so each is alone."""
    port = free_port()
    configuration = {
        "app_secret": APP_SECRET,
        "verify_token": VERIFY_TOKEN,
        "port": port,
        "webhook_url": hook[0],
        "webhooks": {"batch": 1},
        "numbers": [
            {
                "phone_number_id": NUMBER,
                "display_phone_number": "+1 555-700-0001",
                "waba_id": "2001",
                "access_token": TOKEN,
            }
        ],
    }
    (directory / "simulator.json").write_text(json.dumps(configuration))
    environment = {key: value for key, value in os.environ.items() if "TELLWIRE" not in key}
    meta = f"http://127.0.0.1:{port}"
    stack = Stack(directory, "", meta, environment, http, CommandLine(directory))
    try:
        process = stack.start("simulator", "simulator", "--config", "simulator.json")
        await stack.until_ready(f"{stack.simulator}/_simulator/health", process)
        yield stack
    finally:
        stack.end()


@pytest.fixture
async def shop(directory) -> AsyncIterator[Shop]:
    client = WhatsApp(
        phone_id=NUMBER,
        token=TOKEN,
        waba_id="2001",
        app_secret=APP_SECRET,
        verify_token=VERIFY_TOKEN,
        server=None,
    )
    shop = Shop(client, None)

    @client.on_message
    async def on_message(_, message):
        await shop.heard(shop.messages, message)

    @client.on_callback_button
    async def on_button(_, pressed):
        await shop.heard(shop.messages, pressed)

    @client.on_message_status
    async def on_status(_, status):
        await shop.heard(shop.statuses, status)

    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as http, listening(shop) as hook:
        async with simulating(directory, http, [hook]) as stack:
            shop.stack = stack
            client.api._session.base_url = f"{stack.simulator}/v26.0"
            yield shop
        await client.api._session.aclose()


@pytest.mark.timeout(360)
async def test_pywa_sends_every_kind_and_follows_it_to_read(shop) -> None:
    pywa = shop.client
    button = types.Button(title="Yes", callback_data="yes")
    rows = [types.SectionRow(title="Small", callback_data="s")]
    choice = types.SectionList("Open", [types.Section(title="Sizes", rows=rows)])
    uploaded = await pywa.upload_media(b"\x89PNG", mime_type="image/png", filename="a.png")
    sent = [
        await pywa.send_message(TO, "Hello", tracker="tracker-1"),
        await pywa.send_message(TO, "Choose", buttons=[button]),
        await pywa.send_message(TO, "Pick", buttons=choice),
        await pywa.send_message(TO, "Look", buttons=types.URLButton("Open", "https://example.com")),
        await pywa.request_location(TO, "Where are you?"),
        await pywa.send_image(TO, uploaded, caption="Picture"),
        await pywa.send_document(TO, "https://example.com/a.pdf", filename="a.pdf"),
        await pywa.send_location(TO, -33.4, -70.6, name="Santiago"),
        await pywa.send_template(
            TO,
            name="order_update",
            language=TemplateLanguage.ENGLISH_US,
            params=[BodyText.params("Ana", "42")],
        ),
    ]

    await shop.until(lambda: all("read" in shop.told(one) for one in sent))

    assert [shop.told(one) for one in sent] == [["sent", "delivered", "read"]] * len(sent)
    assert {one.tracker for one in shop.statuses if one.id == sent[0].id} == {"tracker-1"}
    report = await shop.stack.control("report")
    assert report["doubled_messages"] == 0


@pytest.mark.timeout(360)
async def test_pywa_receives_answers_and_sees_metas_errors(shop) -> None:
    pywa = shop.client
    kinds = ("text", "image", "audio", "location", "interactive", "reaction", "sticker")
    wanted = [{"type": kind, "from": TO} for kind in kinds]

    await shop.stack.control("inbound", phone_number_id=NUMBER, messages=wanted, profile_name="Ana")

    await shop.until(lambda: len(shop.messages) == len(kinds))
    text = next(one for one in shop.messages if one.type == types.MessageType.TEXT)
    assert (text.from_user.wa_id, text.from_user.name) == (TO, "Ana")
    image = next(one for one in shop.messages if one.type == types.MessageType.IMAGE)
    assert await image.image.get_bytes() == b"simulated image"
    assert (await pywa.mark_message_as_read(text.id)).success
    assert (await pywa.indicate_typing(text.id)).success
    answer = await text.reply("Thank you", quote=True)
    await shop.until(lambda: "read" in shop.told(answer))

    with pytest.raises(RateLimitHit):
        await pywa.send_message("15551130429", "Hello")
    with pytest.raises(WhatsAppError) as refused:
        await pywa.send_message(TO, "x" * 4097)
    assert refused.value.code == 100
    failed = await pywa.send_message("15552131026", "Hello")
    await shop.until(lambda: shop.told(failed))
    assert next(one for one in shop.statuses if one.id == failed.id).error.code == 131026


@pytest.mark.timeout(360)
async def test_the_simulator_asks_pywa_for_its_handshake(shop) -> None:
    async with listening(shop) as url:
        assert await shop.stack.control("webhooks/verify", url=url) == {"verified": True}
