import gzip
import hashlib
import hmac
import json
import random
from pathlib import Path

import pytest

from whatsapp.infrastructure.persistence.repositories import SQLAlchemyWebhookInbox

APP = "/webhooks/whatsapp/100000000000001"
SECRET = "canary-app-secret"
PREVIOUS = "canary-previous-secret"
VERIFY = "canary-verify-token"
BODY = b'{"object": "whatsapp_business_account", "entry": [ ]}\n'
HEADER = "X-Hub-Signature-256"
PAYLOADS = Path(__file__).parents[1] / "contract/payloads"


@pytest.fixture(autouse=True)
async def installed(meta_app):
    return meta_app


def signature(body=BODY, secret=SECRET):
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def inbox(world):
    return await world.query("SELECT app_id, body FROM webhook_inbox ORDER BY id")


@pytest.fixture(autouse=True)
async def empty_inbox(world):
    await world.query("DELETE FROM webhook_inbox")
    await world.query("DELETE FROM webhook_digests")


async def test_a_signed_body_is_stored_as_it_came(client, world) -> None:
    answer = await client.post(APP, content=BODY, headers={HEADER: signature()})

    assert answer.status_code == 200
    assert [(row.app_id, bytes(row.body)) for row in await inbox(world)] == [
        ("100000000000001", BODY)
    ]


async def test_a_body_that_comes_again_is_stored_once(client, world) -> None:
    for _ in range(3):
        answer = await client.post(APP, content=BODY, headers={HEADER: signature()})
        assert answer.status_code == 200

    assert len(await inbox(world)) == 1


async def test_the_secret_before_the_rotation_still_counts(client, world) -> None:
    answer = await client.post(APP, content=BODY, headers={HEADER: signature(secret=PREVIOUS)})

    assert answer.status_code == 200
    assert len(await inbox(world)) == 1


SHA1 = hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest()
REFUSED = {
    "missing": [],
    "empty": [(HEADER, "")],
    "wrong secret": [(HEADER, signature(secret="another"))],
    "of another body": [(HEADER, signature(b"{}"))],
    "doubled": [(HEADER, signature()), (HEADER, signature())],
    "doubled in one header": [(HEADER, f"{signature()},{signature()}")],
    "upper-case digits": [(HEADER, "sha256=" + signature()[7:].upper())],
    "upper-case prefix": [(HEADER, "SHA256=" + signature()[7:])],
    "without prefix": [(HEADER, signature()[7:])],
    "cut short": [(HEADER, signature()[:-2])],
    "too long": [(HEADER, signature() + "00")],
    "not ASCII": [(HEADER.encode(), "sha256=é".encode() + b"0" * 62)],
    "sha1": [("X-Hub-Signature", f"sha1={SHA1}")],
    "sha1 in the new header": [(HEADER, f"sha1={SHA1}")],
}


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED.keys())
async def test_anything_but_one_right_signature_is_refused(client, world, headers) -> None:
    answer = await client.post(APP, content=BODY, headers=headers)

    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthenticated"
    assert await inbox(world) == []


DOCUMENT = '{"object": "whatsapp_business_account", "entry": [{"id": "1", "note": "caf\\u00e9"}]}'
OTHER_BYTES = {
    "gzip": (gzip.compress(DOCUMENT.encode()), {"Content-Encoding": "gzip"}),
    "gzip that nobody names": (gzip.compress(DOCUMENT.encode()), {}),
    "a BOM before": (b"\xef\xbb\xbf" + DOCUMENT.encode(), {}),
    "without escapes": (json.dumps(json.loads(DOCUMENT), ensure_ascii=False).encode(), {}),
    "without spaces": (json.dumps(json.loads(DOCUMENT), separators=(",", ":")).encode(), {}),
    "a line end behind": (DOCUMENT.encode() + b"\n", {}),
    "in UTF-16": (DOCUMENT.encode("utf-16"), {}),
}


@pytest.mark.parametrize(("sent", "headers"), OTHER_BYTES.values(), ids=OTHER_BYTES)
async def test_the_same_document_in_other_bytes_is_refused(client, world, sent, headers) -> None:
    """The signature is of the bytes as they came: nothing is unpacked or written anew for it."""
    signed = {HEADER: signature(DOCUMENT.encode())}
    refused = await client.post(APP, content=sent, headers=headers | signed)
    assert refused.status_code == 401
    assert await inbox(world) == []

    taken = await client.post(APP, content=DOCUMENT.encode(), headers=signed)
    assert taken.status_code == 200
    # Whoever signs those other bytes is believed too, and they are kept as they are.
    also = await client.post(APP, content=sent, headers=headers | {HEADER: signature(sent)})
    assert also.status_code == 200
    assert sorted(bytes(row.body) for row in await inbox(world)) == sorted(
        [DOCUMENT.encode(), sent]
    )


