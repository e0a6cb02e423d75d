"""Commands that set an installation up: schema, tenants, apps, keys."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from shared.infrastructure.database import Base
from shared.infrastructure.encryption import KeyFile
from shared.infrastructure.encryption.rotation import (
    RotationCounts,
    encrypted_columns,
    rotate,
    sessions_from,
)
from shared.infrastructure.settings import DatabaseRole, load_settings
from shared.kernel.clock import utc_now
from shared.kernel.errors import Misconfigured
from shared.kernel.secret import Secret
from tellwire.cli.channels import channel
from tellwire.cli.installed import TenantId, with_installation
from tellwire.cli.webhook_endpoints import commands as endpoint
from tellwire.database import load_models, migrate_async
from tellwire.embedded.services import reachable_services
from tellwire.installation import Installation
from tellwire.resources import key_file_of, load_key_ring
from tellwire.terminal import console, run
from tenancy.domain import ApiKey, Scope

tenant = typer.Typer(no_args_is_help=True, help="Tenants: the organisations that send.")
app_commands = typer.Typer(no_args_is_help=True, help="Meta apps, whose webhooks come in here.")
key = typer.Typer(no_args_is_help=True, help="API keys, with which a tenant's programs call.")
keys = typer.Typer(no_args_is_help=True, help="Encryption keys of the whole installation.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(migrate)
    app.add_typer(tenant, name="tenant")
    app.add_typer(channel, name="channel")
    app.add_typer(app_commands, name="app")
    app.add_typer(endpoint, name="endpoint")
    app.add_typer(key, name="key")
    app.add_typer(keys, name="keys")


def migrate(
    revision: Annotated[str, typer.Option(help="Where to go; the newest by default.")] = "head",
) -> None:
    """Bring the database's schema up to date, as its owner."""

    async def connected() -> None:
        async with reachable_services(load_settings()) as settings:
            await migrate_async(settings.database_url_of(DatabaseRole.OWNER), revision)

    run(connected())
    newest = revision == "head"
    console.print("The schema is up to date." if newest else f"The schema holds {revision}.")


@tenant.command("create")
def create_tenant(name: Annotated[str, typer.Argument(help="What people call it.")]) -> None:
    """Take in a tenant; prints its id."""
    created = with_installation(lambda installation: installation.create_tenant(name))
    console.print(str(created.id), highlight=False)


@tenant.command("list")
def list_tenants() -> None:
    """Print the tenants, one a line, the oldest first: id and name."""

    async def work(installation: Installation) -> None:
        async for one in installation.named_tenants():
            _print(f"{one.id} {one.name}")

    with_installation(work)


@app_commands.command("add")
def add_app(
    app_id: Annotated[str, typer.Argument(help="Meta's id of the app.")],
    secret: Annotated[
        str,
        typer.Option(
            envvar="TELLWIRE_APP_SECRET",
            prompt="App secret",
            hide_input=True,
            help="The app secret; better in the variable than on the command line.",
        ),
    ],
    verify_token: Annotated[
        str,
        typer.Option(
            envvar="TELLWIRE_VERIFY_TOKEN",
            prompt="Verify token",
            hide_input=True,
            help="What Meta has to show when it subscribes.",
        ),
    ],
) -> None:
    """Take in a Meta app, or change its secret: the one before it stays valid meanwhile."""
    with_installation(
        lambda installation: installation.add_app(
            app_id, secret=Secret(secret), verify_token=Secret(verify_token)
        )
    )
    settings = load_settings()
    console.print(
        f"Webhooks of this app go to http://{settings.api_host}:{settings.api_port}"
        f"/webhooks/whatsapp/{app_id} (behind your HTTPS proxy)",
        highlight=False,
        soft_wrap=True,
    )


@key.command("create")
def create_key(
    tenant_id: TenantId,
    name: Annotated[str, typer.Option(help="What it is for.")] = "command line",
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it may do; everything by default.")
    ] = None,
    expires: Annotated[
        datetime | None, typer.Option(help="When it ends, by the clock of this machine.")
    ] = None,
) -> None:
    """Make an API key; prints it once, it is stored as a digest only."""
    scopes = scope or list(Scope)
    until = None if expires is None else expires.astimezone()
    issued = with_installation(
        lambda installation: installation.create_api_key(
            tenant_id, name=name, scopes=[one.value for one in scopes], expires_at=until
        )
    )
    console.print(issued.text.reveal(), highlight=False, soft_wrap=True)


@key.command("list")
def list_api_keys(tenant_id: TenantId) -> None:
    """Print the tenant's keys, one a line, the oldest first: id, state, scopes, name."""

    async def work(installation: Installation) -> None:
        await installation.refuse_unknown_tenant(tenant_id)
        for one in await installation.list_api_keys(tenant_id):
            _print(f"{one.id} {_state(one, utc_now())} {','.join(sorted(one.scopes))} {one.name}")

    with_installation(work)


@key.command("revoke")
def revoke_api_key(
    key_id: Annotated[UUID, typer.Argument(help="The key's id, as key list shows it.")],
    tenant_id: TenantId,
) -> None:
    """Take an API key back for good; it counts nowhere any more after two seconds."""
    with_installation(lambda installation: installation.revoke_api_key(tenant_id, key_id))
    _print(f"{key_id} revoked")


def _state(one: ApiKey, at: datetime) -> str:
    if one.revoked_at is not None:
        return "revoked"
    if one.expires_at is None:
        return "valid"
    return (
        f"{'expired' if one.expires_at <= at else 'valid until'} {one.expires_at:%Y-%m-%dT%H:%MZ}"
    )


def _print(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


@keys.command("list")
def list_keys() -> None:
    """Show the ids of the keys, the primary first; never the keys."""
    ring = load_key_ring(load_settings())
    console.print("\n".join(str(key_id) for key_id in ring.ids), highlight=False)


@keys.command("add")
def add_encryption_key() -> None:
    """Step 1 of 3: add a key to the key file that can decrypt; restart every process afterwards."""
    file = _key_file()
    ring = file.load().with_key()
    file.save(ring)
    console.print(f"Key {max(ring.ids)} added. Restart every process, then promote it.")


@keys.command("promote")
def promote_encryption_key(
    key_id: Annotated[int, typer.Argument(help="The key that encrypts from now on.")],
) -> None:
    """Step 2 of 3: encrypt with this key; restart every process afterwards."""
    file = _key_file()
    file.save(file.load().promote(key_id))
    console.print(f"Key {key_id} is primary. Restart every process, then run keys rotate.")


@keys.command("rotate")
def rotate_keys() -> None:
    """Step 3 of 3: re-encrypt what is stored; runs beside the processes, may be run again.

    Ends with exit code 1 if anything is left under another key: keep the old keys then.
    """
    load_models()

    async def work(installation: Installation) -> RotationCounts:
        with console.status("Re-encrypting ...") as status:
            return await rotate(
                sessions_from(installation.sessions),
                columns=encrypted_columns(Base.metadata),
                tenants=installation.tenants(),
                progress=lambda done, total: status.update(f"Re-encrypting {done} of {total}"),
            )

    counts = with_installation(work)
    unreadable = counts.unreadable.total()
    said = f"{counts.rotated} re-encrypted, {counts.missed} missed, {unreadable} unreadable"
    console.print(said, highlight=False)
    if counts.missed or unreadable:
        raise typer.Exit(1)


def _key_file() -> KeyFile:
    settings = load_settings()
    if settings.encryption_keys is not None:
        raise Misconfigured("The keys are in TELLWIRE_ENCRYPTION_KEYS: change them there")
    return KeyFile(key_file_of(settings))
