"""Commands for a tenant's numbers: take one in, change how it sends, stop it, let it go on."""

from typing import Annotated, Any, cast
from uuid import UUID

import typer

from shared.kernel.clock import utc_now
from tellwire.cli.installed import TenantId, with_installation
from tellwire.installation import Installation
from tellwire.terminal import console, errors
from whatsapp.domain.entities import (
    Channel,
    ChannelChanges,
    MarketingPolicy,
    UnknownPolicy,
    WindowPolicy,
)
from whatsapp.domain.entities.channel import DEFAULT_MESSAGES_PER_SECOND
from whatsapp.domain.value_objects import AccessToken

channel = typer.Typer(no_args_is_help=True, help="Channels: a tenant's WhatsApp numbers.")

ChannelId = Annotated[UUID, typer.Argument(help="The channel's id.")]
Token = Annotated[
    str,
    typer.Option(
        envvar="TELLWIRE_ACCESS_TOKEN",
        prompt="Access token",
        hide_input=True,
        help="The access token; better in the variable than on the command line.",
    ),
]
_RATE = typer.Option(help="Messages per second that Meta grants the number.")
_WINDOW = typer.Option(help="What to do with free text outside the 24-hour window.")
_MARKETING = typer.Option(help="What to do with marketing for people who want none.")
_UNKNOWN = typer.Option(help="What becomes of a message of which nobody knows if it was sent.")
_ORDER = typer.Option(help="Whether messages to one recipient keep their order.")
_ACCOUNT = typer.Option(help="Id of the WhatsApp Business Account.")
_APP = typer.Option(help="Id of the Meta app it belongs to.")


@channel.command("add")
def add_channel(
    tenant_id: TenantId,
    phone_number_id: Annotated[str, typer.Option(help="Meta's id of the number.")],
    name: Annotated[str, typer.Option(help="What people call it.")],
    token: Token,
    rate: Annotated[int, _RATE] = DEFAULT_MESSAGES_PER_SECOND,
    window_policy: Annotated[WindowPolicy, _WINDOW] = WindowPolicy.ENFORCE,
    marketing_policy: Annotated[MarketingPolicy, _MARKETING] = MarketingPolicy.ENFORCE,
    on_unknown: Annotated[UnknownPolicy, _UNKNOWN] = UnknownPolicy.CATEGORY,
    keeps_order: Annotated[bool, _ORDER] = True,  # noqa: FBT002  # Typer's way
    account: Annotated[str | None, _ACCOUNT] = None,
    app_id: Annotated[str | None, _APP] = None,
    verify: Annotated[bool, typer.Option(help="Ask Meta whether it may send.")] = True,  # noqa: FBT002  # Typer's way
) -> None:
    """Take in a number and verify it with Meta; prints the channel's id."""
    wanted = Channel(
        tenant_id=tenant_id,
        name=name,
        phone_number_id=phone_number_id,
        access_token=AccessToken(token),
        messages_per_second=rate,
        window_policy=window_policy,
        marketing_policy=marketing_policy,
        on_unknown=on_unknown,
        keeps_order=keeps_order,
        provider_account_id=account,
        app_id=app_id,
    )
    with_installation(lambda installation: _add(installation, wanted, verify=verify))


async def _add(installation: Installation, wanted: Channel, *, verify: bool) -> None:
    stored = await installation.add_channel(wanted)
    # Before anything else can fail: it is stored, and whoever verifies it later needs its id.
    console.print(str(stored.id), highlight=False)
    if verify:
        await _verify(installation, wanted.tenant_id, stored.id)


async def _verify(installation: Installation, tenant_id: UUID, channel_id: UUID) -> Channel:
    async with installation.verifying() as verifying:
        stored, info = await verifying(tenant_id, channel_id)
    for warning in info.warnings:
        errors.print(f"[yellow]Note:[/] {warning}")
    return stored


@channel.command("change")
def change_channel(
    channel_id: ChannelId,
    tenant_id: TenantId,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    rate: Annotated[int | None, _RATE] = None,
    window_policy: Annotated[WindowPolicy | None, _WINDOW] = None,
    marketing_policy: Annotated[MarketingPolicy | None, _MARKETING] = None,
    on_unknown: Annotated[UnknownPolicy | None, _UNKNOWN] = None,
    keeps_order: Annotated[bool | None, _ORDER] = None,
    account: Annotated[str | None, _ACCOUNT] = None,
    app_id: Annotated[str | None, _APP] = None,
) -> None:
    """Change how a channel sends, within a second; what is not named stays. Prints the channel."""
    given: dict[str, Any] = {
        "name": name,
        "messages_per_second": rate,
        "window_policy": window_policy,
        "marketing_policy": marketing_policy,
        "on_unknown": on_unknown,
        "keeps_order": keeps_order,
        "provider_account_id": account,
        "app_id": app_id,
    }
    changes = cast("ChannelChanges", {k: v for k, v in given.items() if v is not None})
    _show(with_installation(lambda one: one.change_channel(tenant_id, channel_id, changes)))


@channel.command("list")
def list_channels(tenant_id: TenantId) -> None:
    """Print the tenant's channels, one a line, oldest first."""

    async def work(installation: Installation) -> None:
        await installation.refuse_unknown_tenant(tenant_id)
        async with installation.begin(tenant_id) as work:
            for one in await work.channels.get_by_organization(tenant_id):
                _show(one)

    with_installation(work)


@channel.command("verify")
def verify_channel(channel_id: ChannelId, tenant_id: TenantId) -> None:
    """Ask Meta whether the number may send, and let it if so."""
    _show(with_installation(lambda one: _verify(one, tenant_id, channel_id)))


@channel.command("pause")
def pause_channel(
    channel_id: ChannelId,
    tenant_id: TenantId,
    reason: Annotated[str, typer.Option(help="Shown with it.")] = "Paused by an operator",
) -> None:
    """Stop sending on a channel and keep what waits."""
    _show(with_installation(lambda one: one.pause_channel(tenant_id, channel_id, reason=reason)))


@channel.command("resume")
def resume_channel(channel_id: ChannelId, tenant_id: TenantId) -> None:
    """Let a paused channel send again, what it kept first."""
    _show(with_installation(lambda one: one.resume_channel(tenant_id, channel_id)))


@channel.command("token")
def rotate_token(channel_id: ChannelId, tenant_id: TenantId, token: Token) -> None:
    """Have a channel speak with another token from now on."""
    new = AccessToken(token)
    _show(with_installation(lambda one: one.rotate_token(tenant_id, channel_id, new)))


def _show(one: Channel) -> None:
    """Print what decides how a channel sends; never its token."""
    words = [
        str(one.id),
        one.status.value,
        f"{one.messages_per_second}/s",
        f"window {one.window_policy.value}",
        f"unknown {one.on_unknown.value}",
        "in order" if one.keeps_order else "any order",
        one.name,
    ]
    if one.rest_at(utc_now()) and one.rests_until:
        words.append(f"rests until {one.rests_until:%Y-%m-%d %H:%M:%S %Z}")
    if one.pause_reason:
        words.append(f"({one.pause_reason})")
    console.print(" ".join(words), highlight=False, markup=False, soft_wrap=True)
