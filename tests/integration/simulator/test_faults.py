import asyncio
import json
import socket
import struct
import time

import aiohttp
import pytest

from whatsapp_simulator.graph_errors import CODES, THROTTLES

TOKEN = "token-canary-83d2"


async def _outcomes(client):
    return [(e["outcome"], e.get("fault")) for e in await client.log()]


@pytest.fixture
async def roomy(start):
    """A simulator whose number is never throttled."""
    return await start(numbers=(), open_numbers=True, open_messages_per_second=10_000)


async def test_every_code_can_be_had_at_once_with_its_http_status(roomy):
    for code, row in CODES.items():
        status, answer = await roomy.send(f"15551{code:06d}")

        assert answer["error"]["code"] == code
        assert status == (400 if code in THROTTLES else row.http)
    report = await roomy.report()
    assert report["accepted"] == 0
    assert report["statuses"]["planned"] == 0
    assert report["rejected"] == {str(code): 1 for code in CODES}


async def test_every_code_can_be_had_later_by_webhook(roomy, receiver):
    wamids = {code: await roomy.sent(f"15552{code:06d}") for code in CODES}

    await receiver.until(lambda: len(receiver.statuses()) == len(CODES))
    for code, wamid in wamids.items():
        (failed,) = receiver.statuses(wamid)
        assert failed["status"] == "failed"
        assert [error["code"] for error in failed["errors"]] == [code]


async def test_a_message_can_fail_after_it_was_sent(roomy, receiver):
    wamid = await roomy.sent("15553131026")

    await receiver.until(lambda: len(receiver.told(wamid)) == 2)
    assert receiver.told(wamid) == ["sent", "failed"]


@pytest.mark.parametrize(("recipient", "accepted"), [("15554010000", False), ("15554020000", True)])
async def test_a_hang_answers_nothing_before_or_after_acceptance(
    roomy, receiver, recipient, accepted
):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(roomy.send(recipient), 0.3)

    assert (await roomy.report())["accepted"] == accepted
    expected = ("accepted", "hang after") if accepted else ("broken", "hang before")
    assert await _outcomes(roomy) == [expected]
    if accepted:
        await receiver.until(lambda: len(receiver.statuses()) == 3)


