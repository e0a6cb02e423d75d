"""End-to-end tests run real processes; they share one machine and therefore take turns."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from crew import Crew, running_crew

FAST_STATUSES = {
    "sent_seconds": 0.1,
    "delivered_seconds": 0.2,
    "read_seconds": 0.4,
    "late_seconds": 5,
}
SLOW_ANSWERS = {"latency_seconds": 0.08}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One pytest worker runs them all: two at once would disturb each other's pace."""
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("e2e"))


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
async def settled_crew() -> AsyncIterator[Crew]:
    """One installation for all that kill, stop and cut; its leases and deadlines are short."""
    with _directory() as made:
        async with running_crew(
            made, lease=3, unknown=3, statuses=FAST_STATUSES, **SLOW_ANSWERS
        ) as crew:
            yield crew


@pytest_asyncio.fixture(loop_scope="session")
async def crew(settled_crew: Crew) -> AsyncIterator[Crew]:
    """The installation without workers and with a Meta that does nothing odd, before and after."""
    yield settled_crew
    await settled_crew.tidy_up()
