"""The client against a real server that misbehaves in every way a server can."""

import asyncio
import contextlib
import json
import logging
import socket
import struct
import threading
from datetime import timedelta

import pytest

from shared.kernel.errors import InvalidInput, Misconfigured
from whatsapp.domain.outcome import (
    Accepted,
    Deferred,
    RejectAction,
    Rejected,
    Throttled,
    Unknown,
    Unreachable,
)
from whatsapp.domain.value_objects import AccessToken
from whatsapp.infrastructure.cloud_api.client import (
    CloudApiClient,
    Departure,
    MetaBusy,
    MetaRefused,
    MetaUnreachable,
    create_http_session,
)

MARK = "EAAG-canary-7f3a"
TOKEN = AccessToken(MARK)
NUMBER = "106540352242922"
PAYLOAD = {"messaging_product": "whatsapp", "to": "+16505551234", "text": {"body": "olá"}}
WAMID = "wamid.X"
TAKEN = {"messages": [{"id": WAMID}], "contacts": [{"wa_id": "16505551234"}]}
SHORT = timedelta(seconds=0.3)
"""For those alone that are to wait in vain: whoever has much to do answers later than that."""


class Server:
    """A server on a real socket; `behave` handles each request, `requests` are all that came."""

    def __init__(self):
        self.requests = []
        self.connections = 0
        self.arrived = asyncio.Event()
        self.behave = answer(200, TAKEN)
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader, writer):
        # Not a coroutine: asyncio would complain about each one that is cancelled.
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader, writer):
        self.connections += 1
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                self.requests.append(await _read_request(reader))
                self.arrived.set()
                await self.behave(self, writer)


