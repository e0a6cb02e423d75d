"""No connection goes where none may go, whatever a name says and when it says it."""

import socket
from datetime import timedelta

import aiohttp
import pytest

from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from whatsapp.domain.events import AddressPolicy, Event, EventType, WebhookEndpoint, new_secret
from whatsapp.infrastructure.event_delivery.guarded_session import guarded_session
from whatsapp.infrastructure.event_delivery.sender import HttpEventSender


def endpoint(url):
    return WebhookEndpoint(tenant_id=new_id(), url=url, secret=new_secret())


async def send(policy, url):
    event = Event(
        id=new_id(), number=1, type=EventType.ENDPOINT_TEST, occurred_at=utc_now(), data={}
    )
    async with guarded_session(policy) as session:
        sender = HttpEventSender(session, within=timedelta(seconds=2))
        return await sender.send(endpoint(url), event, at=utc_now())


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1"],  # noqa: S104  # no server listens here
)
async def test_the_machine_itself_is_out_of_reach_under_every_name(listener, host) -> None:
    url = listener.url.replace("127.0.0.1", host)

    answer = await send(AddressPolicy(), url)

    assert answer.error in {"address_not_allowed", "invalid_url"}
    assert listener.got == []


async def test_what_an_operator_allows_is_reached(listener) -> None:
    answer = await send(AddressPolicy.parse("127.0.0.0/8"), listener.url)

    assert answer.status == 200


async def test_a_name_that_changes_after_it_was_looked_at_leads_nowhere(
    listener, monkeypatch
) -> None:
    """The rebinding attack: public when it is checked, loopback when it is used."""
    port = int(listener.url.rpartition(":")[2].partition("/")[0])
    answers = iter(["93.184.215.14", "127.0.0.1"])
    asked = []

    def resolve(host, *_):
        address = next(answers)
        asked.append((host, address))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    socket.getaddrinfo("rebinding.example", port)

    answer = await send(AddressPolicy(), f"http://rebinding.example:{port}/")

    assert asked[-1] == ("rebinding.example", "127.0.0.1")
    assert answer.error == "address_not_allowed"
    assert listener.got == []


async def test_a_name_with_one_good_and_one_bad_address_uses_the_good_one(
    listener, monkeypatch
) -> None:
    port = int(listener.url.rpartition(":")[2].partition("/")[0])

    def resolve(*_):
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("10.0.0.1", port)), (*kind, ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    answer = await send(AddressPolicy.parse("127.0.0.1/32"), f"http://two.example:{port}/")

    assert answer.status == 200


async def test_proxies_of_the_environment_are_not_asked(listener, monkeypatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    assert (await send(AddressPolicy.parse("127.0.0.0/8"), listener.url)).status == 200


async def test_the_session_keeps_no_cookies() -> None:
    async with guarded_session(AddressPolicy()) as session:
        assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)
