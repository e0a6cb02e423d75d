"""Each counter that the API shows rises by one for what it counts, and for nothing else."""

import hashlib
import hmac
import re
from pathlib import Path

import pytest

from shared.kernel.ids import new_id

APP = "/webhooks/whatsapp/100000000000001"
SECRET = "canary-app-secret"
GUIDE = Path(__file__).parents[2] / "docs/operations.md"
OURS = re.compile(r"^(tellwire_\w+_total)(?:{(.*)})? ([0-9.e+]+)$", re.MULTILINE)
ACCEPTED, RECEIVED = "tellwire_messages_accepted_total", "tellwire_webhooks_received_total"
UPLOADED, ANSWERED = "tellwire_media_uploaded_total", "tellwire_http_requests_total"


async def counted(client):
    """Every counter of ours by its name and labels, without that of this very question."""
    text = (await client.get("/metrics")).text
    return {
        (name, labels): float(value)
        for name, labels, value in OURS.findall(text)
        if 'route="/metrics"' not in labels
    }


@pytest.fixture
def risen(client):
    """`await risen(does())`: what has risen by it, and by how much."""

    async def risen(doing):
        before = await counted(client)
        await doing
        after = await counted(client)
        return {one: n - before.get(one, 0) for one, n in after.items() if n != before.get(one, 0)}

    return risen


@pytest.fixture
def post(client, ana):
    async def post(path, **given):
        headers = ana.headers | given.pop("headers", {})
        answer = await client.post(path, headers=headers, **given)
        return answer.status_code

    return post


def message(ana, to="+4915112345678", body="Hi"):
    return {"channel_id": str(ana.channel_id), "to": to, "type": "text", "text": {"body": body}}


def answers(method, route, status, number=1):
    labels = f'method="{method}",route="{route}",status="{status}"'
    return {(ANSWERED, labels): number}


async def test_a_message_is_counted_once_and_its_repetition_as_such(risen, post, ana) -> None:
    key = {"Idempotency-Key": str(new_id())}

    first = await risen(post("/v1/messages", json=message(ana), headers=key))
    again = await risen(post("/v1/messages", json=message(ana), headers=key))
    other = await risen(post("/v1/messages", json=message(ana, body="Ho"), headers=key))

    stored, replayed = ((ACCEPTED, f'result="{one}",type="text"') for one in ("stored", "replayed"))
    assert first == {stored: 1} | answers("POST", "/v1/messages", 202)
    assert again == {replayed: 1} | answers("POST", "/v1/messages", 200)
    assert other == answers("POST", "/v1/messages", 422)


async def test_of_a_batch_those_that_were_taken_are_counted(risen, post, ana) -> None:
    batch = [
        message(ana, to=to, body=str(new_id())) for to in ("+4915112345679", "+491511234568", "no")
    ]

    found = await risen(post("/v1/messages/batch", json={"messages": batch}))

    assert found[ACCEPTED, 'result="stored",type="text"'] == 2
    assert len(found) == 2


@pytest.mark.usefixtures("meta_app")
async def test_webhooks_are_counted_by_what_became_of_them(client, risen) -> None:
    body = (
        b'{"object": "whatsapp_business_account", "entry": [], "n": "%b"}' % str(new_id()).encode()
    )
    signed = {
        "X-Hub-Signature-256": "sha256="
        + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    }
    stored = {
        (RECEIVED, 'result="stored"'): 1,
        ("tellwire_webhooks_received_bytes_total", ""): len(body),
    } | answers("POST", "/webhooks/whatsapp/{app_id}", 200)

    assert await risen(client.post(APP, content=body, headers=signed)) == stored
    assert await risen(client.post(APP, content=body, headers=signed)) == stored
    assert await risen(client.post(APP, content=body)) == {
        (RECEIVED, 'result="refused"'): 1
    } | answers("POST", "/webhooks/whatsapp/{app_id}", 401)


async def test_a_file_is_counted_with_its_bytes_where_it_is_new(risen, post) -> None:
    content = b"\x89PNG\r\n" + new_id().bytes * 100
    upload = {"content": content, "headers": {"Content-Type": "image/png"}}

    first = await risen(post("/v1/media", **{**upload, "headers": dict(upload["headers"])}))
    again = await risen(post("/v1/media", **upload))

    new, known = ((UPLOADED, f'result="{one}",type="image"') for one in ("new", "known"))
    assert {one: n for one, n in first.items() if one[0] != ANSWERED} == {
        new: 1,
        ("tellwire_media_uploaded_bytes_total", ""): len(content),
    }
    assert {one: n for one, n in again.items() if one[0] != ANSWERED} == {known: 1}


async def test_all_that_the_guide_names_is_shown_before_anything_is_counted(client) -> None:
    """A name that a rule of an alert asks for is there from the beginning, whatever its labels."""
    table = GUIDE.read_text("utf-8").partition("The API process counts")[2].partition("\n\n`")[0]
    named = set(re.findall(r"^\| `(tellwire_\w+)`", table, re.MULTILINE))
    text = (await client.get("/metrics")).text

    shown = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))

    assert len(named) == 7
    assert named <= shown
