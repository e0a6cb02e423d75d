"""Fixtures that do not end, end the test process with their place instead of holding up the run."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = str(Path(__file__).parents[1])
CONFTEST = """
import watchdog
from watchdog import pytest_runtest_teardown
watchdog.MOST_TEARDOWN_SECONDS = 0.5
"""
STUCK = """
import threading
import pytest

@pytest.fixture
def stuck():
    yield
    threading.Lock().acquire() and threading.Event().wait()

def test_that_fails(stuck):
    assert False
"""
FINE = """
import time
import pytest

@pytest.fixture
def slow():
    time.sleep(0.7)
    yield

def test_it(slow):
    time.sleep(0.7)
"""


def pytest_of(directory: Path, tests: str) -> "subprocess.CompletedProcess[str]":
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_it.py").write_text(tests)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "xdist.plugin", "-n", "1", "."],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": TESTS, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_fixtures_that_do_not_end_are_named_and_end_the_run(tmp_path: Path) -> None:
    ran = pytest_of(tmp_path, STUCK)

    assert ran.returncode == 1
    assert "crashed while running 'test_it.py::test_that_fails'" in ran.stdout
    assert 'test_it.py", line 8 in stuck' in ran.stderr


def test_who_is_slow_before_it_is_not_concerned(tmp_path: Path) -> None:
    assert pytest_of(tmp_path, FINE).returncode == 0
