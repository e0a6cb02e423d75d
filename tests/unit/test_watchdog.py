"""A test that stands still ends its process, with its name and place, and holds up no run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = str(Path(__file__).parents[1])
CONFTEST = """
import uvloop
import watchdog
from watchdog import pytest_configure, pytest_runtest_protocol, pytest_runtest_teardown
watchdog.GRACE_SECONDS = 0.5
watchdog.MOST_TEARDOWN_SECONDS = 1

def pytest_asyncio_loop_factories():
    return {"uvloop": uvloop.new_event_loop}
"""
INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
timeout = 1
"""
# pytest-timeout does nothing to it.
HANGS = """
import asyncio

async def test_it():
    await asyncio.Event().wait()
"""
FIXTURE_HANGS = """
import threading
import pytest

@pytest.fixture
def stuck():
    yield
    threading.Event().wait()

def test_it(stuck):
    assert False
"""
TAKES_ITS_TIME = """
import time
import pytest

@pytest.mark.timeout(20)
def test_it():
    time.sleep(1.8)
"""


def pytest_of(directory: Path, tests: str) -> "subprocess.CompletedProcess[str]":
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "pytest.ini").write_text(INI)
    (directory / "test_it.py").write_text(tests)
    plugins = [f"-p{name}" for name in ("xdist.plugin", "pytest_timeout", "pytest_asyncio.plugin")]
    return subprocess.run(  # noqa: S603  # our own interpreter and code
        [sys.executable, "-m", "pytest", "-q", "-n1", *plugins, "."],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": TESTS, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("tests", "place"),
    [
        pytest.param(HANGS, "runners.py", id="a test"),
        pytest.param(FIXTURE_HANGS, 'test_it.py", line 8 in stuck', id="a fixture"),
    ],
)
def test_what_stands_still_is_named_and_ends_the_run(tmp_path: Path, tests, place) -> None:
    ran = pytest_of(tmp_path, tests)

    assert ran.returncode == 1
    assert "crashed while running 'test_it.py::test_it" in ran.stdout
    assert place in ran.stderr


def test_a_test_may_take_the_time_that_it_asks_for(tmp_path: Path) -> None:
    assert pytest_of(tmp_path, TAKES_ITS_TIME).returncode == 0


def test_what_fails_is_named_before_the_run_ends(tmp_path: Path) -> None:
    ran = pytest_of(tmp_path, FIXTURE_HANGS)

    assert "call of test_it.py::test_it failed" in ran.stdout.partition("crashed")[0]
