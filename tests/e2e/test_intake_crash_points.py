"""The API is killed between the commit of a body and its 200; Meta cuts what it sends again anew.

Bodies are posted here and not by the simulator, which repeats them as they were.
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Sequence
from random import Random
from typing import Any

import aiohttp
import pytest

from crash_points import INTAKE
from fleet import Fleet, running_fleet
from shared.kernel.secret import Secret
from whatsapp.domain.entities.meta_app import MetaApp
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMetaAppRepository

APP_ID, SECRET, ACCOUNT = "100000000000001", "fleet", "102290129340398"
IN_A_BODY = 6
KEPT = {
    "inbound": "SELECT wamid FROM whatsapp_inbound_messages WHERE channel_id = $1",
    "status": "SELECT wamid FROM whatsapp_status_events WHERE channel_id = $1",
    "field": "SELECT raw ->> 'event' FROM whatsapp_account_events e JOIN whatsapp_channels c"
    " USING (tenant_id) WHERE c.id = $1",
}
"""What tells one element from another, of each kind."""
ANSWERED = aiohttp.ClientTimeout(total=30)


def elements_of(phone: str, turn: int) -> dict[str, list[dict[str, Any]]]:
    """Changes of every kind by what they are to end as; those of an account do not say when."""
    metadata = {"display_phone_number": "15550783881", "phone_number_id": phone}
    told = {"status": "delivered", "timestamp": "1795420800", "recipient_id": "4915100000001"}
    written = {"from": "4915100000001", "timestamp": "1795420800", "type": "text"}
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KEPT}
    for number in range(IN_A_BODY * turn, IN_A_BODY * (turn + 1)):
        status = {"id": f"wamid.out.{number}", **told}
        message = {"id": f"wamid.in.{number}", **written, "text": {"body": "Hi"}}
        for kind, values in (
            ("status", {"statuses": [status]}),
            ("inbound", {"messages": [message]}),
        ):
            found[kind].append({"field": "messages", "value": {"metadata": metadata, **values}})
        template = {"message_template_name": f"t{number}", "message_template_language": "en"}
        value = {"event": f"EVENT_{number}", **template}
        found["field"].append({"field": "message_template_status_update", "value": value})
    return found


def body_of(changes: Sequence[dict[str, Any]]) -> bytes:
    entry = {"id": ACCOUNT, "changes": list(changes)}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def cut_anew(changes: Sequence[dict[str, Any]], rng: Random) -> list[bytes]:
    """The same changes in another order and in bodies of another size."""
    mixed, bodies = rng.sample(changes, len(changes)), []
    while mixed:
        size = rng.randint(1, 2 * IN_A_BODY)
        bodies.append(body_of(mixed[:size]))
        mixed = mixed[size:]
    return bodies


class Intake:
    """The one API of a fleet, which is started and killed, and those who post to it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.url = f"http://127.0.0.1:{fleet.settings.api_port}"

    async def start(self, point: str = "-") -> int:
        pid = self.fleet.nursery.start_api(point, self.fleet.directory / "api.log")
        async with asyncio.timeout(60):
            while True:
                try:
                    async with self.fleet.http.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return pid
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def post(self, body: bytes) -> int:
        digest = hmac.digest(SECRET.encode(), body, hashlib.sha256).hex()
        url, headers = f"{self.url}/webhooks/whatsapp/{APP_ID}", {}
        headers["X-Hub-Signature-256"] = f"sha256={digest}"
        async with self.fleet.http.post(
            url, data=body, headers=headers, timeout=ANSWERED
        ) as answer:
            return answer.status

    async def die_of(self, body: bytes, point: str) -> None:
        """Post a body to an API that dies of it, without an answer."""
        pid = await self.start(point)
        with pytest.raises(aiohttp.ClientError):
            await self.post(body)
        await self.fleet.until_dead(pid)

    async def waiting(self) -> int:
        return (await self.fleet.sql("SELECT count(*) FROM webhook_inbox"))[0][0]

    async def until_processed(self) -> None:
        async with asyncio.timeout(60):
            while await self.waiting():  # noqa: ASYNC110  # of another process
                await asyncio.sleep(0.05)


@pytest.mark.timeout(360)
async def test_what_the_intake_died_of_counts_once_however_it_is_cut_when_it_comes_again(
    directory,
) -> None:
    """Also what does not say when; whether the killed bodies were processed meanwhile or not."""
    rng = Random(20261128)
    async with running_fleet(directory) as fleet:
        app = MetaApp(app_id=APP_ID, secret=Secret(SECRET), verify_token=Secret("fleet"))
        await SQLAlchemyMetaAppRepository(fleet.sessions).save_app(app)
        intake, worker = Intake(fleet), None
        channel = await fleet.new_channel(80, provider_account_id=ACCOUNT)
        expected: dict[str, list[str]] = {kind: [] for kind in KEPT}
        for turn, is_processed in enumerate((False, True)):
            told = elements_of(channel.phone_number_id, turn)
            changes = rng.sample([one for kind in told.values() for one in kind], 3 * IN_A_BODY)
            shares = [changes[number::3] for number in range(3)]
            before = await intake.waiting()
            for share, point in zip(shares, (INTAKE[1], INTAKE[1], INTAKE[0]), strict=True):
                await intake.die_of(body_of(share), point)
            if is_processed:
                await intake.until_processed()
            else:  # Two are written down, and the third is not.
                assert await intake.waiting() == before + 2

            api = await intake.start()
            for body in cut_anew(changes, rng):
                assert await intake.post(body) == 200
            fleet.kill_worker(api)
            await fleet.until_dead(api)
            worker = worker or fleet.start_worker()
            await intake.until_processed()

            for kind, query in KEPT.items():
                expected[kind] += map(name_of, told[kind])
                rows = await fleet.sql(query, channel.id)
                assert sorted(row[0] for row in rows) == sorted(expected[kind]), kind
        assert await fleet.sql("SELECT reason FROM webhook_quarantine") == []


def name_of(change: dict[str, Any]) -> str:
    value = change["value"]
    found = value.get("statuses") or value.get("messages")
    return found[0]["id"] if found else value["event"]
