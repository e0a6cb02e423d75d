"""A running simulator and a receiver of its webhooks, both real servers in this event loop."""

import asyncio
import hashlib
import hmac
import json
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
import uvloop
from aiohttp import web

from whatsapp_simulator import SimulatorConfig, serve

APP_SECRET = "app-secret-canary-55c1"
TOKEN = "token-canary-83d2"
OTHER_TOKEN = "token-canary-19aa"
VERIFY_TOKEN = "verify-canary-7e"
NUMBERS = (
    {
        "phone_number_id": "1001",
        "display_phone_number": "+1 555-700-0001",
        "waba_id": "2001",
        "access_token": TOKEN,
    },
    {
        "phone_number_id": "1002",
        "display_phone_number": "+1 555-700-0002",
        "waba_id": "2002",
        "access_token": OTHER_TOKEN,
    },
)
FAST = {"sent_seconds": 0.02, "delivered_seconds": 0.06, "read_seconds": 0.1, "jitter": 0}
PATIENCE_S = 20


@dataclass
class Receiver:
    """Takes in webhooks; answers what `answers` holds, then 200."""

    url: str = ""
    unsigned: int = 0
    posts: list = field(default_factory=list)
    answers: deque = field(default_factory=deque)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def post(self, request):
        raw = await request.read()
        expected = "sha256=" + hmac.new(APP_SECRET.encode(), raw, hashlib.sha256).hexdigest()
        self.unsigned += request.headers.get("X-Hub-Signature-256") != expected
        answer = self.answers.popleft() if self.answers else 200
        async with self.changed:
            self.posts.append((request.headers.copy(), raw, answer))
            self.changed.notify_all()
        if answer == "hang":
            await asyncio.sleep(PATIENCE_S)
        return web.Response(status=answer)

    async def get(self, request):
        if request.query.get("hub.verify_token") != VERIFY_TOKEN:
            return web.Response(status=403)
        return web.Response(text=request.query["hub.challenge"])

    async def until(self, done):
        """Wait until `done()` is true; it is asked after every POST."""
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(done)

    def values(self):
        """Every `value` of every answered POST, in order of arrival."""
        return [
            change["value"]
            for _, raw, answer in self.posts
            if answer == 200
            for entry in json.loads(raw)["entry"]
            for change in entry["changes"]
        ]

    def statuses(self, wamid=None):
        """Every status reported, or those of one message."""
        found = [s for value in self.values() for s in value.get("statuses", [])]
        return [s for s in found if wamid in {None, s["id"]}]

    def told(self, wamid):
        return [s["status"] for s in self.statuses(wamid)]

    def messages(self):
        return [m for value in self.values() for m in value.get("messages", [])]


@dataclass
class Client:
    """Speaks to a running simulator as a sender and as its operator."""

    url: str
    http: aiohttp.ClientSession
    receiver: Receiver
    secrets: tuple = (APP_SECRET, TOKEN, OTHER_TOKEN, VERIFY_TOKEN)

    async def call(self, method, path, *, token=TOKEN, **options):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with self.http.request(
            method, f"{self.url}/{path}", headers=headers, **options
        ) as answer:
            return answer.status, await answer.json()

    async def send(self, to="14155550100", *, number="1001", token=TOKEN, **changes):
        body = {"messaging_product": "whatsapp", "to": to, "type": "text"}
        body |= {"text": {"body": "Hello"}, **changes}
        return await self.call("POST", f"v23.0/{number}/messages", token=token, json=body)

    async def sent(self, to="14155550100", **changes):
        """The wamid of a message that must be accepted."""
        status, answer = await self.send(to, **changes)
        assert status == 200, answer
        return answer["messages"][0]["id"]

    async def control(self, method, path, **options):
        return await self.call(method, f"_simulator/{path}", token=None, **options)

    async def report(self, number="1001"):
        _, report = await self.control("GET", "report")
        return next(n for n in report["numbers"] if n["phone_number_id"] == number)

    async def until_reported(self, done, number="1001"):
        """Ask for the report until `done(its number, its webhooks)`; nothing announces these."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                _, report = await self.control("GET", "report")
                mine = next(n for n in report["numbers"] if n["phone_number_id"] == number)
                if done(mine, report["webhooks"]):
                    return mine, report["webhooks"]
                await asyncio.sleep(0.01)

    async def log(self, **query):
        _, page = await self.control("GET", "log", params=query)
        return page["entries"]


@asynccontextmanager
async def _listening(app):
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _serving(config):
    listening, stop = asyncio.get_running_loop().create_future(), asyncio.Event()
    task = asyncio.create_task(serve(config, ready=listening.set_result, stop=stop))
    try:
        await asyncio.wait({listening, task}, return_when=asyncio.FIRST_COMPLETED)
        yield listening.result()
    finally:
        stop.set()
        await task


@pytest.fixture
async def receiver():
    receiver = Receiver()
    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_post("/hook", receiver.post)
    app.router.add_get("/hook", receiver.get)
    async with _listening(app) as url:
        receiver.url = f"{url}/hook"
        yield receiver
        assert receiver.unsigned == 0


@pytest.fixture
async def start(receiver):
    """Starts a simulator with fast statuses; keyword arguments change its configuration."""
    async with AsyncExitStack() as stack:

        async def start(**changes):
            config = {
                "app_secret": APP_SECRET,
                "verify_token": VERIFY_TOKEN,
                "port": 0,
                "webhook_url": receiver.url,
                "numbers": NUMBERS,
                "statuses": FAST,
                **changes,
            }
            url = await stack.enter_async_context(_serving(SimulatorConfig.from_json(config)))
            http = await stack.enter_async_context(aiohttp.ClientSession())
            return Client(url, http, receiver)

        yield start


def pytest_asyncio_loop_factories():
    """The loop that Tellwire runs on; it has its own sockets, which the resets depend on."""
    return {"uvloop": uvloop.new_event_loop}
