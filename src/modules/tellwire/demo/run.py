"""The demonstration, beginning to end: set the scene, start everything, send, follow, report."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex, token_urlsafe
from typing import Any, Final

import aiohttp
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from shared.infrastructure.settings import Settings
from shared.kernel.secret import Secret
from tellwire.demo.report import TenantReport, as_table, tenant_report
from tellwire.demo.scene import (
    APP_ID,
    RATE,
    DemoTenant,
    Scene,
    demo_tenant,
    new_access_token,
    new_phone_number_id,
    simulator_configuration,
    write_simulator_file,
)
from tellwire.demo.traffic import send_and_follow
from tellwire.embedded.services import embedded_services
from tellwire.installation import Installation, open_installation
from tellwire.processes import api_child, simulator_child, worker_children
from tellwire.supervisor import Supervisor
from tellwire.terminal import console
from tenancy.domain import Scope
from whatsapp.domain.entities import Channel, WindowPolicy
from whatsapp.domain.value_objects import AccessToken

TENANTS: Final = ("Ana's Bakery", "Bea's Bikes")
HTTP_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
SIMULATOR_HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoChoices:
    """How much to send, with how many workers, and whether to stay up afterwards."""

    stay: bool
    messages: int
    workers: int
    simulator_port: int


async def run_demo(settings: Settings, choices: DemoChoices) -> int:
    """Run the demonstration; gives the exit code, 0 only for a clean report."""
    simulator = f"http://{SIMULATOR_HOST}:{choices.simulator_port}"
    settings = settings.model_copy(update={"graph_base_url": simulator, "log_level": "warning"})
    console.print("Starting PostgreSQL, Redis, API, workers and the simulator ...")
    async with embedded_services(settings) as ready:
        directory = settings.data_directory.absolute()
        scene = await _set_scene(ready)
        file = write_simulator_file(
            directory, simulator_configuration(scene, ready, choices.simulator_port)
        )
        children = [
            simulator_child(file, host=SIMULATOR_HOST, port=choices.simulator_port),
            api_child(ready),
            *worker_children(ready, choices.workers),
        ]

        async def perform() -> int:
            return await _perform(scene, ready, choices, simulator)

        return await Supervisor(children, grace=ready.shutdown_grace).run(perform)


async def _perform(scene: Scene, settings: Settings, choices: DemoChoices, simulator: str) -> int:
    api = f"http://{settings.api_host}:{settings.api_port}"
    async with aiohttp.ClientSession(timeout=HTTP_TIMEOUT) as http:
        reports = await _traffic(http, scene, choices, api=api, simulator=simulator)
    console.print(as_table(reports))
    clean = all(report.is_clean for report in reports)
    console.print("[green]Clean.[/]" if clean else "[bold red]Not clean.[/]")
    if choices.stay:
        _say_where_things_are(scene, api, simulator)
        await asyncio.Event().wait()
    return 0 if clean else 1


async def _traffic(
    http: aiohttp.ClientSession, scene: Scene, choices: DemoChoices, *, api: str, simulator: str
) -> Sequence[TenantReport]:
    total = choices.messages * len(scene.tenants)
    before = await _simulator_report(http, simulator)
    bars = Progress(
        TextColumn("{task.description:>9}"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    with bars:
        accepted = bars.add_task("accepted", total=total)
        read = bars.add_task("read", total=total)

        def progress(taken: int, finished: int) -> None:
            bars.update(accepted, completed=taken)
            bars.update(read, completed=finished)

        followed = await send_and_follow(
            http,
            api,
            scene.tenants,
            run=token_hex(4),
            messages=choices.messages,
            progress=progress,
        )
    after = await _simulator_report(http, simulator)
    return [tenant_report(one, before, after) for one in followed]


async def _simulator_report(http: aiohttp.ClientSession, simulator: str) -> dict[str, Any]:
    async with http.get(f"{simulator}/_simulator/report") as answer:
        report: dict[str, Any] = await answer.json()
        return report


async def _set_scene(settings: Settings) -> Scene:
    """The scene of an earlier run in this directory, or a new one, stored in the installation."""
    directory = settings.data_directory.absolute()
    scene = Scene.load(directory)
    if scene is not None:
        return scene
    scene = Scene(
        app_secret=token_hex(16), verify_token=token_urlsafe(16), tenants=await _tenants(settings)
    )
    async with open_installation(settings) as installation:
        await installation.add_app(
            APP_ID, secret=Secret(scene.app_secret), verify_token=Secret(scene.verify_token)
        )
    scene.save(directory)
    return scene


async def _tenants(settings: Settings) -> tuple[DemoTenant, ...]:
    async with open_installation(settings) as installation:
        return tuple([await _new_tenant(installation, name) for name in TENANTS])


async def _new_tenant(installation: Installation, name: str) -> DemoTenant:
    tenant = await installation.create_tenant(name)
    number, token = new_phone_number_id(), new_access_token()
    channel = Channel(
        tenant_id=tenant.id,
        name=f"{name} main number",
        phone_number_id=number,
        access_token=AccessToken(token),
        messages_per_second=RATE,
        # The demonstration writes to people who never wrote.
        window_policy=WindowPolicy.ALLOW,
        app_id=APP_ID,
    )
    # The simulator that would vouch for the number is not up yet; it will know this very number.
    channel.verify(installation.now())
    stored = await installation.add_channel(channel)
    issued = await installation.create_api_key(
        tenant.id, name="demonstration", scopes=[scope.value for scope in Scope]
    )
    return demo_tenant(
        name=name,
        tenant_id=tenant.id,
        channel_id=stored.id,
        number=number,
        token=token,
        api_key=issued.text.reveal(),
    )


def _say_where_things_are(scene: Scene, api: str, simulator: str) -> None:
    one = scene.tenants[0]
    console.print(f"\nAPI        {api}   (documentation: {api}/docs)", highlight=False)
    console.print(f"Simulator  {simulator}/_simulator/report", highlight=False)
    console.print("\nSend a message as the first tenant:", highlight=False)
    console.print(
        f"  curl -X POST {api}/v1/messages -H 'Authorization: Bearer {one.api_key}' \\\n"
        "    -H 'Content-Type: application/json' \\\n"
        f'    -d \'{{"channel_id": "{one.channel_id}", "to": "+4915112345678", "type": "text", '
        '"text": {"body": "Hello"}}\'',
        highlight=False,
        soft_wrap=True,
    )
    console.print("\nCtrl-C stops everything.", highlight=False)
