"""What workers remember of channels and endpoints that are no more does not grow for good."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace

import pytest

from send_installation import Installation, until, working
from shared.kernel.ids import new_id
from whatsapp.domain.events import EndpointWork
from whatsapp.entrypoints.workers import event_worker, send_worker
from whatsapp.entrypoints.workers.event_worker import EventWorker

MOST = 10


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    for module in (event_worker, send_worker):
        monkeypatch.setattr(module, "MAX_RESTING", MOST)


@dataclass
class Clock:
    """Stands still until it is moved on."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_send_worker_forgets_channels_that_rested_and_never_had_work_again() -> None:
    installation, clock = Installation([]), Clock()
    async with working(installation, monotonic=clock) as worker:
        for _ in range(5):
            installation.channels = [(new_id(), new_id()) for _ in range(5)]
            served = len(installation.served)
            await until(lambda served=served: len(installation.served) == served + 5)
            gone, installation.channels = installation.channels, []
            for one in installation.served[served:]:
                one.resting = timedelta(seconds=1)
                one.ended.set()
            await until(lambda gone=gone: set(gone) <= set(worker._resting))
            clock.now += send_worker.FORGOTTEN_SECONDS + 2
            assert len(worker._resting) <= MOST + 5


async def test_a_send_worker_knows_those_that_rest_however_many_they_are() -> None:
    installation = Installation([(new_id(), new_id()) for _ in range(3 * MOST)])
    async with working(installation, monotonic=Clock()) as worker:
        await until(lambda: len(installation.served) == 3 * MOST)
        for one in installation.served:
            one.resting = timedelta(seconds=1)
            one.ended.set()
        await until(lambda: set(installation.channels) <= set(worker._resting))


@dataclass
class Dead:
    """Endpoints that have something due and take nothing."""

    due: list[EndpointWork] = field(default_factory=list)

    async def find_work(self, **_given):
        return self.due, None

    async def __call__(self, _work, *, limit):
        assert limit
        return SimpleNamespace(claimed=1, taken=0)


async def test_an_event_worker_forgets_endpoints_that_failed_and_never_had_anything_again() -> None:
    dead, clock, stopping = Dead(), Clock(), asyncio.Event()
    worker = EventWorker(queue=dead, deliver=dead, monotonic=clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run(stopping))
        for _ in range(5):
            dead.due = [EndpointWork(new_id(), new_id()) for _ in range(5)]
            await until(lambda: set(dead.due) <= set(worker._resting))
            clock.now += event_worker.FORGOTTEN_SECONDS + event_worker.MOST_REST_SECONDS + 1
            assert len(worker._resting) <= MOST + 5
        stopping.set()
