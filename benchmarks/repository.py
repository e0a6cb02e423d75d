"""What the message repository costs beside the same statement through SQLAlchemy Core and asyncpg.

Each call is timed alone, in a transaction that is open already, and as a whole transaction (begin,
tenant, statement, commit). The rivals get every advantage: the same SQL with finished parameters,
the tenant sent along with BEGIN, statements prepared, and no entity to make of the row.
"""

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import asyncpg
from benchmarks.harness import Contender, Context, Figure, Timings
from benchmarks.installation import Installation, installed
from sqlalchemy import Executable, text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.infrastructure.database import RLSManager, SQLAlchemyUnitOfWork
from whatsapp.domain.value_objects import IdempotencyKey
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMessageRepository

TITLE = "Repository layer"
STORED, BULK = 10_000, 500
CORE_BOUND, ASYNCPG_BOUND, BULK_BOUND = 1.5, 2.5, 20.0
OURS, CORE, ASYNCPG = "Tellwire", "SQLAlchemy Core", "asyncpg"
BULK_REASON = (
    "`perf` on the server finds 30% of the statement in the three foreign keys, which PostgreSQL "
    "checks row by row (message to tenant, message to channel, entry to message), 24% in entries "
    "of seven indexes, 8% in looking for the idempotency key before inserting, 5% in the two "
    "heaps; the rest is spread thinly. Without all three keys the rows take a fifth less, still "
    "not enough, and nothing else would refuse a message of no channel. The client adds two "
    "fifths to what asyncpg takes for finished arrays. A single save is cheap where, as here, the "
    "server is on the same machine and its disk commits within half a millisecond; each "
    "millisecond more between them adds to all 500 single saves and once to the bulk."
)
WHOLE_REASON = (
    "Both go to the server three times (BEGIN with the tenant, the statement, COMMIT). What is "
    "between them is Python: a profile finds it in SQLAlchemy's session (made, begun, committed "
    "and closed through its state machine and greenlets), in taking a connection out of the pool "
    "and putting it back, which asyncpg's one open connection does not do, and a twentieth in "
    "making an entity of the row. The call itself goes past SQLAlchemy once a transaction is open."
)

Parameters = dict[str, Any]


class _Sent(Exception):  # it carries what was asked for, it is no error
    def __init__(self, statement: Executable, parameters: Parameters | None) -> None:
        self.statement, self.parameters = statement, parameters or {}


class _Spy(SQLAlchemyMessageRepository):
    """A repository that gives away what it would send, so that its rivals send the same."""

    async def _find(self, statement: Executable, parameters: Parameters) -> Any:
        raise _Sent(statement, parameters)

    async def _run(self, statement: Executable, parameters: Parameters) -> Any:
        raise _Sent(statement, parameters)


@dataclass(frozen=True, slots=True)
class _Call:
    """A repository method, and what each call of it is given."""

    name: str
    method: Callable[[SQLAlchemyMessageRepository, Any], Awaitable[object]]
    argument: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class _Shape:
    """A call as each rival makes it."""

    ours: Callable[[Any], Awaitable[object]]
    core: Callable[[Parameters], Awaitable[object]]
    raw: Callable[[Sequence[Any]], Awaitable[object]]
    rest: tuple[Callable[[], Awaitable[None]], ...]


