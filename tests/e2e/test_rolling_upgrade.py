"""The schema is upgraded under an API and a worker that go on sending, telling and taking in."""

import asyncio
import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from itertools import count

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from shared.infrastructure.settings import DatabaseRole
from stack import APP_ID, APP_SECRET, running_stack
from tellwire.database import alembic_config
from tellwire.embedded.postgres import SUPERUSER, EmbeddedPostgres

REVISIONS = [
    one.revision for one in ScriptDirectory.from_config(alembic_config("")).walk_revisions()
]
NEWEST, BEFORE = REVISIONS[:2]
GROWING = (
    "whatsapp_outbound_messages",
    "whatsapp_message_attempts",
    "whatsapp_status_events",
    "whatsapp_inbound_messages",
    "whatsapp_conversation_addresses",
    "whatsapp_conversations",
    "events",
    "webhook_deliveries",
    "webhook_quarantine",
    "whatsapp_media",
    "whatsapp_media_uploads",
    "whatsapp_account_events",
    "whatsapp_templates",
)
"""Nothing is ever taken out of these but by command or age."""
QUEUES = {"whatsapp_send_queue", "whatsapp_media_jobs", "webhook_inbox"}
"""What is in these may be done, and gone, at any instant."""
ACCOUNT = "2001"
PNG = b"\x89PNG\r\n" + bytes(range(256))
READ = "SELECT count(*) FROM events WHERE type = 'message.read'"
EACH_STEP = """
    SELECT type, count(*), count(DISTINCT subject_id) FROM events
    WHERE type IN ('message.sent', 'message.delivered', 'message.read') GROUP BY type
"""


async def counts(connection):
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {
        name: await connection.fetchval(f'SELECT count(*) FROM "{name}"')  # noqa: S608  # our own tables
        for (name,) in tables
    }


@asynccontextmanager
async def traffic(stack, sender):
    """Messages one after the other, and answers to some, until the block ends; gives their ids."""
    ids, said, ended = [], [], asyncio.Event()

    async def send() -> None:
        for number in count():
            if ended.is_set():
                return
            body = {"to": f"+49151{number:08}", "type": "text", "text": {"body": f"No. {number}"}}
            ids.append((await stack.post(sender, body, **{"Idempotency-Key": f"n{number}"}))["id"])
            if number % 5 == 0:
                said.append(number)
                wrote = {"from": f"49151{number:08}", "text": {"body": f"Answer {number}"}}
                number_id = sender.phone_number_id
                await stack.control("inbound", phone_number_id=number_id, type="text", **wrote)
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        yield ids, said
        ended.set()


async def more(ids, number=20) -> None:
    """Until so many more were accepted."""
    wanted = len(ids) + number
    while len(ids) < wanted:  # noqa: ASYNC110  # others add to it
        await asyncio.sleep(0.02)


async def until_told(connection, number) -> None:
    """Until so many were read, as far as is told of it."""
    while await connection.fetchval(READ) < number:  # noqa: ASYNC110  # PostgreSQL tells nobody
        await asyncio.sleep(0.1)


async def until_filled(connection) -> None:
    """Until what was sent, answered and furnished has come to where it stays."""
    while True:
        found = await counts(connection)
        if all(found[name] for name in GROWING):
            return
        await asyncio.sleep(0.1)


async def furnish(stack, sender) -> None:
    """What the tables hold besides plain messages: an endpoint, files, a stray, a template."""
    api, headers = stack.api, sender.headers
    endpoint = {"url": "https://127.0.0.1:9/hook"}
    async with stack.http.post(
        f"{api}/v1/webhook-endpoints", headers=headers, json=endpoint
    ) as answer:
        assert answer.status == 201, await answer.text()
    of_picture = headers | {"Content-Type": "image/png"}
    async with stack.http.post(f"{api}/v1/media", headers=of_picture, data=PNG) as answer:
        picture = (await answer.json())["id"]
    body = {"to": "+4915200000000", "type": "image", "image": {"id": picture}}
    sent = await stack.post(sender, body)
    assert [one["status"] for one in (await stack.follow(sender, [sent["id"]], within=30)).values()]
    said = {"from": "4915100000001", "type": "text", "text": {"body": "?"}}
    await stack.control("inbound", phone_number_id="999", **said)
    value = {"event": "APPROVED", "message_template_id": 1, "message_template_name": "welcome"}
    value |= {"message_template_language": "en", "reason": "NONE"}
    change = {"field": "message_template_status_update", "value": value}
    entry = {"id": ACCOUNT, "time": 1739321024, "changes": [change]}
    raw = json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()
    digest = hmac.new(APP_SECRET.encode(), raw, hashlib.sha256).hexdigest()
    signed = {"X-Hub-Signature-256": f"sha256={digest}"}
    async with stack.http.post(
        f"{api}/webhooks/whatsapp/{APP_ID}", data=raw, headers=signed
    ) as answer:
        assert answer.status == 200


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_nothing_is_lost_or_doubled_while_the_schema_is_upgraded(directory) -> None:
    settings = {"TELLWIRE_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
    async with running_stack(directory, workers=1, settings=settings) as stack:
        sender = await stack.new_sender("Ana's Bakery", "1001", provider_account_id=ACCOUNT)
        await furnish(stack, sender)
        postgres = EmbeddedPostgres(directory / "data" / "postgres")
        config = alembic_config(postgres.url(DatabaseRole.OWNER))
        superuser = await asyncpg.connect(postgres.url(SUPERUSER).replace("+asyncpg", ""))

        async def revision():
            return await superuser.fetchval("SELECT version_num FROM alembic_version")

        async with asyncio.timeout(120), traffic(stack, sender) as (ids, said):
            await more(ids)
            await until_filled(superuser)
            # What runs here is what a process of the new release is that has been started early.
            await asyncio.to_thread(command.downgrade, config, BEFORE)
            await more(ids)
            assert await revision() == BEFORE
            before = await counts(superuser)
            await asyncio.gather(*(stack.command("migrate") for _ in range(2)))
            assert await revision() == NEWEST
            await more(ids)
            await stack.command("migrate")
            await more(ids)
            after = await counts(superuser)
        await asyncio.wait_for(until_told(superuser, len(ids) + 1), 60)
        ended = await stack.follow(sender, ids, within=60)
        seen = await stack.seen_of(sender)
        doctor = await stack.command("doctor")
        steps = {kind: tuple(n) for kind, *n in await superuser.fetch(EACH_STEP)}
        threads = await superuser.fetchval("SELECT count(*) FROM whatsapp_inbound_messages")
        await superuser.close()

    assert {one["status"] for one in ended.values()} == {"read"}, stack.logs()
    sent = len(ids) + 1  # With the picture.
    assert seen["distinct_messages"] == seen["accepted"] == sent
    assert seen["doubled_messages"] == 0
    kinds = ("message.sent", "message.delivered", "message.read")
    assert steps == dict.fromkeys(kinds, (sent, sent))
    assert threads == len(said)
    assert "x" not in doctor.split(), doctor
    assert {name for name, n in before.items() if not n} <= QUEUES
    for name in GROWING:
        assert after[name] >= before[name] > 0, name
