"""What was put aside is processed anew: once, as if it had come in now, and lost by nobody."""

import asyncio
import json
from datetime import timedelta

import pytest

from shared.infrastructure.database import create_engine
from shared.kernel.clock import utc_now
from webhook_bodies import APP, body, change, inbound_to, messages_of, new_wamid, status_of
from whatsapp.application.requeue_quarantined import RequeueQuarantined
from whatsapp.domain.webhook_inbox import LeftOverFilter
from whatsapp.infrastructure.persistence.repositories.webhook_quarantine import (
    SQLAlchemyWebhookQuarantine,
)

pytestmark = pytest.mark.postgres

ALL = LeftOverFilter()
NOBODYS = "a number that no channel has"


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@pytest.fixture
async def quarantine(database):
    engine = create_engine(database.url("tellwire_process"))
    yield SQLAlchemyWebhookQuarantine(engine)
    await engine.dispose()


@pytest.fixture
def requeue(quarantine):
    return RequeueQuarantined(quarantine=quarantine)


async def add_channel(intake, customer, number):
    """As if the customer's channel had been added for `number` only now."""
    await intake.superuser.execute(
        "UPDATE whatsapp_channels SET phone_number_id = $1 WHERE id = $2",
        number,
        customer.channel.id,
    )


async def requeues(intake):
    return await intake.column("SELECT requeues FROM webhook_quarantine ORDER BY id")


async def test_what_came_for_a_number_is_delivered_once_its_channel_was_added(
    intake, ana, requeue
) -> None:
    wamid, status = new_wamid(), new_wamid()
    contact = {"profile": {"name": "Cleo"}, "wa_id": "16505551234"}
    early = inbound_to(ana, wamid)["value"]["messages"]
    report = status_of(ana, status)["value"]["statuses"]
    await intake.take_in(body(messages_of("777", messages=early, contacts=[contact])))
    await intake.take_in(body(messages_of("777", statuses=report)))
    assert await intake.quarantine() == [NOBODYS] * 2

    await add_channel(intake, ana, "777")
    assert await requeue(LeftOverFilter(phone_number_id="777")) == 2
    assert await intake.quarantine() == []
    await intake.take_in()

    assert await intake.inbound(ana) == [wamid]
    assert await intake.reports(ana) == [f"{status} sent"]
    name = "SELECT profile_name FROM whatsapp_inbound_messages WHERE wamid = $1"
    assert await intake.column(name, wamid) == ["Cleo"]
    assert await intake.quarantine() == []


async def test_what_fails_again_comes_back_with_one_more_try(intake, ana, requeue) -> None:
    await intake.take_in(
        body(messages_of("778", statuses=status_of(ana, "w")["value"]["statuses"]))
    )
    (first,) = await intake.column("SELECT inbox_id FROM webhook_quarantine")

    for turn in (1, 2):
        assert await requeue(ALL) == 1
        await intake.take_in()
        assert await requeues(intake) == [turn]

    assert await intake.quarantine() == [NOBODYS]
    assert await intake.column("SELECT inbox_id FROM webhook_quarantine") == [first]


async def test_what_was_delivered_meanwhile_is_not_delivered_again(intake, ana, requeue) -> None:
    wamid = new_wamid()
    intake.poison.add(wamid)
    await intake.take_in(body(inbound_to(ana, wamid), inbound_to(ana, "wamid.sound")))
    await intake.wait_out_leases(attempts=4)
    assert await intake.quarantine() == ["unforeseen"]
    intake.poison.clear()
    await intake.take_in(body(inbound_to(ana, wamid), inbound_to(ana, "wamid.later")))

    await requeue(LeftOverFilter(reason="unforeseen"))
    await intake.take_in()

    assert await intake.inbound(ana) == sorted([wamid, "wamid.sound", "wamid.later"])
    heard = [one.received.wamid for _, applied in intake.followed for one in applied.inbound]
    assert sorted(heard) == sorted(await intake.inbound(ana))
    assert await intake.quarantine() == []


