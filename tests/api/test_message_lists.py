from datetime import timedelta

import pytest

from shared.kernel.clock import utc_now
from whatsapp.infrastructure.persistence.repositories import message_views


@pytest.fixture
async def messages(client, ana):
    """Ids of 25 messages in the order of acceptance, to three recipients in turn."""
    entries = [
        {
            "channel_id": str(ana.channel_id),
            "to": f"+491555000000{n % 3}",
            "text": {"body": f"{n}"},
        }
        for n in range(25)
    ]
    answer = await client.post(
        "/v1/messages/batch", json={"messages": entries}, headers=ana.headers
    )
    return [one["message"]["id"] for one in answer.json()["results"]]


async def pages(client, customer, **query):
    """All pages of a list."""
    found = []
    while True:
        answer = await client.get("/v1/messages", params=query, headers=customer.headers)
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["data"])
        if answer.json()["next_cursor"] is None:
            return found
        query["cursor"] = answer.json()["next_cursor"]


def ids(found):
    return [message["id"] for page in found for message in page]


@pytest.mark.parametrize("limit", [1, 10, 25, 200])
async def test_pages_give_every_message_once_newest_first(client, ana, messages, limit) -> None:
    found = await pages(client, ana, limit=limit)

    assert ids(found) == messages[::-1]
    assert all(len(page) <= limit for page in found)


async def test_messages_that_come_in_between_pages_move_nothing(client, ana, messages) -> None:
    first = await client.get("/v1/messages", params={"limit": 10}, headers=ana.headers)
    body = {"channel_id": str(ana.channel_id), "to": "+4915550000009", "text": {"body": "new"}}
    await client.post("/v1/messages", json=body, headers=ana.headers)

    rest = await pages(client, ana, cursor=first.json()["next_cursor"])

    assert ids([first.json()["data"], *rest]) == messages[::-1]


async def test_a_recipient_can_be_followed(client, ana, messages) -> None:
    found = await pages(client, ana, recipient="+49 155 500 000 01", limit=3)

    assert ids(found) == messages[1::3][::-1]


async def test_a_status_can_be_looked_for_as_it_is_shown(client, world, ana, messages) -> None:
    await client.post(f"/v1/messages/{messages[3]}/cancel", headers=ana.headers)
    await world.query(
        "UPDATE whatsapp_send_queue SET state = 'leased' WHERE id = :id", id=messages[5]
    )

    assert ids(await pages(client, ana, status="cancelled")) == [messages[3]]
    assert ids(await pages(client, ana, status="sending")) == [messages[5]]
    assert len(ids(await pages(client, ana, status="queued"))) == 23


async def test_times_bound_the_list(client, ana, messages) -> None:
    later = (utc_now() + timedelta(minutes=1)).isoformat()
    earlier = (utc_now() - timedelta(minutes=1)).isoformat()

    assert ids(await pages(client, ana, created_from=earlier)) == messages[::-1]
    assert ids(await pages(client, ana, created_before=later, created_from=earlier))
    assert ids(await pages(client, ana, created_from=later)) == []
    assert ids(await pages(client, ana, created_before=earlier)) == []


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
async def test_times_far_away_are_times_too(client, ana, moment) -> None:
    for name in ("created_from", "created_before"):
        await pages(client, ana, **{name: moment})


async def test_a_channel_of_another_tenant_has_no_messages(client, ana, bea, messages) -> None:
    assert ids(await pages(client, ana, channel_id=ana.channel_id)) == messages[::-1]
    assert ids(await pages(client, bea, channel_id=ana.channel_id)) == []
    assert ids(await pages(client, bea)) == []


async def test_a_filter_that_matches_little_gives_short_pages_and_misses_nothing(
    client, ana, messages, monkeypatch
) -> None:
    monkeypatch.setattr(message_views, "MAX_LOOKED_AT", 4)
    await client.post(f"/v1/messages/{messages[0]}/cancel", headers=ana.headers)

    found = await pages(client, ana, status="cancelled")

    assert [len(page) for page in found] == [0, 0, 0, 0, 0, 0, 1]
    assert ids(found) == [messages[0]]


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ({"limit": 0}, "limit", "validation_failed"),
        ({"limit": 201}, "limit", "validation_failed"),
        ({"status": "lost"}, "status", "validation_failed"),
        ({"cursor": "x"}, "cursor", "invalid_cursor"),
        ({"cursor": "ééé"}, "cursor", "invalid_cursor"),
        ({"cursor": "A" * 65}, "cursor", "validation_failed"),
        ({"recipient": "4915550000001"}, "recipient", "invalid_phone_number"),
        ({"recipient": "a\0"}, "recipient", "invalid_phone_number"),
        ({"created_from": "2026-01-01T00:00:00"}, "created_from", "validation_failed"),
    ],
)
async def test_a_wrong_query_names_its_field(client, ana, query, field, code) -> None:
    answer = await client.get("/v1/messages", params=query, headers=ana.headers)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["field"] == field
