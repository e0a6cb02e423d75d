"""Where the token goes for a file, and where it never goes."""

import asyncio
import hashlib
import json
import logging
import socket
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from aiohttp import web

from shared.kernel.ids import new_id
from whatsapp.application.media_ports import MediaUrlExpired
from whatsapp.domain.entities import Channel
from whatsapp.domain.media import Media, MediaDirection, MediaFailure, MediaTrouble
from whatsapp.domain.media_type import MediaKind
from whatsapp.domain.value_objects import AccessToken
from whatsapp.infrastructure.cloud_api.client import MAX_ANSWER_BYTES
from whatsapp.infrastructure.cloud_api.media import CloudApiMedia, create_media_session

TOKEN = "EAAG-canary-token"
CHANNEL = Channel(
    tenant_id=new_id(), name="Main", phone_number_id="1001", access_token=AccessToken(TOKEN)
)
CONTENT = b"a file" * 1000
GRAPH = "https://graph.facebook.com"


class Meta:
    """A server that answers as it is told and writes down what it was asked."""

    def __init__(self):
        self.answers, self.seen, self.url, self.uploaded = {}, [], "", None
        self.is_slow = False

    async def handle(self, request):
        self.seen.append((request.path_qs, request.headers.copy()))
        if request.path.endswith("/media"):
            form = await request.post()
            file = form["file"]
            self.uploaded = {
                **form,
                "file": (file.filename, file.content_type, file.file.read()),
            }
        answer = self.answers[request.path]()
        return await in_two_pieces(request, answer.body) if self.is_slow else answer

    def says(self, path, **document):
        self.answers[path] = lambda: web.json_response(document)