async def test_what_says_no_time_counts_once_where_it_was_stored_before(
    intake, ana, bea, requeue
) -> None:
    """Two tenants have the number; with one of them it broke."""
    await add_channel(intake, bea, "1001")
    undated = change("phone_number_name_update", metadata={"phone_number_id": "1001"}, decision="X")
    intake.poison.add(str(bea.tenant_id))
    await intake.take_in(body(undated))
    await intake.wait_out_leases(attempts=4)
    assert await intake.quarantine() == ["unforeseen"]
    assert [len(await intake.kept(one)) for one in (ana, bea)] == [1, 0]

    intake.poison.clear()
    await requeue(ALL)
    await intake.take_in()

    assert [len(await intake.kept(one)) for one in (ana, bea)] == [1, 1]


async def test_filters_narrow_each_other_down(intake, quarantine, requeue) -> None:
    before = utc_now()
    sent = status_of("781", "w1")["value"]["statuses"]
    await intake.take_in(body(messages_of("781", statuses=sent)))
    await intake.take_in(body(messages_of("782", statuses=sent)), app_id="app-2")
    await intake.take_in(b'{"object": "page", "entry": []}')
    lying = {one.element.phone_number_id: one for one in await quarantine.list_left_over(limit=10)}
    assert len(lying) == 3

    async def moved(**wanted) -> int:
        return await requeue(LeftOverFilter(**wanted))

    assert await moved(phone_number_id="783") == 0
    assert await moved(app_id="app-2", phone_number_id="781") == 0
    assert await moved(until=before - timedelta(seconds=5)) == 0
    assert await moved(since=utc_now() + timedelta(seconds=5)) == 0
    assert await moved(reason=NOBODYS, app_id=APP) == 1
    assert await moved(ids=[lying["782"].id]) == 1
    assert await moved(since=before - timedelta(seconds=5)) == 1
    assert await intake.quarantine() == []


async def test_a_limit_takes_the_oldest(intake, requeue) -> None:
    for number in ("791", "792", "793"):
        sent = status_of(number, "w1")["value"]["statuses"]
        await intake.take_in(body(messages_of(number, statuses=sent)))

    assert await requeue(ALL, limit=2) == 2
    assert await intake.column("SELECT phone_number_id FROM webhook_quarantine") == ["793"]


async def test_operators_at_the_same_time_move_each_element_once(intake, database) -> None:
    sent = [status_of("799", f"w{n}")["value"]["statuses"][0] for n in range(300)]
    await intake.take_in(body(messages_of("799", statuses=sent)))
    engines = [create_engine(database.url("tellwire_process")) for _ in range(6)]
    operators = [
        RequeueQuarantined(quarantine=SQLAlchemyWebhookQuarantine(engine)) for engine in engines
    ]

    moved = await asyncio.gather(*(one(ALL, limit=150) for one in operators))
    await asyncio.gather(*(engine.dispose() for engine in engines))

    assert sum(moved) == 300
    bodies = [json.loads(one) for one in await intake.column("SELECT body FROM webhook_inbox")]
    found = [one["entry"][0]["changes"][0]["value"]["statuses"] for one in bodies]
    assert sorted(one["id"] for (one,) in found) == sorted(one["id"] for one in sent)
    assert await intake.quarantine() == []


async def test_an_operator_who_dies_in_the_middle_loses_nothing(intake, database) -> None:
    """Whatever instant the connection ends at: each element is in one place."""
    sent = [status_of("798", f"w{n}")["value"]["statuses"][0] for n in range(100)]
    await intake.take_in(body(messages_of("798", statuses=sent)))
    for after in (0.0, 0.001, 0.003, 0.01):
        engine = create_engine(database.url("tellwire_process"))
        requeue = RequeueQuarantined(quarantine=SQLAlchemyWebhookQuarantine(engine))
        working = asyncio.create_task(requeue(ALL, limit=30))
        await asyncio.sleep(after)
        await intake.superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'tellwire_process' AND query LIKE '%webhook_quarantine%'"
            " AND pid <> pg_backend_pid()"
        )
        await asyncio.gather(working, return_exceptions=True)
        await engine.dispose()

        there = "SELECT (SELECT count(*) FROM webhook_inbox) + count(*) FROM webhook_quarantine"
        assert await intake.column(there) == [100]


async def test_what_is_nobodys_text_stays_as_it_came(intake, requeue, quarantine) -> None:
    """No JSON at all: trying anew is possible and changes nothing but the count."""
    await intake.take_in(b"\xff not JSON")
    await requeue(ALL)
    await intake.take_in()

    (one,) = await quarantine.list_left_over(limit=10)
    assert (one.element.raw, one.requeues) == (b"\xff not JSON", 1)
