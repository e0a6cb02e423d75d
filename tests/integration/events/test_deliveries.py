"""What endpoints get: signed, in order, again where they did not take it, and nobody else's."""

import asyncio
import json
from datetime import timedelta
from email.utils import format_datetime
from functools import partial
from uuid import UUID

import pytest
from standardwebhooks.webhooks import Webhook

from shared.kernel.clock import utc_now
from whatsapp.application.apply_inbound import ApplyInbound
from whatsapp.application.change_endpoint import (
    ChangeEndpoint,
    DeleteEndpoint,
    EndpointChange,
    RotateEndpointSecret,
)
from whatsapp.application.inbound_events import received_event
from whatsapp.application.replay_events import ReplayEvents
from whatsapp.application.send_test_event import SendTestEvent
from whatsapp.domain.events import (
    AddressPolicy,
    EndpointFormat,
    EndpointNotEnabled,
    EndpointWork,
    EventType,
    MessageProgress,
    NewEvent,
)
from whatsapp.domain.value_objects import InboundContent, MessageStatus
from whatsapp.domain.value_objects.given_id import given_wamid
from whatsapp.domain.webhook import InboundReceived
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.cloud_api.webhooks import signature_matches

pytestmark = pytest.mark.postgres
POLICY = AddressPolicy.parse("127.0.0.0/8")
KEEP = timedelta(days=14)


async def tell(begin, message, *statuses, **given):
    async with begin(message.tenant_id) as work:
        await work.events.record(
            progress=[
                MessageProgress(
                    message_id=message.id,
                    status=MessageStatus(status),
                    attempt=1,
                    occurred_at=utc_now(),
                    **given,
                )
                for status in statuses
            ]
        )
        await work.commit()


async def waiting(superuser, endpoint):
    return await superuser.fetchval(
        "SELECT count(*) FROM webhook_delivery_queue WHERE endpoint_id = $1", endpoint.id
    )


async def log_of(begin, endpoint):
    async with begin(endpoint.tenant_id) as work:
        return await work.deliveries.list_attempts(endpoint.id, limit=100, before=None)


async def stored(begin, endpoint):
    async with begin(endpoint.tenant_id) as work:
        return await work.endpoints.get_by_id(endpoint.id)


@pytest.fixture
def read_message(ana, sent, set_status):
    """A message that has been read, of which all may be told."""

    async def read_message(**given):
        message = await sent(ana, **given)
        await set_status(message, "read")
        return message

    return read_message


async def test_an_event_arrives_signed_by_the_standard_scheme(
    begin, ana, listener, endpoint_of, read_message, rounds, superuser
):
    endpoint, secret = await endpoint_of(ana, listener.url)
    message = await read_message()
    await tell(begin, message, "read")

    assert await rounds(endpoint) == 1

    (got,) = listener.got
    body = Webhook(secret.reveal()).verify(got.body, got.headers)
    assert body["type"] == "message.read"
    assert body["id"] == got.headers["webhook-id"]
    assert body["data"]["message_id"] == str(message.id)
    assert body["data"]["given_wamid"] == given_wamid(message.id)
    assert "X-Hub-Signature-256" not in got.headers
    assert await waiting(superuser, endpoint) == 0


async def test_while_a_secret_is_rotated_both_verify_and_afterwards_the_new_one_alone(
    begin, ana, listener, endpoint_of, read_message, rounds, time
):
    endpoint, old = await endpoint_of(ana, listener.url)
    rotate = RotateEndpointSecret(begin=begin)
    _, new = await rotate(ana.tenant_id, endpoint.id, overlap=timedelta(hours=1))

    await tell(begin, await read_message(), "read")
    await rounds(endpoint)
    for secret in (old, new):
        Webhook(secret.reveal()).verify(listener.got[0].body, listener.got[0].headers)

    time.passed = timedelta(hours=2)
    await tell(begin, await read_message(), "read")
    await rounds(endpoint)
    assert listener.got[1].headers["webhook-signature"].count("v1,") == 1


