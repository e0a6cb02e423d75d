"""Server-Sent Events over a real server: in order, from any point, and nothing missed."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from functools import partial

import httpx
import pytest

from shared.kernel.clock import utc_now
from tenancy.application.api_keys import RevokeApiKey
from tenancy.application.authenticate import Authenticate
from tenancy.domain import Scope, read_key
from tenancy.infrastructure.work import tenancy_work_in
from whatsapp.application.stream_events import StreamEvents
from whatsapp.domain.events import EventType, NewEvent
from whatsapp.entrypoints.http.event_stream import EventStreams, Silence, Wanted
from whatsapp.infrastructure.persistence.work import work_in


async def tell(world, customer, count=1, **given):
    async with work_in(world.sessions)(customer.tenant_id) as work:
        events = [
            NewEvent(
                type=given.get("type", EventType.CHANNEL_PAUSED),
                occurred_at=utc_now(),
                data={"n": given.get("n", n)},
                channel_id=given.get("channel_id"),
            )
            for n in range(count)
        ]
        await work.events.record(others=events)
        await work.commit()
    return [str(event.id) for event in events]


async def open_stream(world, customer):
    async with work_in(world.sessions)(customer.tenant_id) as work:
        await work.events.open()
        await work.commit()


async def listen(url, customer, count, *, ready=None, last=None, **params):
    """The next events as (id, type, data), once there are `count`."""
    headers = customer.headers | ({} if last is None else {"Last-Event-ID": str(last)})
    found, block = [], {}
    async with (
        asyncio.timeout(20),
        httpx.AsyncClient(base_url=url, timeout=20) as client,
        client.stream("GET", "/v1/events", headers=headers, params=params) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        if ready is not None:
            ready.set()
        async for line in answer.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                block[name] = value
                continue
            if "data" in block:
                found.append((int(block["id"]), block["event"], json.loads(block["data"])))
            block = {}
            if len(found) == count:
                return found
    return found


async def test_what_happens_while_somebody_listens_comes_at_once_and_in_order(
    live_url, world, ana
) -> None:
    ready = asyncio.Event()
    listening = asyncio.create_task(listen(live_url, ana, 5, ready=ready))
    await ready.wait()
    told = await tell(world, ana, 3) + await tell(world, ana, 2)

    found = await listening

    assert [event["id"] for _, _, event in found] == told
    assert [number for number, *_ in found] == [1, 2, 3, 4, 5]
    assert {kind for _, kind, _ in found} == {"channel.paused"}


async def test_a_client_that_comes_back_misses_nothing(live_url, world, ana) -> None:
    await open_stream(world, ana)
    told = await tell(world, ana, 3)
    first = await listen(live_url, ana, 2, last=0)
    told += await tell(world, ana, 250)  # More than a page, while nobody listens.

    rest = await listen(live_url, ana, 251, last=first[-1][0])

    assert [event["id"] for _, _, event in first + rest] == told


async def test_a_client_that_was_cut_off_before_its_first_event_knows_where_to_go_on(
    live_url, world, ana
) -> None:
    await open_stream(world, ana)
    await tell(world, ana, 2)
    async with (
        asyncio.timeout(10),
        httpx.AsyncClient(base_url=live_url) as client,
        client.stream("GET", "/v1/events", headers=ana.headers) as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith("id:"):
                break
    told = await tell(world, ana, 1)

    found = await listen(live_url, ana, 1, last=line.removeprefix("id: "))

    assert [event["id"] for _, _, event in found] == told


async def test_a_number_beyond_64_bits_does_not_end_the_stream(live_url, world, ana) -> None:
    await open_stream(world, ana)
    await tell(world, ana, n=10**300)
    await tell(world, ana, n=7)

    found = await listen(live_url, ana, 2, last=0)

    assert [event["data"]["n"] for _, _, event in found] == [10**300, 7]


async def test_a_tenant_hears_its_own_events_alone(live_url, world, ana, bea) -> None:
    for customer in (ana, bea):
        await open_stream(world, customer)
    await tell(world, bea, 3)
    told = await tell(world, ana, 1)

    assert [e["id"] for _, _, e in await listen(live_url, ana, 1, last=0)] == told


async def test_a_listener_may_ask_for_types_and_a_channel(live_url, world, ana) -> None:
    await open_stream(world, ana)
    await tell(world, ana, 2)
    (wanted,) = await tell(world, ana, type=EventType.TEMPLATE_STATUS, channel_id=ana.channel_id)

    found = await listen(
        live_url, ana, 1, last=0, type="template.status", channel_id=str(ana.channel_id)
    )

    assert [e["id"] for _, _, e in found] == [wanted]


async def test_who_was_away_too_long_is_told_so(live_url, world, ana) -> None:
    await open_stream(world, ana)
    await tell(world, ana, 5)
    await world.query(
        "UPDATE event_streams SET forgotten_number = 3 WHERE tenant_id = :t", t=ana.tenant_id
    )

    async def ask(last):
        async with httpx.AsyncClient(base_url=live_url) as client:
            headers = ana.headers | {"Last-Event-ID": last}
            return await client.get("/v1/events", headers=headers)

    for last in ("2", "6"):
        answer = await ask(last)
        assert (answer.status_code, answer.json()["code"]) == (410, "events_forgotten")
    assert (await ask("nonsense")).status_code == 422
    assert len(await listen(live_url, ana, 2, last=3)) == 2
    assert len(await listen(live_url, ana, 5, last=0)) == 5  # All that are kept, and no 410.


@pytest.mark.parametrize(
    ("last", "status"),
    [("5", 410), ("9223372036854775807", 410), ("9223372036854775808", 422), ("-1", 422)]
    + [(garbage, 422) for garbage in ("", "1.5", "0x1", "1,2", "9" * 5000)],
)
async def test_a_number_that_is_none_of_the_tenants_is_refused(
    live_url, world, ana, bea, last, status
) -> None:
    """Another tenant's, one from the future, and what is no number at all: none opens a stream."""
    await open_stream(world, ana)
    await open_stream(world, bea)
    await tell(world, ana, 2)
    await tell(world, bea, 5)

    async with httpx.AsyncClient(base_url=live_url) as client:
        answer = await client.get("/v1/events", headers=ana.headers | {"Last-Event-ID": last})

    assert answer.status_code == status
    assert "events_forgotten" in answer.text or status == 422
    assert len(await listen(live_url, ana, 1, last=1)) == 1


