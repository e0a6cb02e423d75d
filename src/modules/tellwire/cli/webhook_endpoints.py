"""Commands about webhook endpoints, where a tenant's own systems hear what happened."""

from typing import Annotated
from uuid import UUID

import typer

from tellwire.cli.installed import TenantId, with_installation
from tellwire.installation import Installation
from tellwire.terminal import console
from whatsapp.application.create_endpoint import CreateEndpoint, NewEndpoint
from whatsapp.domain.events import AddressPolicy, EndpointFormat, EventType, WebhookEndpoint

MOST = 1000

commands = typer.Typer(
    no_args_is_help=True, help="Webhook endpoints: where tenants hear what happened."
)


@commands.command("add")
def add_endpoint(
    url: Annotated[str, typer.Argument(help="Where events are posted to.")],
    tenant_id: TenantId,
    event_type: Annotated[
        list[EventType] | None, typer.Option(help="What it hears; everything by default.")
    ] = None,
    channel: Annotated[
        list[UUID] | None, typer.Option(help="Of which channels; all by default.")
    ] = None,
    form: Annotated[
        EndpointFormat, typer.Option("--format", help="Tellwire's bodies, or Meta's.")
    ] = EndpointFormat.TELLWIRE,
    description: Annotated[str, typer.Option(help="What people call it.")] = "",
) -> None:
    """Take in an endpoint; prints its id and its secret, once."""
    wanted = NewEndpoint(
        url=url,
        description=description,
        event_types=frozenset(event_type or ()),
        channel_ids=frozenset(channel or ()),
        format=form,
    )

    async def work(installation: Installation) -> tuple[str, str]:
        policy = AddressPolicy.parse(installation.settings.webhook_allowed_networks)
        create = CreateEndpoint(begin=installation.begin, policy=policy)
        endpoint, secret = await create(tenant_id, wanted)
        return str(endpoint.id), secret.reveal()

    for line in with_installation(work):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@commands.command("list")
def list_endpoints(tenant_id: TenantId) -> None:
    """Show a tenant's endpoints and whether they work; never a secret."""

    async def work(installation: Installation) -> list[str]:
        await installation.refuse_unknown_tenant(tenant_id)
        async with installation.begin(tenant_id) as unit:
            return [_line(one) for one in await unit.endpoints.list(limit=MOST)]

    for line in with_installation(work):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _line(endpoint: WebhookEndpoint) -> str:
    state = "enabled" if endpoint.is_enabled else f"disabled ({endpoint.disabled_reason})"
    if endpoint.is_enabled and endpoint.failing_since is not None:
        state = f"failing since {endpoint.failing_since:%Y-%m-%d %H:%M} UTC"
    heard = ",".join(sorted(endpoint.event_types)) or "everything"
    return f"{endpoint.id} {state} {endpoint.format.value} {heard} {endpoint.url}"
