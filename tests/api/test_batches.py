from collections import Counter

import pytest

from whatsapp.domain.entities import ChannelStatus


def entry(customer, number=1, **more):
    return {
        "channel_id": str(customer.channel_id),
        "to": f"+49155500{number:05d}",
        "text": {"body": "Hello"},
        **more,
    }


async def post(client, customer, *entries):
    return await client.post(
        "/v1/messages/batch", json={"messages": list(entries)}, headers=customer.headers
    )


async def test_each_entry_has_its_own_result_in_the_order_given(client, world, ana, bea) -> None:
    disabled = await world.channel(ana.tenant_id, status=ChannelStatus.DISABLED)
    answer = await post(
        client,
        ana,
        entry(ana, 1),
        entry(ana, 2, text={"body": ""}),
        entry(ana, 3, channel_id=str(bea.channel_id)),
        "not an object",
        entry(ana, 4, channel_id=str(disabled.id)),
        entry(ana, 5, unknown=1),
        entry(ana, 6, idempotency_key="with space"),
        entry(ana, 7),
    )

    results = answer.json()["results"]
    assert answer.status_code == 200
    assert [one["status"] for one in results] == [202, 422, 404, 422, 409, 422, 422, 202]
    assert [one["problem"] and one["problem"]["code"] for one in results] == [
        None,
        "invalid_content",
        "channel_not_found",
        "validation_failed",
        "channel_not_active",
        "validation_failed",
        "invalid_idempotency_key",
        None,
    ]
    assert results[1]["problem"]["field"] == "text.body"
    assert (answer.json()["accepted"], answer.json()["refused"]) == (2, 6)
    assert results[7]["message"]["to"] == "+4915550000007"


async def test_the_same_batch_again_is_replayed(client, world, ana) -> None:
    entries = [entry(ana, n, idempotency_key=f"order-{n}") for n in range(20)]
    first = await post(client, ana, *entries)
    again = await post(client, ana, *reversed(entries))

    assert (first.json()["accepted"], again.json()["replayed"]) == (20, 20)
    assert [r["message"]["id"] for r in first.json()["results"]] == [
        r["message"]["id"] for r in reversed(again.json()["results"])
    ]
    stored = await world.query(
        "SELECT count(*) FROM whatsapp_outbound_messages WHERE tenant_id = :t", t=ana.tenant_id
    )
    assert stored[0][0] == 20


async def test_a_key_used_for_something_else_refuses_its_own_entry_only(client, ana) -> None:
    await post(client, ana, entry(ana, 1, idempotency_key="taken"))
    answer = await post(
        client,
        ana,
        entry(ana, 2, idempotency_key="free"),
        entry(ana, 3, idempotency_key="taken"),
        entry(ana, 1, idempotency_key="taken"),
        entry(ana, 4, idempotency_key="twice"),
        entry(ana, 4, idempotency_key="twice"),
        entry(ana, 5, idempotency_key="twice"),
    )

    results = answer.json()["results"]
    assert [one["status"] for one in results] == [202, 422, 200, 202, 200, 422]
    assert results[1]["problem"]["code"] == "idempotency_key_reused"
    found = await client.get("/v1/messages", headers=ana.headers)
    assert len(found.json()["data"]) == 3


async def test_a_thousand_messages_are_taken_in_one_transaction(client, world, ana) -> None:
    answer = await post(client, ana, *(entry(ana, n) for n in range(1000)))

    assert Counter(one["status"] for one in answer.json()["results"]) == {202: 1000}
    queued = await world.query(
        "SELECT count(*), count(DISTINCT xmin::text) FROM whatsapp_send_queue WHERE tenant_id = :t",
        t=ana.tenant_id,
    )
    assert tuple(queued[0]) == (1000, 1)


@pytest.mark.parametrize("messages", [[], [{}] * 1001, {}, None, "x"])
async def test_a_batch_has_one_to_a_thousand_entries(client, ana, messages) -> None:
    answer = await client.post(
        "/v1/messages/batch", json={"messages": messages}, headers=ana.headers
    )

    assert answer.status_code == 422
    assert answer.json()["field"] == "messages"


async def test_nothing_that_was_given_is_repeated_in_problems(client, ana) -> None:
    answer = await post(client, ana, entry(ana, to="MARKED", MARKED1=2), {"MARKED 1": ["MARKED"]})

    assert answer.json()["refused"] == 2
    assert "MARKED" not in answer.text
