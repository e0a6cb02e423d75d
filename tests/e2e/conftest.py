"""End-to-end tests run real processes; they share one machine and therefore take turns."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from crew import Crew, running_crew
from fleet import Fleet, running_fleet
from stack import Stack, running_stack

ORDER = ("settled_fleet", "settled_stack", "settled_crew")
FAST_STATUSES = {
    "sent_seconds": 0.1,
    "delivered_seconds": 0.2,
    "read_seconds": 0.4,
    "late_seconds": 5,
}
SLOW_ANSWERS = {"latency_seconds": 0.08}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that watch the pace come first, while nothing else is up."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    needs = [name for name in ORDER if name in getattr(item, "fixturenames", ())]
    return ORDER.index(needs[0]) + 1 if needs and "e2e" in item.path.parts else 0


@contextmanager
def _directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="tellwire-e2e-"))
    made.chmod(0o711)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory that an unprivileged database account may pass through."""
    with _directory() as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def settled_fleet() -> AsyncIterator[Fleet]:
    """One set of servers, without an API, for all tests of pace and fairness."""
    with _directory() as made:
        async with running_fleet(made) as fleet:
            yield fleet


@pytest_asyncio.fixture(loop_scope="session")
async def fleet(settled_fleet: Fleet) -> AsyncIterator[Fleet]:
    """The servers without workers and messages."""
    yield settled_fleet
    await settled_fleet.tidy_up()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def settled_stack() -> AsyncIterator[Stack]:
    """One whole installation for all who look at it from outside; a dead worker is missed soon."""
    with _directory() as made:
        short = {"TELLWIRE_LEASE_SECONDS": "3", "TELLWIRE_UNKNOWN_DEADLINE_SECONDS": "3"}
        async with running_stack(made, settings=short) as stack:
            yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def stack(settled_stack: Stack) -> AsyncIterator[Stack]:
    """The installation before a Meta that does nothing odd and has been idle so far."""
    await settled_stack.control("webhooks", duplicate=0, shuffle=False)
    async with settled_stack.http.post(f"{settled_stack.simulator}/_simulator/reset") as answer:
        assert answer.status == 200
    yield settled_stack


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def settled_crew() -> AsyncIterator[Crew]:
    """One installation for all that kill, stop and cut; its leases and deadlines are short."""
    with _directory() as made:
        async with running_crew(
            made, lease=5, unknown=3, statuses=FAST_STATUSES, **SLOW_ANSWERS
        ) as crew:
            yield crew


@pytest_asyncio.fixture(loop_scope="session")
async def crew(settled_crew: Crew) -> AsyncIterator[Crew]:
    """The installation without workers and with a Meta that does nothing odd, before and after."""
    yield settled_crew
    await settled_crew.fleet.tidy_up()