def _read_until_closed(url, recipient):
    """What the socket gives: everything received, and how it ended."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps(
        {"messaging_product": "whatsapp", "to": recipient, "text": {"body": "Hello"}}
    ).encode()
    head = (
        f"POST /v23.0/1001/messages HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    received = b""
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode() + body)
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            return received, "reset"
    return received, "end"


@pytest.mark.parametrize(("recipient", "accepted"), [("15554030000", False), ("15554040000", True)])
async def test_a_reset_is_a_real_tcp_reset_before_or_after_acceptance(
    roomy, receiver, recipient, accepted
):
    received, ending = await asyncio.to_thread(_read_until_closed, roomy.url, recipient)

    assert (received, ending) == (b"", "reset")
    assert (await roomy.report())["accepted"] == accepted
    if accepted:
        await receiver.until(lambda: len(receiver.statuses()) == 3)


async def test_a_truncated_answer_ends_early_although_the_message_was_accepted(roomy):
    with pytest.raises(aiohttp.ClientPayloadError):
        await roomy.send("15554110000")

    assert (await roomy.report())["accepted"] == 1


async def _raw_send(client, recipient):
    body = {"messaging_product": "whatsapp", "to": recipient, "text": {"body": "Hello"}}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"{client.url}/v23.0/1001/messages"
    async with client.http.post(url, json=body, headers=headers) as answer:
        return answer.status, answer.content_type, await answer.text()


@pytest.mark.parametrize(
    ("recipient", "http", "kind", "accepted"),
    [
        ("15554070000", 200, "application/json", True),
        ("15554080000", 200, "application/json", True),
        ("15554090503", 503, "text/html", False),
        ("15554100504", 504, "text/html", True),
        ("15554100000", 502, "text/html", True),
    ],
)
async def test_an_answer_can_be_nonsense(roomy, recipient, http, kind, accepted):
    status, content_type, text = await _raw_send(roomy, recipient)

    assert (status, content_type) == (http, kind)
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    assert (await roomy.report())["accepted"] == accepted


@pytest.mark.parametrize("recipient", ["15554050300", "15554060300"])
async def test_latency_delays_the_look_or_the_answer(roomy, recipient):
    began = time.monotonic_ns()
    await roomy.sent(recipient)
    took_ns = time.monotonic_ns() - began

    assert took_ns >= 300_000_000
    assert (await roomy.report())["accepted"] == 1


async def test_a_status_can_arrive_before_the_answer(roomy, receiver):
    sending = asyncio.create_task(roomy.sent("15555090000"))

    await receiver.until(receiver.statuses)

    assert not sending.done()
    assert receiver.statuses()[0]["id"] == await sending


@pytest.mark.parametrize(
    ("recipient", "told"),
    [
        ("15555010000", ["read", "delivered", "sent"]),
        ("15555020000", ["sent", "sent", "delivered", "delivered", "read", "read"]),
        ("15555050000", ["read"]),
        ("15555060000", ["sent"]),
        ("15555080000", ["sent", "read"]),
        ("15555100000", ["delivered", "sent", "read"]),
        ("15555130000", ["failed", "sent"]),
    ],
)
async def test_statuses_can_be_out_of_order_doubled_or_missing(roomy, receiver, recipient, told):
    wamid = await roomy.sent(recipient)
    # Statuses of a message that is sent later arrive later: nothing more comes of the first.
    last = await roomy.sent("15555040001")

    await receiver.until(lambda: len(receiver.told(last)) == 3)
    assert receiver.told(wamid) == told


async def test_statuses_can_be_lost(roomy, receiver):
    lost = await roomy.sent("15555030000")
    last = await roomy.sent()

    await receiver.until(lambda: len(receiver.told(last)) == 3)
    assert receiver.told(lost) == []
    assert (await roomy.report())["statuses"]["planned"] == 3


@pytest.mark.parametrize(
    ("recipient", "told"),
    [("15555110000", ["sent", "delivered", "read"]), ("15555120000", ["failed"])],
)
async def test_a_template_can_be_held_for_quality_assessment(start, receiver, recipient, told):
    client = await start(statuses={"sent_seconds": 0.01, "hold_seconds": 0.3, "jitter": 0})
    template = {"name": "newsletter", "language": {"code": "en_US"}}
    began = time.monotonic_ns()

    _, answer = await client.send(recipient, type="template", template=template)

    message = answer["messages"][0]
    assert message["message_status"] == "held_for_quality_assessment"
    await receiver.until(lambda: len(receiver.told(message["id"])) == len(told))
    assert time.monotonic_ns() - began >= 300_000_000
    assert receiver.told(message["id"]) == told


async def test_a_fault_strikes_the_next_n_messages_of_its_number_only(roomy):
    fault = {"behaviour": {"error": 131016}, "phone_number_id": "1001", "count": 2}
    await roomy.control("POST", "faults", json=fault)

    others = await roomy.send(number="1002")
    codes = [(await roomy.send())[1].get("error", {}).get("code") for _ in range(4)]

    assert others[0] == 200
    assert codes == [131016, 131016, None, None]
    assert (await roomy.control("GET", "faults"))[1] == {"faults": []}


async def test_a_fault_can_strike_a_share_of_messages_until_it_is_cleared(start):
    client = await start(
        numbers=(), open_numbers=True, open_messages_per_second=10_000, pair_limit=False, seed=7
    )
    await client.control("POST", "faults", json={"behaviour": {"error": 2}, "probability": 0.3})

    statuses = [(await client.send())[0] for _ in range(300)]
    await client.control("DELETE", "faults")

    assert 60 <= statuses.count(503) <= 120
    assert statuses.count(503) + statuses.count(200) == 300
    assert (await client.send())[0] == 200


async def test_a_stop_does_not_wait_for_those_who_hang(start):
    client = await start()
    hanging = asyncio.create_task(client.send("15554010000"))
    while not await client.log():  # noqa: ASYNC110  # the log is the only sign of arrival
        await asyncio.sleep(0.01)

    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging


async def test_a_client_that_resets_does_no_harm(roomy):
    host, port = roomy.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v23.0/1001/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
    del reader

    await roomy.sent()
    assert (await roomy.report())["offered"] == 1
