"""API and processor are killed at random while 10,000 events come in: each ends once, where due."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from random import Random
from typing import Any

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


def events_of(channels, rng: Random) -> tuple[dict[str, dict[str, set[str]]], list[Any]]:
    """What each of two tenants has to have in the end, and what Meta is told to report for that.

    Of 10,000 events an update holds few, so that bodies are small and many.
    """
    expected = {c.phone_number_id: {"inbound": set(), "status": set()} for c in channels}
    inbound, reports = int(EVENTS * INBOUND_SHARE), list[Any]()
    for first in range(0, inbound, AT_ONCE):
        messages = []
        for number in range(first, first + AT_ONCE):
            wamid, phone = f"wamid.in.{number}", channels[number % 2].phone_number_id
            expected[phone]["inbound"].add(wamid)
            sender = f"49151{number % 40:08}"
            messages.append({"id": wamid, "phone_number_id": phone, "from": sender})
        reports.append({"messages": messages, "type": "text"})
    for first in range(inbound, EVENTS, IN_A_VALUE):
        phone = channels[first // IN_A_VALUE % 2].phone_number_id
        wamids = [f"wamid.out.{number}" for number in range(first, first + IN_A_VALUE)]
        expected[phone]["status"].update(wamids)
        told = {"status": "delivered", "timestamp": "1795420800"}
        metadata = {"display_phone_number": "15550783881", "phone_number_id": phone}
        value = {"metadata": metadata, "statuses": [{"id": one, **told} for one in wamids]}
        reports.append({"phone_number_id": phone, "value": value})
    rng.shuffle(reports)
    return expected, reports


async def report(fleet: Fleet, reports: list[Any]) -> None:
    for one in reports:
        await fleet.control("inbound", one)


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
            expected, reports = events_of(channels, rng)
            killed, full = await kill_at_random(crew, reports, rng)
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


async def kill_at_random(crew: Crew, reports: list[Any], rng: Random) -> tuple[set[str], int]:
    """SIGKILL one or the other while Meta reports, at moments that nobody chose.

    Gives who was killed, and how often a worker was while it had bodies in hand.
    """
    killed, full = set[str](), 0
    share = -(-len(reports) // KILLS)
    for turn in range(KILLS):
        async with asyncio.TaskGroup() as group:
            group.create_task(report(crew.fleet, reports[turn * share : (turn + 1) * share]))
            await asyncio.sleep(rng.uniform(0.05, 0.4))
            name = ("api", "worker")[turn % 2] if turn < 4 else rng.choice(["api", "worker"])
            if name == "worker":
                await until_at_work(crew.fleet)
            crew.kill(name)
            full += name == "worker" and await in_hand(crew.fleet) > 0
            killed.add(name)
            crew.start(name)
        if name == "api":
            await crew.until_ready()
    return killed, full


async def until_at_work(fleet: Fleet) -> None:
    """Wait for the worker to have bodies in hand; not for ever, as it may have been quicker."""
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            while not await in_hand(fleet):
                pass


async def in_hand(fleet: Fleet) -> int:
    """How many bodies have been taken to be processed."""
    return (await fleet.sql("SELECT count(*) FROM webhook_inbox WHERE attempts > 0"))[0][0]