async def _read_request(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    request_line, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return request_line, headers, body


def raw(*parts):
    """Write the parts as they are, and keep the connection open."""

    async def behave(_server, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()

    return behave


def answer(status, document, **headers):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    given = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} Whatever\r\n{given}Content-Length: {len(body)}\r\n\r\n"
    return raw(head.encode() + body)


def then(first, *later):
    """Behave differently from request to request."""
    steps = [first, *later]

    async def behave(server, writer):
        await steps.pop(0)(server, writer)

    return behave


async def hang(_server, _writer):
    await asyncio.Event().wait()


async def close(_server, writer):
    writer.close()
    await writer.wait_closed()


async def reset(_server, writer):
    """Close with RST instead of FIN."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
    raise ConnectionResetError


def after(behaviour, ending):
    async def behave(server, writer):
        await behaviour(server, writer)
        await ending(server, writer)

    return behave


@pytest.fixture
async def server():
    async with Server() as server:
        yield server


@pytest.fixture
async def http():
    async with create_http_session() as http:
        yield http


@pytest.fixture
async def hasty_http():
    async with create_http_session(total_timeout=SHORT, connect_timeout=SHORT) as http:
        yield http


def _client(http, base_url):
    return CloudApiClient(http, base_url=base_url, version="v26.0")


@pytest.fixture
def client(http, server):
    return _client(http, f"http://127.0.0.1:{server.port}")


async def _send(client, **more):
    return await client.send(phone_number_id=NUMBER, token=TOKEN, payload=PAYLOAD, **more)


async def test_one_request_with_the_token_in_its_header_and_nothing_else(client, server):
    outcome = await _send(client)

    assert outcome == Accepted(WAMID, wa_id="16505551234")
    ((request_line, headers, body),) = server.requests
    assert request_line == f"POST /v26.0/{NUMBER}/messages HTTP/1.1"
    assert headers.pop("authorization") == f"Bearer {MARK}"
    assert headers.pop("content-type") == "application/json"
    assert json.loads(body) == PAYLOAD
    assert MARK not in str(headers)
    assert set(headers) <= {"host", "content-length", "accept", "accept-encoding", "user-agent"}


async def test_connections_are_used_again(client, server):
    for _ in range(5):
        await _send(client)

    assert (len(server.requests), server.connections) == (5, 1)


# --- Nothing left: safe to repeat -----------------------------------------------------------------


async def test_a_refused_connection_is_unreachable(http, server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        outcome = await _send(_client(http, f"http://127.0.0.1:{port}"))

    assert outcome == Unreachable("ClientConnectorError ECONNREFUSED")
    assert server.requests == []


async def test_a_name_that_nobody_knows_is_unreachable(http):
    departure = Departure()
    client = _client(http, "https://nobody.invalid")

    assert isinstance(await _send(client, departure=departure), Unreachable)
    assert not departure.has_left


async def test_a_failed_tls_handshake_is_unreachable(http):
    async def talk_nonsense(_reader, writer):
        writer.write(b"this is no TLS\r\n" * 10)
        writer.close()

    async with await asyncio.start_server(talk_nonsense, "127.0.0.1", 0) as plain:
        port = plain.sockets[0].getsockname()[1]
        outcome = await _send(_client(http, f"https://127.0.0.1:{port}"))

    assert isinstance(outcome, Unreachable)


async def test_a_tls_handshake_that_takes_too_long_is_unreachable(hasty_http):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        outcome = await _send(_client(hasty_http, f"https://127.0.0.1:{port}"))

    assert isinstance(outcome, Unreachable)


async def test_waiting_too_long_for_a_free_connection_is_unreachable(server):
    server.behave = hang
    async with create_http_session(
        total_timeout=timedelta(seconds=5), connect_timeout=SHORT, max_connections=1
    ) as http:
        client = _client(http, f"http://127.0.0.1:{server.port}")
        first = asyncio.create_task(_send(client))
        await server.arrived.wait()

        assert isinstance(await _send(client), Unreachable)

        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    assert len(server.requests) == 1


# --- It left: it may have been sent ---------------------------------------------------------------

PART = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + json.dumps(TAKEN).encode()
STUCK = after(raw(PART), hang)
HANGING = {hang, STUCK}
UNCLEAR = {
    "no answer": hang,
    "closed": close,
    "reset": reset,
    "reset in the answer": after(raw(PART), reset),
    "closed in the answer": after(raw(PART), close),
    "stuck in the answer": STUCK,
    "closed in the header": after(raw(b"HTTP/1.1 200 OK\r\nConte"), close),
    "not HTTP": after(raw(b"220 smtp.example.com ESMTP\r\n"), close),
    "binary": after(raw(bytes(range(256)) * 4), close),
    "endless header": after(raw(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000), close),
    "bad chunks": after(
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"), close
    ),
    "bad gzip": answer(200, b"no gzip", Content_Encoding="gzip"),
    "bad cookies": answer(200, b"{}", Set_Cookie="\x01=;;;=\x7f; expires=\xff"),
    "no JSON": answer(200, b"<html>OK</html>"),
    "no message": answer(200, {"messaging_product": "whatsapp"}),
    "too large": answer(200, b'{"messages":[{"id":"wamid.X"}],"x":"' + b"x" * 2**21 + b'"}'),
    "empty": answer(200, b""),
    "no content": answer(204, b""),
    "bad gateway": answer(502, b"<html>Bad gateway</html>"),
    "gateway timeout": answer(504, b""),
    "server error": answer(500, {"message": "no error of Meta's"}),
    "request timeout": answer(408, b""),
}


@pytest.fixture(params=UNCLEAR)
async def unclear_client(request, server):
    """Speaks to a server that answers in one of these ways."""
    server.behave = UNCLEAR[request.param]
    total = {"total_timeout": SHORT} if UNCLEAR[request.param] in HANGING else {}
    async with create_http_session(**total) as http:
        yield _client(http, f"http://127.0.0.1:{server.port}")


async def test_what_left_and_was_not_answered_clearly_is_unknown(unclear_client, server):
    departure = Departure()

    outcome = await _send(unclear_client, departure=departure)

    assert isinstance(outcome, Unknown)
    assert departure.has_left
    assert len(server.requests) == 1, "a send is never repeated by itself"


async def test_a_server_that_never_reads_makes_it_unknown(hasty_http):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        outcome = await _send(_client(hasty_http, f"http://127.0.0.1:{port}"))

    assert isinstance(outcome, Unknown)


@pytest.mark.parametrize("ending", [close, reset], ids=["closed", "reset"])
async def test_a_used_connection_that_dies_under_the_request_is_unknown(client, server, ending):
    server.behave = then(answer(200, TAKEN), ending)
    assert isinstance(await _send(client), Accepted)

    outcome = await _send(client)

    assert isinstance(outcome, Unknown)
    assert (len(server.requests), server.connections) == (2, 1)


async def test_a_connection_that_was_closed_while_idle_is_not_used_again(client, server):
    server.behave = after(answer(200, TAKEN), close)
    assert isinstance(await _send(client), Accepted)
    await _closed_by_peer(client)

    assert isinstance(await _send(client), Accepted)
    assert server.connections == 2


async def _closed_by_peer(client):
    """Wait until the client's loop has seen the end of its idle connection."""
    ((idle,),) = client._http.connector._conns.values()
    protocol, _ = idle
    await protocol.closed


@pytest.mark.parametrize(
    "unasked",
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 39\r\n\r\n{"messages":[{"id":"wamid.NOT-YOURS"}]}',
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ],
    ids=["success", "idle timeout"],
)
async def test_an_unasked_answer_is_not_taken_for_the_next_ones(client, server, unasked):
    taken = json.dumps(TAKEN).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(taken)}\r\n\r\n".encode()
    server.behave = then(raw(head + taken + unasked), answer(200, TAKEN))

    outcomes = [await _send(client), await _send(client)]

    assert all(
        isinstance(outcome, Unknown) or (isinstance(outcome, Accepted) and outcome.wamid == WAMID)
        for outcome in outcomes
    )


