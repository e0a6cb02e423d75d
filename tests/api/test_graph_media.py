"""Meta's endpoints for files, answered by Tellwire, and files in forms at our own."""

import asyncio
import hashlib
import json

import httpx
import pytest

from shared.kernel.ids import new_id
from tellwire.api import create_api
from tellwire.media import open_store
from tenancy.domain import Scope
from whatsapp.domain.media import Media, MediaDirection, MediaKey
from whatsapp.domain.media_repository import MediaJob, MediaJobKind, Stored
from whatsapp.domain.media_type import MediaKind
from whatsapp.domain.value_objects import given_media_id, media_id_behind
from whatsapp.infrastructure.persistence.work import work_in

PNG = b"\x89PNG\r\n" + bytes(range(256)) * 300
PDF = b"%PDF-1.7\r\n--b\r\n" * 50


async def number_of(world, customer):
    rows = await world.query(
        "SELECT phone_number_id FROM whatsapp_channels WHERE id = :id", id=customer.channel_id
    )
    return rows[0][0]


@pytest.fixture
async def number(world, ana):
    return await number_of(world, ana)


@pytest.fixture
def upload(client, ana, number):
    """Upload as a client of Meta's does; `fields` stand before the file, `behind` behind it."""

    async def upload(
        content=PNG,
        *,
        part_type="image/png",
        filename="a.png",
        fields=None,
        behind=(),
        to=number,
        headers=None,
        version="v23.0",
    ):
        before = {"messaging_product": "whatsapp", "type": "image/png"}
        told = before if fields is None else fields
        files = [(name, (None, value)) for name, value in told.items()]
        files.append(("file", (filename, content, part_type)))
        files += [(name, (None, value)) for name, value in behind]
        return await client.post(
            f"/{version}/{to}/media", files=files, headers=headers or ana.headers
        )

    return upload


def error_of(answer):
    error = answer.json()["error"]
    assert error["fbtrace_id"] == answer.headers["x-request-id"]
    return error


async def came_in(world, customer, content=None):
    """A file that a person sent: fetched already, if there is content."""
    media = Media(
        tenant_id=customer.tenant_id,
        direction=MediaDirection.INBOUND,
        kind=MediaKind.DOCUMENT,
        channel_id=customer.channel_id,
        message_id=new_id(),
        provider_media_id=str(new_id().int)[-15:],
        mime_type="application/pdf",
    )
    begin = work_in(world.sessions)
    async with begin(customer.tenant_id) as work:
        await work.media.expect(media)
        await work.commit()
    if content is not None:
        await fetch(world, customer, media, content)
    return media


async def fetch(world, customer, media, content):
    token, digest = new_id(), hashlib.sha256(content).digest()
    async with open_store(world.settings).drafting() as draft:
        await draft.write(content)
        await draft.keep(MediaKey(media.tenant_id, media.id, digest), mime_type="application/pdf")
    await world.query(
        "UPDATE whatsapp_media_jobs SET lease_token = :token WHERE id = :id",
        token=token,
        id=media.id,
    )
    job = MediaJob(
        customer.tenant_id, media.id, MediaJobKind.FETCH, media.id, customer.channel_id, 1, token
    )
    stored = Stored(size=len(content), sha256=digest, mime_type="application/pdf")
    async with work_in(world.sessions)(customer.tenant_id) as work:
        assert await work.media.record_stored(job, stored)
        await work.commit()


async def test_a_file_is_uploaded_found_downloaded_and_deleted(client, ana, upload) -> None:
    answer = await upload()
    assert (answer.status_code, list(answer.json())) == (200, ["id"])
    given = answer.json()["id"]
    assert given.isdigit()

    found = await client.get(f"/v23.0/{given}", headers=ana.headers)
    assert found.status_code == 200
    known = found.json()
    url = known.pop("url")
    assert known == {
        "messaging_product": "whatsapp",
        "mime_type": "image/png",
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "file_size": len(PNG),
        "id": given,
    }
    got = await client.get(url, headers=ana.headers)
    assert (got.status_code, got.content) == (200, PNG)
    assert got.headers["content-type"] == "image/png"
    assert (await client.get(url)).status_code == 401

    gone = await client.delete(f"/v23.0/{given}", headers=ana.headers)
    assert (gone.status_code, gone.json()) == (200, {"success": True})
    assert error_of(await client.get(f"/v23.0/{given}", headers=ana.headers))["code"] == 100
    assert (await client.get(url, headers=ana.headers)).status_code == 410
    again = await client.delete(f"/v23.0/{given}", headers=ana.headers)
    assert error_of(again)["error_subcode"] == 33


