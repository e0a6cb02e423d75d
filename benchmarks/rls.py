"""What row-level security costs: a million messages, with it and without, in the same tables.

With: as `tellwire_app` (the claim as `tellwire_dispatch`) under forced policies, in sessions with a
tenant. Without: as a role that policies do not apply to, in plain sessions without a tenant. The
SQL is the same on both sides, and so is the way from a row to an entity.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg
from benchmarks.harness import Contender, Context, Figure, Timings
from benchmarks.installation import Installation, installed
from benchmarks.servers import Database
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.infrastructure.database import RLSManager, SQLAlchemyUnitOfWork, create_engine
from tellwire.embedded.postgres import SUPERUSER
from whatsapp.domain.send_queue import ClaimedEntry
from whatsapp.domain.value_objects import IdempotencyKey
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMessageRepository
from whatsapp.infrastructure.persistence.repositories.send_queue import SQLAlchemySendQueue

TITLE = "Row-level security"
ROWS, OTHERS, SAMPLED, CLAIMED = 1_000_000, 1_000, 5_000, 50
STATEMENT_BOUND, TRANSACTION_BOUND = 1.10, 1.15
ON, OFF = "with", "without"
UNGUARDED = "benchmark_unguarded"
LEASE = timedelta(minutes=5)


class _UnguardedRepository(SQLAlchemyMessageRepository):
    """The same statements, in a session that knows of no tenant."""

    def __init__(self, session: AsyncSession, tenant_id: UUID) -> None:
        super().__init__(session)
        self._tenant_id = tenant_id

    @property
    def tenant_id(self) -> UUID:
        """The tenant that is asked for; nobody checks it."""
        return self._tenant_id


@dataclass(frozen=True, slots=True)
class _Lookup:
    """A point look-up, and which messages it is given."""

    name: str
    call: Callable[[SQLAlchemyMessageRepository, int], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class _Sides:
    """Sessions on either side of the policies, and messages of the tenant that has half of all."""

    place: Installation
    plain: "async_sessionmaker[AsyncSession]"
    ids: Sequence[UUID]
    keys: Sequence[IdempotencyKey]

    def lookups(self) -> tuple[_Lookup, _Lookup]:
        return (
            _Lookup("by id", lambda repository, n: repository.get_outbound_by_id(self.ids[n])),
            _Lookup(
                "by idempotency key",
                lambda repository, n: repository.get_outbound_by_idempotency_key(self.keys[n]),
            ),
        )

    async def inside(self, lookup: _Lookup, n: int) -> None:
        """Begin, context, look-up, commit."""
        async with (
            SQLAlchemyUnitOfWork(self.place.sessions) as uow,
            RLSManager(uow.session) as rls,
        ):
            await rls.set_context(tenant_id=self.place.tenant_id)
            await lookup.call(SQLAlchemyMessageRepository(uow.session), n)
            await uow.commit()

    async def outside(self, lookup: _Lookup, n: int) -> None:
        """Begin, look-up, commit."""
        async with SQLAlchemyUnitOfWork(self.plain) as uow:
            await lookup.call(_UnguardedRepository(uow.session, self.place.tenant_id), n)
            await uow.commit()


async def run(context: Context) -> list[Figure]:
    """Point look-ups, whole transactions and the claim, each with and without."""
    database = await context.database("rls")
    task = context.progress.add_task(f"loading {ROWS:,} messages", total=None)
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(installed(database))
        await database.as_superuser(*_load(place), *_unguarded(database))
        context.progress.update(task, total=1, completed=1)
        off = create_engine(database.url(UNGUARDED))
        dispatch = create_engine(database.url("tellwire_dispatch"))
        stack.push_async_callback(off.dispose)
        stack.push_async_callback(dispatch.dispose)
        ids, keys = await _sample(database, place)
        plain = async_sessionmaker(off, expire_on_commit=False)
        sides = _Sides(place, plain, ids, keys)
        queues = SQLAlchemySendQueue(dispatch), SQLAlchemySendQueue(off)
        return [
            *[await _lookup(context, sides, lookup) for lookup in sides.lookups()],
            await _claim(context, place, *queues),
            *[await _transaction(context, sides, lookup) for lookup in sides.lookups()],
        ]


async def _lookup(context: Context, sides: _Sides, lookup: _Lookup) -> Figure:
    """The look-up alone, in transactions that are open already."""
    tenant, chance = sides.place.tenant_id, _chance()
    async with (
        SQLAlchemyUnitOfWork(sides.place.sessions) as uow,
        RLSManager(uow.session) as rls,
        sides.plain() as plain,
    ):
        await rls.set_context(tenant_id=tenant)
        guarded = SQLAlchemyMessageRepository(uow.session)
        unguarded = _UnguardedRepository(plain, tenant)
        timings = await context.duel(
            f"look-up {lookup.name}",
            Contender(ON, lambda n: lookup.call(guarded, n), chance),
            Contender(OFF, lambda n: lookup.call(unguarded, n), chance),
            rounds=31,
            batches=40,
        )
    return _figure(f"point look-up {lookup.name}", timings, STATEMENT_BOUND)


async def _transaction(context: Context, sides: _Sides, lookup: _Lookup) -> Figure:
    chance = _chance()
    timings = await context.duel(
        f"transaction {lookup.name}",
        Contender(ON, lambda n: sides.inside(lookup, n), chance),
        Contender(OFF, lambda n: sides.outside(lookup, n), chance),
        rounds=31,
        batches=40,
    )
    name = f"whole transaction (begin, context, look-up {lookup.name}, commit)"
    return _figure(name, timings, TRANSACTION_BOUND)


async def _claim(
    context: Context, place: Installation, on: SQLAlchemySendQueue, off: SQLAlchemySendQueue
) -> Figure:
    """50 entries of a queue of a million; given back after each batch, which is not timed."""

    def contender(name: str, queue: SQLAlchemySendQueue) -> Contender:
        claimed: list[Sequence[ClaimedEntry]] = []

        async def claim(_: None) -> None:
            claimed.append(
                await queue.claim(
                    tenant_id=place.tenant_id,
                    channel_id=place.channel_id,
                    limit=CLAIMED,
                    lease=LEASE,
                )
            )

        async def release() -> None:
            for entries in claimed:
                if len(entries) != CLAIMED:
                    raise AssertionError(f"{len(entries)} entries claimed, not {CLAIMED}")
                await queue.release(entries)
            claimed.clear()

        return Contender(name, claim, rest=release)

    timings = await context.duel(
        "claim", contender(ON, on), contender(OFF, off), rounds=31, batches=20, calls=2
    )
    return _figure(f"claim of {CLAIMED} entries", timings, STATEMENT_BOUND)


def _figure(name: str, timings: Timings, bound: float) -> Figure:
    return Figure(
        f"{name}, with policies and context beside without",
        timings.ratios(ON, OFF),
        bound,
        detail=timings.detail(ON, OFF),
    )


def _chance() -> Callable[[], int]:
    chance = random.Random(1)  # noqa: S311  # the same messages in every run
    return lambda: chance.randrange(SAMPLED)


async def _sample(
    database: Database, place: Installation
) -> tuple[list[UUID], list[IdempotencyKey]]:
    connection = await asyncpg.connect(database.dsn(SUPERUSER))
    try:
        rows = await connection.fetch(
            "SELECT id, idempotency_key FROM whatsapp_outbound_messages WHERE tenant_id = $1 "
            "ORDER BY digest LIMIT $2",
            place.tenant_id,
            SAMPLED,
        )
    finally:
        await connection.close()
    return [row["id"] for row in rows], [IdempotencyKey(row["idempotency_key"]) for row in rows]


def _unguarded(database: Database) -> tuple[str, ...]:
    """A role beyond the policies, with the application's rights; Tellwire refuses to run as one."""
    return (
        f"CREATE ROLE {UNGUARDED} LOGIN BYPASSRLS",
        f"GRANT CONNECT ON DATABASE {database.name} TO {UNGUARDED}",
        f"GRANT USAGE ON SCHEMA public TO {UNGUARDED}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {UNGUARDED}",
    )


