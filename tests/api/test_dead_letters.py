"""Dead letters: listed with what to do, sent again one by one or by a filter."""

import pytest

from shared.kernel.clock import utc_now


@pytest.fixture
def dead(client, world, ana):
    """A message that ended badly."""

    async def dead(status="failed", code=131026, *, customer=ana, channel_id=None):
        body = {
            "channel_id": str(channel_id or customer.channel_id),
            "to": f"+4915550{utc_now().microsecond:06d}",
            "text": {"body": f"{utc_now().isoformat()}"},
        }
        answer = await client.post("/v1/messages", json=body, headers=customer.headers)
        ident = answer.json()["id"]
        await world.query("DELETE FROM whatsapp_send_queue WHERE id = :id", id=ident)
        await world.query(
            "UPDATE whatsapp_outbound_messages SET status = :status, attempts = 1, "
            "failure_code = :code, failure_title = 'Undeliverable', failure_details = '' "
            "WHERE id = :id",
            id=ident,
            status=status,
            code=code,
        )
        return ident

    return dead


@pytest.fixture
def listed(client, ana):
    async def listed(**query):
        answer = await client.get("/v1/messages/dead-letters", params=query, headers=ana.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return listed


@pytest.fixture
def retry(client, ana):
    async def retry(headers=None, **body):
        return await client.post("/v1/messages/retry", json=body, headers=headers or ana.headers)

    return retry


async def test_dead_letters_explain_themselves(dead, listed) -> None:
    failed, expired = await dead("failed", 131026), await dead("expired", None)
    for status in ("sent", "queued", "cancelled", "retrying", "unknown"):
        await dead(status)

    page = await listed()

    assert [one["id"] for one in page["data"]] == [expired, failed]
    assert page["next_cursor"] is None
    reason = page["data"][1]["failure"]
    assert (reason["code"], reason["title"]) == (131026, "Undeliverable")
    assert "do not retry automatically" in reason["advice"]
    assert page["data"][0]["failure"]["advice"] is None


async def test_dead_letters_are_found_by_channel_code_and_time(dead, listed, world, ana) -> None:
    second = await world.channel(ana.tenant_id)
    one, other = await dead(code=131026), await dead(code=131000)
    elsewhere = await dead(channel_id=second.id)
    now = utc_now().isoformat()

    async def ids(**query):
        return {found["id"] for found in (await listed(**query))["data"]}

    assert await ids(code=131000) == {other}
    assert await ids(channel_id=str(second.id)) == {elsewhere}
    assert await ids(created_from=now) == set()
    assert await ids(created_before=now) == {one, other, elsewhere}


async def test_one_dead_letter_is_sent_again(client, world, dead, ana) -> None:
    for ident in (await dead("failed"), await dead("expired", None)):
        answer = await client.post(f"/v1/messages/{ident}/retry", headers=ana.headers)

        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        assert answer.json()["failure"] is None
        rows = await world.query("SELECT state FROM whatsapp_send_queue WHERE id = :id", id=ident)
        assert [row.state for row in rows] == ["ready"]


async def test_a_filter_sends_again_what_it_finds_and_says_how_many(
    dead, listed, retry, ana, world
) -> None:
    wanted = {await dead(code=131000) for _ in range(3)}
    left = await dead(code=131026)

    answer = await retry(code=131000)
    again = await retry(code=131000)

    assert answer.status_code == 202
    assert answer.json() == {"retried": 3, "refused": 0, "next_cursor": None}
    assert again.json()["retried"] == 0
    assert {one["id"] for one in (await listed())["data"]} == {left}
    rows = await world.query(
        "SELECT id FROM whatsapp_send_queue WHERE tenant_id = :t", t=ana.tenant_id
    )
    assert {str(row.id) for row in rows} == wanted


async def test_what_would_not_be_accepted_today_stays_a_dead_letter(
    client, world, dead, listed, retry, ana
) -> None:
    letters = [await dead(), await dead("expired", None)]
    change = "UPDATE whatsapp_channels SET {} WHERE id = :id"
    await world.query(change.format("window_policy = 'enforce'"), id=ana.channel_id)

    alone = await client.post(f"/v1/messages/{letters[0]}/retry", headers=ana.headers)
    answer = await retry()
    await world.query(change.format("status = 'disabled'"), id=ana.channel_id)
    disabled = await client.post(f"/v1/messages/{letters[0]}/retry", headers=ana.headers)

    assert (alone.status_code, alone.json()["code"]) == (422, "service_window_closed")
    assert answer.json() == {"retried": 0, "refused": 2, "next_cursor": None}
    assert disabled.json()["code"] == "channel_not_active"
    assert {one["id"] for one in (await listed())["data"]} == set(letters)
    assert not await world.query(
        "SELECT id FROM whatsapp_send_queue WHERE tenant_id = :t", t=ana.tenant_id
    )

    await world.query(
        change.format("status = 'active', window_policy = 'allow'"), id=ana.channel_id
    )
    assert (await retry()).json() == {"retried": 2, "refused": 0, "next_cursor": None}


async def test_a_filter_is_bounded_and_goes_on_where_it_ended(dead, retry) -> None:
    for _ in range(5):
        await dead()

    counts, cursor = [], None
    while True:
        answer = (await retry(limit=2, cursor=cursor)).json()
        counts.append(answer["retried"])
        cursor = answer["next_cursor"]
        if cursor is None:
            break

    assert counts == [2, 2, 1]


async def test_a_status_can_be_asked_for(dead, retry) -> None:
    await dead("failed")
    await dead("expired")

    assert (await retry(status="expired")).json()["retried"] == 1


async def test_another_tenants_letters_are_left_alone(dead, retry, bea) -> None:
    await dead()

    assert (await retry(headers=bea.headers)).json()["retried"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 0},
        {"limit": 1001},
        {"status": "sent"},
        {"code": "x"},
        {"created_from": "2026-11-23T09:00:00"},
        {"cursor": "?"},
        {"anything": 1},
    ],
)
async def test_a_filter_that_is_none_is_refused_by_its_field(retry, body) -> None:
    answer = await retry(**body)

    assert answer.status_code == 422
    assert answer.json()["field"] == next(iter(body)) or body == {"anything": 1}
