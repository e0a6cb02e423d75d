"""The server waits for the head of a request, but not for ever and not for everything."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
import uvicorn

from tellwire import bounded_head
from tellwire.bounded_head import BoundedHead

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PATIENCE_SECONDS = 0.3


async def app(scope, receive, send):
    """Answers with what it read."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message.get("more_body", False)
    said = b"%s %d" % (scope["path"].encode(), len(body))
    headers = [(b"content-length", str(len(said)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


@pytest.fixture
async def connect(monkeypatch):
    monkeypatch.setattr(bounded_head, "HEAD_WITHIN_SECONDS", PATIENCE_SECONDS)
    config = uvicorn.Config(
        app, port=0, http=BoundedHead, lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn tells nobody
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    @asynccontextmanager
    async def connect():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            yield reader, writer
        writer.close()

    yield connect
    server.should_exit = True
    await serving
    assert BoundedHead._held == 0


async def answer(reader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_head_in_pieces_is_a_head(connect, size) -> None:
    whole = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    async with connect() as (reader, writer):
        for start in range(0, len(whole), size):
            writer.write(whole[start : start + size])
            await asyncio.sleep(0)
        assert await answer(reader) == (200, b"/a 5")


async def test_requests_follow_each_other_on_one_connection(connect) -> None:
    async with connect() as (reader, writer):
        for _ in range(3):
            writer.write(HEAD)
            assert await answer(reader) == (200, b"/ 0")
        writer.write(HEAD * 3)
        assert [await answer(reader) for _ in range(3)] == [(200, b"/ 0")] * 3


@pytest.mark.parametrize("said", [b"", b"G", HEAD[:-2]])
async def test_whoever_does_not_come_to_the_point_is_told_so(connect, said) -> None:
    began = time.monotonic()
    async with connect() as (reader, writer):
        writer.write(said)
        assert (await answer(reader))[0] == 408
        assert await reader.read() == b""
    assert time.monotonic() - began >= PATIENCE_SECONDS


async def test_a_later_request_has_no_more_time(connect) -> None:
    async with connect() as (reader, writer):
        writer.write(HEAD)
        assert await answer(reader) == (200, b"/ 0")
        writer.write(HEAD[:-2])
        assert (await answer(reader))[0] == 408


async def test_a_slow_body_is_none_of_its_business(connect) -> None:
    async with connect() as (reader, writer):
        writer.write(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1")
        await asyncio.sleep(2 * PATIENCE_SECONDS)
        writer.write(b"2")
        assert await answer(reader) == (200, b"/a 2")


@pytest.mark.parametrize("first", [b"", HEAD])
async def test_a_head_has_a_size(connect, first) -> None:
    async with connect() as (reader, writer):
        if first:
            writer.write(first)
            await answer(reader)
        writer.write(HEAD[:-2] + b"X: " + b"y" * bounded_head.MAX_HEAD_BYTES)
        assert (await answer(reader))[0] == 431


@pytest.mark.parametrize("first", [b"", HEAD])
async def test_a_head_that_comes_whole_has_the_same_size(connect, first) -> None:
    at_most = bounded_head.MAX_HEAD_BYTES - len(HEAD) - 10
    for size, status in ((at_most, 200), (bounded_head.MAX_HEAD_BYTES, 431)):
        for large in (
            b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"y" * size),
            HEAD[:-2] + b"X: " + b"y" * size + b"\r\n\r\n",
        ):
            async with connect() as (reader, writer):
                if first:
                    writer.write(first)
                    await answer(reader)
                writer.write(large)
                assert (await answer(reader))[0] == status


async def test_a_body_that_comes_with_its_head_does_not_count(connect) -> None:
    body = b"y" * 3 * bounded_head.MAX_HEAD_BYTES
    async with connect() as (reader, writer):
        writer.write(
            b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        assert await answer(reader) == (200, b"/a %d" % len(body))


async def test_all_heads_together_have_a_size(connect, monkeypatch) -> None:
    monkeypatch.setattr(bounded_head, "MAX_HEADS_BYTES", 3000)
    async with connect() as (one, say), connect() as (other, also_say):
        say.write(HEAD[:-2] + b"X: " + b"y" * 2000)
        await asyncio.sleep(0.05)
        also_say.write(HEAD[:-2] + b"X: " + b"y" * 2000)
        assert (await answer(other))[0] == 431
        assert (await answer(one))[0] == 408


async def test_what_is_no_http_is_refused_at_once(connect) -> None:
    began = time.monotonic()
    async with connect() as (reader, writer):
        writer.write(b"\x16\x03\x01\x02\x00")
        assert (await answer(reader))[0] == 400
    assert time.monotonic() - began < PATIENCE_SECONDS


async def test_a_server_that_stops_does_not_wait_for_those_who_say_nothing(connect) -> None:
    async with connect() as (reader, writer):
        writer.write(HEAD[:5])
        assert not reader.at_eof()
