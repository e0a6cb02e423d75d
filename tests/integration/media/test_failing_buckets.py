"""A bucket that fails in any way is a store that does not answer, and never half a file."""

import asyncio
import hashlib
import resource
import tempfile
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest

from shared.kernel.ids import new_id
from shared.kernel.secret import Secret
from whatsapp.application.media_ports import MediaStoreUnavailable
from whatsapp.domain.media import MediaKey, MediaNotAvailable
from whatsapp.infrastructure.media_store import s3
from whatsapp.infrastructure.media_store.s3 import S3MediaStore, S3Settings

CONTENT = b"0123456789"
KEY = MediaKey(new_id(), new_id(), hashlib.sha256(CONTENT).digest())
NAME = f"tellwire/{'/'.join(KEY.parts)}"
FILE = (
    b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: "x"\r\n'
    b"Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\n"
)


def told(status, code=None):
    """An answer of S3's, with its error if there is one."""
    body = b"" if code is None else f"<Error><Code>{code}</Code></Error>".encode()
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


def deleted(inner):
    body = f"<?xml version='1.0'?><DeleteResult>{inner}</DeleteResult>".encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def not_deleted(code):
    return deleted(f"<Error><Key>{NAME}</Key><Code>{code}</Code><Message>no</Message></Error>")


DIES, HANGS = b"", None
ANSWERS = {
    "500": told("500 Internal Server Error", "InternalError"),
    "slow down": told("503 Slow Down", "SlowDown"),
    "403": told("403 Forbidden", "AccessDenied"),
    "clock skew": told("403 Forbidden", "RequestTimeTooSkewed"),
    "401": told("401 Unauthorized"),
    "400": told("400 Bad Request"),
    "no bucket": told("404 Not Found", "NoSuchBucket"),
    "409": told("409 Conflict"),
    "moved": told("301 Moved Permanently", "PermanentRedirect"),
    "reset": DIES,
    "silent": HANGS,
    "garbage": b"nonsense\r\n\r\n",
}


@asynccontextmanager
async def bucket_that_says(answer, *, hangs=False):
    """A server that says this to everybody, and then hangs up or falls silent."""
    ending = asyncio.Event()

    async def serve(reader, writer):
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b"content-length:" in head:
                await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
            writer.write(answer or b"")
            await writer.drain()
            if answer is None or hangs:
                await ending.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield S3MediaStore(
        S3Settings(
            bucket="files",
            endpoint=f"http://127.0.0.1:{port}",
            region="us-east-1",
            access_key_id="an-id",
            secret_access_key=Secret("a-secret-canary"),
            prefix="tellwire",
        )
    )
    ending.set()
    server.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(s3, "_SILENCE", timedelta(milliseconds=300))
    monkeypatch.setattr(s3, "_RETRY_FOR", timedelta(milliseconds=1))


async def keep(store):
    async with store.drafting() as draft:
        await draft.write(CONTENT)
        await draft.keep(KEY, mime_type="image/png")


async def read(store, **part):
    async with store.reading(KEY, **part) as pieces:
        return b"".join([piece async for piece in pieces])


CALLS = {
    "keep": keep,
    "read": read,
    "read a part": lambda store: read(store, start=2, length=3),
    "remove": lambda store: store.remove(KEY),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_bucket_in_trouble_is_told_as_such_and_shows_nothing(answer, call) -> None:
    async with asyncio.timeout(30), bucket_that_says(ANSWERS[answer]) as store:
        with pytest.raises(MediaStoreUnavailable) as refused:
            await CALLS[call](store)

    assert "canary" not in repr((refused.value, refused.value.__cause__))
    assert "127.0.0.1" not in str(refused.value)


@pytest.mark.parametrize("hangs", [False, True], ids=["reset", "silent"])
async def test_a_file_that_breaks_off_is_no_file(hangs) -> None:
    async with asyncio.timeout(30), bucket_that_says(FILE + CONTENT[:4], hangs=hangs) as store:
        with pytest.raises(MediaStoreUnavailable):
            await read(store)


@pytest.mark.parametrize(
    "answer",
    [
        FILE + CONTENT,
        FILE.replace(b"200 OK", b"206 Partial Content\r\nContent-Range: bytes 5-14/15") + CONTENT,
    ],
    ids=["ignored", "another"],
)
async def test_another_part_than_was_asked_for_is_not_taken_for_it(answer) -> None:
    async with bucket_that_says(answer) as store:
        with pytest.raises(MediaStoreUnavailable):
            await read(store, start=2, length=3)


async def test_an_object_that_is_not_there_is_lost_and_may_be_removed() -> None:
    async with bucket_that_says(told("404 Not Found", "NoSuchKey")) as store:
        with pytest.raises(MediaNotAvailable):
            await read(store)
        await store.remove(KEY)
    async with bucket_that_says(not_deleted("NoSuchKey")) as store:
        await store.remove(KEY)


async def test_a_full_disk_for_drafts_is_told_as_such() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        async with bucket_that_says(told("200 OK")) as store, store.drafting() as draft:
            # Little enough to stay in memory until the file is kept, and closed.
            await draft.write(CONTENT)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
            with pytest.raises(MediaStoreUnavailable):
                await draft.keep(KEY, mime_type="image/png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_no_place_for_drafts_is_told_as_such(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    async with bucket_that_says(told("200 OK")) as store:
        with pytest.raises(MediaStoreUnavailable):
            await keep(store)


async def test_a_deletion_that_the_bucket_refuses_is_not_done() -> None:
    async with bucket_that_says(deleted(f"<Deleted><Key>{NAME}</Key></Deleted>")) as store:
        await store.remove(KEY)
    async with bucket_that_says(not_deleted("AccessDenied")) as store:
        with pytest.raises(MediaStoreUnavailable):
            await store.remove(KEY)
