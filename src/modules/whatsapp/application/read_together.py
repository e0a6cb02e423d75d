"""Reading for the channels of a tenant that are served at once: one transaction for all of them.

To begin and end a transaction costs more than a statement in it, and a statement about eight
channels hardly more than one about one.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

from whatsapp.application.ports import BeginWork, Work
from whatsapp.domain.entities import Channel, OutboundMessage
from whatsapp.domain.repositories import UnreadableMessage
from whatsapp.domain.value_objects import UnreadableToken

MAX_LOAD: Final = 64
"""To make many messages of rows at once would hold up those whose slot comes in the meantime."""

Found: TypeAlias = Mapping[UUID, OutboundMessage | UnreadableMessage]
_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


class _Wish(NamedTuple, Generic[_Asked, _Answer]):
    asked: _Asked
    answer: "asyncio.Future[_Answer]"


@dataclass(slots=True)
class Reader:
    """What those who began together read; what was asked for meanwhile is read in one statement.

    All methods raise what the transaction was ended by, as Unavailable where PostgreSQL is gone.
    """

    users: int = field(default=0, init=False)
    _channels: list[_Wish[UUID, Channel | None]] = field(default_factory=list, init=False)
    _messages: list[_Wish[Sequence[UUID], Found]] = field(default_factory=list, init=False)
    _aside: list[_Wish[UUID, int]] = field(default_factory=list, init=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _trouble: BaseException | None = field(default=None, init=False)

    async def channel(self, channel_id: UUID) -> Channel | None:
        """The channel, or None if it is gone; SecretUnreadable where its token does not open."""
        return await self._ask(self._channels, channel_id)

    async def messages(self, ids: Sequence[UUID]) -> Found:
        """Those of the messages that are there."""
        return await self._ask(self._messages, ids)

    async def step_aside(self, channel_id: UUID) -> int:
        """Move what stands behind others out of the way of claims; gives how many, durably.

        Here, since whoever waits for a second connection while this one is taken may be one of as
        many as there are connections.
        """
        return await self._ask(self._aside, channel_id)

    async def _ask(self, wishes: list[_Wish[_Asked, _Answer]], asked: _Asked) -> _Answer:
        if self._trouble is not None:
            raise self._trouble
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        wishes.append(_Wish(asked, answer))
        self._news.set()
        return await answer

    def leave(self) -> None:
        """One user less; with the last one the transaction is over."""
        self.users -= 1
        self._news.set()

    async def serve(self, work: Work) -> None:
        """Read what is asked for, until nobody is there to ask."""
        while self.users:
            self._news.clear()
            await asyncio.sleep(0)  # Whoever is ready to ask by now asks too.
            channels, self._channels = self._channels, []
            messages, self._messages = self._messages, []
            aside, self._aside = self._aside, []
            try:
                if channels:
                    _answer(channels, await _channels_of(work, channels))
                if messages:
                    _answer(messages, await _messages_of(work, messages))
                for wish in aside:
                    await _step_aside(work, wish)
            except BaseException:  # `fail` answers them.
                self._channels += channels
                self._messages += messages
                self._aside += aside
                raise
            if not (self._channels or self._messages or self._aside):
                await self._news.wait()

    def fail(self, error: BaseException) -> None:
        """Raise it from whatever is asked for, now and from now on."""
        self._trouble = error
        _answer(self._channels, lambda _: error)
        _answer(self._messages, lambda _: error)
        _answer(self._aside, lambda _: error)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTogether:
    """`async with reads.of(tenant_id) as reader`: with those who say so in the same turn."""

    begin: BeginWork
    _beginning: dict[UUID, Reader] = field(default_factory=dict, init=False)
    _reading: set["asyncio.Task[None]"] = field(default_factory=set, init=False)

    @asynccontextmanager
    async def of(self, tenant_id: UUID) -> AsyncGenerator[Reader]:
        """A reader, whose transaction is over once all who share it have left."""
        if (reader := self._beginning.get(tenant_id)) is None:
            reader = self._beginning[tenant_id] = Reader()
            # A transaction belongs to one task; those who read in it come and go.
            task = asyncio.get_running_loop().create_task(self._read(tenant_id, reader))
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
        reader.users += 1
        try:
            yield reader
        finally:
            reader.leave()

    async def _read(self, tenant_id: UUID, reader: Reader) -> None:
        try:
            try:
                await asyncio.sleep(0)  # Whoever is ready to begin by now begins too.
            finally:
                del self._beginning[tenant_id]
            async with self.begin(tenant_id) as work:
                await reader.serve(work)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # whoever asks gets it
            reader.fail(error)


def _answer(
    wishes: Sequence[_Wish[_Asked, _Answer]], answer_of: Callable[[_Asked], _Answer | BaseException]
) -> None:
    for wish in wishes:
        if wish.answer.done():
            continue  # Cancelled, or answered already.
        answer = answer_of(wish.asked)
        if isinstance(answer, BaseException):
            wish.answer.set_exception(answer)
        else:
            wish.answer.set_result(answer)


async def _step_aside(work: Work, wish: _Wish[UUID, int]) -> None:
    moved = await work.messages.step_aside(wish.asked)
    await work.commit()
    _answer([wish], lambda _: moved)


async def _channels_of(
    work: Work, wishes: Sequence[_Wish[UUID, Channel | None]]
) -> Callable[[UUID], Channel | Exception | None]:
    ids = list(dict.fromkeys(wish.asked for wish in wishes))
    found = {channel.id: channel for channel in await work.channels.find_many(ids)}

    def answer_of(channel_id: UUID) -> Channel | Exception | None:
        channel = found.get(channel_id)
        if channel is not None and isinstance(channel.access_token, UnreadableToken):
            return channel.access_token.cause
        return channel

    return answer_of


async def _messages_of(
    work: Work, wishes: Sequence[_Wish[Sequence[UUID], Found]]
) -> Callable[[Sequence[UUID]], Found]:
    ids = list(dict.fromkeys(one for wish in wishes for one in wish.asked))
    found = dict[UUID, OutboundMessage | UnreadableMessage]()
    for start in range(0, len(ids), MAX_LOAD):
        part = await work.messages.load_for_sending(ids[start : start + MAX_LOAD])
        found.update((message.id, message) for message in part)

    def answer_of(asked: Sequence[UUID]) -> Found:
        return {one: found[one] for one in asked if one in found}

    return answer_of
