import asyncio
import json
import logging
import time

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from shared.kernel.secret import Secret
from whatsapp_simulator import SimulatorConfig, create_app, handshake
from whatsapp_simulator.clock import SECOND_NS, SimulatorClock

TOKEN = "token-canary-83d2"
OTHER_TOKEN = "token-canary-19aa"
VERIFY_TOKEN = "verify-canary-7e"
TEMPLATE = {"name": "hello_world", "language": {"code": "en_US"}}


def _most_in_any_second(times):
    times, most, first = sorted(times), 0, 0
    for last, now in enumerate(times):
        while times[first] <= now - SECOND_NS:
            first += 1
        most = max(most, last - first + 1)
    return most


async def test_a_message_is_accepted_and_followed_to_read_by_signed_webhooks(start, receiver):
    client = await start()

    status, answer = await client.send("+1 415-555-0100", biz_opaque_callback_data="0190.1")

    assert status == 200
    wamid = answer["messages"][0]["id"]
    assert answer == {
        "messaging_product": "whatsapp",
        "contacts": [{"input": "+1 415-555-0100", "wa_id": "14155550100"}],
        "messages": [{"id": wamid}],
    }
    await receiver.until(lambda: len(receiver.statuses(wamid)) == 3)
    assert receiver.told(wamid) == ["sent", "delivered", "read"]
    assert {s["recipient_id"] for s in receiver.statuses()} == {"14155550100"}
    assert {s["biz_opaque_callback_data"] for s in receiver.statuses()} == {"0190.1"}
    headers, raw, _ = receiver.posts[0]
    assert headers["User-Agent"] == "facebookexternalua"
    assert headers["Content-Type"] == "application/json"
    assert raw.isascii()
    assert json.loads(raw)["entry"][0]["id"] == "2001"


@pytest.mark.parametrize(
    ("number", "token", "http", "code", "subcode"),
    [
        ("1001", None, 401, 190, None),
        ("1001", "unknown", 401, 190, None),
        ("1001", OTHER_TOKEN, 400, 100, 33),
        ("9999", TOKEN, 400, 100, 33),
        ("9999", "unknown", 401, 190, None),
    ],
)
async def test_a_send_without_the_right_token_is_refused(start, number, token, http, code, subcode):
    client = await start()

    status, answer = await client.send(number=number, token=token)

    assert status == http
    assert answer["error"]["code"] == code
    assert answer["error"].get("error_subcode") == subcode
    assert answer["error"]["fbtrace_id"]
    assert (await client.report())["accepted"] == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 5000])
async def test_a_body_that_is_no_object_is_refused(start, body):
    client = await start()

    status, answer = await client.call("POST", "v23.0/1001/messages", data=body)

    assert (status, answer["error"]["code"]) == (400, 100)


async def test_any_version_is_served_and_any_other_path_is_not(start):
    client = await start()

    for version in ("v17.0", "v99.1"):
        assert (await client.call("GET", f"{version}/1001"))[0] == 200
    for path in ("1001/messages", "vx/1001/messages", "v23.0/1001/nothing", ""):
        status, answer = await client.call("POST", path, json={})
        assert (status, answer["error"]["code"]) == (400, 2500)


@pytest.mark.parametrize("rate", [20, 80, 250])
async def test_no_sliding_second_accepts_more_than_the_rate_when_three_times_it_is_offered(
    start, rate
):
    client = await start(numbers=(), open_numbers=True, open_messages_per_second=rate)
    seconds, answers = 2.5, []
    began = time.monotonic()

    async def offer(n):
        await asyncio.sleep(began + n / (3 * rate) - time.monotonic())
        answers.append(await client.send(f"1415555{n:04d}"))

    await asyncio.gather(*(offer(n) for n in range(int(3 * rate * seconds))))

    log = await client.log(limit=100_000)
    accepted = [entry["mono_ns"] for entry in log if entry["outcome"] == "accepted"]
    assert len(log) == len(answers)
    assert _most_in_any_second(accepted) == rate
    assert len(accepted) >= rate * 2
    assert len(accepted) == sum(status == 200 for status, _ in answers)
    refusals = [(status, a["error"]["code"]) for status, a in answers if status != 200]
    assert set(refusals) == {(400, 130429)}
    report = await client.report()
    assert report["max_accepted_in_any_second"] == rate
    offered = report["max_offered_in_any_second"]
    assert offered == _most_in_any_second([entry["mono_ns"] for entry in log]) > rate
    assert report["rejected"] == {"130429": len(refusals)}


