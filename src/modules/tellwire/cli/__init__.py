"""The command `tellwire`."""

import sys

from shared.kernel.errors import TellwireError
from tellwire.cli.commands import app
from tellwire.cli.terminal import complain


def main() -> None:
    """Run the command line; a refusal of ours is a sentence and exit code 1, not a traceback."""
    try:
        app()
    except TellwireError as error:
        complain(error)
        sys.exit(1)
