"""Commands that stay up, each a process by itself; each imports what it alone needs."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from tellwire.cli.logged import settings_of_log
from tellwire.terminal import announce, run, run_until_signalled


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(api)
    app.command()(worker)
    app.command()(simulator)


def api() -> None:
    """Run the HTTP API and the webhook intake in one process."""
    from tellwire.api_server import serve_api  # noqa: PLC0415  # see the module
    from tellwire.processes import api_listener  # noqa: PLC0415  # see the module

    settings = settings_of_log()
    api_listener(settings).refuse_if_taken()
    run(serve_api(settings))


def worker() -> None:
    """Run one worker: sending and retries, webhooks that came in, files, events that go out."""
    from tellwire.worker import run_worker  # noqa: PLC0415  # see the module

    settings = settings_of_log()

    async def work(stopping: asyncio.Event) -> None:
        await run_worker(settings, stopping)

    run_until_signalled(work)


def simulator(
    config: Annotated[
        Path | None, typer.Option(help="A JSON file; see the simulator's README.")
    ] = None,
) -> None:
    """Run a simulator of Meta's Cloud API; settings also as TELLWIRE_SIMULATOR_... variables."""
    from shared.infrastructure.observability import (  # noqa: PLC0415  # see the module
        configure_logging,
        log_what_ends_us,
    )
    from tellwire.supervisor import Listener  # noqa: PLC0415  # as above
    from whatsapp_simulator.config import SimulatorConfig  # noqa: PLC0415  # as above
    from whatsapp_simulator.server import serve as serve_simulator  # noqa: PLC0415  # as above

    # It has no settings of Tellwire's; what fails in it may quote what was sent all the same.
    configure_logging(level="warning")
    log_what_ends_us()
    wanted = SimulatorConfig.from_json(config) if config else SimulatorConfig.from_env()
    setting = f"port in {config}" if config else "TELLWIRE_SIMULATOR_PORT"
    Listener(wanted.host, wanted.port, setting).refuse_if_taken()

    async def work(stopping: asyncio.Event) -> None:
        def ready(url: str) -> None:
            announce(f"Simulator on {url}")

        await serve_simulator(wanted, ready=ready, stop=stopping)

    run_until_signalled(work)
