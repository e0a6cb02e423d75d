import asyncio
import hashlib

import pytest

from shared.kernel.ids import new_id
from tellwire.media import open_store
from tenancy.domain import Scope
from whatsapp.domain.media import Media, MediaDirection, MediaKey, MediaStatus
from whatsapp.domain.media_repository import MediaJob, MediaJobKind, Stored
from whatsapp.domain.media_type import MediaKind
from whatsapp.infrastructure.persistence.work import work_in

PNG = b"\x89PNG\r\n" + bytes(range(256)) * 300


async def upload(client, customer, content=PNG, mime_type="image/png", **query):
    headers = customer.headers | {"Content-Type": mime_type}
    return await client.post("/v1/media", content=content, headers=headers, params=query)


async def inbound(world, customer, content=None, **changes):
    """A file that a person sent: fetched already, if there is content."""
    media = Media(
        **{
            "tenant_id": customer.tenant_id,
            "direction": MediaDirection.INBOUND,
            "kind": MediaKind.DOCUMENT,
            "channel_id": customer.channel_id,
            "message_id": new_id(),
            "provider_media_id": str(new_id().int)[-15:],
            "mime_type": "application/pdf",
            **changes,
        }
    )
    async with work_in(world.sessions)(customer.tenant_id) as work:
        await work.media.expect(media)
        await work.commit()
    if content is not None:
        await finish(world, customer, media, content)
    return media


async def finish(world, customer, media, content):
    token, digest = new_id(), hashlib.sha256(content).digest()
    async with open_store(world.settings).drafting() as draft:
        await draft.write(content)
        await draft.keep(MediaKey(media.tenant_id, media.id, digest), mime_type=media.mime_type)
    await world.query(
        "UPDATE whatsapp_media_jobs SET lease_token = :token WHERE id = :id",
        token=token,
        id=media.id,
    )
    job = MediaJob(
        customer.tenant_id, media.id, MediaJobKind.FETCH, media.id, customer.channel_id, 1, token
    )
    stored = Stored(size=len(content), sha256=digest, mime_type=media.mime_type)
    async with work_in(world.sessions)(customer.tenant_id) as work:
        assert await work.media.record_stored(job, stored)
        await work.commit()


async def content(client, customer, media_id, **headers):
    return await client.get(f"/v1/media/{media_id}/content", headers=customer.headers | headers)


async def test_a_file_is_taken_in_and_given_back_as_it_was(client, ana) -> None:
    answer = await upload(client, ana, filename="menu.png")

    assert answer.status_code == 201
    media = answer.json()
    assert (media["type"], media["status"], media["size"]) == ("image", "stored", len(PNG))
    assert media["sha256"] == hashlib.sha256(PNG).hexdigest()
    found = await client.get(f"/v1/media/{media['id']}", headers=ana.headers)
    assert found.json() == media
    got = await content(client, ana, media["id"])
    assert (got.status_code, got.content) == (200, PNG)
    assert got.headers["content-type"] == "image/png"
    assert got.headers["content-length"] == str(len(PNG))
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert got.headers["content-disposition"] == (
        "attachment; filename*=UTF-8''menu.png; filename=\"menu.png\""
    )


async def test_the_same_file_again_is_the_same_media(client, ana) -> None:
    first = await upload(client, ana)
    second = await upload(client, ana)

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]


async def test_a_message_can_carry_it(client, ana) -> None:
    media = (await upload(client, ana)).json()
    body = {
        "channel_id": str(ana.channel_id),
        "to": "+4915550000001",
        "type": "image",
        "image": {"id": media["id"]},
    }

    answer = await client.post("/v1/messages", json=body, headers=ana.headers)

    assert answer.status_code == 202


async def test_a_message_with_a_file_that_does_not_exist_is_refused_with_its_place(
    client, ana, bea
) -> None:
    theirs = (await upload(client, bea)).json()
    body = {
        "channel_id": str(ana.channel_id),
        "to": "+4915550000001",
        "type": "image",
        "image": {"id": theirs["id"]},
    }

    answer = await client.post("/v1/messages", json=body, headers=ana.headers)

    assert answer.status_code == 404
    assert (answer.json()["code"], answer.json()["field"]) == ("media_not_found", "image.id")