async def test_metas_form_names_the_id_that_the_drop_in_gave_and_bears_metas_signature(
    begin, ana, listener, endpoint_of, read_message, rounds
):
    endpoint, secret = await endpoint_of(ana, listener.url, format=EndpointFormat.META)
    message = await read_message(callback_data="tracker-1")
    raw = {
        "id": f"wamid.{message.id}",
        "status": "read",
        "timestamp": "1770000000",
        "recipient_id": message.recipient.wa_id,
        "biz_opaque_callback_data": "ours",
        "pricing": {"billable": True},
    }
    meta = {"field": "messages", "value": {"statuses": [raw]}}
    await tell(begin, message, "read", meta=meta)
    await rounds(endpoint)

    (got,) = listener.got
    change = got.json["entry"][0]["changes"][0]
    assert got.json["object"] == "whatsapp_business_account"
    assert change["value"]["metadata"]["phone_number_id"] == "1001"
    assert change["value"]["statuses"] == [
        raw | {"id": given_wamid(message.id), "biz_opaque_callback_data": "tracker-1"}
    ]
    assert signature_matches(got.body, got.headers["X-Hub-Signature-256"], [secret])
    Webhook(secret.reveal()).verify(got.body, got.headers)


async def test_what_was_never_sent_is_told_to_clients_of_meta_as_a_failed_status(
    begin, ana, listener, endpoint_of, sent, set_status, rounds, superuser
):
    endpoint, _ = await endpoint_of(ana, listener.url, format=EndpointFormat.META)
    message = await sent(ana)
    await set_status(message, "failed", wamid=None)
    await superuser.execute(
        "UPDATE whatsapp_outbound_messages SET failure_code = 131026, failure_title = 'No'"
    )
    await tell(begin, message, "failed")
    await rounds(endpoint)

    status = listener.got[0].json["entry"][0]["changes"][0]["value"]["statuses"][0]
    assert status["id"] == given_wamid(message.id)
    assert status["status"] == "failed"
    assert status["recipient_id"] == message.recipient.e164[1:]
    assert status["errors"][0]["code"] == 131026


async def test_an_answer_to_one_of_ours_names_it_by_the_id_that_was_given(
    begin, ana, listener, endpoint_of, read_message, rounds
):
    endpoint, _ = await endpoint_of(ana, listener.url, format=EndpointFormat.META)
    message = await read_message()
    context = f"wamid.{message.id}"
    raw = {"id": "wamid.in", "type": "text", "text": {"body": "Hi"}, "context": {"id": context}}
    event = NewEvent(
        type=EventType.MESSAGE_RECEIVED,
        occurred_at=utc_now(),
        channel_id=ana.channel.id,
        context_wamid=context,
        data={},
        meta={"field": "messages", "value": {"messages": [raw]}},
    )
    async with begin(ana.tenant_id) as work:
        await work.events.record(others=[event])
        await work.commit()
    await rounds(endpoint)

    told = listener.got[0].json["entry"][0]["changes"][0]["value"]["messages"][0]
    assert told["context"]["id"] == given_wamid(message.id)


@pytest.mark.parametrize("form", list(EndpointFormat))
async def test_a_reaction_to_one_of_ours_says_to_which(
    begin, ana, listener, endpoint_of, read_message, rounds, form
):
    endpoint, _ = await endpoint_of(ana, listener.url, format=form)
    message = await read_message()
    body = {"message_id": f"wamid.{message.id}", "emoji": "\N{THUMBS UP SIGN}"}
    raw = {"id": "wamid.in", "type": "reaction", "reaction": body}
    received = InboundReceived(
        waba_id=None,
        phone_number_id="1001",
        wamid="wamid.in",
        wa_id="15550000001",
        user_id=None,
        previous_user_id=None,
        profile_name=None,
        username=None,
        group_id=None,
        sent_at=utc_now(),
        content=InboundContent("reaction", body),
        context_wamid=None,
        errors=(),
        raw=raw,
    )
    async with begin(ana.tenant_id) as work:
        applied = await ApplyInbound()(work, Route(ana.tenant_id, ana.channel.id), [received])
        await work.events.record(others=[received_event(one) for one in applied])
        await work.commit()
    assert await rounds(endpoint) == 1

    got = listener.got[0].json
    if form is EndpointFormat.META:
        told = got["entry"][0]["changes"][0]["value"]["messages"][0]
        assert told["reaction"]["message_id"] == given_wamid(message.id)
    else:
        assert got["data"]["answers"] == str(message.id)


