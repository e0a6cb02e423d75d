"""`tellwire demo`: everything at once, with two tenants and traffic, and a report at the end."""

from typing import Annotated

import typer

from tellwire.cli.logged import settings_of_log
from tellwire.demo.run import DemoChoices, run_demo
from tellwire.terminal import run

DEFAULT_MESSAGES = 150


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(demo)


def demo(
    stay: Annotated[bool, typer.Option(help="Stay up afterwards, until Ctrl-C.")] = False,  # noqa: FBT002  # Typer's way
    messages: Annotated[int, typer.Option(min=1, help="Messages per tenant.")] = DEFAULT_MESSAGES,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    simulator_port: Annotated[
        int, typer.Option(envvar="TELLWIRE_SIMULATOR_PORT", help="Port of the simulator.")
    ] = 8090,
) -> None:
    """Send messages for two tenants through a simulator and follow them until they are read.

    Exits 0 only if every message was read, none was doubled or lost, and no second held more than
    the rate.
    """
    settings = settings_of_log("warning")
    choices = DemoChoices(
        stay=stay, messages=messages, workers=workers, simulator_port=simulator_port
    )
    raise typer.Exit(run(run_demo(settings, choices)))