class _Rivals:
    """One call on three connections: a repository, SQLAlchemy Core and asyncpg."""

    def __init__(self, call: _Call, place: Installation, spy: _Spy) -> None:
        self.call = call
        self.place = place
        self.spy = spy
        self.statement = self._sent().statement
        self._compiled: Any = self.statement.compile(dialect=PGDialect_asyncpg())
        self.sql = str(self._compiled)
        self.context = (
            f"SELECT set_config('app.jwt_tenant', '{place.tenant_id}', true), "
            "set_config('app.user_id', '', true);"
        )

    def _sent(self) -> _Sent:
        try:
            self.call.method(self.spy, self.call.argument()).__await__().send(None)
        except _Sent as sent:
            return sent
        raise AssertionError(f"{self.call.name} sent nothing")

    def parameters(self) -> Parameters:
        """Finished parameters, as SQLAlchemy takes them."""
        return self._sent().parameters

    def arguments(self) -> list[Any]:
        """Finished parameters, as asyncpg takes them: in order, JSON as text."""
        given, process = self.parameters(), self._compiled._bind_processors  # noqa: SLF001
        return [
            process[name](given[name]) if name in process else given[name]
            for name in self._compiled.positiontup
        ]

    def contenders(self, shape: _Shape) -> list[Contender]:
        ours, core, raw = shape.rest
        return [
            Contender(OURS, shape.ours, self.call.argument, ours),
            Contender(CORE, shape.core, self.parameters, core),
            Contender(ASYNCPG, shape.raw, self.arguments, raw),
        ]

    def send_context(self, connection: AsyncConnection) -> None:
        """Let the next BEGIN of a Core connection carry the tenant, as our sessions do."""
        proxied: Any = connection.sync_connection
        proxied.connection.driver_connection.set_prelude(self.context)

    @asynccontextmanager
    async def alone(self, raw: Any) -> AsyncGenerator[_Shape]:
        """The call in an open transaction, committed and begun anew after each batch."""
        prepared = await raw.prepare(self.sql)
        place, begin = self.place, text("SELECT 1")  # SQLAlchemy begins with a first statement.
        async with (
            SQLAlchemyUnitOfWork(place.sessions) as uow,
            RLSManager(uow.session) as rls,
            place.engine.connect() as core,
        ):
            await rls.set_context(tenant_id=place.tenant_id)
            repository = SQLAlchemyMessageRepository(uow.session)

            async def run_core(parameters: Parameters) -> object:
                return (await core.execute(self.statement, parameters)).one_or_none()

            async def rest_ours() -> None:
                await uow.commit()
                await repository.get_outbound_by_id(place.tenant_id)

            async def rest_core() -> None:
                await core.commit()
                self.send_context(core)
                await core.execute(begin)

            async def rest_raw() -> None:
                await raw.execute(f"COMMIT; BEGIN; {self.context}")

            await raw.execute("BEGIN")
            for rest in (rest_ours, rest_core, rest_raw):
                await rest()
            yield _Shape(
                ours=lambda argument: self.call.method(repository, argument),
                core=run_core,
                raw=lambda arguments: prepared.fetchrow(*arguments),
                rest=(rest_ours, rest_core, rest_raw),
            )
            await raw.execute("COMMIT")

    async def whole(self, raw: Any) -> _Shape:
        """The call in a transaction of its own, which is timed with it."""
        prepared = await raw.prepare(self.sql)
        place = self.place

        async def run_ours(argument: Any) -> None:
            async with SQLAlchemyUnitOfWork(place.sessions) as uow, RLSManager(uow.session) as rls:
                await rls.set_context(tenant_id=place.tenant_id)
                await self.call.method(SQLAlchemyMessageRepository(uow.session), argument)
                await uow.commit()

        async def run_core(parameters: Parameters) -> None:
            async with place.engine.connect() as core:
                self.send_context(core)
                async with core.begin():
                    (await core.execute(self.statement, parameters)).one_or_none()

        async def run_raw(arguments: Sequence[Any]) -> None:
            await raw.execute(f"BEGIN; {self.context}")
            await prepared.fetchrow(*arguments)
            await raw.execute("COMMIT")

        return _Shape(run_ours, run_core, run_raw, (_nothing, _nothing, _nothing))


async def _nothing() -> None:
    pass


async def run(context: Context) -> list[Figure]:
    """Both calls beside Core and asyncpg, alone and as a transaction; then a bulk save."""
    database = await context.database("repository")
    raw = await asyncpg.connect(database.dsn("tellwire_app"))
    try:
        async with installed(database) as place, _repository(place) as (_, uow):
            spy = _Spy(uow.session)
            numbers = count()
            keys = await _store(place, numbers)
            look_up, save, save_many = [
                _Rivals(call, place, spy) for call in _calls(place, numbers, keys)
            ]
            figures: list[Figure] = []
            for rivals in (look_up, save):
                figures += await _beside(context, rivals, raw)
            return [*figures, await _bulk(context, save, save_many, raw)]
    finally:
        await raw.close()


