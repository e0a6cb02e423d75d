"""Forks Tellwire's commands from a process that has imported everything already.

Most of the time that a command takes is for its imports. Reads a line of JSON for each command
(`arguments`, `environment`, `directory`, `output`, `errors`) and answers each, when it has ended,
with its number in that order and its exit code. Commands die with this process.
"""

import ctypes
import json
import os
import select
import signal
import sys
from importlib import import_module
from itertools import count
from typing import Any

from tellwire.cli.commands import _MODULES
from tellwire.cli.main import main

PR_SET_PDEATHSIG = 1


def begin(wanted: dict[str, Any]) -> int:
    """Fork a command; gives a descriptor that is readable once it has ended."""
    pid = os.fork()
    if pid:
        return os.pidfd_open(pid)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in (1, "output"), (2, "errors"):
        os.dup2(os.open(wanted[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.chdir(wanted["directory"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv = ["tellwire", *wanted["arguments"]]
    code: Any = 1
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def serve() -> None:
    """Until standard input ends."""
    running: dict[int, int] = {}
    numbers, rest = count(), b""
    while True:
        for ready in select.select([0, *running], [], [])[0]:
            if ready:
                ended = os.waitid(os.P_PIDFD, ready, os.WEXITED)
                os.close(ready)
                code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
                print(json.dumps([running.pop(ready), code]), flush=True)  # noqa: T201  # the answer
                continue
            if not (read := os.read(0, 65536)):
                return
            *whole, rest = (rest + read).split(b"\n")
            for line in whole:
                running[begin(json.loads(line))] = next(numbers)


if __name__ == "__main__":
    for name in {name for names in _MODULES.values() for name in names}:
        import_module(f"tellwire.cli.{name}")
    serve()
