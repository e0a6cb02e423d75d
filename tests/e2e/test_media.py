"""Files in real processes: one that is killed in the middle of a download, and one that is sent."""

import asyncio
import base64
import os

import pytest

from stack import running_stack

CONTENT = os.urandom(600_000)
PNG = b"\x89PNG" + os.urandom(50_000)


@pytest.mark.soak
@pytest.mark.timeout(720)
async def test_files_come_in_whole_although_the_worker_is_killed_and_go_out_once(directory) -> None:
    lease = {"TELLWIRE_MEDIA_LEASE_SECONDS": "12"}
    async with running_stack(directory, workers=1, settings=lease) as stack:
        ana = await stack.new_sender("Ana's Bakery", "1001")
        bea = await stack.new_sender("Bea's Bikes", "2002")
        await stack.control("media", bytes_per_second=60_000)
        await stack.control("webhooks", duplicate=1.0)
        picture = {"data_base64": base64.b64encode(CONTENT).decode()}
        await stack.control(
            "inbound",
            phone_number_id="1001",
            **{"from": "4915112345678"},
            type="image",
            image=picture,
        )

        drafts = stack.directory / "data" / "media" / ".drafts"
        await until(lambda: drafts.is_dir() and any(p.stat().st_size for p in drafts.iterdir()))
        kill_worker(stack)
        (half,) = drafts.iterdir()
        assert 0 < half.stat().st_size < len(CONTENT)
        (media,) = await listed(stack, ana)
        assert media["status"] == "pending"
        await stack.control("media", bytes_per_second=10**9)

        media = await until_stored(stack, ana)
        assert await content(stack, ana, media["id"]) == (200, CONTENT)
        assert list((await stack.control("media"))["downloads"].values()) == [1]
        assert await listed(stack, bea) == []
        assert (await content(stack, bea, media["id"]))[0] == 404

        await sends_a_file_in_many_messages(stack, ana)


async def sends_a_file_in_many_messages(stack, sender) -> None:
    headers = sender.headers | {"Content-Type": "image/png"}
    async with stack.http.post(f"{stack.api}/v1/media", data=PNG, headers=headers) as answer:
        assert answer.status == 201
        media = await answer.json()
    ids = [
        (
            await stack.post(
                sender,
                {"to": f"+49151{number:08d}", "type": "image", "image": {"id": media["id"]}},
            )
        )["id"]
        for number in range(10)
    ]

    found = await stack.follow(sender, ids, within=90)

    assert {one["status"] for one in found.values()} == {"read"}
    assert (await stack.control("media"))["uploads"] == 1


def kill_worker(stack) -> None:
    """The supervisor starts another."""
    (worker,) = stack.children("worker")
    worker.kill()
    worker.wait(timeout=10)


async def until(done) -> None:
    async with asyncio.timeout(30):
        while not done():  # noqa: ASYNC110  # other processes tell nobody
            await asyncio.sleep(0.05)


async def until_stored(stack, sender):
    async with asyncio.timeout(60):
        while True:
            (media,) = await listed(stack, sender)
            if media["status"] != "pending":
                assert media["status"] == "stored", media
                return media
            await asyncio.sleep(0.2)


async def listed(stack, sender):
    async with stack.http.get(f"{stack.api}/v1/media", headers=sender.headers) as answer:
        assert answer.status == 200
        return (await answer.json())["data"]


async def content(stack, sender, media_id):
    url = f"{stack.api}/v1/media/{media_id}/content"
    async with stack.http.get(url, headers=sender.headers) as answer:
        return answer.status, await answer.read()
