"""A process that is asked to end, in whatever words, finishes what it began; `nohup` is heeded."""

import os
import signal
import subprocess
import sys

import pytest

from tellwire.stop_signals import stop_signals

WORKER = """
import asyncio, signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # Ignored under nohup.
from tellwire.terminal import run_until_signalled
async def work(stopping):
    print("up", flush=True)
    await stopping.wait()
    print("drained", flush=True)
run_until_signalled(work)
"""
API = """
import asyncio, signal, uvicorn
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # Ignored under nohup.
from tellwire.api_server import _ApiServer
from tellwire.terminal import run
async def app(scope, receive, send): ...
class Server(_ApiServer):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("up", flush=True)
async def serve():
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None)
    await Server(config, on_exit=lambda: None).serve()
    print("drained", flush=True)
run(serve())
"""


def started(code: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(  # noqa: S603  # our own interpreter and code
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize("code", [WORKER, API], ids=["worker", "api"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_is_asked_to_end_finishes_first(code, number) -> None:
    with started(code) as process:
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)

    assert (said, process.returncode) == ("drained\n", os.EX_OK)


def test_a_process_told_to_ignore_hang_ups_ignores_them() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert stop_signals() == (signal.SIGINT, signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)
