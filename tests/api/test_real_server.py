"""What only a real server on a real socket shows."""

import asyncio
import contextlib
import socket
import time
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

import tellwire.api
from shared.infrastructure.http.body import BodyLimit

WEBHOOK = "/webhooks/whatsapp/100000000000001"
MEBIBYTE = 1024 * 1024


class Caller:
    """A connection on which a test says exactly what it wants.

    On a bare socket: a server that closes while its caller is still sending resets the connection.
    What it had answered can still be read then, which a stream of asyncio would throw away.
    """

    def __init__(self, connection) -> None:
        self._socket = connection
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, url):
        parts = urlsplit(url)
        connection = socket.socket()
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (parts.hostname, parts.port))
        return cls(connection)

    async def say(self, data) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def hear(self):
        """Everything until the server closes, as status and text."""
        heard = bytearray()
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                while block := await self._loop.sock_recv(self._socket, 0x10000):
                    heard += block
        return int(heard[9:12] or 0), heard.decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
async def caller(live_url):
    caller = await Caller.connect(live_url)
    yield caller
    caller.close()


def head(path, *headers):
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: api.test", *headers, "", ""]).encode()


@pytest.mark.parametrize(
    ("path", "limit"),
    [(WEBHOOK, 3 * MEBIBYTE), ("/v1/messages", MEBIBYTE), ("/v1/messages/batch", 8 * MEBIBYTE)],
)
async def test_a_declared_length_is_refused_before_the_body_is_read(caller, path, limit) -> None:
    await caller.say(head(path, f"Content-Length: {limit + 1}"))

    status, text = await caller.hear()

    assert status == 413
    assert "body_too_large" in text


@pytest.mark.parametrize("how", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize(
    ("path", "code"),
    [
        *(("/v1/messages/batch", "unauthenticated"), ("/v1/media", "unauthenticated")),
        *(("/v23.0/1001/media", "190"), ("/nowhere", "unauthenticated")),
    ],
)
async def test_nothing_of_a_body_is_read_before_its_sender_is_known(
    caller, path, code, how
) -> None:
    await caller.say(head(path, how, "Authorization: Bearer tw_no"))

    status, text = await caller.hear()

    assert status == 401
    assert code in text


async def test_an_undeclared_length_is_refused_as_soon_as_it_is_passed(caller) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    await caller.say(head(WEBHOOK, "Transfer-Encoding: chunked"))
    # 48 chunks are the limit; one byte more passes it, and the last chunk never comes.
    await caller.say(chunk * 48)
    await caller.say(b"1\r\nx\r\n")

    status, text = await caller.hear()

    assert status == 413
    assert "body_too_large" in text


@pytest.mark.parametrize("length", ["-1", "1e9", "0x10", "\xb2", "9" * 5000])
async def test_a_length_that_is_none_is_refused(caller, length) -> None:
    await caller.say(head(WEBHOOK, f"Content-Length: {length}"))

    status, _ = await caller.hear()

    assert status in {400, 413}


async def test_a_slow_sender_is_cut_off_however_steadily_it_sends(caller, monkeypatch) -> None:
    within = timedelta(milliseconds=400)
    limit = BodyLimit(MEBIBYTE, within=within, is_signed=True)
    monkeypatch.setattr(tellwire.api, "WEBHOOK_LIMIT", limit)
    started = time.monotonic()

    async def drip():
        while True:
            await caller.say(b"x")
            await asyncio.sleep(0.02)

    await caller.say(head(WEBHOOK, "Content-Length: 100000"))
    dripping = asyncio.create_task(drip())
    status, text = await caller.hear()
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)

    assert status == 408
    assert "request_timed_out" in text
    assert within.total_seconds() <= time.monotonic() - started < 5


async def test_meta_is_given_five_seconds() -> None:
    limit = tellwire.api.body_limit_of(WEBHOOK)

    assert limit == BodyLimit(3 * MEBIBYTE, within=timedelta(seconds=5), is_signed=True)