async def test_an_endpoint_gets_what_it_asked_for_alone(
    begin, ana, bea, listener, other_listener, endpoint_of, read_message, rounds
):
    reads, _ = await endpoint_of(ana, listener.url, event_types=frozenset({EventType.MESSAGE_READ}))
    strangers, _ = await endpoint_of(bea, other_listener.url)
    await tell(begin, await read_message(), "sent", "delivered", "read")

    assert await rounds(reads) == 1
    assert await rounds(strangers) == 0
    assert listener.types == ["message.read"]
    assert other_listener.got == []


async def test_what_an_endpoint_hears_of_one_message_is_in_order_through_retries(
    begin, ana, listener, endpoint_of, read_message, rounds, superuser
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    listener.status = 500
    await tell(begin, await read_message(), "sent", "delivered", "read")

    assert await rounds(endpoint) == 0
    assert listener.types == ["message.sent"]
    assert await rounds(endpoint) == 0, "it waits for its time"

    listener.status = 200
    await superuser.execute("UPDATE webhook_delivery_queue SET due_at = now()")
    assert await rounds(endpoint) == 3
    assert listener.types[1:] == ["message.sent", "message.delivered", "message.read"]
    attempts = [(one.attempt, one.outcome.value) for one in await log_of(begin, endpoint)]
    assert attempts == [
        (1, "delivered"), (1, "delivered"), (2, "delivered"), (1, "retrying"),
    ]  # fmt: skip


async def test_one_message_that_is_refused_does_not_hold_up_the_others(
    begin, ana, listener, endpoint_of, read_message, deliver, superuser
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    poison, good = await read_message(), await read_message()
    await tell(begin, poison, "sent", "read")
    await superuser.execute("UPDATE webhook_delivery_queue SET due_at = now() + interval '1 hour'"
                            " WHERE order_key = $1 AND number = 1", poison.id)  # fmt: skip
    await tell(begin, good, "sent")

    done = await deliver(EndpointWork(ana.tenant_id, endpoint.id), limit=16)

    assert (done.claimed, done.taken) == (1, 1)
    assert listener.got[0].json["data"]["message_id"] == str(good.id)


async def test_two_workers_never_get_the_same_delivery(
    begin, ana, endpoint_of, read_message, delivery_queue
):
    endpoint, _ = await endpoint_of(ana, "http://127.0.0.1:1/")
    for _ in range(20):
        await tell(begin, await read_message(), "sent", "read")
    work = EndpointWork(ana.tenant_id, endpoint.id)

    claims = await asyncio.gather(
        *(delivery_queue.claim(work, limit=7, lease=timedelta(minutes=1)) for _ in range(8))
    )

    ids = [one.event_id for claim in claims for one in claim]
    assert len(ids) == len(set(ids)) == 20, "the first of each message, once"


async def test_what_an_overtaken_worker_says_changes_nothing_but_is_logged(
    begin, ana, listener, endpoint_of, read_message, deliver, delivery_queue, superuser
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    await tell(begin, await read_message(), "read")
    listener.status, listener.delay = 500, 0.3
    slow = asyncio.create_task(deliver(EndpointWork(ana.tenant_id, endpoint.id), limit=1))
    await listener.reached.wait()
    await superuser.execute("UPDATE webhook_delivery_queue SET lease_until = now() - interval '1s'")
    (again,) = await delivery_queue.claim(
        EndpointWork(ana.tenant_id, endpoint.id), limit=1, lease=timedelta(minutes=1)
    )
    await slow

    row = await superuser.fetchrow("SELECT lease_token, attempt FROM webhook_delivery_queue")
    assert tuple(row) == (again.lease_token, 0)
    assert len(await log_of(begin, endpoint)) == 1


async def test_a_lease_that_ended_is_given_to_another_worker(
    begin, ana, listener, endpoint_of, read_message, delivery_queue, rounds, superuser
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    await tell(begin, await read_message(), "read")
    work = EndpointWork(ana.tenant_id, endpoint.id)
    await delivery_queue.claim(work, limit=1, lease=timedelta(minutes=1))
    assert await rounds(endpoint) == 0

    await superuser.execute("UPDATE webhook_delivery_queue SET lease_until = now() - interval '1s'")
    assert await rounds(endpoint) == 1


async def test_after_three_days_without_success_the_endpoint_is_disabled_and_that_is_reported(
    begin, ana, listener, other_listener, endpoint_of, read_message, rounds, time, superuser, caplog
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    listener.status = 503
    await tell(begin, await read_message(), "sent", "read")
    await rounds(endpoint)
    assert (await stored(begin, endpoint)).failing_since is not None
    watching, _ = await endpoint_of(ana, other_listener.url)

    time.passed = timedelta(days=3, minutes=1)
    await superuser.execute("UPDATE webhook_delivery_queue SET due_at = now()")
    await rounds(endpoint)

    disabled = await stored(begin, endpoint)
    assert (disabled.is_enabled, disabled.disabled_reason) == (
        False, "It took nothing for three days",
    )  # fmt: skip
    assert await waiting(superuser, endpoint) == 0
    assert any("disabled" in record.message for record in caplog.records)
    await rounds(watching)
    assert other_listener.got[-1].json["data"]["endpoint_id"] == str(endpoint.id)
    assert other_listener.types[-1] == "webhook_endpoint.disabled"
    with pytest.raises(EndpointNotEnabled):
        await SendTestEvent(begin=begin)(ana.tenant_id, endpoint.id)


async def test_one_event_that_is_never_taken_does_not_disable_an_endpoint_that_works(
    begin, ana, listener, endpoint_of, read_message, rounds, time, superuser
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    listener.status = 500
    await tell(begin, await read_message(), "read")
    await rounds(endpoint)
    listener.status = 200
    await tell(begin, await read_message(), "read")
    await rounds(endpoint)
    assert (await stored(begin, endpoint)).failing_since is None

    listener.status, time.passed = 500, timedelta(days=3, minutes=1)
    await superuser.execute("UPDATE webhook_delivery_queue SET due_at = now()")
    await rounds(endpoint)

    assert (await stored(begin, endpoint)).is_enabled
    assert await waiting(superuser, endpoint) == 0
    assert (await log_of(begin, endpoint))[0].outcome.value == "given_up"


async def test_an_endpoint_that_answers_gone_is_disabled_at_once(
    begin, ana, listener, endpoint_of, read_message, rounds, superuser
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    listener.status = 410
    await tell(begin, await read_message(), "sent", "read")
    await rounds(endpoint)

    assert not (await stored(begin, endpoint)).is_enabled
    assert await waiting(superuser, endpoint) == 0


async def test_gone_of_an_address_that_was_left_meanwhile_says_nothing_of_the_new_one(
    begin, ana, listener, other_listener, endpoint_of, read_message, rounds, superuser
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    listener.status, listener.is_held = 410, asyncio.Event()
    await tell(begin, await read_message(), "read")
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(rounds(endpoint))
        await listener.reached.wait()
        await ChangeEndpoint(begin=begin, policy=POLICY)(
            ana.tenant_id, endpoint.id, EndpointChange(url=other_listener.url)
        )
        listener.is_held.set()

    assert (await stored(begin, endpoint)).is_enabled
    assert await waiting(superuser, endpoint) == 1
    await superuser.execute("UPDATE webhook_delivery_queue SET due_at = now()")
    assert await rounds(endpoint) == 1
    assert other_listener.types == ["message.read"]


async def test_an_endpoint_that_took_something_at_another_worker_meanwhile_is_not_disabled(
    begin, ana, listener, endpoint_of, read_message, rounds, time, superuser
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    listener.status = 503
    await tell(begin, await read_message(), "read")
    await rounds(endpoint)
    time.passed = timedelta(days=3, minutes=1)
    await superuser.execute("UPDATE webhook_delivery_queue SET due_at = now()")
    listener.is_held = asyncio.Event()
    listener.reached.clear()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(rounds(endpoint))
        await listener.reached.wait()
        async with begin(ana.tenant_id) as work:
            await work.endpoints.note_working(endpoint.id)
            await work.commit()
        listener.is_held.set()

    assert (await stored(begin, endpoint)).is_enabled


async def test_an_endpoint_that_comes_back_gets_what_it_missed_at_once(
    begin, ana, listener, endpoint_of, read_message, rounds, time, superuser
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    listener.status = 500
    for _ in range(3):
        await tell(begin, await read_message(), "read")
    await rounds(endpoint)
    await superuser.execute("UPDATE webhook_delivery_queue SET due_at = now() + interval '5 hours'")

    listener.status, time.passed = 200, timedelta(hours=1)
    await tell(begin, await read_message(), "read")
    await rounds(endpoint)

    assert await waiting(superuser, endpoint) == 0
    assert len(listener.got) == 7


async def test_events_are_replayed_by_id_and_by_time_and_what_waits_is_not_doubled(
    begin, ana, listener, endpoint_of, read_message, rounds, superuser
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    replay = ReplayEvents(begin=begin, keep=KEEP)
    began = utc_now() - timedelta(minutes=1)
    for _ in range(3):
        await tell(begin, await read_message(), "read")
    await rounds(endpoint)
    first = listener.got[0]

    by_id = await replay(ana.tenant_id, endpoint.id, event_ids=[UUID(first.json["id"])])
    assert by_id == (1, None, False)
    assert (await replay(ana.tenant_id, endpoint.id, since=began)).queued == 3
    assert await waiting(superuser, endpoint) == 3
    assert (await replay(ana.tenant_id, endpoint.id, since=utc_now())).queued == 0
    await rounds(endpoint)

    assert len(listener.got) == 6
    again = [one for one in listener.got[3:] if one.body == first.body]
    assert again[0].headers["webhook-id"] == first.headers["webhook-id"]


async def test_a_replay_of_what_has_been_deleted_says_that_it_is_not_whole(
    begin, ana, bea, listener, endpoint_of, superuser
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    replay = partial(ReplayEvents(begin=begin, keep=KEEP), ana.tenant_id, endpoint.id)
    now, ids = utc_now(), []
    for customer in (ana, bea):
        async with begin(customer.tenant_id) as work:
            await work.events.open()
            happened = [
                NewEvent(type=EventType.CHANNEL_PAUSED, occurred_at=now, data={}) for _ in range(4)
            ]
            await work.events.record(others=happened)
            await work.commit()
        ids.append([one.id for one in happened])
    days_ago = "UPDATE events SET recorded_at = $1::timestamptz - (30 - number * 7) * interval '1d'"
    await superuser.execute(days_ago, now)
    long_ago, first, second = (now - timedelta(days=days) for days in (30, 20, 8))

    assert not (await replay(since=long_ago)).is_incomplete
    assert not (await replay(event_ids=ids[0])).is_incomplete
    async with begin(ana.tenant_id) as work:
        assert await work.events.forget(before=now - KEEP, limit=10) == 2
        await work.commit()

    for given, is_incomplete in [
        ({"since": long_ago}, True),
        ({"since": first}, True),
        ({"since": second}, False),
        ({"since": long_ago, "after": 2}, False),
        ({"event_ids": ids[0]}, True),
        ({"event_ids": ids[0][2:] * 2}, False),
        ({"event_ids": ids[1]}, True),
    ]:
        assert (await replay(**given)).is_incomplete == is_incomplete, given
    # Events stay away for longer than they are kept: of what is young nothing can have gone.
    await superuser.execute("DELETE FROM events")
    assert not (await replay(since=second)).is_incomplete


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3600", 3600),
        (timedelta(hours=1), 3600),
        (timedelta(hours=-1), 0),
        ("soon", 0),
        ("Mon, 99 Foo 2026 99:99:99 GMT", 0),
    ],
)
async def test_an_endpoint_says_in_seconds_or_by_a_date_when_it_may_be_asked_again(
    begin, ana, listener, endpoint_of, read_message, rounds, superuser, header, seconds
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    await tell(begin, await read_message(), "read")
    if isinstance(header, timedelta):
        header = format_datetime(utc_now() + header, usegmt=True)
    listener.status, listener.headers = 503, {"Retry-After": header}

    await rounds(endpoint)

    due = await superuser.fetchval("SELECT due_at FROM webhook_delivery_queue")
    wait = (due - utc_now()).total_seconds()
    assert seconds - 60 < wait <= seconds + 6


@pytest.mark.parametrize(("since", "until"), [(0, None), (0, 9), (2, None), (34, 44), (60, None)])
async def test_a_time_is_replayed_bit_by_bit_and_whole(
    begin, ana, listener, endpoint_of, superuser, monkeypatch, since, until
):
    monkeypatch.setattr("whatsapp.application.replay_events.MAX_REPLAYED", 7)
    monkeypatch.setattr("whatsapp.application.replay_events.MAX_LOOKED_AT", 20)
    endpoint, _ = await endpoint_of(ana, listener.url)
    async with begin(ana.tenant_id) as work:
        happened = [
            NewEvent(type=EventType.CHANNEL_PAUSED, occurred_at=utc_now(), data={})
            for _ in range(400)
        ]
        await work.events.record(others=happened)
        await work.commit()
    await superuser.execute("DELETE FROM webhook_delivery_queue")
    # An event every ten minutes; by how much their times miss the order of numbers varies.
    began = utc_now() - timedelta(hours=100)
    await superuser.execute(
        "UPDATE events SET recorded_at = $1::timestamptz + number * interval '10 minutes'"
        " + (number * 7919 % 59) * interval '1 minute' WHERE tenant_id = $2",
        began,
        ana.tenant_id,
    )
    times = {"since": began + timedelta(hours=since)}
    if until is not None:
        times["until"] = began + timedelta(hours=until)

    calls, after = 0, 0
    while after is not None:
        _queued, after, _ = await ReplayEvents(begin=begin, keep=KEEP)(
            ana.tenant_id, endpoint.id, after=after, **times
        )
        calls += 1

    wanted = await superuser.fetch(
        "SELECT number FROM events WHERE tenant_id = $1 AND recorded_at >= $2"
        " AND recorded_at < coalesce($3::timestamptz, 'infinity') ORDER BY number",
        ana.tenant_id,
        times["since"],
        times.get("until"),
    )
    got = await superuser.fetch("SELECT number FROM webhook_delivery_queue ORDER BY number")
    assert got == wanted != []
    # Each call fills itself or looks at all it may, but for those at the edges of the time.
    assert calls <= len(wanted) / 7 + len(wanted) / 20 + 4


async def test_a_switched_off_endpoint_gets_nothing_and_hears_on_once_it_is_on_again(
    begin, ana, listener, endpoint_of, read_message, rounds, superuser
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    change = ChangeEndpoint(begin=begin, policy=POLICY)
    await tell(begin, await read_message(), "read")
    await change(ana.tenant_id, endpoint.id, EndpointChange(is_enabled=False))
    await tell(begin, await read_message(), "read")
    assert await waiting(superuser, endpoint) == 0

    await change(ana.tenant_id, endpoint.id, EndpointChange(is_enabled=True))
    await tell(begin, await read_message(), "read")
    assert await rounds(endpoint) == 1


async def test_deleting_an_endpoint_while_events_come_in_breaks_neither(
    begin, ana, listener, endpoint_of, read_message
):
    """The row of an endpoint that is being deleted must not fail the webhook of Meta's."""
    messages = [await read_message() for _ in range(30)]
    endpoints = [(await endpoint_of(ana, listener.url))[0] for _ in range(10)]

    async def delete():
        for endpoint in endpoints:
            await DeleteEndpoint(begin=begin)(ana.tenant_id, endpoint.id)

    await asyncio.gather(delete(), *(tell(begin, message, "read") for message in messages))

    async with begin(ana.tenant_id) as work:
        assert len(await work.events.list_after(0, limit=100)) == 30


async def test_a_redirect_is_not_followed(
    begin, ana, listener, other_listener, endpoint_of, read_message, rounds
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    listener.status, listener.headers = 307, {"Location": other_listener.url}
    await tell(begin, await read_message(), "read")

    assert await rounds(endpoint) == 0
    assert other_listener.got == []
    assert (await log_of(begin, endpoint))[0].status == 307


async def test_of_a_long_answer_the_beginning_is_read(
    begin, ana, listener, endpoint_of, read_message, rounds
):
    endpoint, _ = await endpoint_of(ana, listener.url)
    listener.answer = b"x" * 10_000_000
    await tell(begin, await read_message(), "read")

    assert await rounds(endpoint) == 1
    assert (await log_of(begin, endpoint))[0].excerpt == "x" * 500


@pytest.mark.parametrize("patience", [timedelta(seconds=1)])
async def test_who_does_not_answer_in_time_or_at_all_is_named_in_the_log(
    begin, ana, listener, endpoint_of, read_message, rounds
):
    hanging, _ = await endpoint_of(ana, listener.url)
    closed, _ = await endpoint_of(ana, "http://127.0.0.1:1/")
    nameless, _ = await endpoint_of(ana, "http://nobody.invalid/")
    listener.delay = 5
    await tell(begin, await read_message(), "read")

    for endpoint, error in (
        (hanging, "timed_out"), (closed, "connection_failed"), (nameless, "name_not_found"),
    ):  # fmt: skip
        await rounds(endpoint)
        (logged,) = await log_of(begin, endpoint)
        assert (logged.error, logged.status) == (error, None)
        assert logged.next_attempt_at is not None


async def test_secrets_lie_encrypted(ana, endpoint_of, superuser):
    _, secret = await endpoint_of(ana, "http://127.0.0.1:1/")
    row = await superuser.fetchrow("SELECT * FROM webhook_endpoints")

    assert secret.reveal().startswith("whsec_")
    assert secret.reveal() not in json.dumps(dict(row), default=repr)


@pytest.mark.parametrize("form", list(EndpointFormat))
@pytest.mark.parametrize(
    "odd", [10**300, -(2**64), json.loads("[" * 250 + "]" * 250)], ids=["huge", "low", "deep"]
)
async def test_an_odd_value_in_an_event_stops_nothing(
    begin, ana, listener, endpoint_of, rounds, odd, form
) -> None:
    """PostgreSQL writes 1e300 with all of its digits, and readers of JSON get a whole number."""
    endpoint, _ = await endpoint_of(ana, listener.url, format=form)
    change = {"field": "message_template_components_update", "value": {"odd": odd}}
    async with begin(ana.tenant_id) as work:
        told = [
            NewEvent(
                type=EventType.TEMPLATE_STATUS, occurred_at=utc_now(), data=change, meta=change
            )
            for _ in range(2)
        ]
        await work.events.record(others=told)
        await work.commit()

    assert await rounds(endpoint) == 2
    body = listener.got[0].json
    told_of = body["data"] if form is EndpointFormat.TELLWIRE else body["entry"][0]["changes"][0]
    assert told_of["value"] == {"odd": odd}


A_LOCK_IS_WAITED_FOR = """
    SELECT true FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database() LIMIT 1
"""


@pytest.mark.parametrize("is_before", [False, True])
@pytest.mark.parametrize("is_deleted", [False, True])
@pytest.mark.parametrize("status", [200, 500, 410])
async def test_an_endpoint_is_changed_while_what_became_of_its_deliveries_is_recorded(
    begin,
    ana,
    listener,
    endpoint_of,
    deliver,
    read_message,
    superuser,
    status,
    is_deleted,
    is_before,
) -> None:
    """Both need the endpoint and its queue, and take them in one order: none is undone.

    Where the change comes before, what is recorded waits for it.
    """
    endpoint, _ = await endpoint_of(ana, listener.url)
    await tell(begin, await read_message(), "delivered")
    listener.status = status

    async def has_come_as_far_as_it_can(delivering) -> None:
        while not (delivering.done() or await superuser.fetchval(A_LOCK_IS_WAITED_FOR)):  # noqa: ASYNC110  # PostgreSQL sets no events
            await asyncio.sleep(0.01)

    async with asyncio.timeout(15), asyncio.TaskGroup() as group:
        async with begin(ana.tenant_id) as work:
            await work.events.open()
            await work.endpoints.get_for_change(endpoint.id)
            delivering = group.create_task(
                deliver(EndpointWork(endpoint.tenant_id, endpoint.id), limit=16)
            )
            await listener.reached.wait()
            if not is_before:
                await has_come_as_far_as_it_can(delivering)
            await work.deliveries.clear(endpoint.id)
            if is_deleted:
                await work.endpoints.delete(endpoint.id)
            if is_before:
                await has_come_as_far_as_it_can(delivering)
            await work.commit()
        assert (await delivering).claimed == 1
