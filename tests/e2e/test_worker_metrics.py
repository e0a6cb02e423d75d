"""A worker counts what it does, once each, although Meta says everything twice."""

import asyncio
import base64

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ports import free_port
from stack import running_stack

PNG = b"\x89PNG\r\n" + bytes(range(256))
SAID = {"from": "4915112345678"}
EXPECTED = {
    ("tellwire_sends_total", "accepted", "none"): 3,
    ("tellwire_slots_total", "used"): 3,
    ("tellwire_outcomes_after_lease_total",): 0,
    ("tellwire_webhook_elements_total", "applied", "status"): 9,  # Sent, delivered and read.
    ("tellwire_webhook_elements_total", "applied", "inbound"): 1,
    ("tellwire_webhook_elements_total", "any", "quarantined"): 1,
    ("tellwire_media_moved_total", "fetch", "moved"): 1,
    ("tellwire_inbox_entries",): 0,
}


async def scraped(stack, port):
    """Every sample of ours, by its name and the values of its labels."""
    async with stack.http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        text = await answer.text()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


async def settled(stack, port):
    """What is shown once it is what we expect, or after 30 s."""
    found = {}
    for _ in range(300):
        found = await scraped(stack, port)
        if EXPECTED.items() <= found.items():
            break
        await asyncio.sleep(0.1)
    return found


@pytest.mark.timeout(240)
async def test_a_worker_counts_each_thing_once_that_it_does(directory) -> None:
    port = free_port()
    settings = {"TELLWIRE_WORKER_METRICS_PORT": str(port)}
    async with running_stack(directory, workers=1, settings=settings) as stack:
        ana = await stack.new_sender("Ana's Bakery", "1001")
        await stack.control("webhooks", duplicate=1.0)
        body = {"type": "text", "text": {"body": "Hello"}}
        ids = [(await stack.post(ana, body | {"to": f"+49151{n:08}"}))["id"] for n in range(3)]
        ended = await stack.follow(ana, ids, within=60)
        picture = {"data_base64": base64.b64encode(PNG).decode()}
        await stack.control("inbound", phone_number_id="1001", **SAID, type="image", image=picture)
        text = {"body": "Is anybody there?"}
        await stack.control("inbound", phone_number_id="9999", **SAID, type="text", text=text)

        found = await settled(stack, port)

    assert {one["status"] for one in ended.values()} == {"read"}, stack.logs()
    assert {one: found.get(one) for one in EXPECTED} == EXPECTED
    assert found["tellwire_entries_claimed_total",] >= 3
    lanes = [value for (name, *_), value in found.items() if name == "tellwire_queue_entries"]
    assert lanes == [0] * 5