async def test_throttling_can_be_answered_with_429(start):
    client = await start(throttle_http_status=429, open_numbers=True, open_messages_per_second=1)

    await client.sent(number="7")
    status, answer = await client.send(number="7")

    assert (status, answer["error"]["code"]) == (429, 130429)


async def test_a_changed_rate_holds_at_once_and_other_numbers_keep_theirs(start):
    client = await start()

    await client.control(
        "POST", "numbers", json={"phone_number_id": "1001", "messages_per_second": 1}
    )
    await client.sent()

    assert (await client.send())[1]["error"]["code"] == 130429
    await client.sent(number="1002", token=OTHER_TOKEN)


async def test_one_user_gets_a_burst_of_forty_five_and_others_are_not_affected(start):
    client = await start()

    for _ in range(45):
        await client.sent("5531988887777")
    status, answer = await client.send("553188887777")

    assert (status, answer["error"]["code"]) == (400, 131056)
    await client.sent("14155550101")


async def test_the_pair_limit_can_be_switched_off(start):
    client = await start(pair_limit=False)

    for _ in range(50):
        await client.sent()


async def test_outside_the_window_only_templates_are_accepted(start):
    client = await start(windows="sync")

    assert (await client.send())[1]["error"]["code"] == 131047
    await client.sent(type="template", template=TEMPLATE)
    await client.control("POST", "inbound", json={"phone_number_id": "1001", "from": "14155550100"})
    await client.sent()
    assert (await client.send("14155550101"))[1]["error"]["code"] == 131047


async def test_outside_the_window_a_message_can_fail_later(start, receiver):
    client = await start(windows="async")

    wamid = await client.sent()

    await receiver.until(lambda: receiver.told(wamid))
    (failed,) = receiver.statuses(wamid)
    assert (failed["status"], failed["errors"][0]["code"]) == ("failed", 131047)


async def test_a_template_answers_with_its_message_status(start, receiver):
    client = await start()

    _, answer = await client.send(type="template", template=TEMPLATE)
    wrong = await client.send(type="template", template={**TEMPLATE, "name": "unknown_one"})

    assert answer["messages"][0]["message_status"] == "accepted"
    assert (wrong[0], wrong[1]["error"]["code"]) == (404, 132001)
    await receiver.until(receiver.statuses)
    assert receiver.statuses()[0]["pricing"]["category"] == "utility"


async def test_a_user_is_known_by_number_by_user_id_or_by_both(start, receiver):
    client = await start()
    bsuid = {"to": None, "recipient": "US.1234"}

    by_id = (await client.send(**bsuid))[1]["contacts"][0]
    by_both = (await client.send("15556020000"))[1]["contacts"][0]
    hidden = await client.send("15556010000")

    assert by_id == {"input": "US.1234", "user_id": "US.1234"}
    assert set(by_both) == {"input", "wa_id", "user_id"}
    assert set(hidden[1]["contacts"][0]) == {"input", "user_id"}
    wamid = hidden[1]["messages"][0]["id"]
    await receiver.until(lambda: receiver.told(wamid))
    status = receiver.statuses(wamid)[0]
    assert "recipient_id" not in status
    assert status["recipient_user_id"] == hidden[1]["contacts"][0]["user_id"]
    code = {"name": "verification_code", "language": {"code": "en_US"}}
    text = {"type": "text", "text": "123456"}
    code["components"] = [
        {"type": "body", "parameters": [text]},
        {"type": "button", "sub_type": "url", "index": 0, "parameters": [text]},
    ]
    assert (await client.send(**bsuid, type="template", template=code))[1]["error"][
        "code"
    ] == 131062