async def test_a_stream_ends_where_events_were_deleted_before_it_could_tell_them(
    live_url, world, ana
) -> None:
    await open_stream(world, ana)
    await tell(world, ana, 3)
    streams = EventStreams(
        events=StreamEvents(begin=work_in(world.sessions)), bell=Silence(), look_seconds=0.01
    )

    async def allowed() -> None:
        return

    wanted = Wanted(
        tenant_id=ana.tenant_id, after=1, wants=lambda _event: True, still_allowed=allowed
    )
    follow = streams.follow(wanted)
    assert b"id: 1" in await anext(follow)
    # As if the reader had taken two weeks for the beginning.
    await world.query("DELETE FROM events WHERE number = 2")
    await world.query("UPDATE event_streams SET forgotten_number = 2")

    async with asyncio.timeout(30):
        assert [piece async for piece in follow] == []

    async with httpx.AsyncClient(base_url=live_url) as client:
        back = await client.get("/v1/events", headers=ana.headers | {"Last-Event-ID": "1"})
    assert back.json()["code"] == "events_forgotten"


async def test_only_so_many_streams_of_a_tenant_are_open_at_once(
    live_url, ana, bea, monkeypatch
) -> None:
    monkeypatch.setattr("whatsapp.entrypoints.http.event_stream.MAX_STREAMS_OF_A_TENANT", 1)
    async with (
        httpx.AsyncClient(base_url=live_url, timeout=10) as client,
        client.stream("GET", "/v1/events", headers=ana.headers) as first,
    ):
        assert first.status_code == 200
        async for _ in first.aiter_lines():
            break  # It has begun.
        second = await client.get("/v1/events", headers=ana.headers)
        assert (second.status_code, second.json()["code"]) == (429, "too_many_streams")
        async with client.stream("GET", "/v1/events", headers=bea.headers) as other:
            assert other.status_code == 200


