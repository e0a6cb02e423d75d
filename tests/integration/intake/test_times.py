"""When things happened: told late, they are no news; dated far ahead, they count as they came."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.kernel.clock import utc_now
from webhook_bodies import body, change, inbound_to, messages_of, new_wamid, status_of
from whatsapp.infrastructure.cloud_api.callback import callback_data

pytestmark = pytest.mark.postgres

T0 = 1795420800
FAR = int(datetime(2099, 1, 1, tzinfo=UTC).timestamp())
PERSON, NEW_NUMBER = "16505551234", "16505559999"


def soon() -> int:
    """Later than whatever has come in until now, and not ahead of it."""
    return int(utc_now().timestamp()) + 2


def wish(customer: Any, value: str, at: int) -> dict[str, Any]:
    preference = {"wa_id": PERSON, "category": "marketing_messages", "value": value}
    return change(
        "user_preferences",
        metadata=messages_of(customer)["value"]["metadata"],
        user_preferences=[preference | {"timestamp": at}],
    )


def template(event: str) -> dict[str, Any]:
    return change(
        "message_template_status_update",
        event=event,
        message_template_name="offer",
        message_template_language="en_US",
    )


def ban(state: str) -> dict[str, Any]:
    return change("account_update", event="DISABLED_UPDATE", ban_info={"waba_ban_state": state})


async def conversations(known, customer) -> list[Any]:
    return await known.superuser.fetch(
        "SELECT v.*, ARRAY(SELECT address FROM whatsapp_conversation_addresses a"
        " WHERE a.conversation_id = v.id ORDER BY 1) AS addresses"
        " FROM whatsapp_conversations v WHERE tenant_id = $1 AND merged_into IS NULL ORDER BY id",
        customer.tenant_id,
    )


def is_now(at: datetime) -> bool:
    return abs(utc_now() - at) < timedelta(minutes=10)


async def test_a_wish_dated_far_ahead_gives_way_to_the_next(known, ana) -> None:
    await known.take_in(body(wish(ana, "stop", FAR)))
    await known.take_in(body(wish(ana, "resume", soon())))

    (found,) = await conversations(known, ana)

    assert not found["marketing_stopped"]
    assert is_now(found["marketing_at"])


async def test_a_failure_dated_far_ahead_is_a_wish_that_gives_way_to_the_next(known, ana) -> None:
    errors = [{"code": 131050, "title": "Opted out"}]
    await known.take_in(body(status_of(ana, new_wamid(), "failed", at=FAR, errors=errors)))
    (stopped,) = await conversations(known, ana)
    await known.take_in(body(wish(ana, "resume", soon())))

    (found,) = await conversations(known, ana)

    assert (stopped["marketing_stopped"], found["marketing_stopped"]) == (True, False)


async def test_a_template_reported_far_ahead_gives_way_to_the_next(known, account) -> None:
    await known.take_in(body(template("APPROVED"), time=FAR))
    await known.take_in(body(template("REJECTED"), time=soon()))

    assert await known.column(
        "SELECT status FROM whatsapp_templates WHERE tenant_id = $1", account.tenant_id
    ) == ["REJECTED"]


async def test_a_ban_dated_far_ahead_ends_when_it_is_lifted(known, account) -> None:
    await known.take_in(body(ban("DISABLE"), time=FAR))
    paused = (await known.channel(account))["status"]
    await known.take_in(body(ban("REINSTATE"), time=soon()))

    assert (paused, (await known.channel(account))["status"]) == ("paused", "active")


async def test_a_call_dated_far_ahead_opens_the_window_for_a_day(known, ana) -> None:
    call = {"from": PERSON, "event": "connect", "direction": "USER_INITIATED", "timestamp": FAR}
    metadata = messages_of(ana)["value"]["metadata"]
    await known.take_in(body(change("calls", metadata=metadata, calls=[call])))

    (found,) = await conversations(known, ana)

    assert is_now(found["last_inbound_at"])


async def test_a_message_dated_far_ahead_was_sent_when_it_came(known, ana) -> None:
    await known.take_in(body(inbound_to(ana, timestamp=str(FAR))))

    (sent_at,) = await known.column(
        "SELECT sent_at FROM whatsapp_inbound_messages WHERE tenant_id = $1", ana.tenant_id
    )
    assert is_now(sent_at)


async def test_a_move_dated_far_ahead_leaves_the_number_to_whoever_writes_next(known, ana) -> None:
    system = {"body": "moved", "type": "user_changed_number", "wa_id": NEW_NUMBER}
    await known.take_in(body(inbound_to(ana, timestamp=str(FAR), type="system", system=system)))
    await known.take_in(body(inbound_to(ana, timestamp=str(soon()))))

    found = await conversations(known, ana)

    assert sorted(one["addresses"] for one in found) == [[f"+{PERSON}"], [f"+{NEW_NUMBER}"]]


async def test_a_status_dated_far_ahead_is_one_and_does_not_stay_the_last_word(
    known, ana, left
) -> None:
    told = {"biz_opaque_callback_data": callback_data(message_id=await left(ana), attempt=1)}
    report = status_of(ana, "wamid.far", "sent", at=FAR, **told)
    await known.take_in(body(inbound_to(ana)))
    await known.take_in(body(report), body(report, status_of(ana, "wamid.of.another")))
    await known.take_in(body(inbound_to(ana, "wamid.last", timestamp=str(soon()))))

    (found,) = await conversations(known, ana)
    reports = await known.column(
        "SELECT occurred_at FROM whatsapp_status_events WHERE wamid = 'wamid.far'"
        " AND tenant_id = $1",
        ana.tenant_id,
    )

    assert is_now(found["last_outbound_at"])
    assert await known.column(
        "SELECT wamid FROM whatsapp_inbound_messages WHERE id = $1", found["last_message_id"]
    ) == ["wamid.last"]
    assert reports == [datetime.fromtimestamp(FAR, UTC)]


@pytest.mark.parametrize("answer", ["message", "call"])
async def test_what_went_to_a_stranger_is_known_once_they_answer(known, ana, left, answer) -> None:
    told = {"biz_opaque_callback_data": callback_data(message_id=await left(ana), attempt=1)}
    await known.take_in(body(status_of(ana, "wamid.campaign", at=T0 + 60, **told)))
    call = {"from": PERSON, "event": "connect", "direction": "USER_INITIATED", "timestamp": T0}
    metadata = messages_of(ana)["value"]["metadata"]
    heard = {
        "message": inbound_to(ana, timestamp=str(T0)),
        "call": change("calls", metadata=metadata, calls=[call]),
    }

    await known.take_in(body(heard[answer]))

    (found,) = await conversations(known, ana)
    sent_at = datetime.fromtimestamp(T0 + 60, UTC)
    assert (found["last_outbound_at"], found["last_message_at"]) == (sent_at, sent_at)
    assert found["last_inbound_at"] == datetime.fromtimestamp(T0, UTC)
