"""Connections that say half of a request and no more, as the end-to-end tests open them."""

import asyncio
import resource
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

HALF_OPEN, SPARE_FILES = 10_000, 1000
OPEN_WITHIN_SECONDS = 60
SCRIPT = Path(__file__).parents[1] / "tests" / "e2e" / "half_open.py"


@dataclass(frozen=True, slots=True)
class Crowd:
    """The process that holds them, and how many it opened."""

    number: int
    pid: int

    def standing(self) -> int:
        """How many the server has not ended yet."""
        connections = psutil.Process(self.pid).net_connections("tcp4")
        return sum(one.status == psutil.CONN_ESTABLISHED for one in connections)


def possible() -> int:
    """As many as both sides may have files: the server raises its limit to the same."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return HALF_OPEN if most == resource.RLIM_INFINITY else min(HALF_OPEN, most - SPARE_FILES)


@asynccontextmanager
async def half_open(port: int, number: int) -> AsyncGenerator[Crowd]:
    """So many such connections to a port; the server ends each when it has waited long enough."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT), str(port), str(number)), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None  # noqa: S101  # it is a pipe
        async with asyncio.timeout(OPEN_WITHIN_SECONDS):
            said = await process.stdout.readline()
        if said != f"open {number}\n".encode():
            raise RuntimeError("the half-open connections could not be opened")
        yield Crowd(number, process.pid)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
