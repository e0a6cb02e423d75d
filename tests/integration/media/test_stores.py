"""What every store of media promises: a directory, and a bucket of a real S3-compatible server."""

import asyncio
import hashlib
import os
import resource
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta

import aiohttp
import pytest

from ports import free_port
from shared.kernel.ids import new_id
from shared.kernel.secret import Secret
from whatsapp.application.media_ports import MediaStoreUnavailable
from whatsapp.domain.media import MediaKey, MediaNotAvailable
from whatsapp.infrastructure.media_store import s3
from whatsapp.infrastructure.media_store.directory import DRAFTS, DirectoryMediaStore
from whatsapp.infrastructure.media_store.s3 import S3MediaStore, S3Settings

BUCKET = "files"
CONTENT = os.urandom(6 * 1024 * 1024)  # more than one part of an upload in parts


@pytest.fixture(scope="module")
def s3_server():
    """An S3-compatible server in a process of its own."""
    port = free_port()
    process = subprocess.Popen(  # noqa: S603  # a command of our own environment
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    limit = time.monotonic() + 60
    while True:
        assert process.poll() is None
        assert time.monotonic() < limit, "the server did not start"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            break
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def bucket_at(endpoint, **changes):
    settings = {
        "bucket": BUCKET,
        "endpoint": endpoint,
        "region": "us-east-1",
        "access_key_id": "an-id",
        "secret_access_key": Secret("a-secret-canary"),
        "prefix": "tellwire",
        **changes,
    }
    return S3MediaStore(S3Settings(**settings))


async def bucket_of(endpoint):
    async with aiohttp.ClientSession() as http, http.put(f"{endpoint}/{BUCKET}") as answer:
        assert answer.status == 200
    return bucket_at(endpoint)


@pytest.fixture(params=["directory", "s3"])
async def store(request, tmp_path):
    if request.param == "directory":
        return DirectoryMediaStore(tmp_path / "media")
    return await bucket_of(request.getfixturevalue("s3_server"))


async def keep(store, content=CONTENT, key=None):
    async with store.drafting() as draft:
        for start in range(0, len(content), 700_000):
            await draft.write(content[start : start + 700_000])
        key = key or MediaKey(new_id(), new_id(), draft.sha256)
        await draft.keep(key, mime_type="image/png")
        assert (draft.size, draft.sha256) == (len(content), hashlib.sha256(content).digest())
    return key


async def read(store, key, **part):
    async with store.reading(key, **part) as pieces:
        return b"".join([piece async for piece in pieces])


async def test_what_is_kept_can_be_read_whole_and_in_part(store) -> None:
    key = await keep(store)

    assert await read(store, key) == CONTENT
    assert await read(store, key, start=1000) == CONTENT[1000:]
    assert await read(store, key, start=500_000, length=300_000) == CONTENT[500_000:800_000]


async def test_what_is_not_kept_is_nowhere(store) -> None:
    key = MediaKey(new_id(), new_id(), hashlib.sha256(CONTENT).digest())
    with pytest.raises(RuntimeError):
        await _write_and_fail(store)

    with pytest.raises(MediaNotAvailable):
        await read(store, key)


async def _write_and_fail(store):
    async with store.drafting() as draft:
        await draft.write(CONTENT)
        raise RuntimeError


async def test_keeping_the_same_again_changes_nothing(store) -> None:
    key = await keep(store)

    assert await keep(store, key=key) == key
    assert await read(store, key) == CONTENT


async def test_two_media_with_the_same_bytes_do_not_share_them(store) -> None:
    tenant = new_id()
    one, other = (MediaKey(tenant, new_id(), hashlib.sha256(CONTENT).digest()) for _ in "ab")
    await keep(store, key=one)
    await keep(store, key=other)

    await store.remove(one)

    with pytest.raises(MediaNotAvailable):
        await read(store, one)
    assert await read(store, other) == CONTENT


async def test_removing_what_is_not_there_is_nothing(store) -> None:
    key = await keep(store)
    await store.remove(key)
    await store.remove(key)


async def test_a_store_that_does_not_answer_says_so_and_not_where_it_is() -> None:
    store = bucket_at(f"http://127.0.0.1:{free_port()}")

    with pytest.raises(MediaStoreUnavailable) as refused:
        await keep(store, b"x")
    with pytest.raises(MediaStoreUnavailable):
        await read(store, MediaKey(new_id(), new_id(), bytes(32)))

    assert "127.0.0.1" not in str(refused.value)


async def test_a_bucket_that_does_not_exist_is_a_store_that_does_not_answer(s3_server) -> None:
    with pytest.raises(MediaStoreUnavailable) as refused:
        await keep(bucket_at(s3_server, bucket="another"), b"x")

    assert "canary" not in f"{refused.value!r} {refused.value.__context__!r}"


async def test_a_slow_reader_gets_all_of_a_file_from_a_bucket(s3_server, monkeypatch) -> None:
    """A tenant's line may be slow: what must not be silent is the store."""
    content = CONTENT * 4  # More than what lies between us and the store in buffers.
    key = await keep(await bucket_of(s3_server), content)
    monkeypatch.setattr(s3, "_SILENCE", timedelta(seconds=2))
    monkeypatch.setattr(s3, "_RETRY_FOR", timedelta(milliseconds=1))
    store = bucket_at(s3_server)

    got, began = [], time.monotonic()
    async with store.reading(key) as pieces:
        async for piece in pieces:
            got.append(piece)
            if len(got) <= 10:  # longer than the silence altogether
                await asyncio.sleep(0.3)

    assert b"".join(got) == content
    assert time.monotonic() - began > 2  # as was intended


async def test_a_bucket_that_falls_silent_within_a_file_is_not_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(s3, "_SILENCE", timedelta(milliseconds=200))
    monkeypatch.setattr(s3, "_RETRY_FOR", timedelta(milliseconds=1))

    async def half(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: x\r\n"
            b"Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\n" + bytes(500)
        )
        with suppress(OSError):
            await reader.read()
        writer.close()
        hung_up.set()

    hung_up = asyncio.Event()
    server = await asyncio.start_server(half, "127.0.0.1", 0)
    store = bucket_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with asyncio.timeout(30):
        with pytest.raises(MediaStoreUnavailable):
            await read(store, MediaKey(new_id(), new_id(), bytes(32)))
        server.close()
        await hung_up.wait()


# --- The directory alone -------------------------------------------------------------------------


async def test_a_killed_process_leaves_a_draft_that_is_swept_later(tmp_path) -> None:
    store = DirectoryMediaStore(tmp_path)
    async with store.drafting() as living:
        await living.write(b"half a file")
        left = tmp_path / DRAFTS / "of-a-dead-process"
        left.write_bytes(b"half a file")
        an_hour_ago = time.time() - 3600
        os.utime(left, (an_hour_ago, an_hour_ago))

        assert await store.sweep(timedelta(minutes=30)) == 1
        assert await store.sweep(timedelta(minutes=30)) == 0
        await living.keep(MediaKey(new_id(), new_id(), living.sha256), mime_type="text/plain")

    assert list((tmp_path / DRAFTS).iterdir()) == []


async def test_a_full_disk_is_told_as_such_and_leaves_no_draft_behind(tmp_path) -> None:
    store = DirectoryMediaStore(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        async with store.drafting() as draft:
            # Little enough to stay in memory until the file is kept, and closed.
            await draft.write(bytes(4000))
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
            key = MediaKey(new_id(), new_id(), draft.sha256)
            with pytest.raises(MediaStoreUnavailable):
                await draft.keep(key, mime_type="text/plain")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert list((tmp_path / DRAFTS).iterdir()) == []


async def test_a_draft_that_ends_while_dead_ones_are_looked_for_holds_up_nothing(tmp_path) -> None:
    store = DirectoryMediaStore(tmp_path)
    drafts = tmp_path / DRAFTS
    drafts.mkdir()
    # Names without a file, as those of drafts that were kept or thrown away a moment ago.
    for number in range(3):
        (drafts / f"gone-{number}").symlink_to(tmp_path / "nowhere")
    left = drafts / "of-a-dead-process"
    left.write_bytes(b"half a file")
    os.utime(left, (0, 0))

    assert await store.sweep(timedelta(minutes=30)) == 1
    assert not left.exists()


async def test_a_directory_that_is_not_mounted_has_lost_no_file_and_removed_none(tmp_path) -> None:
    mounted, elsewhere = tmp_path / "media", tmp_path / "elsewhere"
    store = DirectoryMediaStore(mounted)
    key = await keep(store, b"hello")
    mounted.rename(elsewhere)
    for is_there in (False, True):  # The mount point may be gone, or an empty directory.
        if is_there:
            mounted.mkdir()
        with pytest.raises(MediaStoreUnavailable) as refused:
            await read(store, key)
        with pytest.raises(MediaStoreUnavailable):
            await store.remove(key)
        assert str(tmp_path) not in f"{refused.value!r} {refused.value.__cause__!r}"
    mounted.rmdir()
    elsewhere.rename(mounted)

    assert await read(store, key) == b"hello"
    await store.remove(key)
    with pytest.raises(MediaNotAvailable):
        await read(store, key)


async def test_a_directory_that_fails_within_a_file_is_a_store_that_does_not_answer(
    tmp_path,
) -> None:
    store = DirectoryMediaStore(tmp_path)
    key = await keep(store, b"hello")
    (path,) = (tmp_path / str(key.tenant_id)).rglob("*-*")
    path.unlink()
    path.symlink_to("/proc/self/mem")  # Which opens, and cannot be read at its beginning.

    with pytest.raises(MediaStoreUnavailable):
        await read(store, key)


async def test_files_lie_below_their_tenant_for_tellwires_eyes_alone(tmp_path) -> None:
    root = tmp_path / "media"
    key = await keep(DirectoryMediaStore(root), b"hello")

    (path,) = (root / str(key.tenant_id)).rglob("*-*")
    assert path.name == f"{hashlib.sha256(b'hello').hexdigest()}-{key.media_id}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    directories = [root, *(p for p in root.rglob("*") if p.is_dir())]
    assert {stat.S_IMODE(p.stat().st_mode) for p in directories} == {0o700}


async def test_a_directory_that_cannot_be_written_to_is_a_store_that_does_not_answer(
    tmp_path,
) -> None:
    blocked = tmp_path / "media"
    blocked.write_bytes(b"a file where a directory should be")

    with pytest.raises(MediaStoreUnavailable) as refused:
        await keep(DirectoryMediaStore(blocked), b"x")

    assert str(tmp_path) not in str(refused.value)
