"""A whole installation in real processes, as an operator would run it, with a simulated Meta."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from command_line import CommandLine, Said
from ports import free_port
from shared.infrastructure.settings import load_settings
from tellwire.embedded.services import reachable_services
from tellwire.installation import open_installation
from tenancy.domain import Scope
from whatsapp.domain.entities import Channel, WindowPolicy
from whatsapp.domain.value_objects import AccessToken

APP_ID = "100000000000001"
APP_SECRET = "e2e-app-secret"
VERIFY_TOKEN = "e2e-verify-token"
READY_WITHIN_SECONDS = 60
FINAL = frozenset({"read", "played", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Sender:
    """A tenant with one channel and a key, as its own programs know it."""

    name: str
    tenant_id: str
    channel_id: str
    phone_number_id: str
    api_key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}


@dataclass(slots=True)
class Stack:
    """URLs, environment and processes of one installation."""

    directory: Path
    api: str
    simulator: str
    environment: dict[str, str]
    http: aiohttp.ClientSession
    command_line: CommandLine
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Run `tellwire ...` with its output in a file of the directory."""
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  # our own command
                [sys.executable, "-m", "tellwire", *arguments],
                env=self.environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def children(self, command: str) -> list[psutil.Process]:
        """The supervisor's living processes that run `command`, the oldest first."""
        found = []
        for child in psutil.Process(self.processes["serve"].pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # Killed, and not yet waited for.
                if child.cmdline()[-1:] == [command]:
                    found.append(child)
        return sorted(found, key=psutil.Process.create_time)

    async def command(self, *arguments: str, **variables: str) -> str:
        """Run a command to its end; gives what it printed."""
        said = await self.tell(*arguments, **variables)
        assert said.code == 0, f"tellwire {arguments[0]}: {said.errors}"
        return said.output.strip()

    async def tell(self, *arguments: str, **variables: str) -> Said:
        """Run a command that may fail."""
        async with asyncio.timeout(READY_WITHIN_SECONDS):
            return await self.command_line.run(arguments, self.environment | variables)

    async def until_ready(self, url: str, process: subprocess.Popen[bytes]) -> None:
        """Wait until `url` answers 200, or fail with the process's own words."""
        async with asyncio.timeout(READY_WITHIN_SECONDS):
            while True:
                assert process.poll() is None, self.logs()
                try:
                    async with self.http.get(url) as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    def logs(self) -> str:
        """What the processes said, for the message of a failed test."""
        files = sorted(self.directory.glob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text()[-4000:]}" for file in files)

    async def new_sender(
        self,
        name: str,
        number: str,
        *,
        window_policy: WindowPolicy = WindowPolicy.ALLOW,
        provider_account_id: str | None = None,
    ) -> Sender:
        """A tenant, its channel and its key; it may write to anybody."""
        given = load_settings(
            _env_file=None,
            data_directory=self.directory / "data",
            graph_base_url=self.simulator,
        )
        async with reachable_services(given) as settings, open_installation(settings) as here:
            tenant = (await here.create_tenant(name)).id
            channel = await here.add_channel(
                Channel(
                    tenant_id=tenant,
                    name="Main",
                    phone_number_id=number,
                    provider_account_id=provider_account_id,
                    access_token=AccessToken(f"EAAG{number}"),
                    app_id=APP_ID,
                    window_policy=window_policy,
                )
            )
            async with here.verifying() as verify:
                await verify(tenant, channel.id)
            key = await here.create_api_key(tenant, name="Tests", scopes=list(Scope))
        return Sender(name, str(tenant), str(channel.id), number, key.text.reveal())

    async def new_sender_by_command(self, name: str, number: str) -> Sender:
        """The same on the command line."""
        tenant = await self.command("tenant", "create", name)
        channel = await self.command(
            *("channel", "add", "--tenant", tenant, "--phone-number-id", number),
            *("--name", "Main", "--app-id", APP_ID, "--window-policy", "allow"),
            *("--marketing-policy", "allow"),
            TELLWIRE_ACCESS_TOKEN=f"EAAG{number}",
        )
        key = await self.command("key", "create", "--tenant", tenant)
        return Sender(name, tenant, channel.splitlines()[-1], number, key)

    async def post(self, sender: Sender, body: dict[str, Any], **headers: str) -> dict[str, Any]:
        """Accept one message through the HTTP API."""
        async with self.http.post(
            f"{self.api}/v1/messages",
            json={"channel_id": sender.channel_id, **body},
            headers=sender.headers | headers,
        ) as answer:
            stored = await answer.json()
            assert answer.status in {200, 202}, stored
            return stored

    async def get(self, sender: Sender, message_id: str) -> dict[str, Any]:
        """A message with its history."""
        url = f"{self.api}/v1/messages/{message_id}"
        async with self.http.get(url, headers=sender.headers) as answer:
            assert answer.status == 200
            return await answer.json()

    async def follow(
        self, sender: Sender, ids: Iterable[str], *, within: float
    ) -> dict[str, dict[str, Any]]:
        """The messages once all have come to their end, or as they are after `within` seconds.

        Looks at whole pages and not too often: the machine has better things to do meanwhile.
        """
        wanted, limit = set(ids), asyncio.get_running_loop().time() + within
        while True:
            found = {one["id"]: one for one in await self.all_of(sender) if one["id"] in wanted}
            if found.keys() == wanted and all(one["status"] in FINAL for one in found.values()):
                return found
            if asyncio.get_running_loop().time() > limit:
                return found
            await asyncio.sleep(0.5)

    async def all_of(self, sender: Sender) -> list[dict[str, Any]]:
        """Every message of a tenant, page by page."""
        query, found = {"limit": "200"}, []
        while True:
            async with self.http.get(
                f"{self.api}/v1/messages", params=query, headers=sender.headers
            ) as answer:
                assert answer.status == 200
                page = await answer.json()
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]

    async def control(self, path: str, **body: Any) -> dict[str, Any]:
        """The simulator's control API: a POST with a body, otherwise a GET."""
        method = "POST" if body else "GET"
        url = f"{self.simulator}/_simulator/{path}"
        async with self.http.request(method, url, json=body or None) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def seen_of(self, sender: Sender) -> dict[str, Any]:
        """What Meta saw of one number."""
        report = await self.control(f"report?phone_number_id={sender.phone_number_id}")
        return next(iter(report["numbers"]))

    def end(self) -> None:
        """Stop everything, the last started first; nothing is left."""
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes.values()):
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=10)


