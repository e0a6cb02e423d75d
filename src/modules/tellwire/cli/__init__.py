"""The command line: one Typer application, each command in the module of what it is about."""