async def test_inbound_messages_of_every_type_arrive_with_sender_and_window(start, receiver):
    client = await start()
    kinds = (
        *("text", "image", "video", "audio", "document", "sticker", "location", "contacts"),
        *("reaction", "interactive", "button", "order", "system", "unsupported", "future_type"),
    )

    wanted = [{"type": kind, "from": "14155550100"} for kind in kinds]
    _, answer = await client.control(
        "POST", "inbound", json={"phone_number_id": "1001", "messages": wanted}
    )

    await receiver.until(lambda: len(receiver.messages()) == len(kinds))
    messages = {m["type"]: m for m in receiver.messages()}
    assert set(messages) == set(kinds)
    assert {m["id"] for m in messages.values()} == set(answer["ids"])
    assert all(kind in message for kind, message in messages.items())
    assert messages["unsupported"]["errors"][0]["code"] == 131051
    assert {m["from"] for m in messages.values()} == {"14155550100"}
    contact = next(v for v in receiver.values() if "messages" in v)["contacts"][0]
    assert contact["wa_id"] == "14155550100"
    assert contact["profile"]["name"]


async def test_media_that_arrives_can_be_fetched(start, receiver):
    client = await start()
    image = {"data_base64": "AAEC", "caption": "Olá"}
    inbound = {"phone_number_id": "1001", "from": "14155550100", "type": "image", "image": image}

    await client.control("POST", "inbound", json=inbound)

    await receiver.until(receiver.messages)
    image = receiver.messages()[0]["image"]
    assert image["caption"] == "Olá"
    assert b"Ol\\u00e1" in receiver.posts[0][1]
    _, media = await client.call("GET", f"v23.0/{image['id']}")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with client.http.get(media["url"], headers=headers) as download:
        assert await download.read() == b"\x00\x01\x02"


async def test_a_user_without_a_number_and_raw_changes_can_be_reported(start, receiver):
    client = await start()
    user = {"phone_number_id": "1001", "from": "14155550100", "hide_phone": True, "username": "ana"}
    change = {"phone_number_id": "1001", "field": "account_update", "value": {"event": "X"}}

    await client.control("POST", "inbound", json=user)
    await client.control("POST", "inbound", json=change)

    await receiver.until(lambda: receiver.messages() and {"event": "X"} in receiver.values())
    message = receiver.messages()[0]
    assert "from" not in message
    assert message["from_user_id"].startswith("US.")


async def test_a_received_message_can_be_marked_read_and_answered_while_typing(start):
    client = await start()
    _, inbound = await client.control(
        "POST", "inbound", json={"phone_number_id": "1001", "from": "14155550100"}
    )
    receipt = {"messaging_product": "whatsapp", "status": "read", "message_id": inbound["ids"][0]}

    async def mark(**changes):
        return await client.call("POST", "v23.0/1001/messages", json={**receipt, **changes})

    assert await mark() == (200, {"success": True})
    assert await mark(typing_indicator={"type": "text"}) == (200, {"success": True})
    assert (await mark(message_id="wamid.unknown"))[1]["error"]["code"] == 131009
    assert (await mark(status="eaten"))[1]["error"]["code"] == 131009
    assert (await client.report())["accepted"] == 0


async def test_a_reaction_to_an_unknown_message_fails_later(start, receiver):
    client = await start()
    _, inbound = await client.control(
        "POST", "inbound", json={"phone_number_id": "1001", "from": "14155550100"}
    )

    def reaction(target):
        return {"type": "reaction", "reaction": {"message_id": target, "emoji": "x"}}

    known = await client.sent(**reaction(inbound["ids"][0]))
    unknown = await client.sent(**reaction("wamid.unknown"))

    await receiver.until(lambda: receiver.told(known) and receiver.told(unknown))
    assert receiver.told(known) == ["sent"]
    assert receiver.statuses(unknown)[0]["errors"][0]["code"] == 131009


