"""API and processor are killed at random while 10,000 events come in: each ends once, where due."""

import asyncio
import os
import signal
import subprocess
import sys
from random import Random

import pytest

from fleet import Fleet, running_fleet
from shared.kernel.secret import Secret
from whatsapp.domain.entities.meta_app import MetaApp
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMetaAppRepository

APP_ID = "100000000000001"
EVENTS, INBOUND_SHARE, AT_ONCE, IN_A_VALUE = 10_000, 0.3, 10, 4
KILLS = 14
META = {"retry_delays": [0, 0.2, 0.4, 0.8], "batch": 4, "timeout": 3}


class Crew:
    """One API and one worker, each of which is started again whenever it was killed."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.url = f"http://127.0.0.1:{fleet.settings.api_port}/readyz"

    def start(self, name: str) -> None:
        clean = {key: value for key, value in os.environ.items() if "TELLWIRE" not in key}
        with (self.fleet.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(  # noqa: S603  # our own command
                [sys.executable, "-m", "tellwire", name],
                env={**clean, **self.fleet.settings.to_environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """As a machine that loses its power would end it."""
        os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes[name].wait(timeout=10)

    def end(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is None:
                self.kill(name)

    async def until_ready(self) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    async with self.fleet.http.get(self.url) as answer:
                        if answer.status == 200:
                            return
                except OSError:
                    pass
                await asyncio.sleep(0.05)


async def post_events(fleet: Fleet, channels, rng: Random) -> dict[str, dict[str, set[str]]]:
    """Let Meta report 10,000 events of two tenants; gives what each has to have in the end.

    An update holds few of them, so that bodies are small and many: they come all the while.
    """
    expected = {c.phone_number_id: {"inbound": set(), "status": set()} for c in channels}
    inbound = int(EVENTS * INBOUND_SHARE)
    calls = [("inbound", start) for start in range(0, inbound, AT_ONCE)]
    calls += [("status", start) for start in range(inbound, EVENTS, IN_A_VALUE)]
    rng.shuffle(calls)
    for kind, first in calls:
        if kind == "inbound":
            messages = []
            for number in range(first, first + AT_ONCE):
                wamid, phone = f"wamid.in.{number}", channels[number % 2].phone_number_id
                expected[phone]["inbound"].add(wamid)
                sender = f"49151{number % 40:08}"
                messages.append({"id": wamid, "phone_number_id": phone, "from": sender})
            await fleet.control("inbound", {"messages": messages, "type": "text"})
            continue
        phone = channels[first // IN_A_VALUE % 2].phone_number_id
        wamids = [f"wamid.out.{number}" for number in range(first, first + IN_A_VALUE)]
        expected[phone]["status"].update(wamids)
        told = {"status": "delivered", "timestamp": "1795420800"}
        metadata = {"display_phone_number": "15550783881", "phone_number_id": phone}
        value = {"metadata": metadata, "statuses": [{"id": one, **told} for one in wamids]}
        await fleet.control("inbound", {"phone_number_id": phone, "value": value})
    return expected


async def stored(fleet: Fleet, table: str) -> list[tuple[str, str]]:
    """Every row, as (number of the channel whose tenant's row it is, wamid)."""
    rows = await fleet.sql(
        f"SELECT c.phone_number_id, r.wamid FROM {table} r"  # noqa: S608  # our own tables
        " JOIN whatsapp_channels c ON c.tenant_id = r.tenant_id AND c.id = r.channel_id"
    )
    return [tuple(row) for row in rows]


async def count(fleet: Fleet) -> int:
    rows = await fleet.sql(
        "SELECT (SELECT count(*) FROM whatsapp_inbound_messages)"
        " + (SELECT count(*) FROM whatsapp_status_events)"
    )
    return rows[0][0]


@pytest.mark.soak
@pytest.mark.timeout(720)
async def test_every_event_ends_exactly_once_in_its_tenant_whoever_is_killed(directory) -> None:
    rng = Random(5)
    async with running_fleet(
        directory, webhooks_to=f"/webhooks/whatsapp/{APP_ID}", webhooks=META, app_id=APP_ID
    ) as fleet:
        fleet.settings = fleet.settings.model_copy(update={"lease_seconds": 2.0})
        app = MetaApp(app_id=APP_ID, secret=Secret("fleet"), verify_token=Secret("fleet"))
        await SQLAlchemyMetaAppRepository(fleet.sessions).save_app(app)
        channels = [await fleet.new_channel(80) for _ in range(2)]
        await fleet.control("webhooks", {"duplicate": 0.2, "shuffle": True})
        crew = Crew(fleet)
        try:
            for name in ("api", "worker"):
                crew.start(name)
            await crew.until_ready()
            posting = asyncio.create_task(post_events(fleet, channels, rng))
            killed, full = await kill_at_random(crew, rng)
            expected = await posting
            async with asyncio.timeout(100):
                while await count(fleet) < EVENTS:  # noqa: ASYNC110  # of other processes
                    await asyncio.sleep(0.2)
                while (await fleet.sql("SELECT count(*) FROM webhook_inbox"))[0][0]:  # noqa: ASYNC110  # as above
                    await asyncio.sleep(0.2)
        finally:
            crew.end()

        # Kills that found nobody at work would show nothing.
        assert killed >= {"api", "worker"}
        assert full >= 3
        meta = (await fleet.control("report"))["webhooks"]
        assert meta["failures"] >= 3
        assert meta["duplicates"] > 0
        assert (meta["given_up"], meta["dropped"]) == (0, 0)
        for table, kind in (
            ("whatsapp_inbound_messages", "inbound"),
            ("whatsapp_status_events", "status"),
        ):
            rows = await stored(fleet, table)
            assert len(rows) == len(set(rows))
            for phone, events in expected.items():
                assert {wamid for number, wamid in rows if number == phone} == events[kind]
        assert await fleet.sql("SELECT reason FROM webhook_quarantine") == []


async def kill_at_random(crew: Crew, rng: Random) -> tuple[set[str], int]:
    """SIGKILL one or the other at moments that nobody chose.

    Gives who was killed, and how often a worker was while bodies waited for it.
    """
    killed, full = set[str](), 0
    for turn in range(KILLS):
        await asyncio.sleep(rng.uniform(0.1, 0.8))
        name = ("api", "worker")[turn % 2] if turn < 4 else rng.choice(["api", "worker"])
        crew.kill(name)
        if name == "worker":
            waiting = await crew.fleet.sql("SELECT count(*) FROM webhook_inbox WHERE attempts > 0")
            full += waiting[0][0] > 0
        killed.add(name)
        crew.start(name)
        if name == "api":
            await crew.until_ready()
    return killed, full
