"""The supervisor with real processes: it starts, watches, restarts, ends and leaves nobody."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from shared.kernel.errors import Misconfigured
from tellwire.supervisor import (
    Child,
    Listener,
    Patience,
    ProcessKeepsFailing,
    ProcessNotReady,
    Supervisor,
    answers_http,
)

GRACE = timedelta(seconds=20)
QUICK = Patience(
    first_pause=timedelta(milliseconds=10),
    longest_pause=timedelta(milliseconds=20),
    most_ends=3,
    ready_within=timedelta(seconds=20),
)
STAY = "import os, time; print(os.getpid(), flush=True); time.sleep(100)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + STAY
POLITE = """
import signal, sys, time
def end(*_):
    print("drained", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
time.sleep(100)
"""
SUPERVISE = """
import asyncio, signal, sys
from datetime import timedelta
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # Ignored under nohup.
from tellwire.supervisor import Child, Supervisor
children = [
    Child(f"child{n}", [sys.executable, "-c", code]) for n, code in enumerate(sys.argv[3:])
]
async def work():
    await asyncio.Event().wait()
supervisor = Supervisor(
    children,
    grace=timedelta(seconds=float(sys.argv[1])),
    write=lambda name, line: print(name, line, flush=True),
)
sys.exit(asyncio.run(supervisor.run(work if sys.argv[2] == "work" else None)))
"""


# Its lines meet a full disk, or a reader that is gone.
UNHEARD = SUPERVISE.replace("print(name, line, flush=True)", "os.write(1, line.encode())").replace(
    "import asyncio, signal", "import asyncio, os, signal"
)
# More than a pipe and its reader hold together.
TALKATIVE = """
import pathlib, time
for _ in range(5000):
    print("x" * 200)
pathlib.Path({mark!r}).touch()
time.sleep(100)
"""


class Said:
    """Collects what children write, and waits for it."""

    def __init__(self):
        self.lines = []
        self._more = asyncio.Event()

    def __call__(self, name, line):
        self.lines.append((name, line))
        self._more.set()

    async def wait_for(self, condition):
        async with asyncio.timeout(20):
            while not condition(self.lines):
                self._more.clear()
                await self._more.wait()


def python(name, code, **options):
    return Child(name, [sys.executable, "-c", code], **options)


def supervisor(children, said=None, *, grace=GRACE, patience=QUICK):
    return Supervisor(children, grace=grace, patience=patience, write=said or Said())


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


async def test_work_is_done_beside_the_children_and_its_result_is_the_exit_code():
    said = Said()

    async def work():
        await said.wait_for(lambda lines: {name for name, _ in lines} == {"one", "two"})
        return 7

    assert await supervisor([python("one", STAY), python("two", STAY)], said).run(work) == 7
    assert all(is_gone(pid) for _, pid in said.lines)


async def test_children_drain_when_the_work_is_over():
    said = Said()

    async def work():
        await said.wait_for(lambda lines: ("one", "up") in lines)
        return 0

    await supervisor([python("one", POLITE)], said).run(work)
    assert said.lines[-1] == ("one", "drained")


async def test_an_error_of_the_work_is_passed_on_after_the_children_ended():
    said = Said()

    async def work():
        await said.wait_for(lambda lines: lines)
        raise LookupError("of the work")

    with pytest.raises(LookupError, match="of the work"):
        await supervisor([python("one", STAY)], said).run(work)
    assert is_gone(said.lines[0][1])


async def test_work_begins_only_when_each_child_is_ready(tmp_path):
    marks = [tmp_path / "one", tmp_path / "two"]

    def child(mark):
        async def ready():
            return mark.exists()

        code = f"import pathlib, time; pathlib.Path({str(mark)!r}).touch(); time.sleep(100)"
        return python(mark.name, code, ready=ready)

    async def work():
        return 0 if all(mark.exists() for mark in marks) else 1

    assert await supervisor([child(mark) for mark in marks]).run(work) == 0


async def test_a_child_that_never_gets_ready_is_an_error_with_its_last_words():
    said = Said()

    async def ready():
        raise ConnectionRefusedError

    patience = Patience(ready_within=timedelta(seconds=1))
    child = python("slow", "print('still warming up', flush=True);" + STAY, ready=ready)
    with pytest.raises(ProcessNotReady, match=r"slow was not ready.*still warming up"):
        await supervisor([child], said, patience=patience).run(asyncio.Event().wait)
    assert is_gone(said.lines[1][1])


async def test_where_nothing_waits_for_it_a_child_that_is_not_ready_is_spoken_of_and_kept():
    said, asked = Said(), []

    async def ready():
        asked.append(True)
        return False

    patience = Patience(ready_within=timedelta(milliseconds=500))
    child = python("slow", "print('no writes', flush=True);" + STAY, ready=ready)
    running = asyncio.create_task(supervisor([child], said, patience=patience).run())
    async with asyncio.timeout(30):
        while len(said.lines) < 3:  # noqa: ASYNC110  # another process's words
            await asyncio.sleep(0.01)
    assert not running.done()
    (pid,) = [line for _, line in said.lines if line.isdigit()]
    assert not is_gone(pid)
    (told,) = [line for _, line in said.lines if "not ready" in line]
    assert told.startswith("slow was not ready within 0.5 s; it said: no writes")
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    assert is_gone(pid)


async def test_a_crashed_child_is_started_again(tmp_path):
    said = Said()
    count = tmp_path / "count"
    code = f"""
import os, time
with open({str(count)!r}, "a") as file:
    file.write("x")
if os.path.getsize({str(count)!r}) < 3:
    os.kill(os.getpid(), 9)
print("third", flush=True)
time.sleep(100)
"""

    async def work():
        await said.wait_for(lambda lines: ("one", "third") in lines)
        return 0

    assert await supervisor([python("one", code)], said).run(work) == 0
    told = [line for _, line in said.lines if "starts again" in line]
    assert told == [
        "ended with code -9; starts again in 0.01 s",
        "ended with code -9; starts again in 0.02 s",
    ]


async def test_a_child_that_keeps_failing_ends_all_with_its_last_words():
    said = Said()
    bad = python("bad", "print('cannot go on', flush=True); raise SystemExit(3)")
    with pytest.raises(ProcessKeepsFailing, match=r"bad ended 4 times.*code 3.*cannot go on"):
        await supervisor([python("good", STAY), bad], said).run()
    (pid,) = {line for name, line in said.lines if name == "good"}
    assert is_gone(pid)


async def test_a_child_that_refuses_its_settings_is_not_started_again():
    said = Said()
    code = f"print('TELLWIRE_X is wrong', flush=True); raise SystemExit({os.EX_CONFIG})"
    with pytest.raises(Misconfigured, match=r"refuses its settings.*TELLWIRE_X is wrong"):
        await supervisor([python("one", code)], said).run()
    assert len(said.lines) == 1


async def test_a_program_that_does_not_exist_keeps_failing_and_hangs_nobody():
    with pytest.raises(ProcessKeepsFailing, match="No such file"):
        await supervisor([Child("none", ["/no/such/program"])]).run()


async def test_who_does_not_end_within_the_grace_period_is_killed_with_what_it_started():
    said = Said()
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]]);"
    stubborn = Child("one", [sys.executable, "-c", code + STUBBORN, STAY])

    async def work():
        await said.wait_for(lambda lines: len(lines) == 2)
        return 0

    await supervisor([stubborn], said, grace=timedelta(milliseconds=300)).run(work)
    until(lambda: all(is_gone(pid) for _, pid in said.lines))


async def test_a_child_gets_its_own_variables_and_ours(monkeypatch):
    said = Said()
    monkeypatch.setenv("TELLWIRE_TEST_OURS", "ours")
    code = "import os, time; print(*(os.environ[n] for n in ('TELLWIRE_TEST_OURS', 'ITS')));"

    async def work():
        await said.wait_for(lambda lines: lines)
        return 0

    child = python("one", code + "time.sleep(100)", environment={"ITS": "own"})
    await supervisor([child], said).run(work)
    assert said.lines == [("one", "ours own")]


async def test_readiness_over_http_is_a_200_and_nothing_else(unused_tcp_port):
    code = f"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", {unused_tcp_port}), Handler).serve_forever()
"""

    async def ready():
        return await answers_http("127.0.0.1", unused_tcp_port)

    async def work():
        return int(await answers_http("127.0.0.1", unused_tcp_port, "/other"))

    listener = Listener("127.0.0.1", unused_tcp_port)
    child = python("api", code, ready=ready, listener=listener)
    assert not await ready()
    assert await supervisor([child]).run(work) == 0


def supervised(*codes, grace=20, work=""):
    command = [sys.executable, "-c", SUPERVISE, str(grace), work, *codes]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  # our own


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("work", "code"), [("", 0), ("work", None)])
def test_a_signal_drains_the_children_and_ends_us(number, work, code):
    with supervised(POLITE, work=work) as process:
        assert process.stdout.readline() == "child0 up\n"
        process.send_signal(number)
        assert process.stdout.read() == "child0 drained\n"
    assert process.returncode == (128 + number if code is None else code)


def test_a_second_signal_does_not_wait_for_the_grace_period():
    with supervised(STUBBORN, grace=1000) as process:
        pid = process.stdout.readline().split()[1]
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert is_gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_children_die_with_a_supervisor_that_is_killed():
    with supervised(STAY, STAY) as process:
        pids = [process.stdout.readline().split()[1] for _ in range(2)]
        process.kill()
        process.wait()
        until(lambda: all(is_gone(pid) for pid in pids))


@pytest.mark.parametrize("reader", ["a full disk", "nobody"])
def test_children_go_on_and_end_although_nothing_can_be_written_anymore(tmp_path, reader):
    mark = tmp_path / "done"
    command = [sys.executable, "-c", UNHEARD, "20", "serve", TALKATIVE.format(mark=str(mark))]
    if reader == "nobody":
        gone, into = os.pipe()
        os.close(gone)
    else:
        into = os.open("/dev/full", os.O_WRONLY)
    running = subprocess.Popen(command, stdout=into)  # noqa: S603  # our own code
    os.close(into)
    try:
        until(mark.exists)
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.wait()
