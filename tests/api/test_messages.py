import asyncio
from collections import Counter
from uuid import uuid4

import pytest


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
