"""What is recorded together, and when, with a database of the test's own behind the port."""

import asyncio
import gc
from collections import Counter
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from shared.kernel.clock import utc_now
from shared.kernel.errors import Unavailable
from shared.kernel.ids import new_id
from whatsapp.application import record_results
from whatsapp.application.record_results import (
    MAX_RECORDED,
    MOST_AT_ONCE,
    WAIT_SECONDS,
    Recorders,
    RecordResults,
)
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import AttemptResult, AttemptsRecorded, LateFailure
from whatsapp.domain.value_objects import MessageStatus, PhoneNumber

LONG = 10.0


class Store:
    """Keeps what it is given in transactions, once it `opens`; `troubles` is what it raises."""

    def __init__(self) -> None:
        self.stored, self.committed, self.troubles = [], [], []
        self.at_once = self.most_at_once = 0
        self.locked, self.failed, self.told = [], [], []
        self.opens, self.has_stored = asyncio.Event(), asyncio.Event()
        self.opens.set()

    @asynccontextmanager
    async def begin(self, _tenant_id):
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            yield SimpleNamespace(
                messages=self, events=self, conversations=self, commit=self.commit
            )
        finally:
            self.at_once -= 1

    async def record_attempts(self, results) -> AttemptsRecorded:
        await self.opens.wait()
        if self.troubles:
            raise self.troubles.pop(0)
        if poison := [one for one in results if one.outcome == "poison"]:
            raise ValueError(len(poison))
        self.stored = [one.message_id for one in results]
        failed = [one for one in self.failed if one.message_id in self.stored]
        return AttemptsRecorded(held=frozenset(self.stored), failed=failed, repeated=frozenset())

    async def record(self, *, progress) -> None:
        pass

    async def lock_people(self, channel_id) -> None:
        self.locked.append(channel_id)

    async def know(self, channel_id, people):
        self.told.append((channel_id, len(people)))
        return []

    async def commit(self) -> None:
        self.committed.append(self.stored)
        self.has_stored.set()

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.committed]


class Late:
    """Remembers whom it was told of."""

    def __init__(self) -> None:
        self.stored_of, self.committed_of = [], []

    async def stored(self, _work, channel_id, failed) -> None:
        self.stored_of.append((channel_id, [one.message_id for one in failed]))

    async def committed(self, _tenant_id, channel_id, failed) -> None:
        self.committed_of.append((channel_id, [one.message_id for one in failed]))


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def late() -> Late:
    return Late()


@pytest.fixture
def recorder(store, late) -> RecordResults:
    return RecordResults(tenant_id=new_id(), begin=store.begin, late=late)


@pytest.fixture
def channel(recorder):
    """`channel()` gives the outcomes of another channel, and counts those that are dealt with."""
    dealt_with = Counter()

    def channel():
        made = recorder.of(new_id(), stored=lambda number: dealt_with.update({made: number}))
        made_of.append(made)
        return made

    made_of = []
    channel.dealt_with = dealt_with
    return channel


@pytest.fixture
def patient(monkeypatch):
    """Nothing is stored because of the time that has passed."""
    monkeypatch.setattr(record_results, "WAIT_SECONDS", LONG)
    monkeypatch.setattr(record_results, "LONGEST_WAIT_SECONDS", LONG)


def result(**given) -> AttemptResult:
    shape = {"status": MessageStatus.SENT, "outcome": "accepted", "number": 1}
    return AttemptResult(
        message_id=new_id(),
        lease_token=new_id(),
        started_at=utc_now(),
        finished_at=utc_now(),
        **shape | given,
    )


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.usefixtures("patient")
async def test_one_that_nothing_else_is_to_follow_is_stored_at_once(store, channel) -> None:
    outcomes = channel()
    outcomes.put(result())
    await settled()

    assert store.sizes == [1]
    assert channel.dealt_with[outcomes] == 1


@pytest.mark.usefixtures("patient")
async def test_one_waits_for_those_that_are_under_way_on_all_channels(store, channel) -> None:
    first, second = channel(), channel()
    first.expect(2)
    second.expect(1)
    for outcomes in (first, second, first):
        await settled()
        assert store.sizes == []
        outcomes.expect(-1)
        outcomes.put(result())
    await settled()

    assert store.sizes == [3]
    assert channel.dealt_with == {first: 2, second: 1}


async def test_one_does_not_wait_for_long(store, channel) -> None:
    outcomes = channel()
    outcomes.expect(1)
    outcomes.put(result())
    async with asyncio.timeout(LONG):
        await store.has_stored.wait()

    assert outcomes.under_way == 1


@pytest.mark.usefixtures("patient")
async def test_what_fills_a_transaction_does_not_wait(store, channel) -> None:
    outcomes = channel()
    outcomes.expect(1)
    for _ in range(MAX_RECORDED + 1):
        outcomes.put(result())
    await settled()

    assert store.sizes == [MAX_RECORDED]


