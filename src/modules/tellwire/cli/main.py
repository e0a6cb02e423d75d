"""The command `tellwire`."""

import os
import sys

from shared.kernel.errors import Misconfigured, TellwireError
from tellwire.cli.commands import app
from tellwire.standard_files import hold_standard_files
from tellwire.terminal import complain


def main() -> None:
    """Run the command line; a refusal of ours is a sentence and exit code 1, not a traceback."""
    hold_standard_files()
    try:
        app()
    except Misconfigured as error:
        # A supervisor does not start again what cannot start (sysexits.h).
        complain(error)
        sys.exit(os.EX_CONFIG)
    except TellwireError as error:
        complain(error)
        sys.exit(1)
