"""The command that runs everything at once."""

from typing import Annotated

import typer

from tellwire.cli.logged import settings_of_log
from tellwire.embedded.services import embedded_services
from tellwire.processes import api_child, worker_children
from tellwire.supervisor import Supervisor
from tellwire.terminal import announce, run


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)


def serve(
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
) -> None:
    """Run the API and workers, and PostgreSQL and Redis too unless their URLs are set."""
    settings = settings_of_log()

    async def everything() -> int:
        async with embedded_services(settings) as ready:
            children = [api_child(ready), *worker_children(ready, workers)]
            announce(f"API on http://{ready.api_host}:{ready.api_port} (Ctrl-C stops)")
            return await Supervisor(children, grace=ready.shutdown_grace).run()

    raise typer.Exit(run(everything()))
