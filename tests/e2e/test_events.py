"""What happened reaches the tenants' own systems: real processes, real sockets, real deaths."""

import asyncio
import json
import signal
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from pywa_async import WhatsApp
from standardwebhooks.webhooks import Webhook

from stack import running_stack

SETTINGS = {
    "TELLWIRE_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    "TELLWIRE_WEBHOOK_TIMEOUT_SECONDS": "2",
}


@dataclass(slots=True)
class Heard:
    """What one endpoint got, in the order in which it came."""

    url: str
    secret: str = ""
    delay: float = 0.0
    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        if self.delay:
            await asyncio.sleep(self.delay)
        self.posts.append((dict(request.headers), raw))
        return web.Response()

    def by_message(self) -> dict[str, list[str]]:
        """The events of each message in order, each verified, repetitions left out."""
        found, seen = defaultdict(list), set()
        for headers, raw in self.posts:
            event = Webhook(self.secret).verify(raw, headers)
            if event["type"].startswith("message.") and event["id"] not in seen:
                seen.add(event["id"])
                found[event["data"]["message_id"]].append(event["type"].removeprefix("message."))
        return dict(found)


@asynccontextmanager
async def listening() -> AsyncIterator[Heard]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        heard = Heard(f"http://127.0.0.1:{bound.getsockname()[1]}/hook")
        app = web.Application()
        app.router.add_post("/hook", heard.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, bound).start()
        yield heard
        await runner.cleanup()


async def subscribe(stack, sender, heard, **wanted):
    async with stack.http.post(
        f"{stack.api}/v1/webhook-endpoints",
        json={"url": heard.url, **wanted},
        headers=sender.headers,
    ) as answer:
        created = await answer.json()
        assert answer.status == 201, created
        heard.secret = created["secret"]
        return created["id"]


async def send(stack, sender, number):
    body = {"type": "text", "text": {"body": "Hello"}}
    posts = [stack.post(sender, body | {"to": f"+49151{n:08}"}) for n in range(number)]
    return [stored["id"] for stored in await asyncio.gather(*posts)]


async def until(condition, within):
    limit = asyncio.get_running_loop().time() + within
    while not condition():
        if asyncio.get_running_loop().time() > limit:
            return False
        await asyncio.sleep(0.02)
    return True


@pytest.mark.soak
@pytest.mark.timeout(540)
async def test_one_tenants_dead_endpoint_delays_nobody_else_and_order_is_kept(directory) -> None:
    async with (
        running_stack(directory, workers=2, settings=SETTINGS) as stack,
        listening() as dead,
        listening() as alive,
    ):
        ana = await stack.new_sender("Ana's Bakery", "1001")
        bea = await stack.new_sender("Bea's Bikes", "2002")
        dead.delay = 60
        await subscribe(stack, ana, dead)
        await subscribe(stack, bea, alive)

        await send(stack, ana, 100)
        ids = await send(stack, bea, 100)
        ended = await stack.follow(bea, ids, within=60)
        assert {one["status"] for one in ended.values()} == {"read"}, stack.logs()

        def all_told() -> bool:
            return len(alive.posts) >= 300

        # Everything was told within a moment of having happened.
        assert await until(all_told, within=2), (len(alive.posts), stack.logs())
        assert alive.by_message() == {key: ["sent", "delivered", "read"] for key in ids}
        assert dead.posts == []


@pytest.mark.soak
@pytest.mark.timeout(720)
async def test_killing_workers_loses_no_event_and_changes_no_order(directory) -> None:
    async with (
        running_stack(directory, workers=2, settings=SETTINGS) as stack,
        listening() as heard,
    ):
        ana = await stack.new_sender("Ana's Bakery", "1001")
        await subscribe(stack, ana, heard)
        heard.delay = 0.7
        ids = await send(stack, ana, 60)
        ended = await stack.follow(ana, ids, within=60)
        assert {one["status"] for one in ended.values()} == {"read"}, stack.logs()
        for goal in (30, 90):
            assert await until(lambda goal=goal: len(heard.posts) >= goal, within=30), stack.logs()
            for worker in stack.children("worker"):  # All of them, with requests under way.
                worker.kill()

        def all_told() -> bool:
            return sum(map(len, heard.by_message().values())) == 3 * len(ids)

        assert await until(all_told, within=60), (len(heard.posts), stack.logs())
        steps = set(map(tuple, heard.by_message().values()))
        assert steps == {("sent", "delivered", "read")}
        assert len(heard.posts) > 3 * len(ids), "what was under way came again"


@pytest.mark.timeout(540)
async def test_a_client_of_metas_api_hears_of_the_ids_that_it_was_given(directory) -> None:
    async with (
        running_stack(directory, workers=1, settings=SETTINGS) as stack,
        listening() as heard,
    ):
        ana = await stack.new_sender("Ana's Bakery", "1001")
        await subscribe(stack, ana, heard, format="meta")
        pywa = WhatsApp(
            phone_id=ana.phone_number_id,
            token=ana.api_key,
            app_secret=heard.secret,
            verify_token="unused",
            server=None,
        )
        pywa.api._session.base_url = f"{stack.api}/v23.0"
        statuses, messages = defaultdict(list), []

        @pywa.on_message_status
        async def on_status(_, status):
            statuses[status.id].append((status.status.value, status.tracker))

        @pywa.on_message
        async def on_message(_, message):
            messages.append(message)

        try:
            sent = [await pywa.send_message("14155550100", f"{n}", tracker=f"t{n}") for n in (1, 2)]
            assert await until(lambda: len(heard.posts) >= 6, within=30), stack.logs()
            await stack.control(
                "inbound", phone_number_id="1001", **{"from": "14155550100"}, type="text"
            )
            assert await until(lambda: len(heard.posts) >= 7, within=30), stack.logs()
            for headers, raw in heard.posts:
                signature = headers["X-Hub-Signature-256"]
                assert await pywa.webhook_update_validator(raw, signature) is None
                assert (await pywa.webhook_update_handler(raw))[1] == 200
        finally:
            await pywa.api._session.aclose()

        assert dict(statuses) == {
            one.id: [(step, f"t{n}") for step in ("sent", "delivered", "read")]
            for n, one in enumerate(sent, 1)
        }
        assert messages[0].from_user.wa_id == "14155550100"


@pytest.mark.timeout(360)
async def test_a_stream_tells_what_other_processes_did_and_ends_when_the_api_stops(
    directory,
) -> None:
    async with running_stack(directory, workers=1) as stack:
        ana = await stack.new_sender("Ana's Bakery", "1001")
        found, url = [], f"{stack.api}/v1/events"
        async with asyncio.timeout(40), stack.http.get(url, headers=ana.headers) as stream:
            assert stream.status == 200
            (ident,) = await send(stack, ana, 1)
            async for line in stream.content:
                if line.startswith(b"data: "):
                    found.append(json.loads(line[6:]))
                if len(found) == 3:
                    break
            assert [event["type"] for event in found] == [
                "message.sent", "message.delivered", "message.read",
            ]  # fmt: skip
            assert {event["data"]["message_id"] for event in found} == {ident}

            began = asyncio.get_running_loop().time()
            stack.processes["serve"].send_signal(signal.SIGTERM)
            async for _ in stream.content:
                pass
            assert asyncio.get_running_loop().time() - began < 10
