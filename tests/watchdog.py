"""Ends a test process that stands still, and shows where each of its threads is.

pytest-timeout interrupts a test once, by a signal, and that does not always end it: uvloop never
hears of it, and what an interrupted test left behind may keep its fixtures from ending. Then
nothing would end the run, nor say which test it was.
"""

import faulthandler
from collections.abc import Generator

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

GRACE_SECONDS = 60.0
"""So much longer than it may take at most, a test is interrupted in vain."""
MOST_TEARDOWN_SECONDS = 300.0


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the process when the test did not end; xdist tells whose process has ended."""
    marker = item.get_closest_marker("timeout")
    seconds = marker.args[0] if marker else item.config.getini("timeout")
    _watch(item, float(seconds) + GRACE_SECONDS)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Give the fixtures so long to end; pytest gives up every such watch where a test failed."""
    _watch(item, MOST_TEARDOWN_SECONDS)
    return (yield)


def _watch(item: pytest.Item, seconds: float) -> None:
    # Neither a signal nor a thread of ours: what holds the interpreter is ended too.
    told = item.config.stash[fault_handler_stderr_fd_key]  # The real one, which no test captures.
    faulthandler.dump_traceback_later(seconds, exit=True, file=told)
