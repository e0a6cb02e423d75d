"""Standard input, output and error, which a process may be started without."""

import os
import sys
from typing import Final

_STREAMS: Final = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))


def hold_standard_files() -> None:
    """Let the ones that are closed lead nowhere; call it before anything is opened.

    Otherwise the next connection gets the place of one: what a library writes to standard error
    would go to PostgreSQL, and the event loop ends the process where it closes such a file.
    """
    for number, name, mode in _STREAMS:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest number that is free, which is this one.
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
