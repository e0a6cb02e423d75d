"""What is read in one transaction and in one statement, with a database of the test's own."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from shared.kernel.errors import SecretUnreadable, Unavailable
from shared.kernel.ids import new_id
from whatsapp.application.read_together import MAX_LOAD, ReadTogether
from whatsapp.domain.value_objects import UnreadableToken

ANA, BEA = new_id(), new_id()


class Database:
    """Has all channels and messages but those that are `gone`; notes each statement."""

    def __init__(self) -> None:
        self.begun, self.over, self.statements, self.committed = [], 0, [], 0
        self.gone, self.unreadable, self.trouble = set(), set(), None
        self.opens = asyncio.Event()
        self.opens.set()
        self.reads = ReadTogether(begin=self.begin)

    @asynccontextmanager
    async def begin(self, tenant_id):
        self.begun.append(tenant_id)
        try:
            yield SimpleNamespace(channels=self, messages=self, commit=self.commit)
        finally:
            self.over += 1

    async def _found(self, ids):
        self.statements.append(list(ids))
        await self.opens.wait()
        if self.trouble is not None:
            raise self.trouble
        return [self._made(one) for one in ids if one not in self.gone]

    def _made(self, one):
        if one in self.unreadable:
            token = UnreadableToken(SecretUnreadable("It does not open"))
            return SimpleNamespace(id=one, access_token=token)
        return SimpleNamespace(id=one, access_token=None)

    find_many = load_for_sending = _found

    async def step_aside(self, channel_id):
        return len(await self._found([channel_id]))

    async def commit(self) -> None:
        self.committed += 1

    async def channel(self, tenant_id, channel_id):
        async with self.reads.of(tenant_id) as reader:
            return (await reader.channel(channel_id)).id

    async def all_of(self, tenant_id, *channels):
        asking = (self.channel(tenant_id, one) for one in channels)
        return await asyncio.gather(*asking, return_exceptions=True)


@pytest.fixture
async def database() -> Database:
    return Database()


async def test_those_who_begin_together_read_in_one_transaction_and_statement(database) -> None:
    channels = [new_id() for _ in range(3)]
    assert await database.all_of(ANA, *channels) == channels
    assert await database.channel(ANA, channels[0]) == channels[0]

    await _settle()
    assert database.begun == [ANA, ANA]
    assert database.statements == [channels, channels[:1]]
    assert database.over == 2


async def test_each_tenant_is_read_in_a_transaction_of_its_own(database) -> None:
    hers, others = new_id(), new_id()
    found = await asyncio.gather(database.channel(ANA, hers), database.channel(BEA, others))

    assert found == [hers, others]
    assert database.begun == [ANA, BEA]
    assert database.statements == [[hers], [others]]


async def test_what_is_asked_for_meanwhile_is_read_in_the_next_statement(database) -> None:
    first, *others = channels = [new_id() for _ in range(3)]
    database.opens.clear()
    async with database.reads.of(ANA) as reader:
        asking = [asyncio.create_task(reader.channel(first))]
        await _settle()
        asking += [asyncio.create_task(reader.channel(one)) for one in others]
        await _settle()
        database.opens.set()
        assert [(await one).id for one in asking] == channels

    assert database.statements == [[first], others]
    assert len(database.begun) == 1


async def test_messages_are_loaded_for_all_who_have_claimed_some(database) -> None:
    database.gone = {new_id()}
    mine, others = [new_id() for _ in range(3)], [new_id(), *database.gone]
    async with database.reads.of(ANA) as reader:
        found = await asyncio.gather(reader.messages(mine), reader.messages(others))
        assert not await reader.messages([])

    assert [list(one) for one in found] == [mine, others[:1]]
    assert database.statements == [[*mine, *others]]


async def test_no_statement_loads_more_than_may_be_made_of_rows_at_once(database) -> None:
    ids = [new_id() for _ in range(2 * MAX_LOAD + 1)]
    async with database.reads.of(ANA) as reader:
        assert list(await reader.messages(ids)) == ids
    assert [len(one) for one in database.statements] == [MAX_LOAD, MAX_LOAD, 1]


async def test_what_steps_aside_does_so_in_the_same_transaction_and_is_durable(database) -> None:
    channels = [new_id(), new_id()]
    async with database.reads.of(ANA) as reader:
        assert await asyncio.gather(*map(reader.step_aside, channels)) == [1, 1]
        assert database.committed == 2
        assert (await reader.channel(channels[0])).id == channels[0]

    assert database.begun == [ANA]
    assert database.statements == [[channels[0]], [channels[1]], [channels[0]]]


async def test_a_token_that_does_not_open_concerns_its_channel_alone(database) -> None:
    good, bad, other = channels = [new_id() for _ in range(3)]
    database.unreadable = {bad}
    found = await database.all_of(ANA, *channels)

    assert (found[0], found[2]) == (good, other)
    assert isinstance(found[1], SecretUnreadable)


async def test_what_ends_the_transaction_is_raised_from_all_who_read_in_it(database) -> None:
    database.trouble = Unavailable("PostgreSQL is gone")
    async with database.reads.of(ANA) as reader:
        for ask in (reader.channel, reader.step_aside):  # Who asks later is told at once.
            with pytest.raises(Unavailable):
                await ask(new_id())
    assert len(database.statements) == 1
    found = await database.all_of(ANA, new_id(), new_id())
    assert [type(one) for one in found] == [Unavailable] * 2

    database.trouble, channel = None, new_id()
    assert await database.channel(ANA, channel) == channel


async def test_a_transaction_that_cannot_begin_is_everybodys_trouble(database) -> None:
    @asynccontextmanager
    async def begin(_tenant_id):
        raise Unavailable("No connection")
        yield

    database.reads = ReadTogether(begin=begin)
    found = await database.all_of(ANA, new_id(), new_id())
    assert [type(one) for one in found] == [Unavailable] * 2


async def test_who_gives_up_leaves_the_others_their_answers(database) -> None:
    database.opens.clear()
    one, other = new_id(), new_id()
    asking = [asyncio.create_task(database.channel(ANA, each)) for each in (one, other)]
    await _settle()
    asking[0].cancel()
    database.opens.set()

    assert await asking[1] == other
    await _settle()
    assert database.over == 1


async def test_the_transaction_lasts_until_the_last_of_them_has_left(database) -> None:
    channel, left = new_id(), asyncio.Event()

    async def stays() -> None:
        async with database.reads.of(ANA):
            await left.wait()

    staying = asyncio.create_task(stays())
    assert await database.channel(ANA, channel) == channel
    await _settle()
    assert database.over == 0
    left.set()
    await staying
    await _settle()
    assert database.over == 1


async def test_when_the_loop_ends_nobody_waits_for_ever(database) -> None:
    database.opens.clear()
    asking = asyncio.create_task(database.channel(ANA, new_id()))
    await _settle()
    (reading,) = asyncio.all_tasks() - {asyncio.current_task(), asking}
    reading.cancel()
    done, _ = await asyncio.wait([asking], timeout=5)

    assert done
    assert asking.cancelled()


async def _settle() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)