async def in_two_pieces(request, body):
    """An answer that comes with a pause in it, as over a slow line."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    for piece in (body[:20], body[20:]):
        await answer.write(piece)
        await asyncio.sleep(0.1)  # A reader that does not go on reads the first piece alone.
    return answer


@asynccontextmanager
async def listening(meta):
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", meta.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        meta.url = f"http://{host}:{port}"
        yield meta
    finally:
        await runner.cleanup()


@pytest.fixture
async def meta():
    async with listening(Meta()) as meta:
        yield meta


@pytest.fixture
async def source(meta):
    async with create_media_session(meta.url, within=timedelta(seconds=30)) as http:
        yield CloudApiMedia(http, base_url=meta.url, version="v25.0")


async def download(source, info):
    async with source.downloading(CHANNEL, info) as pieces:
        return b"".join([piece async for piece in pieces])


def image():
    return Media(
        tenant_id=CHANNEL.tenant_id,
        direction=MediaDirection.OUTBOUND,
        kind=MediaKind.IMAGE,
        mime_type="image/png",
        size=len(CONTENT),
    )


async def pieces():
    yield CONTENT[:100]
    yield CONTENT[100:]


async def described(source, meta, **changes):
    document = {"url": f"{meta.url}/file", "mime_type": "image/png", **changes}
    meta.says("/v25.0/777", **document)
    return await source.describe(CHANNEL, "777")


async def test_a_file_is_asked_for_by_its_id_and_number_with_the_channels_token(
    source, meta
) -> None:
    digest = hashlib.sha256(CONTENT)
    info = await described(source, meta, sha256=digest.hexdigest(), file_size=str(len(CONTENT)))
    meta.answers["/file"] = lambda: web.Response(body=CONTENT, content_type="image/png")

    assert (info.size, info.sha256) == (len(CONTENT), digest.digest())
    assert await download(source, info) == CONTENT
    paths = [path for path, _ in meta.seen]
    assert paths == ["/v25.0/777?phone_number_id=1001", "/file"]
    assert {headers["Authorization"] for _, headers in meta.seen} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.1/file",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/file",
        "http://[::ffff:10.0.0.1]/file",
        "http://[64:ff9b::a9fe:a9fe]/file",
        "http://127.1/file",
        "http://2130706433/file",
        "http://localhost/file",
        "http://user:pass@lookaside.example/file",
        "ftp://lookaside.example/file",
        "file:///etc/passwd",
        "/file",
        "not a url",
        "http://[broken",
    ],
)
async def test_the_token_goes_to_no_address_that_cannot_be_metas(source, meta, address) -> None:
    info = await described(source, meta, url=address)
    meta.seen.clear()

    with pytest.raises(MediaTrouble):
        await download(source, info)

    assert meta.seen == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "0x7f.1", "files.example"])
async def test_no_name_leads_the_token_into_our_own_network(
    source, meta, monkeypatch, host
) -> None:
    """Whoever can have a name lead here must not be told the token, whatever it is called."""
    real = socket.getaddrinfo

    def resolve(host, *rest, **more):
        return real("127.0.0.1" if host == "files.example" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    info = await described(source, meta, url=f"{meta.url}/file".replace("127.0.0.1", host))
    meta.answers["/file"] = lambda: web.Response(body=CONTENT, content_type="image/png")
    meta.seen.clear()

    with pytest.raises(MediaTrouble):
        await download(source, info)

    assert meta.seen == []


async def test_where_meta_is_reached_safely_files_are_too() -> None:
    async with create_media_session(GRAPH, within=timedelta(seconds=30)) as http:
        source = CloudApiMedia(http, base_url=GRAPH, version="v25.0")

        with pytest.raises(MediaTrouble) as refused:
            source._checked("http://lookaside.fbsbx.com/file")
        assert refused.value.failure is MediaFailure.REFUSED
        assert source._checked("https://lookaside.fbsbx.com/file").host == "lookaside.fbsbx.com"


async def test_no_redirect_is_followed(source, meta) -> None:
    info = await described(source, meta)
    meta.answers["/file"] = lambda: web.Response(
        status=302, headers={"Location": f"{meta.url}/elsewhere"}
    )

    with pytest.raises(MediaTrouble) as refused:
        await download(source, info)

    assert refused.value.failure is MediaFailure.UNREACHABLE
    assert "/elsewhere" not in [path for path, _ in meta.seen]


@pytest.mark.parametrize(
    ("status", "raised"),
    [(404, MediaUrlExpired), (410, MediaUrlExpired), (401, MediaTrouble), (500, MediaTrouble)],
)
async def test_what_an_address_answers_instead_of_a_file(source, meta, status, raised) -> None:
    info = await described(source, meta)
    meta.answers["/file"] = lambda: web.Response(status=status)

    with pytest.raises(raised):
        await download(source, info)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"code": 100, "error_subcode": 33, "message": "x"}, MediaFailure.GONE),
        ({"code": 190, "message": "x"}, MediaFailure.TOKEN_REFUSED),
        ({"code": 4, "message": "x"}, MediaFailure.UNREACHABLE),
        ({"code": 131000, "message": "x"}, MediaFailure.UNREACHABLE),
    ],
)
async def test_metas_codes_say_whether_it_makes_sense_to_ask_again(
    source, meta, error, failure
) -> None:
    meta.answers["/v25.0/777"] = lambda: web.json_response({"error": error}, status=400)

    with pytest.raises(MediaTrouble) as trouble:
        await source.describe(CHANNEL, "777")

    assert trouble.value.failure is failure


@pytest.mark.parametrize("media_id", ["../me", "1/2", "a?b=c", "", "x" * 300])
async def test_an_id_that_cannot_be_one_leads_nowhere(source, meta, media_id) -> None:
    with pytest.raises(MediaTrouble):
        await source.describe(CHANNEL, media_id)

    assert meta.seen == []


async def test_an_upload_has_a_length_its_type_and_a_name(source, meta) -> None:
    meta.says("/v25.0/1001/media", id="888")
    media = image()

    assert await source.upload(CHANNEL, media, pieces()) == "888"

    _, headers = meta.seen[0]
    assert int(headers["Content-Length"]) > len(CONTENT)
    assert meta.uploaded["messaging_product"] == "whatsapp"
    assert meta.uploaded["type"] == "image/png"
    assert meta.uploaded["file"] == (str(media.id), "image/png", CONTENT)


async def test_an_answer_in_pieces_is_read_to_its_end(source, meta) -> None:
    """A file that Meta has taken is not sent once more because its id came a packet later."""
    meta.says("/v25.0/1001/media", id="888", messaging_product="whatsapp")
    meta.is_slow = True

    assert (await described(source, meta)).mime_type == "image/png"
    assert await source.upload(CHANNEL, image(), pieces()) == "888"


async def test_an_answer_without_end_is_none(source, meta) -> None:
    endless = json.dumps({"url": f"{meta.url}/file", "more": "x" * MAX_ANSWER_BYTES})
    meta.answers["/v25.0/777"] = lambda: web.Response(text=endless)

    with pytest.raises(MediaTrouble) as trouble:
        await source.describe(CHANNEL, "777")

    assert trouble.value.failure is MediaFailure.UNREACHABLE


async def test_neither_token_nor_address_is_logged_or_in_an_error(source, meta, caplog) -> None:
    caplog.set_level(logging.DEBUG, "whatsapp")
    info = await described(source, meta, url=f"{meta.url}/file?secret=canary-address")
    meta.answers["/file"] = lambda: web.Response(status=500, text="canary-body")
    raised = []
    for attempt in (lambda: download(source, info), lambda: source.describe(CHANNEL, "..")):
        with pytest.raises(MediaTrouble) as trouble:
            await attempt()
        raised.append(repr(trouble.value))

    assert "canary" not in f"{caplog.text} {raised} {info!r} {CHANNEL!r}"
