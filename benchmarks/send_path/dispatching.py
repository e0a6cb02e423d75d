"""Whether many channels, or a long history, slow sending down."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from benchmarks.harness import Context, Figure
from benchmarks.plant import Plant, plant
from benchmarks.send_path import traffic
from benchmarks.send_path.history import LOADED, load_history

from shared.kernel.ids import new_id
from whatsapp.domain.entities import Channel

MESSAGES: Final = 4000
CHANNELS: Final = (10, 100, 1000)
MANY_MESSAGES: Final = 40_000
"""As many for each of a thousand channels as for each of a hundred above."""
RATE: Final = 1000
ROUNDS: Final = 11
"""A leg takes two seconds, and machines differ from themselves by a fifth within these."""
ROUNDS_OF_MANY: Final = 5
BOUND: Final = 0.9
CHANNELS_REASON: Final = (
    "with 4,000 messages in all, each of a thousand channels has 4, so that what a channel costs "
    "by itself is shared by 4 messages and not by 400: a dispatcher is begun and ended for them, "
    "and to claim, load, count people, take slots and mark is a share of what goes together."
)
MANY_REASON: Final = ""
HISTORY_REASON: Final = ""


async def run(context: Context) -> list[Figure]:
    """The same number of messages from few and many channels; then beside a history of millions."""
    task = context.progress.add_task("dispatching", total=None)
    bare, full = [await context.database(name) for name in ("dispatching", "dispatching_after")]
    async with plant(context.servers, bare, reports=False) as place:
        groups = {number: await place.channels(number, rate=RATE) for number in CHANNELS}
        await place.warm([channel for group in groups.values() for channel in group])
        rates = await _in_turns(
            {number: partial(_rate, place, group) for number, group in groups.items()},
            context.times(ROUNDS),
        )
        context.progress.update(task, description=f"{MANY_MESSAGES:,} messages")
        few, many = CHANNELS[0], CHANNELS[-1]
        deep = await _in_turns(
            {
                number: partial(_rate, place, groups[number], MANY_MESSAGES)
                for number in (few, many)
            },
            context.times(ROUNDS_OF_MANY),
        )
        context.progress.update(task, description=f"loading {LOADED:,} sent messages")
        async with plant(context.servers, full, reports=False) as other:
            channels = await other.channels(few, rate=RATE)
            await other.warm(channels)
            await load_history(full, channels[0])
            context.progress.update(task, description="dispatching beside them")
            beside = await _in_turns(
                {0: partial(_rate, place, groups[few]), LOADED: partial(_rate, other, channels)},
                context.times(ROUNDS),
            )
    context.progress.update(task, total=1, completed=1)
    return [
        *[_figure(number, rates[few], rates[number]) for number in CHANNELS[1:]],
        _figure(many, deep[few], deep[many], MANY_MESSAGES),
        Figure(
            f"sending rate with {LOADED:,} sent messages in the tables, beside none",
            [mine / theirs for mine, theirs in zip(beside[LOADED], beside[0], strict=True)],
            BOUND,
            at_least=True,
            detail=f"{_typical(beside[LOADED])} beside {_typical(beside[0])}",
            reason=HISTORY_REASON,
        ),
    ]


async def _in_turns(
    legs: Mapping[int, Callable[[], Awaitable[float]]], rounds: int
) -> Mapping[int, Sequence[float]]:
    """What each leg came to in each round; every other round goes back, as machines drift."""
    rates = {number: list[float]() for number in legs}
    for turn in range(rounds):
        for number in list(legs)[:: -1 if turn % 2 else 1]:
            rates[number].append(await legs[number]())
    return rates


def _figure(
    number: int, few: Sequence[float], many: Sequence[float], messages: int = MESSAGES
) -> Figure:
    each = f"{messages // number} messages each" if messages != MESSAGES else "work"
    return Figure(
        f"sending rate with {number} channels that have {each}, beside {CHANNELS[0]}",
        [mine / theirs for mine, theirs in zip(many, few, strict=True)],
        BOUND,
        at_least=True,
        detail=f"{_typical(many)} beside {_typical(few)}, {messages} messages in all each time",
        reason=CHANNELS_REASON if messages == MESSAGES else MANY_REASON,
    )


def _typical(rates: Sequence[float]) -> str:
    return f"{sorted(rates)[len(rates) // 2]:.0f}/s"


async def _rate(place: Plant, channels: Sequence[Channel], messages: int = MESSAGES) -> float:
    """Messages per second of one worker that finds a backlog, but for its beginning and end."""
    since = new_id()
    await traffic.enqueue(place, channels, messages // len(channels))
    workers = await place.start_workers(1)
    await traffic.until(place, channels, since, "sent", pause=0.25)
    place.end(*workers)
    return await place.rate_of(channels, last=messages)
