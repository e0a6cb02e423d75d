"""The command line: one Typer application, each command in the module of what it is about."""

import typer

from tellwire.cli.administration import register as register_administration
from tellwire.cli.demonstration import register as register_demonstration
from tellwire.cli.diagnosis import register as register_diagnosis
from tellwire.cli.media import register as register_media
from tellwire.cli.messages import register as register_messages
from tellwire.cli.processes import register as register_processes
from tellwire.cli.webhooks import register as register_webhooks

app = typer.Typer(
    name="tellwire",
    help="Self-hosted, multi-tenant WhatsApp Business messaging backend.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for register in (
    register_demonstration,
    register_processes,
    register_administration,
    register_messages,
    register_media,
    register_webhooks,
    register_diagnosis,
):
    register(app)
