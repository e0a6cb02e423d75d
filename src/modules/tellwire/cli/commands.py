"""The command line: one Typer application, each command in the module of what it is about."""

import typer

from tellwire.cli import administration, demonstration, diagnosis, messages, processes

app = typer.Typer(
    name="tellwire",
    help="Self-hosted, multi-tenant WhatsApp Business messaging backend.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
processes.register(app)
administration.register(app)
messages.register(app)
diagnosis.register(app)
demonstration.register(app)
