"""Tellwire's command line for tests: each command is a process of its own, forked in a moment."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Self

TYPIST = Path(__file__).with_name("typist.py")


class Said(NamedTuple):
    """How a command ended, and what it wrote to either output."""

    code: int
    output: str
    errors: str


@dataclass(slots=True)
class CommandLine:
    """Runs commands in one directory; to be used as a context."""

    directory: Path
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)
    _reading: asyncio.Task[None] | None = field(default=None, init=False)
    _numbers: "count[int]" = field(default_factory=count, init=False)
    _ends: dict[int, asyncio.Future[int]] = field(default_factory=dict, init=False)

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(TYPIST)),
            env={key: value for key, value in os.environ.items() if "TELLWIRE" not in key},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._reading is not None
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading

    async def run(self, arguments: tuple[str, ...], environment: dict[str, str]) -> Said:
        """Run `tellwire ...` to its end."""
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._numbers)
        output, errors = (self.directory / f"command-{number}.{kind}" for kind in ("out", "err"))
        wanted: dict[str, Any] = {
            "arguments": arguments,
            "environment": environment,
            "directory": str(self.directory),
            "output": str(output),
            "errors": str(errors),
        }
        end = self._ends[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
        code = await end
        said = Said(code, output.read_text(), errors.read_text())
        output.unlink()
        errors.unlink()
        return said

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            number, code = json.loads(line)
            self._ends.pop(number).set_result(code)
        for end in self._ends.values():
            end.set_exception(subprocess.SubprocessError("the process that forks commands died"))