@pytest.mark.usefixtures("patient")
async def test_while_one_is_stored_others_gather_and_only_what_fills_one_goes_beside(
    store, channel
) -> None:
    outcomes = channel()
    store.opens.clear()
    for _ in range(1 + MAX_RECORDED - 1):
        outcomes.put(result())
    await settled()
    assert store.at_once == 1

    for _ in range(2 * MOST_AT_ONCE * MAX_RECORDED):
        outcomes.put(result())
    await settled()
    assert store.at_once == store.most_at_once == MOST_AT_ONCE

    store.opens.set()
    async with asyncio.timeout(LONG):
        await outcomes.all_stored()
    assert store.most_at_once == MOST_AT_ONCE
    assert sum(store.sizes) == channel.dealt_with[outcomes] == (2 * MOST_AT_ONCE + 1) * MAX_RECORDED
    assert store.sizes.count(MAX_RECORDED) == 2 * MOST_AT_ONCE


async def test_a_channel_that_ends_keeps_nobody_waiting_for_what_it_expected(
    store, channel
) -> None:
    ended, other = channel(), channel()
    ended.expect(5)
    await ended.all_stored()
    other.put(result())
    await settled()

    assert store.sizes == [1]


async def test_all_are_stored_when_a_channel_ends(store, channel) -> None:
    outcomes, other = channel(), channel()
    other.expect(1)
    for _ in range(3):
        outcomes.put(result())
    await outcomes.all_stored()

    assert store.sizes == [3]


async def test_what_cannot_be_stored_harms_no_other_channel(store, channel) -> None:
    good, bad = channel(), channel()
    good.expect(1)
    kept, poison = result(), result(outcome="poison")
    bad.put(poison)
    good.put(kept)
    await asyncio.gather(good.all_stored(), bad.all_stored())

    assert store.committed == [[kept.message_id]]
    assert channel.dealt_with == {good: 1, bad: 1}


async def test_where_the_database_is_gone_it_is_tried_again(store, channel, monkeypatch) -> None:
    monkeypatch.setattr(record_results, "RECORD_RETRY_SECONDS", 0.001)
    store.troubles = [Unavailable(), Unavailable()]
    outcomes = channel()
    outcomes.put(result())
    await outcomes.all_stored()

    assert store.sizes == [1]


async def test_late_failures_are_told_of_the_channel_they_are_of(store, channel, late) -> None:
    first, second = channel(), channel()
    first.expect(1)
    results = {first: [result(), result()], second: [result()]}
    store.failed = [
        LateFailure(one.message_id, 1, utc_now(), [])
        for one in (*results[second], results[first][1])
    ]
    for outcomes, given in results.items():
        for one in given:
            outcomes.put(one)
    await asyncio.gather(first.all_stored(), second.all_stored())

    expected = {
        (first.channel_id, results[first][1].message_id),
        (second.channel_id, results[second][0].message_id),
    }
    for told in (late.stored_of, late.committed_of):
        assert {(channel_id, message) for channel_id, (message,) in told} == expected
        assert [channel_id for channel_id, _ in told] == sorted(
            [first.channel_id, second.channel_id]
        )


async def test_people_who_wish_something_are_locked_by_channel_in_one_order(store, channel) -> None:
    channels = [channel() for _ in range(4)]
    channels[0].expect(1)
    for outcomes in reversed(channels):
        outcomes.put(result())
        outcomes.put(
            result(
                failure=FailureReason(131050, "Stopped", ""),
                recipient=PhoneNumber("+4915130000001"),
                status=MessageStatus.FAILED,
            )
        )
    await asyncio.gather(*[outcomes.all_stored() for outcomes in channels])

    of = sorted(outcomes.channel_id for outcomes in channels)
    assert store.sizes == [8]
    assert store.locked == of
    assert store.told == [(channel_id, 1) for channel_id in of]


async def test_channels_of_a_tenant_share_a_recorder_for_as_long_as_one_has_it(store, late) -> None:
    recorders, tenant, other = Recorders(begin=store.begin, late=late), new_id(), new_id()
    kept = recorders.of(tenant)
    assert recorders.of(tenant) is kept
    assert recorders.of(other) is not kept

    kept.of(new_id(), stored=lambda _: None).put(result())
    del kept
    await settled()
    gc.collect()

    assert store.sizes == [1]
    assert not recorders._by_tenant


async def test_stopping_stores_nothing_more_and_waits_for_nobody(store, late) -> None:
    recorders = Recorders(begin=store.begin, late=late)
    storing, waiting = [
        recorders.of(new_id()).of(new_id(), stored=lambda _: None) for _ in range(2)
    ]
    store.opens.clear()
    storing.put(result())
    waiting.expect(1)
    waiting.put(result())
    await settled()
    assert store.at_once == 1

    await recorders.stop()
    store.opens.set()
    await asyncio.sleep(2 * WAIT_SECONDS)
    assert (store.committed, store.at_once) == ([], 0)