@asynccontextmanager
async def running_stack(
    directory: Path, *, workers: int = 2, settings: dict[str, str] | None = None
) -> AsyncIterator[Stack]:
    """Everything up: embedded PostgreSQL and Redis, API, workers, and a simulator."""
    api_port, simulator_port = free_port(), free_port()
    api, meta = f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{simulator_port}"
    configuration = {
        "app_secret": APP_SECRET,
        "app_id": APP_ID,
        "verify_token": VERIFY_TOKEN,
        "port": simulator_port,
        "open_numbers": True,
        "webhook_url": f"{api}/webhooks/whatsapp/{APP_ID}",
    }
    (directory / "simulator.json").write_text(json.dumps(configuration))
    environment = {key: value for key, value in os.environ.items() if "TELLWIRE" not in key} | {
        "TELLWIRE_DATA_DIRECTORY": str(directory / "data"),
        "TELLWIRE_API_PORT": str(api_port),
        "TELLWIRE_GRAPH_BASE_URL": meta,
        **(settings or {}),
    }
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as http, CommandLine(directory) as commands:
        stack = Stack(directory, api, meta, environment, http, commands)
        try:
            judge = stack.start("simulator", "simulator", "--config", "simulator.json")
            serve = stack.start("serve", "serve", "--workers", str(workers))
            await stack.until_ready(f"{meta}/_simulator/health", judge)
            await stack.until_ready(f"{api}/readyz", serve)
            await stack.command(
                *("app", "add", APP_ID),
                TELLWIRE_APP_SECRET=APP_SECRET,
                TELLWIRE_VERIFY_TOKEN=VERIFY_TOKEN,
            )
            yield stack
        finally:
            stack.end()
