"""What customers take back, as the tenant sees it: words, and the wish to be written to."""

import asyncio
import hashlib
import hmac
import json
import time

import pytest

from stack import APP_ID, APP_SECRET

OPTED_OUT = "15551131050"
"""The simulator refuses messages to this number at once, with the code 131050."""
CARLA = "4915112345678"
ACCOUNT = "203101"


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(360)
async def test_whoever_opted_out_is_known_by_metas_first_refusal(stack) -> None:
    sender = await stack.new_sender("Ana's Bakery", "3101", provider_account_id=ACCOUNT)
    await _report_category(stack, sender, "newsletter", "MARKETING")
    letter = {"type": "template", "template": {"name": "newsletter", "language": {"code": "en_US"}}}

    first = await stack.post(sender, {"to": f"+{OPTED_OUT}", **letter})
    failed = (await stack.follow(sender, [first["id"]], within=30))[first["id"]]

    assert failed["failure"]["code"] == 131050, stack.logs()
    contact = (await _get(stack, sender, "contacts"))["data"][0]
    assert contact["phone"] == f"+{OPTED_OUT}"
    assert contact["marketing"]["stopped"]
    refused = await _post(stack, sender, {"to": f"+{OPTED_OUT}", **letter})
    assert (refused["status"], refused["code"]) == (422, "marketing_stopped")
    told = await _post(stack, sender, {"to": f"+{OPTED_OUT}", "text": {"body": "Your order"}})
    assert told["status"] == "queued"


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(360)
async def test_edits_and_removals_reach_the_tenants_conversation(stack) -> None:
    sender = await stack.new_sender("Bea's Bikes", "3102")
    wrong, gone = f"wamid.wrong.{time.time_ns()}", f"wamid.gone.{time.time_ns()}"

    async def says(kind, **content):
        wanted = {"phone_number_id": sender.phone_number_id, "from": CARLA, "type": kind}
        await stack.control("inbound", **wanted, **content)

    edited = {"original_message_id": wrong, "message": {"type": "text", "text": {"body": "the 21"}}}
    await says("edit", edit=edited)  # Overtakes its message.
    await says("text", text={"body": "the 12"}, id=wrong)
    await says("text", text={"body": "Oh no"}, id=gone)
    await says("revoke", revoke={"original_message_id": gone})

    async def shown():
        found = (await _get(stack, sender, "conversations"))["data"]
        if not found:
            return None, []
        path = f"conversations/{found[0]['id']}/messages"
        return found[0], (await _get(stack, sender, path))["data"]

    async with asyncio.timeout(30):
        while True:
            conversation, thread = await shown()
            by_wamid = {one["wamid"]: one for one in thread}
            if len(thread) == 2 and by_wamid[gone]["revoked_at"] and by_wamid[wrong]["edited_at"]:
                break
            await asyncio.sleep(0.2)

    assert by_wamid[wrong]["content"] == {"body": "the 21"}
    assert by_wamid[wrong]["original"]["content"] == {"body": "the 12"}
    assert by_wamid[gone]["content"] is None
    assert by_wamid[gone]["original"]["content"] == {"body": "Oh no"}
    assert conversation["unread_count"] == 2
    assert conversation["last_message"] == by_wamid[conversation["last_message"]["wamid"]]


async def _get(stack, sender, path):
    async with stack.http.get(f"{stack.api}/v1/{path}", headers=sender.headers) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def _post(stack, sender, body):
    given = {"channel_id": sender.channel_id, **body}
    url = f"{stack.api}/v1/messages"
    async with stack.http.post(url, json=given, headers=sender.headers) as answer:
        return await answer.json()


async def _report_category(stack, sender, name, category) -> None:
    """As Meta does when it moves a template into another category; waits until it is known."""
    value = {
        "message_template_name": name,
        "message_template_language": "en_US",
        "previous_category": "UTILITY",
        "new_category": category,
    }
    change = {"field": "template_category_update", "value": value}
    entry = {"id": ACCOUNT, "time": int(time.time()), "changes": [change]}
    body = json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()
    digest = hmac.digest(APP_SECRET.encode(), body, hashlib.sha256).hex()
    url = f"{stack.api}/webhooks/whatsapp/{APP_ID}"
    signed = {"X-Hub-Signature-256": f"sha256={digest}"}
    async with stack.http.post(url, data=body, headers=signed) as answer:
        assert answer.status == 200, await answer.text()
    async with asyncio.timeout(30):
        while True:
            if (await _get(stack, sender, "templates"))["data"]:
                return
            await asyncio.sleep(0.2)
