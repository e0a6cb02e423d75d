"""Commands about the files that come with messages."""

from datetime import timedelta
from typing import Annotated

import typer

from shared.infrastructure.settings import MOST_DAYS
from shared.kernel.errors import Misconfigured
from tellwire.cli.installed import with_installation
from tellwire.installation import Installation
from tellwire.media import CleanUp, open_store
from tellwire.terminal import console
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyOverdue

media = typer.Typer(no_args_is_help=True, help="Media: the files that come with messages.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(media, name="media")


@media.command("purge")
def purge(
    days: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=MOST_DAYS,
            help="Keep so many days; default: TELLWIRE_MEDIA_RETENTION_DAYS.",
        ),
    ] = None,
) -> None:
    """Remove the files of all tenants that nobody used for so long; prints how many."""
    console.print(with_installation(lambda one: _purge(one, days)), highlight=False)


async def _purge(installation: Installation, days: float | None) -> int:
    settings = installation.settings
    keep_for = settings.media_retention if days is None else timedelta(days=days)
    if keep_for is None:
        raise Misconfigured("Set TELLWIRE_MEDIA_RETENTION_DAYS, or say --days")
    work = CleanUp(
        overdue=SQLAlchemyOverdue(installation.process_engine),
        store=open_store(settings),
        begin=installation.begin,
        keep_for=keep_for,
    )
    return await work()