async def test_a_replay_is_none_the_worse_for_its_file_being_gone(client, world, ana) -> None:
    media = (await upload(client, ana)).json()
    body = {
        "channel_id": str(ana.channel_id),
        "to": "+4915550000001",
        "type": "image",
        "image": {"id": media["id"]},
    }
    headers = ana.headers | {"Idempotency-Key": "picture-1"}
    first = await client.post("/v1/messages", json=body, headers=headers)
    assert first.status_code == 202

    await world.query("UPDATE whatsapp_media SET status = 'removed' WHERE id = :id", id=media["id"])
    again = await client.post("/v1/messages", json=body, headers=headers)
    anew = await client.post("/v1/messages", json=body, headers=ana.headers)

    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert (anew.status_code, anew.json()["code"]) == (404, "media_not_found")


@pytest.mark.parametrize(
    ("size", "mime_type", "status", "code"),
    [
        (10, "text/html", 415, "media_type_refused"),
        (10, "image/svg+xml", 415, "media_type_refused"),
        (10, "", 415, "media_type_refused"),
        (0, "image/png", 422, "invalid_media"),
        (5 * 1024 * 1024 + 1, "image/png", 413, "media_too_large"),
        (100 * 1024 + 1, "image/webp", 413, "media_too_large"),
    ],
)
async def test_what_meta_would_not_take_is_not_stored(
    client, world, ana, size, mime_type, status, code
) -> None:
    answer = await upload(client, ana, bytes(size), mime_type)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    rows = await world.query(
        "SELECT count(*) FROM whatsapp_media WHERE tenant_id = :id", id=ana.tenant_id
    )
    assert rows[0][0] == 0
    directory = world.settings.data_directory / "media" / ".drafts"
    assert not directory.exists() or list(directory.iterdir()) == []


async def test_a_moving_sticker_may_be_larger_than_one_that_stands_still(client, ana) -> None:
    moving = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + bytes(200 * 1024)

    assert (await upload(client, ana, moving, "image/webp")).status_code == 201