def _calls(
    place: Installation, numbers: "count[int]", keys: Sequence[IdempotencyKey]
) -> tuple[_Call, _Call, _Call]:
    chance = random.Random(1)  # noqa: S311  # the same keys in every run
    repository = SQLAlchemyMessageRepository
    return (
        _Call(
            "`get_outbound_by_idempotency_key`",
            repository.get_outbound_by_idempotency_key,
            lambda: chance.choice(keys),
        ),
        _Call("`save_outbound`", repository.save_outbound, lambda: place.message(next(numbers))),
        _Call(
            "`save_outbound_many`",
            repository.save_outbound_many,
            lambda: [place.message(next(numbers)) for _ in range(BULK)],
        ),
    )


async def _store(place: Installation, numbers: "count[int]") -> list[IdempotencyKey]:
    """Fill the table a little, so that indexes have more than one level."""
    keys: list[IdempotencyKey] = []
    async with _repository(place) as (repository, uow):
        for _ in range(STORED // BULK):
            messages = [place.message(next(numbers)) for _ in range(BULK)]
            stored = await repository.save_outbound_many(messages)
            keys += [message.idempotency_key for message in stored]
        await uow.commit()
    return keys


async def _beside(context: Context, rivals: _Rivals, raw: Any) -> list[Figure]:
    name = rivals.call.name
    async with rivals.alone(raw) as shape:
        alone = await context.duel(f"{name} alone", *rivals.contenders(shape))
    shape = await rivals.whole(raw)
    whole = await context.duel(f"{name} transaction", *rivals.contenders(shape))
    return [
        _figure(f"{name}, the call alone", CORE, CORE_BOUND, alone),
        _figure(f"{name}, the call alone", ASYNCPG, ASYNCPG_BOUND, alone),
        _figure(f"{name}, a whole transaction", CORE, CORE_BOUND, whole),
        replace(_figure(f"{name}, a whole transaction", ASYNCPG, None, whole), reason=WHOLE_REASON),
    ]


def _figure(name: str, rival: str, bound: float | None, timings: Timings) -> Figure:
    return Figure(
        f"{name}, beside {rival}",
        timings.ratios(OURS, rival),
        bound,
        detail=timings.detail(OURS, rival),
    )


async def _bulk(context: Context, save: _Rivals, save_many: _Rivals, raw: Any) -> Figure:
    """500 messages at once beside one by one, both as a caller would."""
    one, many = await save.whole(raw), await save_many.whole(raw)
    at_once, bare = f"{BULK} at once", "the same through asyncpg"
    timings = await context.duel(
        save_many.call.name,
        Contender(at_once, many.ours, save_many.call.argument, calls=1),
        Contender(bare, many.raw, save_many.arguments, calls=1),
        Contender("one", one.ours, save.call.argument),
        batches=8,
    )
    return Figure(
        f"`save_outbound_many` of {BULK}: rows per second beside `save_outbound` one by one, "
        "both through the unit of work with a commit per call",
        [BULK * each for each in timings.ratios("one", at_once)],
        BULK_BOUND,
        at_least=True,
        detail=timings.detail(at_once, bare, "one"),
        reason=BULK_REASON,
    )


@asynccontextmanager
async def _repository(
    place: Installation,
) -> AsyncGenerator[tuple[SQLAlchemyMessageRepository, SQLAlchemyUnitOfWork]]:
    async with SQLAlchemyUnitOfWork(place.sessions) as uow, RLSManager(uow.session) as rls:
        await rls.set_context(tenant_id=place.tenant_id)
        yield SQLAlchemyMessageRepository(uow.session), uow