async def _upload(client, content=b"\x89PNG", mime_type="image/png"):
    form = aiohttp.FormData()
    form.add_field("messaging_product", "whatsapp")
    form.add_field("type", mime_type)
    form.add_field("file", content, filename="file", content_type=mime_type)
    return await client.call("POST", "v23.0/1001/media", data=form)


async def test_media_is_uploaded_sent_read_back_and_deleted(start):
    client = await start()

    _, uploaded = await _upload(client)
    media_id = uploaded["id"]
    await client.sent(type="image", image={"id": media_id})
    _, media = await client.call("GET", f"v23.0/{media_id}")

    assert media["mime_type"] == "image/png"
    assert media["file_size"] == 4
    assert (await client.call("GET", f"v23.0/{media_id}?phone_number_id=1002"))[0] == 400
    unknown = await client.send(type="image", image={"id": "12345"})
    assert unknown[1]["error"]["code"] == 100
    foreign = {"type": "image", "image": {"id": media_id}}
    assert (await client.send(number="1002", token=OTHER_TOKEN, **foreign))[0] == 400
    assert (await client.call("DELETE", f"v23.0/{media_id}"))[1] == {"success": True}
    assert (await client.call("GET", f"v23.0/{media_id}"))[0] == 400


@pytest.mark.parametrize("bytes_per_second", [100, 10**9, None])
async def test_who_has_all_of_a_file_has_been_counted(start, bytes_per_second):
    client = await start()
    _, uploaded = await _upload(client)
    _, media = await client.call("GET", f"v23.0/{uploaded['id']}")
    await client.control("POST", "media", json={"bytes_per_second": bytes_per_second})

    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with client.http.get(media["url"], headers=headers) as download:
        await download.content.readexactly(media["file_size"])
        async with aiohttp.ClientSession() as another:  # This one's connection may still be busy.
            answer = await another.get(f"{client.url}/_simulator/media")
            counted = await answer.json()

    assert counted["downloads"] == {uploaded["id"]: 1}


@pytest.mark.parametrize(
    ("content", "mime_type", "code"),
    [(b"x", "application/x-msdownload", 100), (b"x" * 600_000, "image/webp", 131053)],
)
async def test_media_that_meta_does_not_take_is_refused(start, content, mime_type, code):
    client = await start()

    status, answer = await _upload(client, content, mime_type)

    assert (status, answer["error"]["code"]) == (400, code)


async def test_a_media_url_lives_five_minutes():
    now = {"ns": SECOND_NS}
    clock = SimulatorClock(monotonic_ns=lambda: now["ns"], wall_ns=lambda: now["ns"])
    config = SimulatorConfig(app_secret=Secret("x"), open_numbers=True)
    headers = {"Authorization": "Bearer x"}
    async with TestClient(TestServer(create_app(config, clock=clock))) as http:
        form = {"messaging_product": "whatsapp", "file": b"a"}
        answer = await http.post("/v23.0/1/media", data=_form(form), headers=headers)
        media_id = (await answer.json())["id"]
        url = (await (await http.get(f"/v23.0/{media_id}", headers=headers)).json())["url"]

        async def fetch():
            return (await http.session.get(url, headers=headers)).status

        now["ns"] += 299 * SECOND_NS
        assert await fetch() == 200
        assert (await http.session.get(url)).status == 401
        now["ns"] += 2 * SECOND_NS
        assert await fetch() == 404


def _form(fields):
    form = aiohttp.FormData()
    for name, value in fields.items():
        if isinstance(value, bytes):
            form.add_field(name, value, filename="f", content_type="text/plain")
        else:
            form.add_field(name, value)
    return form


async def test_a_number_tells_its_fields(start):
    client = await start()

    _, by_default = await client.call("GET", "v23.0/1001")
    _, chosen = await client.call("GET", "v23.0/1001?fields=status,throughput,name_status")
    unknown = await client.call("GET", "v23.0/1001?fields=colour")

    assert set(by_default) == {"id", "display_phone_number", "verified_name", "quality_rating"}
    assert chosen == {
        "id": "1001",
        "status": "CONNECTED",
        "throughput": {"level": "STANDARD"},
        "name_status": "APPROVED",
    }
    assert unknown[1]["error"]["code"] == 100