def _load(place: Installation) -> tuple[str, ...]:
    """One tenant with every second message, a thousand that share the others; all still queued."""
    big, channel = f"'{place.tenant_id}'::uuid", f"'{place.channel_id}'::uuid"
    return (
        "SET session_replication_role = replica",  # No foreign key is checked a million times.
        f"""
        CREATE TEMP TABLE other AS SELECT n, uuidv7() AS tenant, uuidv7() AS channel
        FROM generate_series(0, {OTHERS - 1}) AS n
        """,  # noqa: S608  # our own numbers
        "INSERT INTO tenants (id, name) SELECT tenant, 'Other ' || n FROM other",
        """
        INSERT INTO whatsapp_channels
            (tenant_id, id, name, phone_number_id, access_token, status, messages_per_second)
        SELECT tenant, channel, 'Main', n::text, '', 'active', 80 FROM other
        """,
        f"""
        INSERT INTO whatsapp_outbound_messages
            (tenant_id, id, channel_id, recipient, type, body, idempotency_key, digest, status,
             lane, details, attempts, created_at, status_at)
        SELECT coalesce(o.tenant, {big}), uuidv7(), coalesce(o.channel, {channel}),
               '+4915' || lpad(i::text, 9, '0'), 'text',
               jsonb_build_object('body', 'Your order ' || i || ' is on its way'),
               encode(sha256(i::text::bytea), 'hex'), sha256(('d' || i)::bytea), 'queued',
               1, '{{}}', 0, now(), now()
        FROM generate_series(1, {ROWS}) AS i
        LEFT JOIN other o ON i % 2 = 1 AND o.n = i / 2 % {OTHERS}
        """,  # noqa: S608  # our own numbers and ids
        """
        INSERT INTO whatsapp_send_queue
            (tenant_id, id, channel_id, recipient_key, lane, state, due_at, attempt)
        SELECT tenant_id, id, channel_id, hashtextextended(recipient, 0), lane, 'ready',
               created_at, 0
        FROM whatsapp_outbound_messages
        """,
        "VACUUM (ANALYZE) whatsapp_outbound_messages",
        "VACUUM (ANALYZE) whatsapp_send_queue",
        "VACUUM (ANALYZE) whatsapp_channels",
        "CHECKPOINT",
    )
