"""The command line: one Typer application, each command in the module of what it is about."""

from importlib import import_module
from typing import Any, Final, TypeAlias, cast

import typer
from typer.core import TyperCommand, TyperGroup

_Command: TypeAlias = TyperCommand | TyperGroup

_MODULES: Final = {
    "demo": ("demonstration",),
    "serve": ("serving",),
    "api": ("processes",),
    "worker": ("processes",),
    "simulator": ("processes",),
    "migrate": ("administration",),
    "tenant": ("administration",),
    "channel": ("administration",),
    "app": ("administration", "webhooks"),
    "endpoint": ("administration",),
    "key": ("administration",),
    "keys": ("administration",),
    "send": ("messages",),
    "media": ("media",),
    "webhook": ("webhooks",),
    "doctor": ("diagnosis",),
}
"""Each command and the modules of this package that make it, in the order of the help."""


class _OnDemand(TyperGroup):
    """Imports the modules of the command that is called, and not what all the others need."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # Typer's signature
        """Every command there is."""
        return list(_MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> _Command | None:  # noqa: ARG002  # as above
        """The command, whose modules are imported now; None if there is none of this name."""
        if cmd_name not in _MODULES:
            return None
        part = typer.Typer()
        for module in _MODULES[cmd_name]:
            import_module(f"tellwire.cli.{module}").register(part)
        return cast("_Command", typer.main.get_group(part).commands[cmd_name])


app = typer.Typer(
    cls=_OnDemand,
    name="tellwire",
    help="Self-hosted, multi-tenant WhatsApp Business messaging backend.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_LOGGING: Final = {"demo", "serve", "api", "worker"}
"""These say by themselves which variables are no settings, in the form of their log."""


@app.callback()
def _of_all_commands(ctx: typer.Context) -> None:
    """Before each command: variables that are no settings, so that a misspelt one is noticed."""
    if ctx.invoked_subcommand not in _LOGGING:
        import_module("tellwire.cli.unread").warn_of_unread_variables()