async def test_a_deleted_file_leaves_nothing_in_the_store(client, world, ana, upload) -> None:
    given = (await upload(b"\x89PNG only here")).json()["id"]
    files = world.settings.data_directory / "media" / str(ana.tenant_id)
    assert len([one for one in files.rglob("*") if one.is_file()]) == 1

    await client.delete(f"/v23.0/{given}", headers=ana.headers)

    assert [one for one in files.rglob("*") if one.is_file()] == []
    again = await upload(b"\x89PNG only here")
    assert again.json()["id"] != given


async def test_our_own_api_deletes_too(client, ana, bea) -> None:
    headers = ana.headers | {"Content-Type": "image/png"}
    media = (await client.post("/v1/media", content=PNG, headers=headers)).json()
    url = f"/v1/media/{media['id']}"

    assert (await client.delete(url, headers=bea.headers)).status_code == 404
    assert (await client.get(url, headers=ana.headers)).json()["status"] == "stored"
    assert (await client.delete(url, headers=ana.headers)).status_code == 204
    assert (await client.delete(url, headers=ana.headers)).status_code == 204
    assert (await client.get(url, headers=ana.headers)).json()["status"] == "removed"


async def test_a_message_carries_the_id_that_was_given(client, ana, number, upload) -> None:
    given = (await upload()).json()["id"]
    body = {
        "messaging_product": "whatsapp",
        "to": "4915550000001",
        "type": "image",
        "image": {"id": given},
    }

    answer = await client.post(f"/v23.0/{number}/messages", json=body, headers=ana.headers)

    assert answer.status_code == 200, answer.text
    unknown = {**body, "image": {"id": given_media_id(new_id())}}
    refused = await client.post(f"/v23.0/{number}/messages", json=unknown, headers=ana.headers)
    assert error_of(refused)["code"] == 100


FIELD = {"messaging_product": "whatsapp"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"fields": {}, "behind": [("messaging_product", "whatsapp"), ("type", "image/png")]},
        {"fields": FIELD},  # The part says its type itself.
        {
            "fields": FIELD,
            "part_type": "application/octet-stream",
            "behind": [("type", "image/png")],
        },
        {"fields": FIELD | {"type": "image/png"}, "part_type": None},
        {"fields": FIELD | {"type": "image/png"}, "part_type": "text/html"},
        {"fields": FIELD | {"type": "image/png", "ttl_minutes": "60"}},
    ],
)
async def test_fields_may_stand_anywhere_and_either_type_counts(client, ana, upload, given) -> None:
    answer = await upload(**given)

    assert answer.status_code == 200, answer.text
    media = media_id_behind(answer.json()["id"])
    known = (await client.get(f"/v1/media/{media}", headers=ana.headers)).json()
    assert (known["mime_type"], known["filename"]) == ("image/png", "a.png")


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"fields": {"type": "image/png"}}, 400),
        ({"fields": {"messaging_product": "telegram", "type": "image/png"}}, 400),
        ({"fields": FIELD | {"type": "text/html"}}, 400),
        ({"fields": FIELD, "part_type": "application/octet-stream"}, 400),
        ({"fields": FIELD, "behind": [("type", "text/html")]}, 400),
        ({"content": b""}, 400),
        ({"content": bytes(5 * 1024 * 1024 + 1)}, 400),
        ({"fields": FIELD, "behind": [("file", "another")]}, 400),
        ({"to": "999"}, 400),
        ({"headers": {"Authorization": "Bearer EAAGmeta"}}, 401),
        ({"version": "v"}, 404),
    ],
)
async def test_what_meta_would_refuse_is_refused_in_its_form(
    upload, world, ana, given, status
) -> None:
    answer = await upload(**given)

    assert answer.status_code == status, answer.text
    error_of(answer)
    rows = await world.query(
        "SELECT count(*) FROM whatsapp_media WHERE tenant_id = :id", id=ana.tenant_id
    )
    assert rows[0][0] == 0
    directory = world.settings.data_directory / "media" / ".drafts"
    assert not directory.exists() or list(directory.iterdir()) == []


