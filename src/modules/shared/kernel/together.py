"""Calls that are made at the same time and become one: a round trip for all instead of each."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar
from weakref import WeakValueDictionary

_Key = TypeVar("_Key", bound=Hashable)
_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


class _Call(NamedTuple, Generic[_Asked, _Answer]):
    asked: _Asked
    answer: "asyncio.Future[_Answer]"


class Together(Generic[_Asked, _Answer]):
    """`await together(asked)` gives what one run answers for all who ask in this turn of the loop.

    `run` is given what they ask, at most `most` of it, and gives as many answers in the same order;
    an exception among them is raised for whom it answers, and one that `run` raises for all of
    them. `run` has to end by itself, and so has a time-out: whoever is cancelled while waiting
    leaves the others their answers.
    """

    def __init__(
        self,
        run: Callable[[Sequence[_Asked]], Awaitable[Sequence[_Answer | BaseException]]],
        *,
        most: int,
    ) -> None:
        self._run, self._most = run, most
        self._asking: list[_Call[_Asked, _Answer]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, asked: _Asked) -> _Answer:
        """What is answered to this."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Answer] = loop.create_future()
        if not self._asking:
            loop.call_soon(self._begin)  # Behind all that is ready to ask by now.
        self._asking.append(_Call(asked, answer))
        return await answer

    def _begin(self) -> None:
        asking, self._asking = self._asking, []
        for first in range(0, len(asking), self._most):
            calls = asking[first : first + self._most]
            task = asyncio.get_running_loop().create_task(self._answer(calls))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _answer(self, calls: Sequence[_Call[_Asked, _Answer]]) -> None:
        answers: Sequence[_Answer | BaseException]
        try:
            answers = await self._run([call.asked for call in calls])
        except asyncio.CancelledError:  # The loop ends: nobody is to wait for ever.
            for call in calls:
                call.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # whoever asked gets it
            answers = [error] * len(calls)
        for call, answer in zip(calls, answers, strict=True):
            if call.answer.done():
                continue  # Cancelled meanwhile.
            if isinstance(answer, BaseException):
                call.answer.set_exception(answer)
            else:
                call.answer.set_result(answer)


class TogetherBy(Generic[_Key, _Asked, _Answer]):
    """`await together(key, asked)`: as `Together`, with a run for each key.

    Nobody waits for what is asked with another key.
    """

    def __init__(
        self,
        run: Callable[[_Key, Sequence[_Asked]], Awaitable[Sequence[_Answer | BaseException]]],
        *,
        most: int,
    ) -> None:
        self._run, self._most = run, most
        self._by_key = WeakValueDictionary[_Key, Together[_Asked, _Answer]]()  # Who is in use.

    async def __call__(self, key: _Key, asked: _Asked) -> _Answer:
        """What is answered to this."""
        if (together := self._by_key.get(key)) is None:
            together = self._by_key[key] = Together(partial(self._run, key), most=self._most)
        return await together(asked)
