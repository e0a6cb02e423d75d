"""Nothing that is marked as secret or personal comes out where it must not, whatever is called."""

import hashlib
import hmac
import re

import httpx
import pytest

from tellwire.api import create_api
from whatsapp.application.accept_message import AcceptMessage

APP = "/webhooks/whatsapp/100000000000001"
NUMBER = "+4915550000077"
BODY = b'{"entry": ["MARKED-webhook-body +4915550000077"]}'
SECRETS = (
    *("canary-app-secret", "canary-previous-secret", "canary-verify-token"),
    *("EAAGcanaryAccessToken", "MARKED-text", "MARKED-webhook-body", "MARKED-metadata"),
)
PERSONAL = ("15550000077", "MARKED-key")


@pytest.fixture
async def client(world, logged):  # noqa: ARG001  # logging is configured before the app starts
    app = create_api(world.settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
            yield client


def signature(body):
    return "sha256=" + hmac.new(b"canary-app-secret", body, hashlib.sha256).hexdigest()


def message_to(customer, **more):
    return {
        "channel_id": str(customer.channel_id),
        "to": NUMBER,
        "text": {"body": "MARKED-text"},
        "metadata": {"note": "MARKED-metadata"},
        **more,
    }


async def call_everything(client, customer):
    """Every path with marked values; gives the answers."""
    key = {"Idempotency-Key": "MARKED-key"}
    headers = customer.headers
    sent = await client.post("/v1/messages", json=message_to(customer), headers=headers | key)
    url = f"/v1/messages/{sent.json()['id']}"
    changed = message_to(customer, text={"body": "MARKED-text 2"})
    wrong = message_to(customer, to=NUMBER[1:], text={"body": "MARKED-text", "MARKED-text": NUMBER})
    given = {"access_token": customer.api_key}
    graph = {"messaging_product": "whatsapp", "to": NUMBER, "text": {"body": "MARKED-text"}}
    handshake = {"hub.mode": "subscribe", "hub.challenge": "1"}
    return [
        sent,
        await client.post("/v1/messages", json=changed, headers=headers | key),
        await client.post("/v1/messages", json=wrong, headers=headers),
        await client.post(
            "/v1/messages/batch", json={"messages": [wrong, {NUMBER: NUMBER}]}, headers=headers
        ),
        await client.post("/v1/messages", content=b'{"MARKED-text', headers=headers),
        await client.get(url, headers=headers),
        await client.get(f"{url}{NUMBER}", headers=headers),
        await client.get("/v1/messages", params={"recipient": NUMBER}, headers=headers),
        await client.get("/v1/messages", params={"recipient": NUMBER[1:]}, headers=headers),
        await client.get("/v1/messages", params={"cursor": NUMBER}, headers=headers),
        await client.post(f"{url}/cancel", headers=headers),
        await client.post(f"{url}/retry", headers=headers),
        await client.get("/v1/channels", headers=headers),
        await client.get(f"/v1/channels/{customer.channel_id}", headers=headers),
        await client.get(f"/{NUMBER}/MARKED-text"),
        await client.get("/v1/messages", headers={"Authorization": f"Bearer {headers}"}),
        # As older clients of Meta's do it, which is no way to call Tellwire.
        await client.post("/v23.0/1001/messages", params=given, json=graph),
        await client.post("/v23.0/1001/messages", json=graph | given),
        await client.get("/v23.0/1001", params=given | {"MARKED-text": NUMBER}),
        await client.post(APP, content=BODY, headers={"X-Hub-Signature-256": signature(BODY)}),
        await client.post(APP, content=BODY, headers={"X-Hub-Signature-256": signature(b"")}),
        await client.get(APP, params=handshake | {"hub.verify_token": "canary-verify-token"}),
        await client.get(APP, params=handshake | {"hub.verify_token": "MARKED-text"}),
        await client.get("/metrics"),
        await client.get("/readyz"),
    ]


@pytest.mark.usefixtures("meta_app")
async def test_no_answer_and_no_log_line_holds_what_it_must_not(client, ana, logged) -> None:
    answers = await call_everything(client, ana)
    log = logged()

    # Webhooks that are stored are counted and have no line of their own: there are too many.
    stored = [
        a for a in answers if "/webhooks/" in str(a.request.url) and a.request.method == "POST"
    ]
    silent = [answer for answer in stored if answer.status_code == 200]
    assert log.count("request answered") == len(answers) - len(silent)
    assert len(silent) == 1
    for secret in (*SECRETS, *PERSONAL, ana.api_key, ana.api_key[3:46], ana.api_key[47:]):
        assert secret not in log, secret
    for answer in answers:
        own = answer.status_code < 300 and "/v1/messages" in str(answer.request.url)
        for secret in (ana.api_key, *(SECRETS if not own else SECRETS[:4])):
            assert secret not in answer.text, (answer.request.url, secret)
        if not own:
            assert "15550000077" not in answer.text, answer.request.url


async def test_a_failure_of_ours_shows_nothing_of_itself(client, ana, logged, monkeypatch) -> None:
    async def fail(_self, _tenant, new, **_):
        raise RuntimeError(f"{new.recipient.e164} {new.content.body} EAAGcanaryAccessToken")

    monkeypatch.setattr(AcceptMessage, "__call__", fail)

    answer = await client.post("/v1/messages", json=message_to(ana), headers=ana.headers)

    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert answer.headers["content-type"] == "application/problem+json"
    for secret in (NUMBER, "MARKED-text", "EAAG", "RuntimeError", "Traceback"):
        assert secret not in answer.text
    assert "RuntimeError" in logged()
    assert answer.json()["instance"] in logged()
    for secret in (NUMBER, "MARKED-text", "EAAGcanary"):
        assert secret not in logged()


async def test_log_lines_name_the_request_and_the_tenant(client, ana, logged) -> None:
    answer = await client.get("/v1/messages", headers=ana.headers)

    line = next(line for line in logged().splitlines() if "request answered" in line)
    assert answer.headers["x-request-id"] in line
    assert str(ana.tenant_id) in line
    assert "/v1/messages" in line


@pytest.mark.usefixtures("meta_app")
async def test_metrics_come_from_closed_sets(client, ana) -> None:
    await call_everything(client, ana)
    await client.request("MARKED", "/v1/messages", headers=ana.headers)
    metrics = (await client.get("/metrics")).text

    names = set(re.findall(r"^(\w+)\{?", metrics, flags=re.MULTILINE))
    assert {name for name in names if not name.startswith("tellwire_")} == set()
    routes = set(re.findall(r'route="([^"]*)"', metrics))
    assert routes <= {
        *("unmatched", "/metrics", "/readyz", "/v1/messages", "/v1/messages/batch"),
        *("/v1/messages/{message_id}", "/v1/messages/{message_id}/cancel"),
        *("/v1/messages/{message_id}/retry", "/v1/channels", "/v1/channels/{channel_id}"),
        *("/{graph_version}/{phone_number_id}/messages", "/webhooks/whatsapp/{app_id}"),
        "/v{major:digits}.{minor:digits}/{media_id}",
    }
    assert "/v1/messages/{message_id}/cancel" in routes
    assert set(re.findall(r'method="([^"]*)"', metrics)) == {"GET", "POST", "other"}
    assert 'tellwire_messages_accepted_total{result="stored",type="text"} 1.0' in metrics
    assert 'tellwire_webhooks_received_total{result="refused"} 1.0' in metrics
    assert "tellwire_webhooks_received_bytes_total" in metrics
    for secret in (str(ana.tenant_id), str(ana.channel_id), *SECRETS, *PERSONAL):
        assert secret not in metrics
