import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta, timezone
from uuid import uuid4

import pytest

from shared.kernel.clock import utc_now


def message_to(customer, body="Hello", **more):
    return {
        "channel_id": str(customer.channel_id),
        "to": "+4915550000001",
        "type": "text",
        "text": {"body": body},
        **more,
    }


async def post(client, customer, body, **headers):
    return await client.post("/v1/messages", json=body, headers=customer.headers | headers)


async def test_a_message_is_accepted_and_can_be_looked_up(client, ana) -> None:
    accepted = await post(client, ana, message_to(ana, metadata={"order": "7"}))

    assert accepted.status_code == 202
    assert accepted.json()["status"] == "queued"
    found = await client.get(f"/v1/messages/{accepted.json()['id']}", headers=ana.headers)
    assert found.status_code == 200
    assert found.json()["content"] == {"body": "Hello"}
    assert found.json()["metadata"] == {"order": "7"}
    assert found.json()["history"] == found.json()["statuses"] == []


async def test_the_same_key_and_message_again_is_a_replay(client, ana) -> None:
    key = {"Idempotency-Key": "order-1"}
    first = await post(client, ana, message_to(ana), **key)
    second = await post(client, ana, message_to(ana), **key)

    assert (first.status_code, second.status_code) == (202, 200)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert first.json() == second.json()


async def test_the_same_key_with_another_message_is_refused(client, ana) -> None:
    key = {"Idempotency-Key": "order-2"}
    await post(client, ana, message_to(ana), **key)
    other = await post(client, ana, message_to(ana, "Something else"), **key)

    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"


async def test_fifty_concurrent_posts_with_one_key_are_one_message(client, world, ana) -> None:
    key = {"Idempotency-Key": f"race-{uuid4()}"}
    answers = await asyncio.gather(*(post(client, ana, message_to(ana), **key) for _ in range(50)))

    assert Counter(answer.status_code for answer in answers) == {202: 1, 200: 49}
    assert len({answer.json()["id"] for answer in answers}) == 1
    stored = await world.query(
        "SELECT count(*) FROM whatsapp_send_queue WHERE tenant_id = :tenant", tenant=ana.tenant_id
    )
    assert stored[0][0] == 1


async def test_of_two_messages_that_race_for_a_key_one_is_taken_and_all_are_told_which(
    client, ana
) -> None:
    key = {"Idempotency-Key": f"race-{uuid4()}"}
    bodies = ["Hello", "Something else"] * 15
    answers = await asyncio.gather(
        *(post(client, ana, message_to(ana, body), **key) for body in bodies)
    )

    (taken,) = [body for body, one in zip(bodies, answers, strict=True) if one.status_code == 202]
    told = Counter(
        (body == taken, one.status_code) for body, one in zip(bodies, answers, strict=True)
    )
    assert told == {(True, 202): 1, (True, 200): 14, (False, 422): 15}


async def test_a_key_is_the_tenants_whichever_channel_or_endpoint_it_comes_by(
    client, world, ana, bea
) -> None:
    key = {"Idempotency-Key": "order-everywhere"}
    channel = await world.channel(ana.tenant_id)
    first = await post(client, ana, message_to(ana), **key)

    theirs = await post(client, bea, message_to(bea), **key)
    elsewhere = await post(client, ana, message_to(ana, channel_id=str(channel.id)), **key)
    by_graph = await client.post(
        f"/v23.0/{channel.phone_number_id}/messages",
        json={"messaging_product": "whatsapp", "to": "4915550000001", "text": {"body": "Hello"}},
        headers=ana.headers | key,
    )

    assert (first.status_code, theirs.status_code) == (202, 202)
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (422, "idempotency_key_reused")
    assert by_graph.status_code == 400


@pytest.mark.parametrize(
    "status", ["cancelled", "failed", "expired", "unknown", "retrying", "sent", "read"]
)
async def test_a_replay_says_what_has_become_of_the_message_and_sends_nothing(
    client, world, ana, status
) -> None:
    key = {"Idempotency-Key": f"order-{status}"}
    first = await post(client, ana, message_to(ana), **key)
    await world.query(
        "WITH gone AS (DELETE FROM whatsapp_send_queue WHERE id = :id)"
        " UPDATE whatsapp_outbound_messages SET status = :status WHERE id = :id",
        id=first.json()["id"],
        status=status,
    )

    again = await post(client, ana, message_to(ana), **key)
    entry = message_to(ana, idempotency_key=key["Idempotency-Key"])
    batch = await client.post("/v1/messages/batch", json={"messages": [entry]}, headers=ana.headers)

    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
    for told in (again.json(), batch.json()["results"][0]["message"]):
        assert (told["id"], told["status"]) == (first.json()["id"], status)
    queued = await world.query(
        "SELECT 1 FROM whatsapp_send_queue WHERE tenant_id = :t", t=ana.tenant_id
    )
    assert queued == []


