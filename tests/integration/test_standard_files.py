"""A process without standard files, or whose reader is gone, works all the same."""

import os
import subprocess
import sys

import pytest

HELD = """
import socket, sys
from tellwire.standard_files import hold_standard_files
hold_standard_files()
with socket.socket() as connection:
    is_apart = connection.fileno() > 2
print("something", file=sys.stdout, flush=True)
print("something", file=sys.stderr, flush=True)
sys.exit(3 if is_apart and sys.stdin.read() == "" else 4)
"""
ANNOUNCES = """
import sys
from tellwire.terminal import announce
sys.stdin.read()
announce("API on ...")
sys.exit(3)
"""
WITHOUT_KEYS = {
    "TELLWIRE_DATABASE_URL": "postgresql://tellwire_app@127.0.0.1:9/none",
    "TELLWIRE_REDIS_URL": "redis://127.0.0.1:9",
}
CLOSED = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]


def run(closed: str, *arguments: str) -> int:
    command = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, *arguments]
    environment = {n: v for n, v in os.environ.items() if not n.startswith("TELLWIRE_")}
    return subprocess.run(  # noqa: S603  # our own interpreter and code
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment | WITHOUT_KEYS,
        timeout=60,
        check=False,
    ).returncode


@pytest.mark.parametrize("closed", CLOSED)
def test_no_connection_gets_the_place_of_a_standard_file(closed) -> None:
    assert run(closed, "-c", HELD) == 3


@pytest.mark.parametrize("closed", CLOSED)
def test_a_command_without_standard_files_ends_by_what_it_found(closed) -> None:
    """There are no keys, which it finds after its log and its event loop have begun."""
    assert run(closed, "-m", "tellwire", "worker") == os.EX_CONFIG


def test_a_process_goes_on_although_nobody_reads_where_it_is() -> None:
    with subprocess.Popen(  # noqa: S603  # our own interpreter and code
        [sys.executable, "-c", ANNOUNCES], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.wait(60) == 3
