"""Files are moved so many at a time, and no tenant takes all the places."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from shared.kernel.errors import Unavailable
from shared.kernel.ids import NIL, new_id
from whatsapp.domain.media import MediaFailure
from whatsapp.domain.media_repository import MediaJob, MediaJobKind
from whatsapp.entrypoints.workers.media_worker import MediaWorker

ANA, BEA = new_id(), new_id()


def job(tenant):
    return MediaJob(tenant, new_id(), MediaJobKind.FETCH, new_id(), new_id(), 1, new_id())


class FakeQueue:
    """Jobs of tenants in memory, claimed as PostgreSQL would."""

    def __init__(self, **jobs_of):
        self.jobs = sorted(
            (job(tenant) for tenant, number in jobs_of.values() for _ in range(number)),
            key=lambda one: one.tenant_id,
        )

    async def claim(self, *, limit, per_tenant, lease, after=NIL, without=()):  # noqa: ARG002
        taken, per = [], Counter()
        for one in self.jobs:
            room = per[one.tenant_id] < per_tenant and one.tenant_id not in without
            if room and one.tenant_id > after and len(taken) < limit:
                taken.append(one)
                per[one.tenant_id] += 1
        self.jobs = [one for one in self.jobs if one not in taken]
        return taken


class Mover:
    """Moves nothing until it is allowed to."""

    def __init__(self):
        self.moving, self.most, self.done = Counter(), 0, []
        self.go, self.changed = asyncio.Event(), asyncio.Condition()

    async def __call__(self, one):
        self.moving[one.tenant_id] += 1
        self.most = max(self.most, self.moving.total())
        async with self.changed:
            self.changed.notify_all()
        await self.go.wait()
        self.moving[one.tenant_id] -= 1
        self.done.append(one)
        async with self.changed:
            self.changed.notify_all()

    async def until(self, ready):
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(ready)


@pytest.fixture
async def run():
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:

        def start(queue, move, **more):
            worker = MediaWorker(
                **{
                    "queue": queue,
                    "move": move,
                    "lease": timedelta(seconds=1),
                    "concurrency": 8,
                    **more,
                }
            )
            return tasks.create_task(worker.run(stopping)), stopping

        yield start
        stopping.set()


async def test_all_files_are_moved_and_never_more_at_once_than_there_are_places(run) -> None:
    mover = Mover()
    mover.go.set()
    run(FakeQueue(a=(ANA, 30), b=(BEA, 30)), mover)

    await mover.until(lambda: len(mover.done) == 60)

    assert mover.most <= 8


async def test_a_tenant_whose_files_are_slow_leaves_places_to_others(run) -> None:
    mover, queue = Mover(), FakeQueue(a=(ANA, 100))
    run(queue, mover)
    await mover.until(lambda: mover.moving[ANA] >= 5)
    for _ in range(50):
        await asyncio.sleep(0)
    assert mover.moving[ANA] < 8

    queue.jobs += [job(BEA)]

    await mover.until(lambda: mover.moving[BEA] == 1)
    mover.go.set()


async def test_stopping_finishes_what_is_under_way_and_begins_nothing(run) -> None:
    mover, queue = Mover(), FakeQueue(a=(ANA, 100))
    task, stopping = run(queue, mover)
    await mover.until(lambda: mover.moving[ANA] >= 2)
    begun = mover.moving.total()

    stopping.set()
    mover.go.set()
    await task

    assert len(mover.done) == begun


@pytest.mark.parametrize("error", [Unavailable(), RuntimeError("a fault of ours")])
async def test_one_bad_file_does_not_end_the_worker(run, error) -> None:
    moved, seen = asyncio.Event(), []

    async def move(one):
        seen.append(one)
        if len(seen) == 1:
            raise error
        moved.set()
        return MediaFailure.GONE

    outcomes = []
    run(FakeQueue(a=(ANA, 2)), move, moved=lambda _, failure: outcomes.append(failure))

    async with asyncio.timeout(10):
        await moved.wait()
    await asyncio.sleep(0)
    assert outcomes == [MediaFailure.GONE]