async def test_a_body_that_is_no_form_is_refused(client, ana, number) -> None:
    for content_type in ("image/png", "multipart/form-data", "multipart/form-data; boundary=b"):
        answer = await client.post(
            f"/v23.0/{number}/media",
            content=PNG,
            headers=ana.headers | {"Content-Type": content_type},
        )
        assert answer.status_code == 400, content_type
        assert error_of(answer)["code"] == 100


@pytest.mark.parametrize("prefix", ["/v1/media", None])
async def test_the_limit_holds_while_a_form_is_read(client, world, ana, number, prefix) -> None:
    """No more is taken in than the type allows, however much is sent."""
    sent = 0

    async def endless():
        nonlocal sent
        yield (
            b'--b\r\nContent-Disposition: form-data; name="messaging_product"\r\n\r\nwhatsapp\r\n'
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
            b"Content-Type: image/png\r\n\r\n"
        )
        while sent < 200 * 1024 * 1024:
            sent += 65536
            yield bytes(65536)

    headers = ana.headers | {"Content-Type": "multipart/form-data; boundary=b"}
    url = prefix or f"/v23.0/{number}/media"
    answer = await client.post(url, content=endless(), headers=headers)

    assert answer.status_code == (413 if prefix else 400)
    assert sent < 6 * 1024 * 1024
    assert not list((world.settings.data_directory / "media" / ".drafts").iterdir())


async def test_our_own_api_takes_forms(client, ana) -> None:
    async def post(files, **query):
        return await client.post("/v1/media", files=files, headers=ana.headers, params=query)

    answer = await post({"file": ("menu.pdf", PDF, "application/pdf")})
    assert answer.status_code == 201, answer.text
    assert (answer.json()["filename"], answer.json()["size"]) == ("menu.pdf", len(PDF))
    got = await client.get(f"/v1/media/{answer.json()['id']}/content", headers=ana.headers)
    assert got.content == PDF

    again = await post({"file": ("b.pdf", PDF), "type": (None, "application/pdf")})
    assert (again.status_code, again.json()["id"]) == (200, answer.json()["id"])
    named = await post({"file": ("b.pdf", PDF + b"2", "application/pdf")}, filename="c.pdf")
    assert named.json()["filename"] == "c.pdf"
    none = await post({"other": (None, "x")})
    assert (none.status_code, none.json()["code"], none.json()["field"]) == (
        422,
        "invalid_media",
        "file",
    )
    broken = await client.post(
        "/v1/media",
        content=b"--b\r\nno form",
        headers=ana.headers | {"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert (broken.status_code, broken.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("trusted", "caller", "scheme"),
    [
        ("127.0.0.1", "127.0.0.1", "https"),
        ("127.0.0.1", "203.0.113.9", "http"),
        ("203.0.113.0/24", "203.0.113.9", "https"),
    ],
)
async def test_only_a_trusted_proxy_says_by_which_scheme_it_was_called(
    world, ana, trusted, caller, scheme
) -> None:
    media = await came_in(world, ana, PDF)
    app = create_api(world.settings.model_copy(update={"trusted_proxies": trusted}))
    transport = httpx.ASGITransport(app, client=(caller, 50000))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api.test") as client,
    ):
        found = await client.get(
            f"/v23.0/{media.provider_media_id}",
            headers=ana.headers | {"X-Forwarded-Proto": "https"},
        )

    assert found.json()["url"].startswith(f"{scheme}://api.test/")