async def test_a_number_that_is_not_registered_cannot_send(start):
    client = await start()
    register = {"messaging_product": "whatsapp", "pin": "123456"}

    async def do(call, **body):
        status, answer = await client.call("POST", f"v23.0/1001/{call}", json=body)
        return answer.get("error", {}).get("code", status)

    assert await do("register", **register) == 200
    assert await do("deregister") == 200
    assert (await client.send())[1]["error"]["code"] == 133010
    assert await do("deregister") == 133010
    assert await do("register", messaging_product="whatsapp", pin="12") == 100
    assert await do("register", **{**register, "pin": "654321"}) == 133005
    assert await do("register", **register) == 200
    await client.sent()
    for _ in range(5):
        await do("register", **register)
    assert await do("register", **register) == 133016


async def test_a_number_is_verified_by_a_code(start):
    client = await start()
    await client.control("POST", "numbers", json={"phone_number_id": "1001", "verified": False})

    async def do(call, **body):
        status, answer = await client.call("POST", f"v23.0/1001/{call}", json=body)
        return answer.get("error", {}).get("code", status)

    assert await do("register", messaging_product="whatsapp", pin="123456") == 133006
    assert await do("request_code", code_method="PIGEON", language="en") == 100
    assert await do("request_code", code_method="SMS", language="en") == 200
    assert await do("verify_code", code="000000") == 136025
    assert await do("verify_code", code="123-456") == 200
    assert await do("request_code", code_method="SMS", language="en") == 136024
    assert await do("register", messaging_product="whatsapp", pin="123456") == 200


async def test_a_banned_number_is_refused(start):
    client = await start()

    await client.control("POST", "numbers", json={"phone_number_id": "1001", "status": "BANNED"})

    assert (await client.send())[1]["error"]["code"] == 131031


async def test_accounts_list_their_numbers_and_templates(start):
    client = await start()

    _, numbers = await client.call("GET", "v23.0/2001/phone_numbers")
    _, first = await client.call("GET", "v23.0/2001/message_templates?status=APPROVED&limit=4")
    after = first["paging"]["cursors"]["after"]
    _, rest = await client.call(
        "GET", f"v23.0/2001/message_templates?status=APPROVED&limit=100&after={after}"
    )
    foreign = await client.call("GET", "v23.0/2002/phone_numbers")

    assert [n["id"] for n in numbers["data"]] == ["1001"]
    names = [t["name"] for t in first["data"] + rest["data"]]
    assert len(first["data"]) == 4
    assert "hello_world" in names
    assert "paused_offer" not in names
    assert foreign[1]["error"]["error_subcode"] == 33


async def test_a_created_template_can_be_sent_until_it_is_deleted(start):
    client = await start()
    body = [{"type": "BODY", "text": "Dear {{1}}"}]
    given = {"name": "dear", "language": "en_US", "category": "UTILITY", "components": body}
    text = [{"type": "body", "parameters": [{"type": "text", "text": "Ana"}]}]
    sent = {"name": "dear", "language": {"code": "en_US"}, "components": text}

    status, answer = await client.call("POST", "v23.0/2001/message_templates", json=given)
    assert (status, answer["status"]) == (200, "APPROVED")
    await client.sent(type="template", template=sent)
    await client.call("DELETE", "v23.0/2001/message_templates?name=dear")
    assert (await client.send(type="template", template=sent))[1]["error"]["code"] == 132001


async def test_a_token_can_be_inspected(start):
    client = await start()

    _, good = await client.call("GET", f"v23.0/debug_token?input_token={TOKEN}")
    _, bad = await client.call("GET", "v23.0/debug_token?input_token=nonsense")

    assert good["data"]["is_valid"]
    assert good["data"]["granular_scopes"][0]["target_ids"] == ["2001"]
    assert not bad["data"]["is_valid"]


