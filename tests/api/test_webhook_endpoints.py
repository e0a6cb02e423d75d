"""The routes of webhook endpoints: secrets once, tenants apart, problems that name the field."""

import pytest

from shared.kernel.clock import utc_now
from tenancy.domain import Scope
from whatsapp.domain.events import EventType, NewEvent
from whatsapp.infrastructure.persistence.work import work_in

URL = "https://example.com/hook?key=canary-of-the-url"


async def create(client, customer, **given):
    answer = await client.post(
        "/v1/webhook-endpoints", json={"url": URL} | given, headers=customer.headers
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_the_secret_is_shown_once(client, ana) -> None:
    created = await create(client, ana, description="Shop", event_types=["message.read"])
    path = f"/v1/webhook-endpoints/{created['id']}"

    read = (await client.get(path, headers=ana.headers)).json()
    listed = (await client.get("/v1/webhook-endpoints", headers=ana.headers)).json()

    assert created["secret"].startswith("whsec_")
    assert read == {key: value for key, value in created.items() if key != "secret"}
    assert listed == {"data": [read], "next_cursor": None}
    assert (read["enabled"], read["event_types"]) == (True, ["message.read"])


async def test_a_rotation_shows_another_secret_and_says_how_long_both_sign(client, ana) -> None:
    created = await create(client, ana)
    path = f"/v1/webhook-endpoints/{created['id']}/rotate-secret"

    rotated = await client.post(path, json={"overlap_seconds": 60}, headers=ana.headers)
    by_default = await client.post(path, headers=ana.headers)

    assert rotated.status_code == by_default.status_code == 200
    secrets = {one["secret"] for one in (created, rotated.json(), by_default.json())}
    assert len(secrets) == 3
    assert rotated.json()["previous_secret_until"] is not None


async def test_an_endpoint_is_changed_switched_off_and_on_and_deleted(client, ana) -> None:
    created = await create(client, ana)
    path = f"/v1/webhook-endpoints/{created['id']}"
    change = {"url": "https://example.com/other", "enabled": False}

    changed = (await client.patch(path, json=change, headers=ana.headers)).json()
    assert (changed["url"], changed["enabled"]) == (change["url"], False)
    assert changed["disabled_reason"] == "Switched off"
    test = await client.post(f"{path}/test", headers=ana.headers)
    assert (test.status_code, test.json()["code"]) == (409, "webhook_endpoint_not_enabled")

    enabled = (await client.post(f"{path}/enable", headers=ana.headers)).json()
    assert (enabled["enabled"], enabled["disabled_reason"]) == (True, None)
    assert (await client.delete(path, headers=ana.headers)).status_code == 204
    assert (await client.get(path, headers=ana.headers)).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "http://example.com/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "url"),
        ({"event_types": ["message.eaten"]}, "event_types[0]"),
        ({"format": "xml"}, "format"),
        ({"channel_ids": ["0198f2c4-6b1e-7c3a-9a53-2f1d8e4b7a60"]}, "channel_ids"),
        ({"description": "x" * 201}, "description"),
    ],
)
async def test_what_cannot_be_is_refused_by_field(client, ana, body, field) -> None:
    answer = await client.post(
        "/v1/webhook-endpoints", json={"url": URL} | body, headers=ana.headers
    )

    assert answer.status_code in {404, 422}
    assert answer.json()["field"] == field
    assert "canary" not in answer.text


async def test_a_tenant_has_so_many_endpoints_and_no_more(client, world) -> None:
    customer = await world.customer()
    for _ in range(20):
        await create(client, customer)

    answer = await client.post("/v1/webhook-endpoints", json={"url": URL}, headers=customer.headers)

    assert answer.json()["code"] == "webhook_endpoint_limit_reached"


