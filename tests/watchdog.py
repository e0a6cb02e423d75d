"""Ends a test process whose fixtures do not end, and shows where each of its threads is.

pytest-timeout interrupts a test once. What that leaves behind (a lock, a task, a thread) may keep
the fixtures from ending, and then nothing would end the run, nor say which test it was.
"""

import faulthandler
from collections.abc import Generator

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

MOST_TEARDOWN_SECONDS = 300.0


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Give the fixtures of a test so long; xdist tells whose process has ended."""
    # Neither a signal nor a thread of ours: what holds the interpreter is ended too.
    told = item.config.stash[fault_handler_stderr_fd_key]  # The real one, which no test captures.
    faulthandler.dump_traceback_later(MOST_TEARDOWN_SECONDS, exit=True, file=told)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
