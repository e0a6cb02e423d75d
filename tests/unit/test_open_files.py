"""A worker holds thousands of connections to endpoints that hang, and still reaches Meta."""

import asyncio
import resource
from collections.abc import Iterator

import pytest

from shared.infrastructure.settings import Settings
from shared.kernel.errors import Misconfigured
from tellwire.worker import run_worker

FEW = 512


@pytest.fixture
def few_files() -> Iterator[int]:
    """The limit that many systems begin with; gives what may be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_worker_uses_as_many_files_as_the_system_allows(few_files) -> None:
    settings = Settings(
        _env_file=None, database_url="postgresql://nobody@nowhere/none", redis_url="redis://nowhere"
    )

    with pytest.raises(Misconfigured):
        await run_worker(settings, asyncio.Event())

    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == few_files