async def test_nobody_reaches_another_tenants_endpoint(client, ana, bea) -> None:
    theirs = await create(client, bea)
    path = f"/v1/webhook-endpoints/{theirs['id']}"

    calls = [
        client.get(path, headers=ana.headers),
        client.patch(path, json={"enabled": False}, headers=ana.headers),
        client.delete(path, headers=ana.headers),
        client.post(f"{path}/enable", headers=ana.headers),
        client.post(f"{path}/test", headers=ana.headers),
        client.post(f"{path}/rotate-secret", headers=ana.headers),
        client.get(f"{path}/deliveries", headers=ana.headers),
        client.post(f"{path}/replay", json={"since": "2026-01-01T00:00:00Z"}, headers=ana.headers),
    ]
    answers = [await call for call in calls]

    assert {answer.json()["code"] for answer in answers} == {"webhook_endpoint_not_found"}
    assert (await client.get(path, headers=bea.headers)).json()["enabled"]


async def test_each_route_asks_for_its_scope(client, world, ana) -> None:
    reader = await world.api_key(ana.tenant_id, Scope.WEBHOOKS_READ, Scope.CHANNELS_WRITE)
    headers = {"Authorization": f"Bearer {reader}"}

    listed = await client.get("/v1/webhook-endpoints", headers=headers)
    created = await client.post("/v1/webhook-endpoints", json={"url": URL}, headers=headers)
    streamed = await client.get("/v1/events", headers=headers)

    assert listed.status_code == 200
    assert (created.status_code, streamed.status_code) == (403, 403)


async def test_a_test_event_is_queued_for_that_endpoint_alone(client, ana, world) -> None:
    wanted = await create(client, ana, event_types=["message.read"])
    await create(client, ana)

    answer = await client.post(f"/v1/webhook-endpoints/{wanted['id']}/test", headers=ana.headers)

    rows = await world.query(
        "SELECT endpoint_id, event_id FROM webhook_delivery_queue WHERE tenant_id = :t",
        t=ana.tenant_id,
    )
    assert answer.status_code == 202
    assert [(str(r.endpoint_id), str(r.event_id)) for r in rows] == [
        (wanted["id"], answer.json()["event_id"])
    ]


async def test_events_are_replayed_page_by_page(client, ana, world, monkeypatch) -> None:
    monkeypatch.setattr("whatsapp.application.replay_events.MAX_REPLAYED", 2)
    created = await create(client, ana)
    async with work_in(world.sessions)(ana.tenant_id) as work:
        paused = [
            NewEvent(type=EventType.CHANNEL_PAUSED, occurred_at=utc_now(), data={})
            for _ in range(3)
        ]
        await work.events.record(others=paused)
        await work.commit()
    path = f"/v1/webhook-endpoints/{created['id']}/replay"
    body = {"since": "2026-01-01T00:00:00Z"}

    first = (await client.post(path, json=body, headers=ana.headers)).json()
    rest = (
        await client.post(path, json=body | {"after": first["last"]}, headers=ana.headers)
    ).json()

    assert first == {"queued": 2, "last": 2, "incomplete": False}
    assert rest == {"queued": 1, "last": None, "incomplete": False}
    for wrong in ({}, body | {"event_ids": [str(paused[0].id)]}):
        assert (await client.post(path, json=wrong, headers=ana.headers)).status_code == 422


async def test_the_log_is_read_by_page_newest_first(client, ana, world) -> None:
    created = await create(client, ana)
    for number in range(5):
        await world.query(
            "INSERT INTO webhook_deliveries VALUES (:t, gen_random_uuid(), :e, gen_random_uuid(),"
            " 'message.read', :n, 'retrying', 500, NULL, 'no', 12, now(), now())",
            t=ana.tenant_id,
            e=created["id"],
            n=number + 1,
        )
    path, seen, cursor = f"/v1/webhook-endpoints/{created['id']}/deliveries", [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(path, params=params, headers=ana.headers)).json()
        seen += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    ids = [one["id"] for one in seen]
    assert len(ids) == 5
    assert ids == sorted(ids, reverse=True)
    assert seen[0]["milliseconds"] == 12
