"""For runs that would not come to their end: names what fails at once, ends what stands still.

pytest-timeout interrupts a test once, by a signal, and that does not always end it: uvloop never
hears of it, and what an interrupted test left behind may keep its fixtures from ending. Then
nothing would end the run, nor say which test it was.
"""

import faulthandler
from collections.abc import Generator
from typing import Any

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

GRACE_SECONDS = 60.0
"""A test that has not ended so long after its time-out is not going to."""
MOST_TEARDOWN_SECONDS = 300.0


class FailuresAtOnce:
    """Names what fails when it does: a run that is ended from outside comes to no summary."""

    def __init__(self, terminal: Any) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.write_line(f"\n{report.when} of {report.nodeid} failed")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Tell of failures; processes of xdist report theirs to the one that shows them."""
    if not hasattr(config, "workerinput"):
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        config.pluginmanager.register(FailuresAtOnce(terminal))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the process when the test did not end; xdist tells whose process has ended."""
    if seconds := _time_out(item):
        _watch(item, seconds + GRACE_SECONDS)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Give the fixtures so long to end; pytest gives up every such watch where a test failed."""
    if _time_out(item):
        _watch(item, MOST_TEARDOWN_SECONDS)
    return (yield)


def _time_out(item: pytest.Item) -> float:
    """As pytest-timeout takes it, whose 0 is for who debugs: none at all."""
    marker = item.get_closest_marker("timeout")
    option = item.config.getoption("timeout", None)
    wanted = item.config.getini("timeout") if option is None else option
    return float(marker.args[0] if marker else wanted)


def _watch(item: pytest.Item, seconds: float) -> None:
    # Neither a signal nor a thread of ours: what holds the interpreter is ended too.
    told = item.config.stash[fault_handler_stderr_fd_key]  # The real one, which no test captures.
    faulthandler.dump_traceback_later(seconds, exit=True, file=told)
