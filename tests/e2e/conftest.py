"""End-to-end tests run real processes; they share one machine and therefore take turns."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One pytest worker runs them all: two at once would disturb each other's pace."""
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("e2e"))


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory that an unprivileged database account may pass through."""
    made = Path(tempfile.mkdtemp(prefix="tellwire-e2e-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)
