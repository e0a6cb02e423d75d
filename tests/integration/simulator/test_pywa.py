"""pywa, a client library that knows nothing of this simulator, takes it for Meta."""

import pytest
from aiohttp import web
from pywa.errors import RateLimitHit, WhatsAppError
from pywa_async import WhatsApp, types
from pywa_async.types.templates import BodyText, TemplateLanguage

TOKEN = "token-canary-83d2"
APP_SECRET = "app-secret-canary-55c1"


@pytest.fixture
async def meta(start):
    """pywa acts on the first element of a POST only, so each update travels alone."""
    return await start(webhooks={"batch": 1})


@pytest.fixture
async def pywa(meta):
    client = WhatsApp(
        phone_id="1001",
        token=TOKEN,
        waba_id="2001",
        app_secret=APP_SECRET,
        verify_token="verify-canary-7e",
        server=None,
    )
    client.api._session.base_url = f"{meta.url}/v23.0"
    yield client
    await client.api._session.aclose()


@pytest.fixture
def heard(pywa, receiver):
    """What pywa's handlers were given for the webhooks that the receiver got."""
    heard = {"messages": [], "statuses": []}

    @pywa.on_message
    async def on_message(_, message):
        heard["messages"].append(message)

    @pywa.on_message_status
    async def on_status(_, status):
        heard["statuses"].append(status)

    async def feed():
        for headers, raw, _ in receiver.posts:
            signature = headers["X-Hub-Signature-256"]
            assert await pywa.webhook_update_validator(raw, signature) is None
            assert (await pywa.webhook_update_handler(raw))[1] == 200
        return heard

    return feed


async def test_pywa_sends_every_kind_and_follows_the_statuses(pywa, receiver, heard):
    to = "14155550100"
    button = types.Button(title="Yes", callback_data="yes")
    section = types.Section(
        title="Sizes", rows=[types.SectionRow(title="Small", callback_data="s")]
    )
    uploaded = await pywa.upload_media(b"\x89PNG", mime_type="image/png", filename="a.png")

    sent = [
        await pywa.send_message(to, "Hello", tracker="tracker-1"),
        await pywa.send_message(to, "Choose", buttons=[button]),
        await pywa.send_message(to, "Pick", buttons=types.SectionList("Open", [section])),
        await pywa.send_message(to, "Look", buttons=types.URLButton("Open", "https://example.com")),
        await pywa.send_image(to, uploaded, caption="Picture"),
        await pywa.send_document(to, "https://example.com/a.pdf", filename="a.pdf"),
        await pywa.send_location(to, -33.4, -70.6, name="Santiago"),
        await pywa.send_template(
            to,
            name="order_update",
            language=TemplateLanguage.ENGLISH_US,
            params=[BodyText.params("Ana", "42")],
        ),
    ]

    await receiver.until(lambda: len(receiver.statuses()) == 3 * len(sent))
    statuses = (await heard())["statuses"]
    for message in sent:
        # Each in a POST of its own, so that a later one may arrive first.
        told = sorted(s.status.value for s in statuses if s.id == message.id)
        assert told == ["delivered", "read", "sent"]
    assert {s.tracker for s in statuses if s.id == sent[0].id} == {"tracker-1"}
    assert statuses[0].pricing.model.value == "PMP"


async def test_pywa_receives_and_answers_messages(pywa, meta, receiver, heard):
    kinds = ("text", "image", "audio", "location", "interactive", "reaction", "sticker")
    wanted = [{"type": kind, "from": "14155550100"} for kind in kinds]
    body = {"phone_number_id": "1001", "messages": wanted, "profile_name": "Ana"}

    await meta.control("POST", "inbound", json=body)

    await receiver.until(lambda: len(receiver.messages()) == len(kinds))
    messages = (await heard())["messages"]
    text = next(m for m in messages if m.type == types.MessageType.TEXT)
    assert (text.text, text.from_user.wa_id, text.from_user.name) == ("Hello", "14155550100", "Ana")
    image = next(m for m in messages if m.type == types.MessageType.IMAGE)
    assert await image.image.get_bytes() == b"simulated image"
    assert (await pywa.mark_message_as_read(text.id)).success
    assert (await pywa.indicate_typing(text.id)).success
    await pywa.send_reaction("14155550100", "x", text.id)


async def test_pywa_sees_metas_errors_as_its_own_classes(pywa, receiver, heard):
    with pytest.raises(RateLimitHit):
        await pywa.send_message("15551130429", "Hello")
    with pytest.raises(WhatsAppError) as refused:
        await pywa.send_message("14155550100", "x" * 4097)
    failed = await pywa.send_message("15552131026", "Hello")

    assert refused.value.code == 100
    await receiver.until(lambda: receiver.told(failed.id))
    (status,) = (await heard())["statuses"]
    assert status.error.code == 131026


async def test_pywa_reads_the_number_the_account_and_the_templates(pywa):
    number = await pywa.get_business_phone_number()
    account = await pywa.get_business_account()
    templates = await pywa.get_templates()

    assert (number.id, number.throughput) == ("1001", {"level": "STANDARD"})
    assert account.id == "2001"
    assert {t.name for t in templates} >= {"hello_world", "order_update"}
    assert (await pywa.register_phone_number("123456")).success


async def test_pywa_answers_the_handshake(pywa, meta):
    async def challenge(request):
        text, status = await pywa.webhook_challenge_handler(
            request.query["hub.verify_token"], request.query["hub.challenge"]
        )
        return web.Response(text=text, status=status)

    app = web.Application()
    app.router.add_get("/", challenge)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]

    answer = await meta.control("POST", "webhooks/verify", json={"url": f"http://{host}:{port}/"})

    await runner.cleanup()
    assert answer == (200, {"verified": True})
