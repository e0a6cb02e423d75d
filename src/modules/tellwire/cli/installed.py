"""What commands share that work on an installation."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar
from uuid import UUID

import typer

from shared.infrastructure.settings import load_settings
from tellwire.embedded.services import reachable_services
from tellwire.installation import Installation, open_installation
from tellwire.terminal import run

ResultT = TypeVar("ResultT")
TenantId = Annotated[UUID, typer.Option("--tenant", help="The tenant's id.")]


def with_installation(work: Callable[[Installation], Awaitable[ResultT]]) -> ResultT:
    """Run `work` on the installation of the settings, embedded or not, running or not."""

    async def connected() -> ResultT:
        async with (
            reachable_services(load_settings()) as settings,
            open_installation(settings) as installation,
        ):
            return await work(installation)

    return run(connected())
