"""What HTTP itself promises of this API: methods, addresses, encodings, described headers."""

import gzip

import httpx
import pytest

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(40))
MESSAGE = "/v1/messages/0198f2c4-6b1e-7c3a-9a53-2f1d8e4b7a60"
ENDPOINT = "/v1/webhook-endpoints/0198f2c4-6b1e-7c3a-9a53-2f1d8e4b7a60"
LONG = 1_000_000
CONVERSATION = "/v1/conversations/0198f2c4-6b1e-7c3a-9a53-2f1d8e4b7a60/messages"


async def stored_file(client, customer):
    answer = await client.post(
        "/v1/media", content=PNG, headers=customer.headers | {"Content-Type": "image/png"}
    )
    assert answer.status_code in {200, 201}
    return answer


@pytest.mark.parametrize(
    ("method", "path", "taken"),
    [
        ("DELETE", "/v1/messages", {"GET", "POST"}),
        ("PUT", "/v1/channels", {"GET", "POST"}),
        ("PUT", ENDPOINT, {"GET", "PATCH", "DELETE"}),
        ("OPTIONS", MESSAGE, {"GET"}),
        ("POST", CONVERSATION, {"GET"}),
        ("DELETE", f"{MESSAGE}/content", None),
        ("PATCH", "/v26.0/0198", {"GET", "DELETE"}),
        ("GET", "/v26.0/1001/messages", {"POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
    ],
)
async def test_allow_names_every_method_that_an_address_takes(client, method, path, taken) -> None:
    answer = await client.request(method, path)

    if taken is None:
        assert answer.status_code == 404
        return
    assert answer.status_code == 405
    assert {one.strip() for one in answer.headers["allow"].split(",")} == taken


@pytest.mark.parametrize("path", ["/v1/messages/", f"{MESSAGE}/", "/webhooks/whatsapp/1/"])
async def test_a_slash_too_many_leads_nowhere_and_takes_no_key_elsewhere(client, ana, path) -> None:
    for method in ("GET", "POST"):
        answer = await client.request(
            method, path, headers=ana.headers | {"Host": "elsewhere.example"}, json={}
        )

        assert (answer.status_code, answer.json()["code"]) == (404, "route_not_found")
        assert "location" not in answer.headers


async def test_the_head_of_a_file_is_that_of_its_content(live_url, ana, bea) -> None:
    async with httpx.AsyncClient(base_url=live_url) as client:
        media = (await stored_file(client, ana)).json()
        path = f"/v1/media/{media['id']}/content"
        whole = await client.get(path, headers=ana.headers)
        head = await client.head(path, headers=ana.headers | {"Range": "bytes=1-2"})
        foreign = await client.head(path, headers=bea.headers)
        nobody = await client.head(path)

    varying = {"date", "x-request-id", "transfer-encoding"}
    assert (head.status_code, head.content) == (200, b"")
    assert {k: v for k, v in head.headers.items() if k not in varying} == {
        k: v for k, v in whole.headers.items() if k not in varying
    }
    assert head.headers["content-length"] == str(len(PNG))
    assert (foreign.status_code, nobody.status_code) == (404, 401)


async def test_the_head_of_a_file_says_when_it_is_gone(client, ana) -> None:
    media = (await stored_file(client, ana)).json()
    await client.delete(f"/v1/media/{media['id']}", headers=ana.headers)

    head = await client.head(f"/v1/media/{media['id']}/content", headers=ana.headers)

    assert head.status_code == 410


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_may_ask_for_the_head_alone(live_url, path) -> None:
    async with httpx.AsyncClient(base_url=live_url) as client:
        head = await client.head(path)

    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/media", "/v26.0/1001/messages"])
async def test_a_compressed_body_is_refused_and_not_taken_for_what_it_holds(
    client, world, ana, path
) -> None:
    before = await world.query("SELECT count(*) FROM whatsapp_media")
    answer = await client.post(
        path,
        content=gzip.compress(b"{}"),
        headers=ana.headers | {"Content-Type": "text/plain", "Content-Encoding": "gzip"},
    )
    plain = await client.post(
        "/v1/media",
        content=PNG,
        headers=ana.headers | {"Content-Type": "image/png", "Content-Encoding": "identity"},
    )

    assert answer.status_code == 415
    if path.startswith("/v1"):
        assert answer.json()["code"] == "encoding_refused"
        assert answer.json()["field"] == "Content-Encoding"
    assert await world.query("SELECT count(*) - 1 FROM whatsapp_media") == before
    assert plain.status_code == 201


async def test_a_signed_body_is_judged_by_its_signature_alone(client, meta_app) -> None:
    async def chunks():
        yield b"{}"

    answer = await client.post(
        f"/webhooks/whatsapp/{meta_app.app_id}",
        content=chunks(),
        headers={"Content-Encoding": "gzip", "X-Hub-Signature-256": "sha256=00"},
    )

    assert answer.status_code == 401


async def test_what_is_made_says_where_it_is(client, ana) -> None:
    made = [
        await stored_file(client, ana),
        await client.post(
            "/v1/webhook-endpoints", json={"url": "https://a.example/x"}, headers=ana.headers
        ),
        await client.post(
            "/v1/channels",
            json={"name": "A", "phone_number_id": "777", "access_token": "EAAGx"},
            headers=ana.headers,
        ),
    ]

    for answer in made:
        assert answer.status_code == 201
        found = await client.get(answer.headers["location"], headers=ana.headers)
        assert found.json()["id"] == answer.json()["id"]


@pytest.mark.parametrize(
    "wanted",
    [{}, {"event_ids": [MESSAGE.rpartition("/")[2]], "since": "2026-01-01T00:00:00Z"}],
)
async def test_a_replay_of_nothing_or_of_two_things_is_told_what_it_may_be(
    client, ana, wanted
) -> None:
    answer = await client.post(f"{ENDPOINT}/replay", json=wanted, headers=ana.headers)

    assert answer.status_code == 422
    assert answer.json()["detail"] == "either event_ids or since is needed"


UNDESCRIBED = {
    "content-length",
    "content-type",
    "x-request-id",
    "x-content-type-options",
}
"""Headers that every answer has, and docs/http-api.md tells once."""


async def test_headers_are_described_where_they_come(client, ana) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    media = (await stored_file(client, ana)).json()["id"]
    content, template = f"/v1/media/{media}/content", "/v1/media/{media_id}/content"
    text = {"Content-Type": "text/plain"}
    calls = [
        ("GET", "/v1/messages", "/v1/messages", {}),
        ("GET", content, template, ana.headers),
        ("HEAD", content, template, ana.headers),
        ("GET", content, template, ana.headers | {"Range": "bytes=1-2"}),
        ("GET", content, template, ana.headers | {"Range": "bytes=999-"}),
        ("POST", "/v1/media", "/v1/media", ana.headers | text),
        ("GET", "/metrics", "/metrics", {}),
    ]
    for method, path, template, headers in calls:
        body = {"content": b"x"} if method == "POST" else {}
        answer = await client.request(method, path, headers=headers, **body)
        described = paths[template][method.lower()]["responses"][str(answer.status_code)]

        named = {name.lower() for name in described.get("headers", {})}
        assert set(answer.headers) - UNDESCRIBED <= named, (method, path, answer.status_code)
        assert described.get("content") or method == "HEAD", (method, path)


async def test_what_may_be_tried_again_is_described_with_its_header(client) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            answers = operation["responses"]
            for status in {"408", "429", "503"} & set(answers):
                assert "Retry-After" in answers[status]["headers"], (method, path, status)
            if "401" in answers and "graph" not in path and not path.startswith("/v{"):
                assert "WWW-Authenticate" in answers["401"]["headers"], (method, path)


@pytest.mark.parametrize("given", [1_893_456_000, 1_893_456_000_000, "1893456000", "2030-01-01"])
async def test_a_time_is_spelled_out_and_never_guessed_from_a_number(client, ana, given) -> None:
    listed = await client.get("/v1/messages", params={"created_from": given}, headers=ana.headers)
    replayed = await client.post(f"{ENDPOINT}/replay", json={"since": given}, headers=ana.headers)
    retried = await client.post(
        "/v1/messages/retry", json={"created_before": given}, headers=ana.headers
    )

    for answer, field in (
        (listed, "created_from"),
        (replayed, "since"),
        (retried, "created_before"),
    ):
        assert (answer.status_code, answer.json().get("field")) == (422, field)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "path",
    [
        *("/v" + "." * LONG, "/v" + "9" * LONG, "/v9." + "9" * LONG, "/v." + "/" * LONG),
        *("/" * LONG, "/v" + "./" * LONG, "/v1/messages/" + "-" * LONG, "/" + "v1/" * LONG),
        *("/v23.0/" + "media/" * LONG, "/webhooks/whatsapp/" + "/" * LONG, "/" + ".v" * LONG),
    ],
    ids=lambda path: path[:24],
)
async def test_an_address_is_read_in_time_that_grows_with_it_and_no_faster(client, path) -> None:
    """One whose time grows with its square takes a quarter of an hour for a million characters."""
    answers = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        answers.append(message.get("status"))

    scope = {
        "type": "http",
        "method": "PATCH",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
    }
    await client._transport.app(scope, receive, send)

    assert answers[0] in {401, 404, 405}
