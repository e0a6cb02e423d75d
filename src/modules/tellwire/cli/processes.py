"""Commands that stay up: everything at once, or each process by itself."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from shared.infrastructure.observability import configure_logging
from shared.infrastructure.settings import Settings, load_settings
from tellwire.embedded.services import embedded_services
from tellwire.processes import api_child, api_listener, worker_children
from tellwire.supervisor import Supervisor
from tellwire.terminal import console, run, run_until_signalled
from tellwire.worker import run_worker


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command()(api)
    app.command()(worker)
    app.command()(simulator)


def _settings() -> Settings:
    settings = load_settings()
    configure_logging(level=settings.log_level, form=settings.log_format)
    return settings


def serve(
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
) -> None:
    """Run the API and workers, and PostgreSQL and Redis too unless their URLs are set."""
    settings = _settings()

    async def everything() -> int:
        async with embedded_services(settings) as ready:
            children = [api_child(ready), *worker_children(ready, workers)]
            console.print(f"API on http://{ready.api_host}:{ready.api_port} (Ctrl-C stops)")
            return await Supervisor(children, grace=ready.shutdown_grace).run()

    raise typer.Exit(run(everything()))


def api() -> None:
    """Run the HTTP API and the webhook intake in one process."""
    # A web framework that no other command should wait for.
    from tellwire.api_server import serve_api  # noqa: PLC0415  # see above

    settings = _settings()
    api_listener(settings).refuse_if_taken()
    run(serve_api(settings))


def worker() -> None:
    """Run one worker: sending and retries, webhooks that came in, files, events that go out."""
    settings = _settings()

    async def work(stopping: asyncio.Event) -> None:
        await run_worker(settings, stopping)

    run_until_signalled(work)


def simulator(
    config: Annotated[
        Path | None, typer.Option(help="A JSON file; see the simulator's README.")
    ] = None,
) -> None:
    """Run a simulator of Meta's Cloud API; settings also as TELLWIRE_SIMULATOR_... variables."""
    from whatsapp_simulator.config import SimulatorConfig  # noqa: PLC0415  # for this command alone
    from whatsapp_simulator.server import serve as serve_simulator  # noqa: PLC0415  # as above

    wanted = SimulatorConfig.from_json(config) if config else SimulatorConfig.from_env()

    async def work(stopping: asyncio.Event) -> None:
        def ready(url: str) -> None:
            console.print(f"Simulator on {url}", highlight=False)

        await serve_simulator(wanted, ready=ready, stop=stopping)

    run_until_signalled(work)
