"""The command line as an operator uses it, on a running installation and beside it."""

import asyncio
import hashlib
import hmac
import json
import os
import sys
from collections import Counter

import pytest

from ports import free_port
from shared.kernel.ids import new_id
from stack import APP_ID, APP_SECRET
from tellwire.supervisor import answers_http

READ = "messages:read"

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def tellwire(stack, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run a command that may fail; gives its exit code and all it said."""
    said = await stack.tell(*arguments, **variables)
    return said.code, said.output + said.errors


@pytest.mark.timeout(540)
async def test_an_operator_sets_up_sends_and_looks_after_an_installation(stack) -> None:
    sender = await stack.new_sender_by_command("Ana's Bakery", "1001")

    code, said = await tellwire(stack, "doctor")
    assert (code, said.count("ok ")) == (0, 7), said

    code, said = await tellwire(stack, "migrate")
    assert code == 0, said
    code, said = await tellwire(stack, "migrate", "--revision", "nosuch")
    assert (code, said.split(":")[0]) == (1, "unknown_revision")
    assert "Traceback" not in said

    send = ("send", "+4915112345678", "Hello", "--channel", sender.channel_id)
    key = {"TELLWIRE_API_KEY": sender.api_key}
    code, said = await tellwire(stack, *send, "--idempotency-key", "k1", **key)
    again = await tellwire(stack, *send, "--idempotency-key", "k1", **key)
    assert code == again[0] == 0, said
    message_id = said.split()[0]
    assert again[1].split()[0] == message_id
    ended = await stack.follow(sender, [message_id], within=30)
    assert ended[message_id]["status"] == "read"

    code, said = await tellwire(stack, *send, TELLWIRE_API_KEY="tw_wrong")
    assert (code, said.split(":")[0]) == (1, "unauthenticated")
    assert "tw_wrong" not in said

    code, said = await tellwire(
        stack,
        *("channel", "add", "--tenant", str(new_id()), "--phone-number-id", "77"),
        *("--name", "Nobody's", "--no-verify"),
        TELLWIRE_ACCESS_TOKEN="EAAG-canary",
    )
    assert (code, said.split(":")[0]) == (1, "tenant_not_found")
    assert "EAAG-canary" not in said

    await change_pause_and_resume(stack, sender)
    await find_and_revoke_a_key(stack, sender)

    code, said = await tellwire(stack, "keys", "rotate")
    assert code == 0, said
    assert said.startswith("0 re-encrypted")

    code, said = await tellwire(stack, "serve")
    assert code == 1
    assert "embedded_service_running" in said


async def find_and_revoke_a_key(stack, sender) -> None:
    """Keys and tenants are found again by command; a revoked key opens nothing."""
    code, said = await tellwire(stack, "tenant", "list")
    assert code == 0
    assert f"{sender.tenant_id} Ana's Bakery" in said.splitlines()

    tenant = ("--tenant", sender.tenant_id)
    leaked = await stack.command("key", "create", *tenant, "--name", "leaked", "--scope", READ)
    lines = (await stack.command("key", "list", *tenant)).splitlines()
    key_id, *rest = lines[-1].split()
    assert rest == ["valid", READ, "leaked"]
    assert leaked not in lines

    for _ in range(2):
        code, said = await tellwire(stack, "key", "revoke", key_id, *tenant)
        assert (code, said.strip()) == (0, f"{key_id} revoked")
    assert f"{key_id} revoked {READ} leaked" in await stack.command("key", "list", *tenant)
    headers = {"Authorization": f"Bearer {leaked}"}
    async with stack.http.get(f"{stack.api}/v1/messages", headers=headers) as answer:
        assert answer.status == 401

    code, said = await tellwire(stack, "key", "revoke", str(new_id()), *tenant)
    assert (code, said.split(":")[0]) == (1, "api_key_not_found")


@pytest.mark.timeout(540)
@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        ("channel list --tenant", "tenant_not_found"),
        ("endpoint list --tenant", "tenant_not_found"),
        ("key list --tenant", "tenant_not_found"),
        ("app settle", "meta_app_not_found"),
        ("app rotate --secret canary", "meta_app_not_found"),
    ],
)
async def test_what_does_not_exist_is_told_under_its_code(stack, command, refusal) -> None:
    code, said = await tellwire(stack, *command.split(), str(new_id()))

    assert (code, said.split(":")[0]) == (1, refusal)
    assert "canary" not in said


@pytest.mark.timeout(540)
@pytest.mark.parametrize("app_id", ["", "a b", "a/b", "x" * 65])
async def test_an_app_that_no_webhook_could_name_is_refused(stack, app_id) -> None:
    code, said = await tellwire(
        stack,
        *("app", "add", "--", app_id),
        TELLWIRE_APP_SECRET="canary",
        TELLWIRE_VERIFY_TOKEN="canary",
    )

    assert (code, said.split(":")[0]) == (1, "invalid_meta_app (app_id)")
    assert "canary" not in said


@pytest.mark.timeout(540)
async def test_the_address_of_an_apps_webhooks_is_told_in_one_line(stack) -> None:
    said = await stack.command(
        *("app", "add", "a" * 64), TELLWIRE_APP_SECRET="canary", TELLWIRE_VERIFY_TOKEN="canary"
    )

    address = f"{stack.api}/webhooks/whatsapp/{'a' * 64}"
    assert said == f"Webhooks of this app go to {address} (behind your HTTPS proxy)"


@pytest.mark.timeout(540)
async def test_a_channel_that_meta_does_not_verify_is_stored_and_its_id_told(stack) -> None:
    tenant = await stack.command("tenant", "create", "Dora's Dairy")
    said = await stack.tell(
        *("channel", "add", "--tenant", tenant, "--phone-number-id", "1009", "--name", "Main"),
        TELLWIRE_ACCESS_TOKEN="EAAG1009",
        TELLWIRE_GRAPH_BASE_URL=f"http://127.0.0.1:{free_port()}",
    )
    assert (said.code, said.errors.split(":")[0]) == (1, "meta_unreachable")

    listed = await stack.command("channel", "list", "--tenant", tenant)

    assert listed.split()[:2] == [said.output.strip(), "pending"]


@pytest.mark.timeout(540)
async def test_migrating_to_an_older_revision_does_not_claim_to_be_the_newest(stack) -> None:
    code, said = await tellwire(stack, "migrate", "--revision", "0001")

    assert (code, said.strip()) == (0, "The schema holds 0001.")


@pytest.mark.timeout(360)
@pytest.mark.parametrize("days", ["inf", "nan", "1e300", "-1"])
async def test_days_that_are_no_time_are_refused(stack, days) -> None:
    code, said = await tellwire(stack, "media", "purge", "--days", days)

    assert code == 2
    assert "Traceback" not in said


async def change_pause_and_resume(stack, sender) -> None:
    """A channel's settings by command line, seen by HTTP."""
    tenant = ("--tenant", sender.tenant_id)

    async def channel(*arguments: str, **variables: str) -> dict:
        code, said = await tellwire(stack, "channel", *arguments, *tenant, **variables)
        assert code == 0, said
        assert "EAAG" not in said
        url = f"{stack.api}/v1/channels/{sender.channel_id}"
        async with stack.http.get(url, headers=sender.headers) as answer:
            return await answer.json()

    assert (await channel("list"))["marketing_policy"] == "allow"
    changed = await channel(
        *("change", sender.channel_id, "--rate", "250", "--on-unknown", "hold"),
        *("--window-policy", "allow", "--no-keeps-order", "--name", "Renamed"),
        *("--marketing-policy", "enforce"),
    )
    assert changed["marketing_policy"] == "enforce"
    assert (changed["messages_per_second"], changed["on_unknown"]) == (250, "hold")
    assert (changed["window_policy"], changed["keeps_order"]) == ("allow", False)
    assert changed["name"] == "Renamed"
    again = await channel("change", sender.channel_id, "--keeps-order")
    assert again | {"keeps_order": False, "updated_at": changed["updated_at"]} == changed

    paused = await channel("pause", sender.channel_id, "--reason", "Stocktaking")
    assert (paused["status"], paused["pause_reason"]) == ("paused", "Stocktaking")
    await channel("token", sender.channel_id, TELLWIRE_ACCESS_TOKEN="EAAG-canary-2")
    await channel("verify", sender.channel_id)
    assert (await channel("resume", sender.channel_id))["status"] == "active"
    await channel("list")

    code, said = await tellwire(stack, "channel", "change", str(new_id()), *tenant, "--rate", "9")
    assert (code, said.split(":")[0]) == (1, "channel_not_found")
    code, said = await tellwire(stack, "channel", "change", sender.channel_id, *tenant, "--rate=0")
    assert (code, said.split(":")[0]) == (1, "invalid_channel (messages_per_second)")


@pytest.mark.timeout(360)
async def test_a_taken_port_is_named_before_anything_starts(stack) -> None:
    elsewhere = {"TELLWIRE_DATA_DIRECTORY": str(stack.directory / "other")}

    code, said = await tellwire(stack, "serve", **elsewhere)

    assert code == 1
    assert "port_taken" in said
    assert "TELLWIRE_API_PORT" in said


@pytest.mark.timeout(360)
async def test_a_taken_port_of_the_simulator_is_named(stack) -> None:
    taken = stack.api.rpartition(":")[2]
    given = {"TELLWIRE_SIMULATOR_PORT": taken, "TELLWIRE_SIMULATOR_APP_SECRET": "canary"}

    code, said = await tellwire(stack, "simulator", **given)

    assert (code, said.split(":")[0]) == (1, "port_taken"), said
    assert "set TELLWIRE_SIMULATOR_PORT" in said
    assert "canary" not in said


@pytest.mark.timeout(540)
@pytest.mark.parametrize("command", ["api", "worker"])
async def test_a_process_that_cannot_start_says_why_in_one_line(stack, command) -> None:
    free = {"TELLWIRE_API_PORT": str(free_port())}

    code, said = await tellwire(stack, command, **free)

    assert code == os.EX_CONFIG
    assert said.splitlines() == [said.strip()]
    assert said.startswith("misconfigured: TELLWIRE_DATABASE_URL is not set")


@pytest.mark.timeout(360)
@pytest.mark.parametrize("command", ["api", "worker", "migrate", "tenant create x"])
async def test_a_database_that_is_gone_is_told_in_one_line(stack, command) -> None:
    port = free_port()

    code, said = await tellwire(
        stack,
        *command.split(),
        TELLWIRE_DATABASE_URL=f"postgresql://tellwire_app:canary@127.0.0.1:{port}/tellwire",
        TELLWIRE_REDIS_URL=f"redis://127.0.0.1:{port}",
        TELLWIRE_ENCRYPTION_KEY_FILE=str(stack.directory / "data" / "encryption.keys"),
        TELLWIRE_API_PORT=str(port),
    )

    assert (code, said.strip()) == (
        1,
        "database_unavailable: The database does not answer; try again",
    )


@pytest.mark.timeout(540)
async def test_an_api_whose_port_is_taken_names_it(stack) -> None:
    code, said = await tellwire(stack, "api")

    assert (code, said.split(":")[0]) == (1, "port_taken")


@pytest.mark.timeout(540)
async def test_an_api_that_is_told_to_stop_closes_everything_and_ends_well(stack) -> None:
    (running,) = stack.children("api")
    port = free_port()
    environment = running.environ() | {"TELLWIRE_API_PORT": str(port)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tellwire", "api"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(40):
        while not await answers_http("127.0.0.1", port):  # noqa: ASYNC110  # it is another process's
            await asyncio.sleep(0.05)
        process.terminate()
        said, _ = await process.communicate()

    assert process.returncode == 0
    assert "[error" not in said.decode()
    assert "Traceback" not in said.decode()


@pytest.mark.timeout(540)
async def test_what_answers_in_the_place_of_the_api_is_not_taken_for_it(stack) -> None:
    port = stack.simulator.rsplit(":", 1)[1]

    code, said = await tellwire(
        stack,
        *("send", "+4915112345678", "Hello", "--channel", str(new_id())),
        TELLWIRE_API_KEY="tw_any",
        TELLWIRE_API_PORT=port,
    )

    assert (code, said.split(":")[0]) == (1, "api_unreachable")
    assert "Traceback" not in said


@pytest.mark.timeout(540)
async def test_a_killed_worker_is_replaced_and_nothing_is_lost_or_doubled(stack) -> None:
    sender = await stack.new_sender("Bea's Bikes", "1002")
    bodies = [
        {"to": f"+4915100{n:06d}", "type": "text", "text": {"body": f"{n}"}} for n in range(200)
    ]

    accepted = [await stack.post(sender, body) for body in bodies]
    for _ in range(2):
        await asyncio.sleep(0.4)
        stack.children("worker")[0].kill()
    ended = await stack.follow(sender, [one["id"] for one in accepted], within=100)

    # What a worker had marked and not sent is held until a deadline: neither lost nor doubled.
    statuses = Counter(message["status"] for message in ended.values())
    assert statuses["read"] + statuses["unknown"] == 200, stack.logs()
    seen = await stack.seen_of(sender)
    assert seen["distinct_messages"] == statuses["read"]
    assert seen["doubled_messages"] == 0


def signed(body: dict) -> tuple[bytes, dict[str, str]]:
    """A webhook as Meta would post it."""
    raw = json.dumps(body).encode()
    digest = hmac.new(APP_SECRET.encode(), raw, hashlib.sha256).hexdigest()
    return raw, {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}


@pytest.mark.timeout(1200)
async def test_what_came_before_its_channel_is_delivered_by_command(stack) -> None:
    number = "515100"
    message = {
        "from": "14155550123",
        "id": f"wamid.{new_id()}",
        "timestamp": "1795420800",
        "type": "text",
        "text": {"body": "Early"},
    }
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": number},
        "contacts": [{"profile": {"name": "Cleo"}, "wa_id": "14155550123"}],
        "messages": [message],
    }
    entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
    raw, headers = signed({"object": "whatsapp_business_account", "entry": [entry]})
    url = f"{stack.api}/webhooks/whatsapp/{APP_ID}"
    async with stack.http.post(url, data=raw, headers=headers) as answer:
        assert answer.status == 200

    async def left_over() -> list[dict]:
        code, said = await tellwire(stack, "webhook", "quarantine", "--limit", "1000")
        assert code == 0, said
        found = [json.loads(line) for line in said.splitlines()]
        return [one for one in found if one["phone_number_id"] == number]

    async with asyncio.timeout(60):
        while not (lying := await left_over()):  # noqa: ASYNC110  # another process works
            await asyncio.sleep(0.2)
    assert (lying[0]["requeues"], json.loads(lying[0]["raw"])["id"]) == (0, message["id"])
    code, said = await tellwire(stack, "webhook", "requeue")
    assert (code, "--all" in said) == (2, True)

    sender = await stack.new_sender_by_command("Early Birds", number)
    code, said = await tellwire(stack, "webhook", "requeue", "--number", number)
    assert (code, said.split()[0]) == (0, "1"), said

    async with asyncio.timeout(60):
        while True:
            url = f"{stack.api}/v1/conversations"
            async with stack.http.get(url, headers=sender.headers) as answer:
                if found := (await answer.json())["data"]:
                    break
            await asyncio.sleep(0.2)
    assert found[0]["contact"]["name"] == "Cleo", found
    assert await left_over() == []
    code, said = await tellwire(stack, "webhook", "requeue", lying[0]["id"])
    assert (code, said.split()[0]) == (0, "0"), said