async def test_what_people_sent_is_found_by_metas_own_id(client, world, ana, number) -> None:
    media = await came_in(world, ana, PDF)

    found = await client.get(f"/v23.0/{media.provider_media_id}", headers=ana.headers)
    assert found.status_code == 200, found.text
    assert found.json()["id"] == media.provider_media_id
    got = await client.get(found.json()["url"], headers=ana.headers)
    assert got.content == PDF

    mine = {"phone_number_id": number}
    url = f"/v23.0/{media.provider_media_id}"
    assert (await client.get(url, headers=ana.headers, params=mine)).status_code == 200
    other = {"phone_number_id": (await world.channel(ana.tenant_id)).phone_number_id}
    for elsewhere in (other, {"phone_number_id": "999"}):
        refused = await client.get(url, headers=ana.headers, params=elsewhere)
        assert error_of(refused)["error_subcode"] == 33
    assert (await client.delete(url, headers=ana.headers)).json() == {"success": True}


async def test_a_file_that_is_being_fetched_is_waited_for(client, world, ana) -> None:
    media = await came_in(world, ana)
    asking = asyncio.create_task(
        client.get(f"/v23.0/{media.provider_media_id}", headers=ana.headers)
    )
    await asyncio.sleep(0.4)
    assert not asking.done()
    await fetch(world, ana, media, PDF)

    answer = await asking
    assert (answer.status_code, answer.json()["file_size"]) == (200, len(PDF))


async def test_nothing_of_another_tenant_can_be_seen_touched_or_sent(
    client, world, ana, bea, upload, number
) -> None:
    """Whatever id of Ana's Bea has come to know, she is told what she would be told of any id."""
    mine = (await upload()).json()["id"]
    heard = await came_in(world, ana, PDF)
    her_number = await number_of(world, bea)
    nobodys = given_media_id(new_id())
    known = [mine, str(media_id_behind(mine)), heard.provider_media_id, given_media_id(heard.id)]

    def told(answer):
        error = error_of(answer)
        assert error.pop("fbtrace_id")
        return answer.status_code, error

    for given in known:
        for method in ("GET", "DELETE"):
            for query in ({}, {"phone_number_id": number}, {"phone_number_id": her_number}):
                answers = [
                    await client.request(method, f"/v23.0/{one}", headers=bea.headers, params=query)
                    for one in (given, nobodys)
                ]
                assert told(answers[0]) == told(answers[1])
                assert answers[0].status_code == 400
        body = {
            "messaging_product": "whatsapp",
            "to": "4915550000001",
            "type": "document",
            "document": {"id": given},
        }
        if media_id_behind(given):
            sent = await client.post(
                f"/v23.0/{her_number}/messages", json=body, headers=bea.headers
            )
            assert told(sent)[0] == 400

    theirs = await upload(headers=bea.headers)
    nowhere = await upload(headers=bea.headers, to="999")
    assert told(theirs) == told(nowhere)
    rows = await world.query("SELECT id FROM whatsapp_media WHERE tenant_id = :t", t=bea.tenant_id)
    assert rows == []
    for given in known:
        assert (await client.get(f"/v23.0/{given}", headers=ana.headers)).status_code == 200
    hers = await upload(headers=bea.headers, to=her_number)
    assert hers.json()["id"] != mine  # The same bytes are another file for another tenant.


async def test_keys_need_their_scopes(client, world, ana, upload) -> None:
    given = (await upload()).json()["id"]
    reader = {"Authorization": f"Bearer {await world.api_key(ana.tenant_id, Scope.MESSAGES_READ)}"}
    sender = {"Authorization": f"Bearer {await world.api_key(ana.tenant_id, Scope.MESSAGES_SEND)}"}

    assert (await upload(headers=reader)).status_code == 403
    assert (await client.delete(f"/v23.0/{given}", headers=reader)).status_code == 403
    assert (await client.get(f"/v23.0/{given}", headers=sender)).status_code == 403
    assert (await client.get(f"/v23.0/{given}", headers=reader)).status_code == 200
    assert (await client.get(f"/v23.0/{given}")).status_code == 401


@pytest.mark.parametrize(
    "given", ["0", "1", "9" * 37, "x", "..%2F1", "a" * 600, "\N{SNOWMAN}", "a%0Ab"]
)
async def test_any_text_for_an_id_is_an_id_that_nothing_has(client, ana, given) -> None:
    for method in ("GET", "DELETE"):
        answer = await client.request(method, f"/v23.0/{given}", headers=ana.headers)
        assert answer.status_code in {400, 404}, answer.text
        assert json.loads(answer.content)["error"]["code"] in {100, 2500}