async def test_webhooks_follow_the_override_after_its_handshake(start, receiver):
    client = await start(webhook_url=None)
    override = {"override_callback_uri": receiver.url, "verify_token": "wrong"}

    refused = await client.call("POST", "v23.0/2001/subscribed_apps", json=override)
    override["verify_token"] = VERIFY_TOKEN
    accepted = await client.call("POST", "v23.0/2001/subscribed_apps", json=override)
    wamid = await client.sent()

    assert refused[1]["error"]["code"] == 2200
    assert accepted == (200, {"success": True})
    await receiver.until(lambda: len(receiver.told(wamid)) == 3)
    _, apps = await client.call("GET", "v23.0/2001/subscribed_apps")
    assert apps["data"][0]["override_callback_uri"] == receiver.url


async def test_without_a_subscription_no_webhook_is_sent(start, receiver):
    client = await start(statuses={"sent_seconds": 0, "delivered_seconds": 0, "read_seconds": 0})

    await client.call("DELETE", "v23.0/2001/subscribed_apps")
    await client.sent()
    seen = await client.sent(number="1002", token=OTHER_TOKEN)

    await receiver.until(lambda: len(receiver.told(seen)) == 3)
    assert len(receiver.statuses()) == 3
    assert (await client.report())["statuses"]["lost"] == 3


async def test_the_handshake_proves_that_a_callback_answers_the_challenge(start, receiver):
    client = await start()

    assert await handshake(receiver.url, Secret(VERIFY_TOKEN))
    assert not await handshake(receiver.url, Secret("wrong"))
    assert not await handshake("http://127.0.0.1:1/hook", Secret(VERIFY_TOKEN))
    assert await client.control("POST", "webhooks/verify", json={}) == (200, {"verified": True})


async def test_an_open_simulator_takes_any_number_and_token(start, receiver):
    client = await start(numbers=(), open_numbers=True)

    wamid = await client.sent(number="31337", token="anything")

    await receiver.until(lambda: len(receiver.told(wamid)) == 3)
    assert (await client.send(number="31337", token=None))[0] == 401
    assert (await client.call("GET", "v23.0/31337"))[1]["id"] == "31337"
    assert (await client.call("GET", "v23.0/555/subscribed_apps"))[0] == 200
    await client.control("POST", "numbers", json={"phone_number_id": "8", "messages_per_second": 1})
    await client.sent(number="8")
    assert (await client.send(number="8"))[1]["error"]["code"] == 130429
    inbound = {"phone_number_id": "9", "from": "14155550100"}
    assert (await client.control("POST", "inbound", json=inbound))[0] == 202


async def test_the_report_counts_what_was_doubled(start, receiver):
    client = await start()

    for callback in ("a.1", "a.1", "a.2", "b.1"):
        await client.sent(biz_opaque_callback_data=callback)

    await receiver.until(lambda: len(receiver.statuses()) == 12)
    report = await client.report()
    assert (report["accepted"], report["distinct_callback_data"], report["doubled"]) == (4, 3, 1)
    assert (report["distinct_messages"], report["doubled_messages"]) == (2, 2)


async def test_the_log_tells_every_request_in_order_and_outlives_the_simulator(start, tmp_path):
    path = tmp_path / "log.jsonl"
    client = await start(log_path=str(path))

    wamid = await client.sent(biz_opaque_callback_data="a.1")
    await client.send("15551131026")
    await client.send(token="nonsense")
    await client.call("GET", "v23.0/1001")
    await client.send(number="1002", token=OTHER_TOKEN)

    log = await client.log(phone_number_id="1001")
    assert [(e["kind"], e["outcome"], e.get("code")) for e in log] == [
        ("message", "accepted", None),
        ("message", "rejected", 131026),
        ("message", "rejected", 190),
        ("graph", "accepted", None),
    ]
    first = log[0]
    assert (first["wamid"], first["callback"], first["to"]) == (wamid, "a.1", "14155550100")
    assert first["mono_ns"] < log[1]["mono_ns"]
    assert abs(first["wall_ns"] - time.time_ns()) < 60 * SECOND_NS
    assert await client.log(since=log[-1]["seq"], phone_number_id="1001") == []
    await client.control("POST", "reset")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 5]


