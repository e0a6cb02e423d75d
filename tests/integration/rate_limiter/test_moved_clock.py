"""Redis's wall clock jumps, as an operator or NTP moves it: the bound holds in real time."""

import mmap
import os
import struct
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.redis, pytest.mark.xdist_group("rate_limiter")]

SOURCE = Path(__file__).with_name("moved_clock.c")
RATES = {"80": 80, "1000": 1000}
HOUR = 3600.0


class WallClock:
    """How far redis-server's wall clock stands from the machine's, in seconds."""

    def __init__(self, path):
        self.path = path
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8)

    def move(self, seconds):
        (moved,) = struct.unpack("q", self._shared)
        self._shared[:] = struct.pack("q", moved + round(seconds * 1_000_000))


@pytest.fixture
def clock(tmp_path):
    return WallClock(tmp_path / "moved")


@pytest.fixture
def moved_server(start_redis, clock, tmp_path, monkeypatch):
    library = tmp_path / "moved_clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"], check=True)  # noqa: S603, S607  # the machine's own compiler
    with monkeypatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(library))
        patch.setenv("MOVED_CLOCK", str(clock.path))
        server = start_redis()
    assert "LD_PRELOAD" not in os.environ
    return server


def test_the_clock_of_redis_does_move(moved_server, clock):
    with moved_server.client() as client:
        clock.move(-HOUR)
        assert abs(client.time()[0] - (time.time() - HOUR)) < 5


@pytest.mark.parametrize("jump", [-HOUR, -0.05, 0.3, 30 * 24 * HOUR])
def test_no_second_exceeds_the_rate_however_the_clock_jumps(
    moved_server, clock, start_workers, laws, jump
):
    workers = start_workers(moved_server.url, RATES, processes=2, senders=2)
    workers.wait_until_sending()
    time.sleep(0.5)
    jumped = time.monotonic()
    clock.move(jump)
    time.sleep(3.0)
    sent = workers.stop()

    for number, rate in RATES.items():
        assert laws["most"](sent[number]) <= rate
        # At the latest a second later, and after the slots from before, sending goes on.
        assert laws["used"](sent[number], rate, since=jumped + 2.0, until=jumped + 2.9) > 0.1