# --- Leaving --------------------------------------------------------------------------------------


async def test_nothing_leaves_before_it_is_let_go_and_then_all_of_it_at_once(client, server):
    server.behave = answer(200, TAKEN)
    ready, go = asyncio.Event(), asyncio.Event()

    async def leave(write):
        ready.set()
        await go.wait()
        write()

    departure = Departure(leave)
    sending = asyncio.create_task(_send(client, departure=departure))
    await ready.wait()
    await asyncio.sleep(0.05)
    assert (server.requests, departure.has_left) == ([], False)

    go.set()
    assert isinstance(await sending, Accepted)
    assert len(server.requests) == 1


async def test_a_request_is_on_its_way_as_soon_as_it_was_let_go(http):
    """Not only when the loop comes to rest the next time: until then a process may do much else."""
    arrived, seen = threading.Event(), []

    def answer_one(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(1)
            arrived.set()

    async def leave(write):
        write()
        seen.append(arrived.wait(5))  # The loop stands still.

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_one, args=(listener,), daemon=True)
        thread.start()
        client = _client(http, f"http://127.0.0.1:{listener.getsockname()[1]}")
        await _send(client, departure=Departure(leave))

    assert seen == [True]


async def test_what_is_not_let_go_says_so_and_never_arrives(client, server):
    class NotToday(Exception):
        pass

    async def leave(_):
        raise NotToday

    departure = Departure(leave)
    with pytest.raises(NotToday):
        await _send(client, departure=departure)

    assert not departure.has_left
    server.behave = answer(200, TAKEN)
    assert isinstance(await _send(client), Accepted)
    assert len(server.requests) == 1


async def test_the_time_for_an_answer_begins_when_the_request_leaves(server):
    server.behave = answer(200, TAKEN)

    async def leave(go):
        await asyncio.sleep(2 * SHORT.total_seconds())
        go()

    async with create_http_session(total_timeout=SHORT) as http:
        client = _client(http, f"http://127.0.0.1:{server.port}")
        assert isinstance(await _send(client, departure=Departure(leave)), Accepted)
        server.behave = hang
        assert await _send(client, departure=Departure(leave)) == Unknown("TimeoutError")


async def test_a_connection_that_ends_while_a_request_waits_to_leave_has_carried_nothing(http):
    async def hang_up(_reader, writer):
        writer.close()

    async def leave(_):
        await asyncio.sleep(60)

    departure = Departure(leave)
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as rude:
        client = _client(http, f"http://127.0.0.1:{rude.sockets[0].getsockname()[1]}")
        outcome = await _send(client, departure=departure)

    assert isinstance(outcome, Unreachable)
    assert not departure.has_left


# --- Cancellation ---------------------------------------------------------------------------------


async def test_a_send_cancelled_on_its_way_passes_that_on_and_says_that_it_has_left(client, server):
    server.behave = hang
    departure = Departure()
    task = asyncio.create_task(_send(client, departure=departure))
    await server.arrived.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert departure.has_left


async def test_a_send_cancelled_while_connecting_has_not_left(http):
    departure = Departure()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        client = _client(http, f"https://127.0.0.1:{silent.getsockname()[1]}")
        task = asyncio.create_task(_send(client, departure=departure))
        connection, _ = await asyncio.get_running_loop().sock_accept(silent)

        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        connection.close()
    assert not departure.has_left


# --- Answers --------------------------------------------------------------------------------------


def _error(code, details="what was wrong"):
    return {"error": {"code": code, "message": f"(#{code})", "error_data": {"details": details}}}


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_metas_error_decides_whatever_the_http_status(client, server, status):
    for code, kind in ((130429, Throttled), (131016, Deferred), (131026, Rejected)):
        server.behave = answer(status, _error(code))
        assert isinstance(await _send(client), kind)


async def test_a_bare_429_waits_as_long_as_its_header_says(client, server):
    server.behave = answer(429, b"", Retry_After=9)

    assert (await _send(client)).retry_after == timedelta(seconds=9)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_gets_no_token(client, server, status):
    server.behave = answer(status, b"", Location=f"http://127.0.0.1:{server.port}/elsewhere")

    outcome = await _send(client)

    assert outcome.action is RejectAction.PAUSE_CHANNEL
    assert len(server.requests) == 1


async def test_an_answer_in_chunks_is_read_to_its_end(client, server):
    whole = json.dumps(TAKEN).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in whole) + b"0\r\n\r\n"
    server.behave = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks)

    assert isinstance(await _send(client), Accepted)


