"""Forks processes that have everything imported already, so that killing one a second is cheap.

Reads `<worker or api><tab><crash point or -><tab><log file>` from standard input and answers with
the process id of a new one; it is Tellwire's own, and dies with the nursery.
"""

import ctypes
import os
import signal
import sys

from crash_points import arm
from tellwire.cli.processes import api, worker

PR_SET_PDEATHSIG = 1
COMMANDS = {"worker": worker, "api": api}


def bear(command: str, point: str, log: str) -> int:
    """Fork a worker or an API that writes to the end of `log`; gives its process id."""
    pid = os.fork()
    if pid:
        return pid
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        arm(point)
        COMMANDS[command]()
    finally:
        os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # The dead are buried by the kernel.
    for line in sys.stdin:
        print(bear(*line.rstrip("\n").split("\t")), flush=True)  # noqa: T201  # the answer
