"""Bodies without end, bodies that trickle, connections that say nothing: the intake goes on.

A real server process, whose memory the system tells.
"""

import asyncio
import hashlib
import hmac
import json
import resource
import sys
import time
from collections.abc import Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from stack import APP_ID, APP_SECRET, running_stack

HALF_OPEN = 10_000
SPARE_FILES = 1000
TRICKLING, ENDLESS = 50, 4
MAX_GROWTH_BYTES = 50 * 1024 * 1024
GIGABYTE = 1024**3
PATH = f"/webhooks/whatsapp/{APP_ID}"


def signed(number: int) -> tuple[bytes, dict[str, str]]:
    """A delivery as Meta would make it, each another one."""
    body = json.dumps({"object": "whatsapp_business_account", "entry": [], "n": number}).encode()
    digest = hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()
    return body, {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}


async def deliver(stack, numbers) -> list[int]:
    statuses = []
    for number in numbers:
        body, headers = signed(number)
        async with stack.http.post(f"{stack.api}{PATH}", data=body, headers=headers) as answer:
            statuses.append(answer.status)
        await asyncio.sleep(0.02)
    return statuses


def half_open_number(api: psutil.Process) -> int:
    """As many as both sides may have files."""
    _, ours = resource.getrlimit(resource.RLIMIT_NOFILE)
    theirs, _ = api.rlimit(psutil.RLIMIT_NOFILE)
    return min(HALF_OPEN, ours - SPARE_FILES, theirs - SPARE_FILES)


@asynccontextmanager
async def connection(stack):
    where = urlsplit(stack.api)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def endless(stack) -> tuple[int, int]:
    """A gigabyte in chunks; gives the status and how much the server let us send."""
    sent, chunk = 0, bytes(65536)
    async with connection(stack) as (reader, writer):
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        answer = asyncio.create_task(reader.readline())
        try:
            while sent < GIGABYTE and not answer.done():
                writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                await writer.drain()
                sent += len(chunk)
        except ConnectionError:
            pass
        return await status_in(answer), sent


async def trickle(stack) -> tuple[int, float]:
    """A byte a second; gives the status and how long the server had patience."""
    began = time.monotonic()
    async with connection(stack) as (reader, writer):
        writer.write(f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".encode())
        answer = asyncio.create_task(reader.readline())
        while not answer.done() and time.monotonic() - began < 60:
            writer.write(b" ")
            await asyncio.wait([answer], timeout=1)
        return await status_in(answer), time.monotonic() - began


async def status_in(answer: Awaitable[bytes]) -> int:
    """0 where the connection was ended without a word, or so that a write heard of it first."""
    try:
        line = await answer
    except ConnectionError:
        return 0
    return int(line.split()[1]) if line.startswith(b"HTTP/1.1 ") else 0


async def largest(process: psutil.Process, until: asyncio.Event) -> int:
    most = 0
    while not until.is_set():
        most = max(most, process.memory_info().rss)
        await asyncio.sleep(0.05)
    return most


@pytest.mark.soak
@pytest.mark.timeout(720)
async def test_hostile_clients_cost_little_and_delay_no_delivery_for_good(directory) -> None:
    async with running_stack(directory, workers=1) as stack:
        (api,) = stack.children("api")
        assert set(await deliver(stack, range(100))) == {200}
        at_rest, over = api.memory_info().rss, asyncio.Event()
        watching = asyncio.create_task(largest(api, over))
        port, number = urlsplit(stack.api).port, half_open_number(api)
        crowd = await asyncio.create_subprocess_exec(
            *(sys.executable, str(Path(__file__).with_name("half_open.py"))),
            *(str(port), str(number)),
            stdout=asyncio.subprocess.PIPE,
        )

        async with asyncio.timeout(150):
            assert crowd.stdout is not None
            assert await crowd.stdout.readline() == f"open {number}\n".encode()
            floods = asyncio.gather(*(endless(stack) for _ in range(ENDLESS)))
            drips = asyncio.gather(*(trickle(stack) for _ in range(TRICKLING)))
            valid = await deliver(stack, range(100, 300))
            ended = (await crowd.stdout.readline()).split()
            over.set()
            growth = await watching - at_rest

        assert set(valid) == {200}
        assert ended == [b"ended", str(number).encode(), str(number).encode()]
        assert {status for status, _ in await drips} == {408}
        assert all(status in {413, 0} and sent < GIGABYTE // 10 for status, sent in await floods)
        assert 413 in {status for status, _ in await floods}
        assert growth < MAX_GROWTH_BYTES, f"{growth / 1024 / 1024:.1f} MB for {number} connections"
        assert set(await deliver(stack, range(300, 320))) == {200}


@pytest.mark.timeout(360)
async def test_a_head_without_end_is_cut_off(directory) -> None:
    async with running_stack(directory, workers=1) as stack, connection(stack) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        answer, sent = asyncio.create_task(reader.readline()), 0
        while not answer.done() and sent < 10 * 1024 * 1024:
            writer.write(b"X-%d: " % sent + b"y" * 1000 + b"\r\n")
            sent += 1000
            await asyncio.wait([answer], timeout=0.001)
        assert await status_in(answer) in {431, 0}
        assert sent < 1024 * 1024
        assert set(await deliver(stack, range(3))) == {200}