def mutated(value, chance):
    """The JSON value with something in it that Meta would not write."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(sorted(value))
        return value | {key: mutated(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        return [*value[:place], mutated(value[place], chance), *value[place + 1 :]]
    return chance.choice([None, True, -1, 10**30, 1.5, "\0", "\ud800", "", [], {}, [[]], {"": {}}])


async def test_whatever_is_signed_is_stored_as_it_came(client, world) -> None:
    """What is in it is not for the intake to judge: a body that is refused comes for days."""
    chance = random.Random(42)
    files = [*PAYLOADS.glob("inbound/*"), *PAYLOADS.glob("status/*"), *PAYLOADS.glob("field/*")]
    documents = [json.loads(path.read_text()) for path in sorted(files)]
    bodies = [json.dumps(mutated(one, chance)).encode() for one in documents]
    bodies += [chance.randbytes(size) for size in (1, 2, 3, 10, 100, 1000, 100_000)]
    bodies += [b"", b"\0", b"null", b"[" * 10_000, b'{"object":', b"\xff\xfe", b"\xef\xbb\xbf{}"]

    for body in bodies:
        answer = await client.post(APP, content=body, headers={HEADER: signature(body)})
        assert answer.status_code == 200, body[:100]

    stored = [bytes(row.body) for row in await inbox(world)]
    assert sorted(stored) == sorted(set(bodies))


async def test_an_unknown_app_is_answered_like_a_wrong_signature(client) -> None:
    wrong = await client.post(APP, content=BODY, headers={HEADER: signature(secret="x")})
    answers = [
        await client.post(f"/webhooks/whatsapp/{app}", content=BODY, headers={HEADER: signature()})
        for app in ("999", "a%00b", "x" * 200, "%F0%9F%92%A5")
    ]

    for answer in answers:
        assert answer.status_code == 401
        assert answer.json() | {"instance": ""} == wrong.json() | {"instance": ""}


async def test_three_mebibytes_are_taken_and_one_byte_more_is_not(client, world) -> None:
    largest = b"x" * (3 * 1024 * 1024)
    taken = await client.post(APP, content=largest, headers={HEADER: signature(largest)})
    refused = await client.post(APP, content=largest + b"x", headers={HEADER: signature()})

    assert taken.status_code == 200
    assert refused.status_code == 413
    assert refused.json()["code"] == "body_too_large"
    assert len(await inbox(world)) == 1


async def test_what_nobody_foresaw_is_answered_with_a_document_that_tells_nothing(
    client, world, monkeypatch
) -> None:
    async def fail(*_):
        raise ZeroDivisionError("canary")

    monkeypatch.setattr(SQLAlchemyWebhookInbox, "append", fail)
    answer = await client.post(APP, content=BODY, headers={HEADER: signature()})

    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert "canary" not in answer.text
    assert await inbox(world) == []


async def test_a_stored_body_is_answered_with_an_id_and_counted(client) -> None:
    body = b'{"counted": true}'
    answer = await client.post(APP, content=body, headers={HEADER: signature(body)})
    metrics = (await client.get("/metrics")).text

    assert answer.content == b""
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    counted = 'method="POST",route="/webhooks/whatsapp/{app_id}"'
    assert f'tellwire_http_requests_total{{{counted},status="200"}} 1.0' in metrics
    assert f"tellwire_http_request_seconds_count{{{counted}}} 1.0" in metrics
    assert 'tellwire_webhooks_received_total{result="stored"} 1.0' in metrics


@pytest.mark.parametrize("challenge", ["1158201444", "0"])
async def test_a_handshake_gives_the_challenge_back_as_plain_text(client, challenge) -> None:
    query = {"hub.mode": "subscribe", "hub.verify_token": VERIFY, "hub.challenge": challenge}
    answer = await client.get(APP, params=query)

    assert answer.status_code == 200
    assert answer.text == challenge
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "change",
    [
        {"hub.verify_token": "wrong"},
        {"hub.verify_token": ""},
        {"hub.verify_token": "é"},
        {"hub.mode": "unsubscribe"},
        {"hub.mode": ""},
    ],
)
async def test_a_handshake_with_anything_wrong_is_refused(client, change) -> None:
    query = {"hub.mode": "subscribe", "hub.verify_token": VERIFY, "hub.challenge": "1"}
    answer = await client.get(APP, params=query | change)

    assert answer.status_code == 401


@pytest.mark.parametrize("challenge", ["", "1a", "<script>", "1" * 65, "١٢٣", "1\n"])
async def test_a_challenge_is_a_short_string_of_digits(client, challenge) -> None:
    query = {"hub.mode": "subscribe", "hub.verify_token": VERIFY, "hub.challenge": challenge}
    answer = await client.get(APP, params=query)

    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_challenge"