async def test_those_who_come_all_at_once_are_counted_too(live_url, ana, monkeypatch) -> None:
    monkeypatch.setattr("whatsapp.entrypoints.http.event_stream.MAX_STREAMS_OF_A_TENANT", 2)
    statuses, all_are_told, done = [], asyncio.Event(), asyncio.Event()

    async def listens(client):
        async with client.stream("GET", "/v1/events", headers=ana.headers) as answer:
            statuses.append(answer.status_code)
            if len(statuses) == 10:  # as many as there are
                all_are_told.set()
            await done.wait()

    async with (
        asyncio.timeout(30),
        httpx.AsyncClient(base_url=live_url, timeout=30) as client,
        asyncio.TaskGroup() as listeners,
    ):
        for _ in range(10):
            listeners.create_task(listens(client))
        await all_are_told.wait()
        done.set()

    assert sorted(statuses) == [200] * 2 + [429] * 8


async def test_a_place_is_free_again_once_its_stream_is_refused_or_has_ended(
    live_url, world, ana, monkeypatch
) -> None:
    monkeypatch.setattr("whatsapp.entrypoints.http.event_stream.MAX_STREAMS_OF_A_TENANT", 1)
    await open_stream(world, ana)
    await tell(world, ana, 1)
    async with asyncio.timeout(30), httpx.AsyncClient(base_url=live_url) as client:
        for _ in range(3):
            headers = ana.headers | {"Last-Event-ID": "99"}
            assert (await client.get("/v1/events", headers=headers)).status_code == 410
        for _ in range(3):
            status = 429
            while status == 429:  # The server hears a moment later that somebody hung up.
                async with client.stream("GET", "/v1/events", headers=ana.headers) as answer:
                    status = answer.status_code
            assert status == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer tw_no"}])
async def test_nobody_listens_without_a_key(live_url, headers) -> None:
    async with httpx.AsyncClient(base_url=live_url) as client:
        assert (await client.get("/v1/events", headers=headers)).status_code == 401


async def test_a_stream_that_never_falls_silent_ends_too_once_its_key_is_revoked(
    world, ana
) -> None:
    await open_stream(world, ana)
    await tell(world, ana)
    begin = tenancy_work_in(world.sessions)
    ask = Authenticate(begin=begin, remembered_for=timedelta())
    streams = EventStreams(
        events=StreamEvents(begin=work_in(world.sessions)), bell=Silence(), heartbeat_seconds=0.3
    )
    wanted = Wanted(
        tenant_id=ana.tenant_id,
        after=0,
        wants=lambda _event: True,
        still_allowed=partial(ask, ana.api_key),
    )
    pieces = 0

    async with asyncio.timeout(30):
        async for _ in streams.follow(wanted):
            await tell(world, ana)  # So that there is always one more.
            pieces += 1
            if pieces == 3:
                await RevokeApiKey(begin=begin)(ana.tenant_id, read_key(ana.api_key).key_id)

    assert pieces >= 3


async def test_a_stream_ends_too_once_its_key_may_not_read_any_more(
    client, world, ana, monkeypatch
) -> None:
    app = client._transport.app
    services = app.state.tellwire_services
    changed = replace(
        services,
        authenticate=replace(services.authenticate, remembered_for=timedelta()),
        event_streams=replace(services.event_streams, heartbeat_seconds=0.1),
    )
    monkeypatch.setattr(app.state, "tellwire_services", changed)
    key, began = await world.api_key(ana.tenant_id), asyncio.Event()
    asked = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        return asked.pop() if asked else await asyncio.Event().wait()

    async def send(message):
        if message["type"] == "http.response.body":
            began.set()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/events",
        "raw_path": b"/v1/events",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("api.test", 80),
        "headers": [(b"authorization", f"Bearer {key}".encode())],
    }
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(app(scope, receive, send))
        await began.wait()
        async with tenancy_work_in(world.sessions)(ana.tenant_id) as work:
            stored = await work.api_keys.get_by_id(read_key(key).key_id)
            stored.scopes = frozenset({Scope.MESSAGES_SEND})
            await work.api_keys.update(stored)
            await work.commit()
