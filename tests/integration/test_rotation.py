"""Re-encryption on a real PostgreSQL, as the role that Tellwire runs as."""

import asyncio
import os
import random
import signal
import sys
import time
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    column,
    func,
    insert,
    select,
    table,
    text,
    update,
)

from shared.infrastructure.database import create_engine, create_session_factory
from shared.infrastructure.encryption import (
    Binding,
    EncryptedString,
    EncryptionManager,
    KeyRing,
    Tampered,
    UnknownKeyId,
    configure_encryption,
)
from shared.infrastructure.encryption.rotation import (
    encrypted_columns,
    remaining,
    rotate,
    sessions_from,
)
from shared.kernel.ids import new_id
from shared.kernel.secret import Secret
from whatsapp.infrastructure.persistence.models import ChannelModel
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyChannelRepository

pytestmark = pytest.mark.postgres

metadata = MetaData()
vault = Table(
    "vault",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("token", EncryptedString("vault", "token")),
    Column("secret", EncryptedString("vault", "secret")),
    Column("updated_at", DateTime(timezone=True), onupdate=func.now()),
)
links = Table(
    "vault_links",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("side", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("token", EncryptedString("vault_links", "token"), nullable=False),
    Column("common", EncryptedString("vault_links", "common", tenant_bound=False)),
)
platform = Table(
    "vault_platform",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("secret", EncryptedString("vault_platform", "secret", tenant_bound=False)),
)
raw_vault = table("vault", column("id", Uuid), column("token", LargeBinary))
COLUMNS = encrypted_columns(metadata)
TOKENS = tuple(one for one in COLUMNS if one.binding(None).place == "vault.token")
SCHEMA = """
CREATE TABLE vault (tenant_id uuid, id uuid, token bytea, secret bytea, updated_at timestamptz,
    PRIMARY KEY (tenant_id, id));
CREATE TABLE vault_links (tenant_id uuid, side text, number integer, token bytea NOT NULL,
    common bytea, PRIMARY KEY (tenant_id, side, number));
CREATE TABLE vault_platform (id integer PRIMARY KEY, secret bytea);
GRANT SELECT, INSERT, UPDATE ON vault, vault_links, vault_platform TO tellwire_app;
"""
POLICY = """
ALTER TABLE {0} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {0} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON {0} TO tellwire_app
    USING (tenant_id = nullif(current_setting('app.jwt_tenant', true), '')::uuid);
"""
FILL = text(
    "INSERT INTO vault (tenant_id, id, token)"
    " SELECT :tenant, * FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bytea[]))"
)


class World:
    """The small schema above, in a database of its own, and what the tests do with it."""

    def __init__(self, factory):
        self.open = sessions_from(factory)
        self.old = EncryptionManager(KeyRing.generate())
        self.new = EncryptionManager(self.old.ring.with_key().promote(2))
        configure_encryption(self.old)

    async def fill(self, tenant, count):
        """Rows with the tokens `token-<n>` under the old key; their ids are in the order of n."""
        here = Binding("vault", "token", tenant)
        ids = [new_id() for _ in range(count)]
        tokens = [self.old.encrypt(f"token-{n}", here) for n in range(count)]
        async with self.open(tenant) as session:
            await session.execute(FILL, {"tenant": tenant, "ids": ids, "tokens": tokens})
            await session.commit()
        return ids

    async def tokens(self, tenant):
        async with self.open(tenant) as session:
            found = await session.execute(
                select(vault.c.id, vault.c.token)
                .where(vault.c.tenant_id == tenant)
                .order_by(vault.c.id)
            )
            return {row: token.reveal() for row, token in found}

    async def set_token(self, tenant, row, token):
        async with self.open(tenant) as session:
            await session.execute(
                update(vault)
                .where(vault.c.tenant_id == tenant, vault.c.id == row)
                .values(token=Secret(token))
            )
            await session.commit()

    async def set_raw(self, tenant, row, value):
        async with self.open(tenant) as session:
            stored = update(raw_vault).where(raw_vault.c.id == row).values(token=value)
            await session.execute(stored)
            await session.commit()

    async def raw(self, tenant, row):
        async with self.open(tenant) as session:
            return await session.scalar(select(raw_vault.c.token).where(raw_vault.c.id == row))

    async def rotate(self, tenants, open_session=None, columns=TOKENS, **options):
        configure_encryption(self.new)
        options = {"rows_per_second": 1_000_000, **options}
        return await rotate(open_session or self.open, columns=columns, tenants=tenants, **options)

    async def remaining(self, tenants, columns=TOKENS):
        return await remaining(self.open, columns=columns, tenants=tenants, manager=self.new)

    def forget_the_old_key(self):
        configure_encryption(EncryptionManager(self.new.ring.without_key(1)))

    def open_with(self, meanwhile):
        """Sessions such that `meanwhile` happens between reading the first batch and writing it."""
        opened = []

        @asynccontextmanager
        async def open_session(tenant):
            opened.append(tenant)
            if len(opened) == 3:  # the first counts, the second reads, the third writes
                await asyncio.create_task(meanwhile())
            async with self.open(tenant) as session:
                yield session

        return open_session


@pytest.fixture
async def world(database):
    owner = await asyncpg.connect(database.url("tellwire_owner").replace("+asyncpg", ""))
    await owner.execute(SCHEMA + POLICY.format("vault") + POLICY.format("vault_links"))
    await owner.close()
    engine = create_engine(database.url("tellwire_app"), pool_size=20, max_overflow=10)
    yield World(create_session_factory(engine))
    configure_encryption(None)
    await engine.dispose()


async def test_a_token_is_encrypted_in_the_database_and_a_secret_in_python(world):
    tenant, row = new_id(), new_id()
    async with world.open(tenant) as session:
        await session.execute(
            insert(vault).values(tenant_id=tenant, id=row, token=Secret("EAAG"), secret="x")
        )
        await session.commit()

    async with world.open(tenant) as session:
        found = (await session.execute(select(vault.c.token, vault.c.secret))).one()

    assert tuple(found) == (Secret("EAAG"), Secret("x"))
    assert "EAAG" not in repr(found)
    assert (await world.raw(tenant, row))[0] == 1


async def test_a_value_copied_to_another_column_or_tenant_does_not_open(world):
    mine, theirs = new_id(), new_id()
    (row,), (other,) = await world.fill(mine, 1), await world.fill(theirs, 1)
    await world.set_raw(theirs, other, await world.raw(mine, row))

    async with world.open(theirs) as session:
        with pytest.raises(Tampered, match=r"vault\.token"):
            await session.scalar(select(vault.c.token))
    async with world.open(mine) as session:
        await session.execute(text("UPDATE vault SET secret = token"))
        with pytest.raises(Tampered, match=r"vault\.secret"):
            await session.scalar(select(vault.c.secret))


async def test_a_value_copied_to_another_row_of_its_tenant_opens_there(world):
    """Known and documented: the type sees no row (docs/adr/0003-encrypted-string-binding.md)."""
    tenant = new_id()
    first, second = await world.fill(tenant, 2)
    await world.set_raw(tenant, second, await world.raw(tenant, first))

    assert await world.tokens(tenant) == {first: "token-0", second: "token-0"}


async def test_every_value_comes_under_the_new_key_and_stays_the_same(world):
    rows = {tenant: await world.fill(tenant, 7) for tenant in (new_id(), new_id(), new_id())}
    assert await world.remaining(rows) == 21

    counts = await world.rotate(rows, batch_rows=3)

    assert (counts.rotated, counts.overtaken, counts.missed) == (21, 0, 0)
    assert await world.remaining(rows) == 0
    world.forget_the_old_key()
    for tenant, ids in rows.items():
        assert await world.tokens(tenant) == {row: f"token-{n}" for n, row in enumerate(ids)}


async def test_a_second_run_has_nothing_to_do(world):
    tenant = new_id()
    (row,) = await world.fill(tenant, 1)
    await world.rotate([tenant])
    before = await world.raw(tenant, row)

    assert (await world.rotate([tenant])).rotated == 0
    assert await world.raw(tenant, row) == before


async def test_columns_with_other_keys_and_tables_of_the_platform_are_rotated_too(world):
    tenant = new_id()
    linked = [
        {"side": side, "number": n, "token": f"{side}{n}", "common": "c"}
        for side in "ab"
        for n in range(5)
    ]
    async with world.open(tenant) as session:
        await session.execute(insert(links), [{"tenant_id": tenant, **link} for link in linked])
        await session.execute(insert(vault).values(tenant_id=tenant, id=new_id(), secret="s"))
        await session.execute(insert(platform), [{"id": n, "secret": f"p{n}"} for n in range(3)])
        await session.execute(insert(platform).values(id=9, secret=None))
        await session.commit()

    async def tenants():
        yield tenant

    assert (await world.rotate(tenants(), columns=COLUMNS, batch_rows=2)).rotated == 24
    assert await world.remaining(tenants(), columns=COLUMNS) == 0
    world.forget_the_old_key()
    async with world.open(tenant) as session:
        read = await session.scalars(select(links.c.token).order_by(links.c.side, links.c.number))
        assert [token.reveal() for token in read] == [link["token"] for link in linked]
        assert [c.reveal() for c in await session.scalars(select(links.c.common))] == ["c"] * 10
        read = await session.scalars(select(platform.c.secret).order_by(platform.c.id))
        assert [token and token.reveal() for token in read] == ["p0", "p1", "p2", None]


async def test_only_the_tenants_given_are_touched_and_rows_do_not_look_changed(world):
    mine, theirs = new_id(), new_id()
    await world.fill(mine, 2)
    await world.fill(theirs, 2)

    await world.rotate([mine])

    assert await world.remaining([theirs]) == 2
    async with world.open(mine) as session:
        assert set(await session.scalars(select(vault.c.updated_at))) == {None}


async def test_a_token_refreshed_between_reading_and_writing_wins(world):
    tenant = new_id()
    first, second, third = await world.fill(tenant, 3)

    async def refresh():
        await world.set_token(tenant, second, "refreshed")

    counts = await world.rotate([tenant], open_session=world.open_with(refresh))

    assert (counts.rotated, counts.overtaken, counts.missed) == (2, 1, 0)
    expected = {first: "token-0", second: "refreshed", third: "token-2"}
    assert await world.tokens(tenant) == expected
    assert await world.remaining([tenant]) == 0


async def test_a_token_refreshed_under_the_old_key_meanwhile_is_rotated_in_the_next_pass(world):
    tenant = new_id()
    first, second, third = await world.fill(tenant, 3)
    stale = world.old.encrypt("refreshed", Binding("vault", "token", tenant))

    async def refresh():
        await world.set_raw(tenant, second, stale)

    counts = await world.rotate([tenant], open_session=world.open_with(refresh))

    assert (counts.rotated, counts.overtaken, counts.missed) == (3, 1, 0)
    expected = {first: "token-0", second: "refreshed", third: "token-2"}
    assert await world.tokens(tenant) == expected
    assert await world.remaining([tenant]) == 0


async def test_a_locked_row_is_not_waited_for_and_left_to_the_next_run(world):
    tenant = new_id()
    ids = await world.fill(tenant, 4)
    async with world.open(tenant) as busy:
        await busy.execute(select(vault.c.id).where(vault.c.id == ids[2]).with_for_update())
        counts = await asyncio.wait_for(world.rotate([tenant]), 30)

    assert (counts.rotated, counts.missed) == (3, 1)
    assert (await world.rotate([tenant])).rotated == 1
    assert await world.remaining([tenant]) == 0


async def test_what_does_not_open_is_counted_left_alone_and_stops_nothing(world):
    tenant = new_id()
    ids = await world.fill(tenant, 6)
    changed = bytearray(await world.raw(tenant, ids[5]))
    changed[-1] ^= 1
    broken = {
        ids[0]: b"\x01",
        ids[2]: b"EAAG-in-the-clear-put-in-by-hand-here",
        ids[3]: None,
        ids[5]: bytes(changed),
    }
    for row, value in broken.items():
        await world.set_raw(tenant, row, value)

    counts = await world.rotate([tenant], batch_rows=2)

    assert (counts.rotated, counts.missed) == (2, 0)
    assert counts.unreadable == {
        "vault.token decryption_malformed": 1,
        "vault.token decryption_unknown_version": 1,
        "vault.token decryption_tampered": 1,
    }
    assert await world.remaining([tenant]) == 3
    for row, value in broken.items():
        assert await world.raw(tenant, row) == value


async def test_a_ring_without_the_old_key_reads_nothing_and_says_which_key_it_needs(world):
    tenant = new_id()
    await world.fill(tenant, 2)
    configure_encryption(EncryptionManager(KeyRing.generate(2)))

    async with world.open(tenant) as session:
        with pytest.raises(UnknownKeyId, match="needs key 1"):
            await session.scalar(select(vault.c.token))


async def test_two_rotations_at_once_share_the_work_without_deadlock(world):
    tenants = [new_id() for _ in range(2)]
    for tenant in tenants:
        await world.fill(tenant, 2_000)

    orders = (tenants, tenants[::-1], tenants)
    runs = await asyncio.gather(*(world.rotate(order, batch_rows=50) for order in orders))

    assert sum(run.rotated for run in runs) == 4_000
    assert await world.remaining(tenants) == 0


async def test_progress_goes_forward_to_its_end(world):
    tenants = [new_id() for _ in range(3)]
    for tenant in tenants:
        await world.fill(tenant, 5)
    told = []

    await world.rotate(tenants, batch_rows=2, progress=lambda *now: told.append(now))

    assert told == sorted(told)
    assert told[0] == (2, 15)
    assert told[-1] == (15, 15)


async def test_the_rate_is_kept(world):
    tenant = new_id()
    await world.fill(tenant, 300)

    began = time.monotonic()
    await world.rotate([tenant], batch_rows=50, rows_per_second=500)

    # The first batch goes at once, the other five wait for 100 ms each.
    assert time.monotonic() - began >= 0.5


async def test_the_tokens_of_real_channels_are_rotated(ana, sessions, encryption):
    columns = encrypted_columns(ChannelModel.metadata)
    opened = sessions_from(sessions)
    new = EncryptionManager(encryption.ring.with_key().promote(2))

    counts = await rotate(opened, columns=columns, tenants=[ana.tenant_id], manager=new)

    assert counts.rotated == 1
    assert await remaining(opened, columns=columns, tenants=[ana.tenant_id], manager=new) == 0
    configure_encryption(EncryptionManager(new.ring.without_key(1)))
    async with opened(ana.tenant_id) as session:
        found = await SQLAlchemyChannelRepository(session).get_by_id(ana.channel.id)
    assert found == ana.channel


ROWS, TENANTS, WRITERS = 100_000, 20, 50
WRITER_PAUSE_SECONDS = 0.02  # so that on a small machine the rotation gets its share of it


async def _refresh(world, *, rows, expected, done, seed):
    """Refresh tokens, one at a time, checking what stood there before; until `done`."""
    choose = random.Random(seed)  # a repeatable choice of rows
    refreshed = 0
    while not done.is_set():
        tenant, row = choose.choice(rows)
        mine = (vault.c.tenant_id == tenant, vault.c.id == row)
        held = select(vault.c.token).where(*mine)
        token = f"refreshed-{seed}-{refreshed}"
        async with world.open(tenant) as session:
            # Two of three lock their row before they read it, as a careful writer would.
            found = await session.scalar(held.with_for_update() if refreshed % 3 else held)
            assert found.reveal() == expected[row]
            await session.execute(update(vault).where(*mine).values(token=Secret(token)))
            await session.commit()
        expected[row] = token
        refreshed += 1
        await asyncio.sleep(WRITER_PAUSE_SECONDS)
    return refreshed


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_rotation_under_load_loses_no_refresh_and_leaves_no_old_key(world):
    """100 000 tokens and 50 writers; each row has one writer, who knows what stands in it."""
    tenants = [new_id() for _ in range(TENANTS)]
    rows, expected = [], {}
    for tenant in tenants:
        ids = await world.fill(tenant, ROWS // TENANTS)
        rows += [(tenant, row) for row in ids]
        expected |= {row: f"token-{n}" for n, row in enumerate(ids)}
    configure_encryption(world.new)
    done = asyncio.Event()
    writers = [
        asyncio.create_task(
            _refresh(world, rows=rows[seed::WRITERS], expected=expected, done=done, seed=seed)
        )
        for seed in range(WRITERS)
    ]

    counts = await world.rotate(tenants)
    done.set()
    refreshed = await asyncio.gather(*writers)

    assert counts.missed == 0
    assert counts.unreadable.total() == 0
    assert min(refreshed) > 0
    assert await world.remaining(tenants) == 0
    world.forget_the_old_key()
    stored = {}
    for tenant in tenants:
        stored |= await world.tokens(tenant)
    assert stored == expected


KILLED = """
import asyncio, os, sys
from uuid import UUID
from sqlalchemy import Column, MetaData, Table, Uuid
from shared.infrastructure.database import create_engine, create_session_factory
from shared.infrastructure.encryption import EncryptedString, EncryptionManager, KeyRing
from shared.infrastructure.encryption.rotation import encrypted_columns, rotate, sessions_from

vault = Table(
    "vault", MetaData(), Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True), Column("token", EncryptedString("vault", "token")),
)

async def main(url, *tenants):
    await rotate(
        sessions_from(create_session_factory(create_engine(url))),
        columns=encrypted_columns(vault.metadata),
        tenants=[UUID(tenant) for tenant in tenants],
        manager=EncryptionManager(KeyRing.parse(os.environ["TELLWIRE_ENCRYPTION_KEYS"])),
        batch_rows=100,
        rows_per_second=5_000,
        progress=lambda done, total: print(done, flush=True),
    )

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_rotation_goes_on_where_it_stopped(world, database):
    rows = {tenant: await world.fill(tenant, 5_000) for tenant in (new_id(), new_id())}
    left = [await world.remaining(rows)]
    keys = {"TELLWIRE_ENCRYPTION_KEYS": world.new.ring.to_setting().reveal()}
    for batches in (2, 5, 3, 4):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", KILLED, database.url("tellwire_app"), *map(str, rows)),
            env={**os.environ, **keys},
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(batches):
            assert await asyncio.wait_for(process.stdout.readline(), 60)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        left.append(await world.remaining(rows))

    assert left == sorted(set(left), reverse=True), "each run went on, none began anew"
    assert left[-1] > 0, "the kills came before the end"
    # The server may take a moment to notice that a killed client's transaction is over.
    while await world.remaining(rows):
        await world.rotate(rows)
    world.forget_the_old_key()
    for tenant, ids in rows.items():
        assert await world.tokens(tenant) == {row: f"token-{n}" for n, row in enumerate(ids)}