@pytest.mark.parametrize("bad", ["", "12x", "../1", "1/2", "\u0661", "1" * 65, "1?x=2"])
async def test_a_number_id_that_is_no_number_reaches_no_path(client, server, bad):
    with pytest.raises(InvalidInput) as refused:
        await client.send(phone_number_id=bad, token=TOKEN, payload=PAYLOAD)

    assert refused.value.field == "phone_number_id"
    assert server.requests == []


@pytest.mark.parametrize(
    ("base_url", "version"),
    [
        ("https://graph.facebook.com", "26"),
        ("https://graph.facebook.com", "v26.0/../x"),
        ("graph.facebook.com", "v26.0"),
        ("ftp://graph.facebook.com", "v26.0"),
        ("https://user:pass@host", "v26.0"),
        ("https://host?x=1", "v26.0"),
    ],
)
async def test_a_wrong_address_is_found_at_the_start(http, base_url, version):
    with pytest.raises(Misconfigured):
        CloudApiClient(http, base_url=base_url, version=version)


# --- Secrets --------------------------------------------------------------------------------------


async def test_no_outcome_and_no_log_holds_the_token_the_number_or_the_text(unclear_client, caplog):
    caplog.set_level(logging.DEBUG)

    shown = repr(await _send(unclear_client)) + caplog.text

    for secret in (MARK, "16505551234", "olá", NUMBER):
        assert secret not in shown


# --- Other calls ----------------------------------------------------------------------------------

INFO = {
    "id": NUMBER,
    "display_phone_number": "+1 650-555-0100",
    "verified_name": "Example Shop",
    "quality_rating": "GREEN",
    "code_verification_status": "VERIFIED",
    "name_status": "APPROVED",
    "status": "CONNECTED",
    "platform_type": "CLOUD_API",
    "throughput": {"level": "STANDARD"},
    "account_mode": "LIVE",
    "health_status": {"can_send_message": "AVAILABLE", "entities": []},
    "webhook_configuration": {
        "application": "https://a.example",
        "whatsapp_business_account": "https://w.example",
    },
}


async def test_a_number_is_described(client, server):
    server.behave = answer(200, INFO)

    info = await client.get_phone_number(phone_number_id=NUMBER, token=TOKEN)

    assert (info.status, info.throughput_level, info.can_send_message) == (
        "CONNECTED",
        "STANDARD",
        "AVAILABLE",
    )
    assert info.webhook_url == "https://w.example"
    assert (info.obstacles, info.warnings) == ((), ())
    ((request_line, headers, _),) = server.requests
    assert request_line.startswith(f"GET /v26.0/{NUMBER}?fields=display_phone_number")
    assert headers["authorization"] == f"Bearer {MARK}"


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (answer(401, _error(190)), MetaRefused),
        (answer(400, _error(100)), MetaRefused),
        (answer(403, b"<html>"), MetaRefused),
        (answer(400, _error(80007)), MetaBusy),
        (answer(503, _error(2)), MetaBusy),
        (answer(502, b"<html>"), MetaBusy),
        (answer(200, {**INFO, "id": "1"}), MetaUnreachable),
        (answer(200, b"<html>"), MetaUnreachable),
        (close, MetaUnreachable),
        (reset, MetaUnreachable),
    ],
)
async def test_why_a_number_is_not_described(client, server, behaviour, error):
    server.behave = behaviour

    with pytest.raises(error) as refused:
        await client.get_phone_number(phone_number_id=NUMBER, token=TOKEN)

    assert MARK not in repr(refused.value)
    assert NUMBER not in str(refused.value)


async def test_a_number_about_which_nothing_is_answered_is_not_described(hasty_http, server):
    server.behave = hang
    client = _client(hasty_http, f"http://127.0.0.1:{server.port}")

    with pytest.raises(MetaUnreachable):
        await client.get_phone_number(phone_number_id=NUMBER, token=TOKEN)


async def test_a_message_is_marked_as_read(client, server):
    server.behave = answer(200, {"success": True})

    await client.mark_as_read(phone_number_id=NUMBER, token=TOKEN, wamid="wamid.IN", is_typing=True)

    ((request_line, _, body),) = server.requests
    assert request_line == f"POST /v26.0/{NUMBER}/messages HTTP/1.1"
    assert json.loads(body) == {
        "messaging_product": "whatsapp",
        "status": "read",
        "message_id": "wamid.IN",
        "typing_indicator": {"type": "text"},
    }


async def test_a_message_that_meta_does_not_know_is_not_marked(client, server):
    server.behave = answer(400, _error(131009))

    with pytest.raises(MetaRefused) as refused:
        await client.mark_as_read(phone_number_id=NUMBER, token=TOKEN, wamid="wamid.IN")

    assert refused.value.refusal.code == 131009
