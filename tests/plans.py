"""How tests look at PostgreSQL's plans: on 200,000 rows, of which one tenant has half.

Statements are caught on their way to PostgreSQL and explained with their own parameters, so that
what is checked is what runs.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from shared.infrastructure.database import RLSManager, create_engine, create_session_factory
from shared.infrastructure.encryption import DecryptionFailed

ROWS = 200_000
SEED = """
    SET session_replication_role = replica;  -- What is seeded is known to fit together.
    CREATE TABLE seed_tenants AS SELECT n, md5('t' || n)::uuid AS id FROM generate_series(0, 200) n;
    CREATE TABLE seed_messages (id uuid, tenant_id uuid, channel_id uuid, n bigint);
    INSERT INTO tenants (id, name) SELECT id, 'seeded' FROM seed_tenants;
    INSERT INTO whatsapp_channels (tenant_id, id, name, phone_number_id, access_token, status,
                                   messages_per_second, verified_at)
    SELECT t.id, md5('c' || t.n || c)::uuid, 'x', c::text, decode(repeat('00', 300), 'hex'),
           'active', 80, now()
    FROM seed_tenants t CROSS JOIN generate_series(1, CASE t.n WHEN 0 THEN 3 ELSE 50 END) c;
    INSERT INTO seed_messages
    SELECT md5('m' || i)::uuid, t.id, md5('c' || t.n || 1 + i % 3)::uuid, i
    FROM generate_series(1, {rows}) i
    JOIN seed_tenants t ON t.n = CASE WHEN i % 2 = 0 THEN 0 ELSE 1 + i % 200 END;
    INSERT INTO whatsapp_outbound_messages
        (tenant_id, id, channel_id, recipient, type, body, idempotency_key, digest, status, lane,
         details, wamid, attempts, created_at, status_at)
    SELECT tenant_id, id, channel_id,
           CASE n % 6 WHEN 0 THEN '+49151300' ELSE '+4915' || 100000000 + n END,
           'text', '{{"body": "Hi"}}', 'key-' || n, decode(md5(n::text), 'hex'),
           CASE WHEN n % 40 = 4 THEN 'unknown' WHEN n % 4 = 0 THEN 'queued' ELSE 'read' END, 1,
           '{{}}', 'wamid.' || n, 1,
           now() - interval '1 hour', now() - interval '1 hour'
    FROM seed_messages;
"""
"""Tenants with channels, and messages; `seed_tenants` and `seed_messages` help to make more."""


def seeded(text: str) -> UUID:
    """The id that the seed gave to what it calls so."""
    return UUID(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest())


TENANT = seeded("t0")
"""Who has half of everything."""
IN_VAIN = 100
"""At most so many rows may be read and thrown away by one statement."""
ENTRIES_READ = """
    SELECT sum(pg_stat_get_xact_tuples_returned(oid)) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
"""


def seed(superuser_url: str, more: str) -> None:
    """Fill a database with tenants, channels, messages and whatever `more` makes of them."""

    async def fill() -> None:
        connection = await asyncpg.connect(superuser_url.replace("+asyncpg", ""))
        try:
            await connection.execute(
                SEED.format(rows=ROWS) + more + "DROP TABLE seed_messages, seed_tenants"
            )
            await connection.execute("VACUUM ANALYZE")
        finally:
            await connection.close()

    asyncio.run(fill())


def catch(engine: Any) -> list[tuple[str, tuple[Any, ...]]]:
    """What is sent on `engine` from now on."""
    caught: list[tuple[str, tuple[Any, ...]]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        caught.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    return caught


Sent = list[tuple[str, tuple[Any, ...]]]
"""Statements with their parameters."""


async def sent_on(url: str, call: Callable[[AsyncEngine], Awaitable[Any]]) -> Sent:
    """What a call sends on an engine."""
    engine = create_engine(url)
    caught = catch(engine)
    try:
        await call(engine)
    finally:
        await engine.dispose()
    return caught


async def sent_in(url: str, call: Callable[[AsyncSession], Awaitable[Any]]) -> Sent:
    """What a call sends in a transaction of the tenant, which is rolled back."""

    async def in_session(engine: AsyncEngine) -> None:
        async with create_session_factory(engine)() as session, RLSManager(session) as rls:
            await rls.set_context(tenant_id=TENANT)
            # The seeded secrets are nobody's; what was asked is all that counts here.
            with suppress(DecryptionFailed):
                await call(session)
            await session.rollback()

    return await sent_on(url, in_session)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def judge(explained: str, expected: set[str]) -> list[str]:
    """What is wrong with a plan that ran."""
    problems, used = [], set()
    for node in _nodes(json.loads(explained)[0]["Plan"]):
        loops = node.get("Actual Loops", 1)
        vain = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
        if vain * loops >= IN_VAIN:
            problems.append(f"{node['Node Type']} threw {vain * loops} rows away")
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] != "tenants":
            problems.append(f"Seq Scan of {node['Relation Name']}")
        if "Scan" in node["Node Type"] and node.get("Actual Rows", 0) * loops > 20 * IN_VAIN:
            problems.append(f"{node['Node Type']} read {node['Actual Rows'] * loops} rows")
        used.add(node.get("Index Name"))
    return problems + [f"does not go by {name}" for name in sorted(expected - used)]


async def explain(url: str, tenant: UUID | None, caught: tuple[str, tuple[Any, ...]]) -> str:
    """How a statement was run, as JSON; what it changed is taken back."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    statement, parameters = caught
    try:
        async with connection.transaction():
            await connection.execute("SELECT set_config('app.jwt_tenant', $1, true)", str(tenant))
            explained = await connection.fetchval(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *parameters
            )
            await connection.execute("SELECT 1 / 0")
    except asyncpg.DivisionByZeroError:
        return str(explained)
    finally:
        await connection.close()
    raise AssertionError


async def reading(url: str, mode: str, sent: tuple[str, tuple[Any, ...]]) -> int:
    """How many rows and index entries a statement reads whose plan is made in this way."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    statement, parameters = sent
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT set_config('app.jwt_tenant', $1, true)", str(TENANT))
    await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
    try:
        await connection.fetch(statement, *parameters)
        return int(await connection.fetchval(ENTRIES_READ) or 0)
    finally:
        await transaction.rollback()
        await connection.close()


async def reads_hardly_more(url: str, sent: tuple[str, tuple[Any, ...]]) -> bool:
    """Whether a plan that is made once for all reads about as little as one made for its values."""
    for_values = await reading(url, "force_custom_plan", sent)
    for_all = await reading(url, "force_generic_plan", sent)

    return for_all <= 2 * for_values + IN_VAIN
