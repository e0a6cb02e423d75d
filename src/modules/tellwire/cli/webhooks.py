"""Commands about webhooks that come in: the secrets they are signed with, and what is left over."""

import json
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from shared.kernel.secret import Secret
from tellwire.cli.administration import app_commands
from tellwire.cli.installed import with_installation
from tellwire.terminal import console
from whatsapp.domain.webhook_inbox import LeftOverFilter

webhook = typer.Typer(no_args_is_help=True, help="Webhooks from Meta: what waits, what is left.")

AppId = Annotated[str, typer.Argument(help="Meta's id of the app.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(webhook, name="webhook")


@app_commands.command("list")
def list_apps() -> None:
    """Show the Meta apps, and which of them have two live secrets; never the secrets."""
    table = Table("App", "Live secrets")
    for one in with_installation(lambda installation: installation.apps.list_apps()):
        table.add_row(one.app_id, str(len(one.secrets)))
    console.print(table)


@app_commands.command("rotate")
def rotate_secret(
    app_id: AppId,
    secret: Annotated[
        str,
        typer.Option(
            envvar="TELLWIRE_APP_SECRET",
            prompt="New app secret",
            hide_input=True,
            help="The new secret; better in the variable than on the command line.",
        ),
    ],
) -> None:
    """Step 1 of 2: take the new secret, beside the old one; then change it at Meta."""
    _rotate(app_id, Secret(secret))
    console.print("Both secrets count now. Change it at Meta, then run tellwire app settle.")


@app_commands.command("settle")
def drop_previous_secret(app_id: AppId) -> None:
    """Step 2 of 2: let the new secret alone count, once Meta signs with it."""
    _rotate(app_id, None)
    console.print("One secret counts now; within ten seconds everywhere.")


def _rotate(app_id: str, secret: Secret | None) -> None:
    with_installation(lambda installation: installation.rotate_app_secret(app_id, secret))


@webhook.command("status")
def show_status() -> None:
    """Show how many bodies wait to be processed, and what nobody could be given, by reason."""
    waiting = with_installation(lambda installation: installation.webhooks.count_waiting())
    seconds = waiting.oldest.total_seconds()
    console.print(f"{waiting.number} bodies wait, the oldest for {seconds:.0f} s", highlight=False)
    table = Table("Reason", "Field", "Number", "First", "Last")
    for one in with_installation(lambda installation: installation.quarantine.count_set_aside()):
        first, last = (f"{at:%Y-%m-%d %H:%M}" for at in (one.first_at, one.last_at))
        table.add_row(one.reason, one.field_name, str(one.number), first, last)
    console.print(table)


@webhook.command("quarantine")
def show_quarantine(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 20,
) -> None:
    """Print what nobody could be given, one JSON object a line; it holds people's messages."""
    found = with_installation(
        lambda installation: installation.quarantine.list_left_over(limit=limit)
    )
    for one in found:
        element = one.element
        shown = {
            "id": str(one.id),
            "reason": element.reason,
            "app_id": element.app_id,
            "field": element.field_name,
            "phone_number_id": element.phone_number_id,
            "waba_id": element.waba_id,
            "put_aside_at": one.put_aside_at.isoformat(),
            "requeues": one.requeues,
            "raw": element.raw.decode(errors="replace"),
        }
        typer.echo(json.dumps(shown))


@webhook.command("requeue")
def requeue_quarantined(  # one parameter for each option
    *,
    ids: Annotated[
        list[UUID] | None,
        typer.Argument(metavar="[ID]...", help="Which, by the ids that webhook quarantine shows."),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Put aside for this reason.")] = None,
    app_id: Annotated[str | None, typer.Option("--app", help="Came from this Meta app.")] = None,
    number: Annotated[str | None, typer.Option(help="About this phone number id.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Put aside then or later (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Put aside before then (UTC).")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that can be requeued.")] = False,
) -> None:
    """Process anew what was put aside, as if it had come in now; what fails again comes back.

    Options narrow each other down. Nothing is stored or told twice.
    """
    given = (ids, reason, app_id, number, since, until)
    if everything == any(one is not None for one in given):
        raise typer.BadParameter("Say which by ids or options, or --all")
    wanted = LeftOverFilter(
        ids=tuple(ids or ()),
        reason=reason,
        app_id=app_id,
        phone_number_id=number,
        since=_utc(since),
        until=_utc(until),
    )
    moved = with_installation(
        lambda installation: installation.requeue_quarantined(wanted, limit=limit)
    )
    console.print(f"{moved} elements wait to be processed anew", highlight=False)


def _utc(given: datetime | None) -> datetime | None:
    return None if given is None else given.replace(tzinfo=UTC)
