import json

import pytest

OTHER_TOKEN = "token-canary-19aa"
AT_ONCE = {"sent_seconds": 0, "delivered_seconds": 0, "read_seconds": 0}
FAST_RETRIES = {"retry_delays_seconds": [0, 0.05]}


def _updates(raw):
    values = [c["value"] for entry in json.loads(raw)["entry"] for c in entry["changes"]]
    return sum(len(v.get("statuses", [])) + len(v.get("messages", [])) for v in values)


@pytest.mark.parametrize("failure", [500, 404, 201, 302])
async def test_anything_but_200_is_repeated_with_the_same_bytes(start, receiver, failure):
    client = await start(webhooks=FAST_RETRIES)
    receiver.answers.extend([failure, failure, failure])

    wamid = await client.sent("15555060000")

    await receiver.until(lambda: receiver.told(wamid))
    bodies = {raw for _, raw, _ in receiver.posts}
    assert [answer for _, _, answer in receiver.posts] == [failure] * 3 + [200]
    assert len(bodies) == 1
    _, report = await client.control("GET", "report")
    assert (report["webhooks"]["posts"], report["webhooks"]["failures"]) == (4, 3)
    assert report["webhooks"]["last_failure"] == f"HTTP {failure}"


async def test_a_receiver_that_hangs_is_given_up_on_and_tried_again(start, receiver):
    client = await start(webhooks={**FAST_RETRIES, "timeout_seconds": 0.2})
    receiver.answers.append("hang")

    wamid = await client.sent("15555060000")

    await receiver.until(lambda: receiver.told(wamid))
    assert len(receiver.posts) == 2
    _, report = await client.control("GET", "report")
    assert report["webhooks"]["last_failure"] == "TimeoutError"


async def test_what_is_never_answered_is_given_up_and_counted(start, receiver):
    client = await start(
        statuses=AT_ONCE, webhooks={"retry_delays_seconds": [0], "give_up_after_seconds": 0}
    )
    receiver.answers.extend([500] * 3)

    await client.sent()
    number, webhooks = await client.until_reported(lambda n, _: not n["statuses"]["pending"])
    assert number["statuses"] == {"planned": 3, "acked": 0, "lost": 3, "pending": 0}
    assert webhooks["given_up"] >= 1
    assert webhooks["updates_waiting"] == 0


async def test_nothing_leaves_while_paused_and_everything_after(start, receiver):
    client = await start(statuses=AT_ONCE, webhooks={"batch": 100}, pair_limit=False)
    await client.control("POST", "webhooks/pause")
    for number, token in (("1001", None), ("1002", OTHER_TOKEN)):
        for n in range(70):
            await client.sent(
                f"1415555{n:04d}", number=number, **({"token": token} if token else {})
            )

    await client.until_reported(lambda _, w: w["updates_waiting"] == 420)
    assert receiver.posts == []
    await client.control("POST", "webhooks/resume")

    await receiver.until(lambda: len(receiver.statuses()) == 420)
    sizes = [_updates(raw) for _, raw, _ in receiver.posts]
    assert max(sizes) == 100
    assert sum(sizes) == 420
    assert len({(s["id"], s["status"]) for s in receiver.statuses()}) == 420
    entries = [[entry["id"] for entry in json.loads(raw)["entry"]] for _, raw, _ in receiver.posts]
    assert ["2001", "2002"] in entries


async def test_what_waits_is_bounded_and_what_is_dropped_is_counted(start):
    client = await start(statuses=AT_ONCE, webhooks={"queue": 10})
    await client.control("POST", "webhooks/pause")

    for _ in range(10):
        await client.sent()
    _, webhooks = await client.until_reported(lambda n, _: n["statuses"]["lost"] == 20)
    assert (webhooks["updates_waiting"], webhooks["dropped"]) == (10, 20)


async def test_a_receiver_that_is_behind_gets_no_more_posts_at_once_than_allowed(start, receiver):
    client = await start(statuses=AT_ONCE, webhooks={"concurrency": 2, "timeout_seconds": 1})
    receiver.answers.extend(["hang"] * 2)

    for n in range(50):
        await client.sent(f"1415555{n:04d}")

    await receiver.until(lambda: len(receiver.statuses()) == 150)
    hanging = [answer for _, _, answer in receiver.posts[:2]]
    assert hanging == ["hang", "hang"]


async def test_posts_can_be_doubled_and_updates_shuffled(start, receiver):
    client = await start(statuses=AT_ONCE, seed=3)
    await client.control("POST", "webhooks", json={"duplicate": 1, "shuffle": True})
    await client.control("POST", "webhooks/pause")
    for n in range(40):
        await client.sent(f"1415555{n:04d}")
    await client.until_reported(lambda _, w: w["updates_waiting"] == 120)

    await client.control("POST", "webhooks/resume")

    await receiver.until(lambda: len(receiver.statuses()) == 240)
    bodies = [raw for _, raw, _ in receiver.posts]
    assert all(bodies.count(raw) == 2 for raw in bodies)
    told = {s["id"]: receiver.told(s["id"]) for s in receiver.statuses()}
    assert len(told) == 40
    assert any(statuses[:2] != ["sent", "delivered"] for statuses in told.values())
    assert (await client.report())["statuses"]["acked"] == 120


async def test_no_post_is_larger_than_metas_three_megabytes(start, receiver):
    client = await start(webhooks={"batch": 1000})
    await client.control("POST", "webhooks/pause")
    # Beyond ASCII each character takes six bytes.
    message = {"phone_number_id": "1001", "from": "14155550100", "text": {"body": "\xe9" * 4096}}
    await client.control("POST", "inbound", json={**message, "count": 300})

    await client.control("POST", "webhooks/resume")

    await receiver.until(lambda: len(receiver.messages()) == 300)
    assert max(len(raw) for _, raw, _ in receiver.posts) <= 3 * 1024 * 1024
    assert (await client.report())["inbound"] == {"planned": 300, "acked": 300}


async def test_what_is_ready_to_leave_stays_while_paused_too(start, receiver):
    client = await start(
        statuses=AT_ONCE, webhooks={"batch": 1, "concurrency": 1, "timeout_seconds": 0.3}
    )
    receiver.answers.append("hang")
    await client.sent()
    await receiver.until(lambda: receiver.posts)
    await client.until_reported(lambda _, w: w["posts_ready"])
    await client.control("POST", "webhooks/pause")
    await client.until_reported(lambda _, w: w["failures"] and w["posts_to_repeat"])
    await client.sent("14155550199")
    await client.until_reported(lambda _, w: w["updates_waiting"] == 6)

    assert len(receiver.posts) == 1
    await client.control("POST", "webhooks/resume")
    await receiver.until(lambda: len(receiver.statuses()) == 6)


async def test_a_reset_forgets_what_became_of_earlier_posts(start, receiver):
    client = await start(statuses=AT_ONCE, webhooks={**FAST_RETRIES, "queue": 2})
    receiver.answers.append(500)
    await client.sent()
    await client.until_reported(lambda _, w: w["failures"] and w["dropped"])

    await client.control("POST", "reset")

    _, report = await client.control("GET", "report")
    counters = {name for name, value in report["webhooks"].items() if value}
    assert counters == set()