async def test_no_token_and_no_body_is_ever_logged_or_shown(start, receiver, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "log.jsonl"
    client = await start(log_path=str(path))
    text = {"text": {"body": "body-canary-2f"}}

    wamid = await client.sent(**text)
    await client.send(token="token-canary-wrong", **text)
    await client.call("GET", f"v23.0/1001?access_token={TOKEN}", token=None)
    await client.call("GET", f"v23.0/debug_token?input_token={TOKEN}")
    await receiver.until(lambda: len(receiver.told(wamid)) == 3)

    _, report = await client.control("GET", "report")
    shown = json.dumps([report, await client.log()]) + caplog.text + path.read_text()
    assert "canary" not in shown


async def test_reset_forgets_what_happened_and_keeps_the_numbers(start, receiver):
    client = await start(statuses={"sent_seconds": 3600})
    await client.control("POST", "faults", json={"behaviour": {"error": 131026}, "count": 5})
    await client.send()
    await client.control("POST", "webhooks/pause")

    await client.control("POST", "reset")
    wamid = await client.sent("15555050000")

    await receiver.until(lambda: receiver.told(wamid) == ["read"])
    report = await client.report()
    assert (report["offered"], report["accepted"], report["rejected"]) == (1, 1, {})


async def test_a_report_of_one_number_has_that_number_and_its_totals_alone(start):
    client = await start()
    await client.sent()
    for _ in range(2):
        await client.sent(number="1002", token=OTHER_TOKEN)

    _, every = await client.control("GET", "report")
    _, one = await client.control("GET", "report?phone_number_id=1002")
    _, none = await client.control("GET", "report?phone_number_id=1003")

    assert {n["phone_number_id"]: n["accepted"] for n in every["numbers"]} == {"1001": 1, "1002": 2}
    assert every["accepted"] == 3
    assert one["numbers"] == [n for n in every["numbers"] if n["phone_number_id"] == "1002"]
    assert one["accepted"] == 2
    assert (none["numbers"], none["accepted"]) == ([], 0)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("inbound", {"phone_number_id": "9999", "from": "14155550100"}),
        ("inbound", {"phone_number_id": "1001"}),
        ("inbound", {"phone_number_id": "1001", "from": "14155550100", "count": 0}),
        ("inbound", {"phone_number_id": "1001", "from": "14155550100", "messages": [1]}),
        ("faults", {"behaviour": {"colour": 1}}),
        ("faults", {"behaviour": {"error": 1}, "probability": 2}),
        ("faults", {"faults": 1}),
        ("numbers", {"phone_number_id": "1001", "messages_per_second": 0}),
        ("numbers", {"phone_number_id": "1001", "messages_per_second": "80"}),
        ("numbers", {"phone_number_id": "1001", "colour": "blue"}),
        ("numbers", {"phone_number_id": "1003"}),
        ("webhooks", {"duplicate": 2}),
        ("webhooks", {"shuffle": 1}),
        ("webhooks/verify", {"url": 1}),
    ],
)
async def test_a_control_call_that_makes_no_sense_is_refused_and_changes_nothing(start, path, body):
    client = await start()
    before = await client.report()

    status, answer = await client.control("POST", path, json=body)

    assert status == 422
    assert answer["error"]
    assert await client.report() == before
    assert (await client.control("GET", "faults"))[1] == {"faults": []}


async def test_a_number_can_be_added_while_it_runs(start):
    client = await start()
    number = {
        "phone_number_id": "1003",
        "display_phone_number": "+1 555-700-0003",
        "waba_id": "2001",
        "access_token": "new-token",
        "messages_per_second": 2,
    }

    status, _ = await client.control("POST", "numbers", json=number)

    assert status == 200
    await client.sent(number="1003", token="new-token")
    await client.sent(number="1003", token="new-token")
    assert (await client.send(number="1003", token="new-token"))[1]["error"]["code"] == 130429