async def test_a_body_that_says_it_is_too_large_is_not_read(client, ana) -> None:
    headers = ana.headers | {"Content-Type": "application/pdf", "Content-Length": str(10**9)}

    answer = await client.post("/v1/media", content=b"x", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_nobody_uploads_without_a_key_or_its_scope(client, world, ana) -> None:
    reader = await world.api_key(ana.tenant_id, Scope.MESSAGES_READ)
    headers = {"Authorization": f"Bearer {reader}", "Content-Type": "image/png"}

    refused = await client.post("/v1/media", content=PNG, headers=headers)
    unknown = await client.post("/v1/media", content=PNG, headers={"Content-Type": "image/png"})

    assert (refused.status_code, unknown.status_code) == (403, 401)


@pytest.mark.parametrize("path", ["", "/content"])
async def test_another_tenants_file_does_not_exist(client, ana, bea, path) -> None:
    media = (await upload(client, ana)).json()

    answer = await client.get(f"/v1/media/{media['id']}{path}", headers=bea.headers)

    assert (answer.status_code, answer.json()["code"]) == (404, "media_not_found")
    assert (await client.get("/v1/media", headers=bea.headers)).json()["data"] == []


@pytest.mark.parametrize(
    ("wanted", "status", "expected"),
    [
        ("bytes=0-9", 206, PNG[:10]),
        ("bytes=100-", 206, PNG[100:]),
        ("bytes=5-99999999", 206, PNG[5:]),
        ("bytes=9-5", 200, PNG),
        ("bytes=0-1,4-5", 200, PNG),
        ("lines=1-2", 200, PNG),
        (f"bytes={len(PNG)}-", 416, None),
    ],
)
async def test_a_range_of_a_file_can_be_asked_for(client, ana, wanted, status, expected) -> None:
    media = (await upload(client, ana)).json()

    got = await content(client, ana, media["id"], Range=wanted)

    assert got.status_code == status
    if expected is not None:
        assert got.content == expected
        assert got.headers["content-length"] == str(len(expected))
    if status == 206:
        start = PNG.index(expected)
        last = start + len(expected) - 1
        assert got.headers["content-range"] == f"bytes {start}-{last}/{len(PNG)}"
    if status == 416:
        assert got.headers["content-range"] == f"bytes */{len(PNG)}"


async def test_a_file_from_a_person_is_found_by_its_message_and_by_metas_id(
    client, world, ana
) -> None:
    media = await inbound(world, ana, b"%PDF-1.7")
    await inbound(world, ana)

    for query in (
        {"message_id": str(media.message_id)},
        {"provider_media_id": media.provider_media_id, "channel_id": str(ana.channel_id)},
    ):
        page = (await client.get("/v1/media", headers=ana.headers, params=query)).json()
        assert [one["id"] for one in page["data"]] == [str(media.id)]
    assert (await content(client, ana, media.id)).content == b"%PDF-1.7"


async def test_files_are_listed_by_page(client, world, ana) -> None:
    made = [str((await inbound(world, ana)).id) for _ in range(5)]
    seen, cursor = [], {}
    while True:
        page = (
            await client.get("/v1/media", headers=ana.headers, params={"limit": 2, **cursor})
        ).json()
        seen += [one["id"] for one in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert seen == made[::-1]


async def test_a_file_that_is_still_being_fetched_is_asked_for_later(client, world, ana) -> None:
    media = await inbound(world, ana)

    answer = await content(client, ana, media.id)

    assert (answer.status_code, answer.json()["code"]) == (409, "media_not_ready")
    assert answer.headers["retry-after"] == "1"


async def test_a_file_that_could_not_be_fetched_says_why(client, world, ana) -> None:
    media = await inbound(world, ana)
    await world.query(
        "UPDATE whatsapp_media SET status = 'failed', failure = 'media_gone' WHERE id = :id",
        id=media.id,
    )

    answer = await content(client, ana, media.id)

    assert (answer.status_code, answer.json()["code"]) == (410, "media_not_available")
    assert answer.json()["detail"] == "media_gone"
    shown = (await client.get(f"/v1/media/{media.id}", headers=ana.headers)).json()
    assert (shown["status"], shown["failure"]) == ("failed", "media_gone")


@pytest.mark.parametrize("status", [MediaStatus.REMOVING, MediaStatus.REMOVED])
async def test_a_removed_file_is_gone(client, world, ana, status) -> None:
    media = (await upload(client, ana)).json()
    await world.query(
        "UPDATE whatsapp_media SET status = :status WHERE id = :id",
        status=status.value,
        id=media["id"],
    )

    answer = await content(client, ana, media["id"])

    assert (answer.status_code, answer.json()["code"]) == (410, "media_not_available")
    shown = (await client.get(f"/v1/media/{media['id']}", headers=ana.headers)).json()
    assert shown["status"] == "removed"


async def test_a_file_that_the_store_lost_is_gone_and_no_half_answer(client, world, ana) -> None:
    media = (await upload(client, ana)).json()
    for path in (world.settings.data_directory / "media" / str(ana.tenant_id)).rglob("*-*"):
        if path.is_file():
            path.unlink()

    answer = await content(client, ana, media["id"])

    assert (answer.status_code, answer.json()["code"]) == (410, "media_not_available")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ('a"; filename="evil.exe', "a_filename_evil.exe"),
        ("line\r\nSet-Cookie: a=b", "lineSet-Cookie_a_b"),
        ("Men\N{LATIN SMALL LETTER U WITH ACUTE}.pdf", "Men_.pdf"),
        ("...", "x.pdf"),
    ],
)
async def test_no_name_of_a_file_can_do_harm_in_the_header(
    client, world, ana, given, shown
) -> None:
    media = await inbound(world, ana, b"%PDF", filename=given)

    header = (await content(client, ana, media.id)).headers["content-disposition"]

    expected = f"{media.id}.pdf" if given == "..." else shown
    assert header.startswith("attachment; filename*=UTF-8''")
    assert header.endswith(f'; filename="{expected}"')
    assert header.isascii()
    assert header.count('"') == 2


async def test_an_upload_that_is_cut_off_leaves_nothing(live_url, world, ana) -> None:
    host, port = live_url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        (
            f"POST /v1/media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ana.api_key}\r\n"
            "Content-Type: image/png\r\nContent-Length: 100000\r\n\r\n"
        ).encode()
        + bytes(5000)
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    directory = world.settings.data_directory / "media" / ".drafts"
    async with asyncio.timeout(5):
        while directory.exists() and list(directory.iterdir()):  # noqa: ASYNC110  # it is another process's
            await asyncio.sleep(0.05)
    rows = await world.query(
        "SELECT count(*) FROM whatsapp_media WHERE tenant_id = :id", id=ana.tenant_id
    )
    assert rows[0][0] == 0
