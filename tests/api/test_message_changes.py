import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from shared.infrastructure.database import RLSManager, SQLAlchemyUnitOfWork
from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import AttemptResult, StatusReport
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMessageRepository


@pytest.fixture
async def message(client, ana):
    body = {"channel_id": str(ana.channel_id), "to": "+4915550000001", "text": {"body": "Hello"}}
    answer = await client.post("/v1/messages", json=body, headers=ana.headers)
    return answer.json()


@pytest.fixture
def settle(world, ana):
    """Record what an attempt led to, as a worker does."""

    async def settle(message, status, *, wamid=None, failure=None, number=1):
        token, now = new_id(), utc_now()
        await world.query(
            "UPDATE whatsapp_send_queue SET state = 'dispatching', lease_token = :token, "
            "lease_until = now() + interval '1 minute', attempt = :number WHERE id = :id",
            token=token,
            number=number,
            id=message["id"],
        )
        result = AttemptResult(
            message_id=UUID(message["id"]),
            lease_token=token,
            number=number,
            status=status,
            outcome="rejected" if failure else "accepted",
            started_at=now - timedelta(seconds=1),
            finished_at=now,
            wamid=wamid,
            failure=failure,
        )
        async with SQLAlchemyUnitOfWork(world.sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=ana.tenant_id)
            await SQLAlchemyMessageRepository(uow.session).record_attempts([result])
            await uow.commit()

    return settle


async def get(client, customer, message):
    return (await client.get(f"/v1/messages/{message['id']}", headers=customer.headers)).json()


async def act(client, customer, message, action):
    return await client.post(f"/v1/messages/{message['id']}/{action}", headers=customer.headers)


async def test_a_queued_message_can_be_taken_back_and_asked_again(client, world, ana, message):
    first = await act(client, ana, message, "cancel")
    again = await act(client, ana, message, "cancel")

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert first.json()["status"] == "cancelled"
    assert not await world.query(
        "SELECT 1 FROM whatsapp_send_queue WHERE id = :id", id=message["id"]
    )


async def test_all_who_take_a_message_back_at_once_find_it_cancelled(client, ana, message) -> None:
    answers = await asyncio.gather(*(act(client, ana, message, "cancel") for _ in range(8)))

    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["status"] for answer in answers} == {"cancelled"}


async def test_a_message_on_its_way_is_not_taken_back(client, world, ana, message) -> None:
    await world.query(
        "UPDATE whatsapp_send_queue SET state = 'dispatching' WHERE id = :id", id=message["id"]
    )
    answer = await act(client, ana, message, "cancel")

    assert answer.status_code == 409
    assert answer.json()["code"] == "invalid_transition"


async def test_a_sent_message_is_neither_taken_back_nor_sent_again(
    client, ana, message, settle
) -> None:
    await settle(message, MessageStatus.SENT, wamid="wamid.1")

    for action in ("cancel", "retry"):
        assert (await act(client, ana, message, action)).status_code == 409


async def test_a_failed_message_can_be_sent_again(client, world, ana, message, settle) -> None:
    failure = FailureReason(131026, "Undeliverable", "")
    await settle(message, MessageStatus.FAILED, failure=failure)
    assert (await get(client, ana, message))["failure"]["code"] == 131026

    retried = await act(client, ana, message, "retry")

    assert retried.status_code == 202
    assert (retried.json()["status"], retried.json()["failure"]) == ("queued", None)
    queued = await world.query(
        "SELECT state FROM whatsapp_send_queue WHERE id = :id", id=message["id"]
    )
    assert [row.state for row in queued] == ["ready"]
    assert [one["code"] for one in (await get(client, ana, message))["history"]] == [131026]


@pytest.mark.parametrize("state", ["ready", "leased", "dispatching", "retrying", "unknown"])
async def test_what_has_not_failed_is_not_sent_again(client, world, ana, message, state) -> None:
    stored = state if state in {"retrying", "unknown"} else "queued"
    await world.query(
        "UPDATE whatsapp_send_queue SET state = :state WHERE id = :id",
        state=state,
        id=message["id"],
    )
    await world.query(
        "UPDATE whatsapp_outbound_messages SET status = :status WHERE id = :id",
        status=stored,
        id=message["id"],
    )

    answer = await act(client, ana, message, "retry")

    assert answer.status_code == 409
    rows = await world.query(
        "SELECT state FROM whatsapp_send_queue WHERE id = :id", id=message["id"]
    )
    assert rows[0].state == state


async def test_the_history_tells_attempts_and_statuses(client, world, ana, message, settle) -> None:
    await settle(message, MessageStatus.SENT, wamid="wamid.1")
    now = utc_now()
    reports = [
        StatusReport(wamid="wamid.1", status=status, occurred_at=now + timedelta(seconds=n))
        for n, status in enumerate((MessageStatus.SENT, MessageStatus.READ))
    ]
    async with SQLAlchemyUnitOfWork(world.sessions) as uow, RLSManager(uow.session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        await SQLAlchemyMessageRepository(uow.session).record_statuses(ana.channel_id, reports)
        await uow.commit()

    found = await get(client, ana, message)

    assert (found["status"], found["wamid"], found["attempts"]) == ("read", "wamid.1", 1)
    assert [one["outcome"] for one in found["history"]] == ["accepted"]
    assert [one["status"] for one in found["statuses"]] == ["sent", "read"]


async def test_channels_are_shown_without_their_tokens(client, world, ana, bea) -> None:
    second = await world.channel(ana.tenant_id)
    listed = await client.get("/v1/channels", params={"limit": 1}, headers=ana.headers)
    rest = await client.get(
        "/v1/channels", params={"cursor": listed.json()["next_cursor"]}, headers=ana.headers
    )
    single = await client.get(f"/v1/channels/{ana.channel_id}", headers=ana.headers)
    foreign = await client.get(f"/v1/channels/{ana.channel_id}", headers=bea.headers)

    shown = [*listed.json()["data"], *rest.json()["data"]]
    assert [channel["id"] for channel in shown] == [str(ana.channel_id), str(second.id)]
    assert rest.json()["next_cursor"] is None
    assert single.json() == shown[0]
    assert foreign.status_code == 404
    assert foreign.json()["code"] == "channel_not_found"
    for answer in (listed, rest, single):
        assert "EAAG" not in answer.text
        assert "token" not in answer.text.replace("token_readable", "")