@pytest.mark.parametrize("path", ["", "/cancel", "/retry"])
async def test_another_tenants_message_does_not_exist(client, ana, bea, path) -> None:
    accepted = await post(client, ana, message_to(ana))
    url = f"/v1/messages/{accepted.json()['id']}{path}"
    method = "POST" if path else "GET"

    answer = await client.request(method, url, headers=bea.headers)

    assert answer.status_code == 404
    assert answer.json()["code"] == "message_not_found"


async def test_another_tenants_channel_does_not_exist(client, ana, bea) -> None:
    answer = await post(client, bea, message_to(ana))

    assert answer.status_code == 404
    assert answer.json()["code"] == "channel_not_found"
    assert answer.json()["field"] == "channel_id"


async def test_a_time_is_the_same_in_every_zone(client, ana) -> None:
    noon = utc_now().replace(microsecond=0) + timedelta(days=30)
    zones = [timezone(timedelta(hours=hours)) for hours in (0, 5.5, -9)]
    key = {"Idempotency-Key": "order-noon"}

    answers = [
        await post(
            client,
            ana,
            message_to(
                ana,
                send_at=noon.astimezone(zone).isoformat(),
                expires_at=(noon + timedelta(hours=1)).astimezone(zone).isoformat(),
            ),
            **key,
        )
        for zone in reversed(zones)
    ]

    assert [one.status_code for one in answers] == [202, 200, 200]
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert answers[0].json()["send_at"] == noon.isoformat().replace("+00:00", "Z")


@pytest.fixture
def later(client, monkeypatch):
    """Let the API accept as if so much time had passed."""

    def later(**passed):
        state = client._transport.app.state
        services = state.tellwire_services

        def now():
            return utc_now() + timedelta(**passed)

        changed = {
            name: replace(getattr(services, name), now=now)
            for name in ("accept_message", "accept_batch", "accept_graph_message")
        }
        monkeypatch.setattr(state, "tellwire_services", replace(services, **changed))

    return later


@pytest.mark.parametrize(
    ("name", "hours"), [("expires_at", 1), ("send_at", 1), ("send_at", -23), ("expires_at", 8000)]
)
async def test_a_replay_is_none_the_worse_for_its_time_having_passed(
    client, world, ana, later, name, hours
) -> None:
    wanted = message_to(ana, **{name: (utc_now() + timedelta(hours=hours)).isoformat()})
    key = {"Idempotency-Key": "order-late"}
    first = await post(client, ana, wanted, **key)
    assert first.status_code == 202

    later(days=400)
    again = await post(client, ana, wanted, **key)
    other = await post(client, ana, wanted | {"text": {"body": "Else"}}, **key)
    unheard = await post(client, ana, wanted, **{"Idempotency-Key": "order-unheard"})
    batch = await client.post(
        "/v1/messages/batch",
        json={
            "messages": [
                wanted | {"idempotency_key": "order-late"},
                wanted | {"idempotency_key": "order-unheard"},
                message_to(ana, "In time"),
                wanted,
            ]
        },
        headers=ana.headers,
    )

    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (unheard.status_code, unheard.json()["field"]) == (422, name)
    assert [one["status"] for one in batch.json()["results"]] == [200, 422, 202, 422]
    assert batch.json()["results"][0]["message"]["id"] == first.json()["id"]
    stored = await world.query(
        "SELECT count(*) FROM whatsapp_outbound_messages WHERE tenant_id = :t", t=ana.tenant_id
    )
    assert stored[0][0] == 2


async def test_a_replay_outlives_the_expiry_that_a_retry_took_away(
    client, world, ana, later
) -> None:
    wanted = message_to(ana, expires_at=(utc_now() + timedelta(hours=1)).isoformat())
    key = {"Idempotency-Key": "order-revived"}
    first = (await post(client, ana, wanted, **key)).json()["id"]
    await world.query(
        "UPDATE whatsapp_outbound_messages SET expires_at = NULL WHERE id = :id", id=first
    )

    later(days=2)

    assert (await post(client, ana, wanted, **key)).json()["id"] == first


async def test_without_a_key_the_same_for_the_same_time_is_one_message_whenever_it_is_asked_for(
    client, ana, later
) -> None:
    noon = message_to(ana, send_at=(utc_now() + timedelta(hours=3)).isoformat())
    scheduled, first = await post(client, ana, noon), await post(client, ana, message_to(ana))
    await client.post(f"/v1/messages/{scheduled.json()['id']}/cancel", headers=ana.headers)

    later(hours=1)
    again, second = await post(client, ana, noon), await post(client, ana, message_to(ana))

    assert (again.status_code, again.json()["id"]) == (200, scheduled.json()["id"])
    assert again.json()["status"] == "cancelled"
    assert (first.status_code, second.status_code) == (202, 202)
