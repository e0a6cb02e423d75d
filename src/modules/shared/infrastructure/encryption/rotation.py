"""Re-encrypts stored values under the primary key, while everybody keeps reading and writing.

The key id of a value lies in the clear in its header, so what is left to do is a question to the
database and no state is kept: a job that was killed goes on where it stopped, and one that finds
nothing to do does nothing. PostgreSQL only.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    LargeBinary,
    MetaData,
    Row,
    Select,
    Table,
    TableClause,
    Update,
    Uuid,
    and_,
    bindparam,
    column,
    func,
    literal,
    select,
    table,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from shared.infrastructure.database.driver_errors import translated
from shared.infrastructure.database.engine import SessionFactory
from shared.infrastructure.database.rls import SCOPED, RLSManager
from shared.infrastructure.encryption.encrypted_string import EncryptedString
from shared.infrastructure.encryption.encryption_manager import (
    Binding,
    EncryptionManager,
    current_encryption,
)
from shared.infrastructure.encryption.errors import DecryptionFailed
from shared.kernel.errors import Misconfigured

OpenSession = Callable[[UUID | None], AbstractAsyncContextManager[AsyncSession]]
"""Opens a session that sees this tenant's rows, for one transaction, which rotation commits.

None stands for tables without a `tenant_id`.
"""
Tenants = Iterable[UUID] | AsyncIterable[UUID]
Progress = Callable[[int, int], None]
"""Called after each batch with the rows done and the rows there were to do at the start."""

BATCH_ROWS: Final = 500
ROWS_PER_SECOND: Final = 5_000
MAX_PASSES: Final = 20
_PAUSE_SECONDS: Final = 0.05  # between passes over rows that were locked

# The header of a ciphertext is a version byte and four bytes of key id; SQL counts from 1.
_KEY_ID_AT: Final = 2
_KEY_ID_BYTES: Final = 4
_OWN_PREDICATE: Final = {SCOPED: True}


@dataclass(frozen=True, slots=True)
class EncryptedColumn:
    """A column of type `EncryptedString`, and whether its table belongs to tenants."""

    table: Table
    name: str
    type: EncryptedString

    @property
    def per_tenant(self) -> bool:
        """Whether rows are reached tenant by tenant."""
        return "tenant_id" in self.table.c

    def binding(self, tenant_id: UUID | None) -> Binding:
        """What this column's values of `tenant_id` are bound to."""
        owner = tenant_id if self.type.tenant_bound else None
        return Binding(self.type.table, self.type.column, owner)


@dataclass(slots=True)
class RotationCounts:
    """What a rotation did, in rows.

    `overtaken` were changed or locked by others in that moment and looked at again; `missed` stayed
    locked through every pass and wait for the next run; `unreadable` did not open and were left as
    they are, by `table.column code`.
    """

    rotated: int = 0
    overtaken: int = 0
    missed: int = 0
    unreadable: Counter[str] = field(default_factory=Counter[str])


def sessions_from(factory: SessionFactory) -> OpenSession:
    """Sessions of `factory`, each under its tenant's row-level security."""

    @asynccontextmanager
    async def open_session(tenant_id: UUID | None) -> AsyncGenerator[AsyncSession]:
        async with factory() as session:
            if tenant_id is None:
                yield session
                return
            async with RLSManager(session) as rls:
                await rls.set_context(tenant_id=tenant_id)
                yield session

    return open_session


def encrypted_columns(metadata: MetaData) -> tuple[EncryptedColumn, ...]:
    """All encrypted columns of the schema; two of the same binding raise Misconfigured."""
    found = tuple(
        EncryptedColumn(each, one.name, one.type)
        for _, each in sorted(metadata.tables.items())
        for one in each.columns
        if isinstance(one.type, EncryptedString)
    )
    places = Counter(one.binding(None).place for one in found)
    shared = sorted(place for place, columns in places.items() if columns > 1)
    if shared:
        raise Misconfigured(f"Two columns are encrypted as {', '.join(shared)}; give each its own")
    return found


async def rotate(
    open_session: OpenSession,
    *,
    columns: Sequence[EncryptedColumn],
    tenants: Tenants,
    manager: EncryptionManager | None = None,
    batch_rows: int = BATCH_ROWS,
    rows_per_second: int = ROWS_PER_SECOND,
    progress: Progress | None = None,
) -> RotationCounts:
    """Re-encrypt under the primary key what lies under another; safe to kill, repeat and run twice.

    A row is only replaced while it still holds what was read, so a token that is refreshed in
    between wins. Rows are never waited for, so it holds up nobody and cannot deadlock. Runs at most
    at `rows_per_second`. Verify with `remaining`, once no process writes with the old key any more.
    """
    encryption = manager or current_encryption()
    work = await _outstanding(open_session, columns, tenants, encryption.ring.primary)
    pace, counts = _Pace(rows_per_second), RotationCounts()
    total, finished = sum(item.rows for item in work), 0
    for item in work:
        report = _reporter(progress, finished, item.rows, total)
        await _Job(open_session, encryption, item, counts, pace, batch_rows, report).run()
        finished += item.rows
        report(item.rows)
    return counts


async def remaining(
    open_session: OpenSession,
    *,
    columns: Sequence[EncryptedColumn],
    tenants: Tenants,
    manager: EncryptionManager | None = None,
) -> int:
    """How many stored values are not under the primary key; 0 means older keys are not needed."""
    primary = (manager or current_encryption()).ring.primary
    return sum(item.rows for item in await _outstanding(open_session, columns, tenants, primary))


class _Source:
    """The statements of one encrypted column under one primary key."""

    def __init__(self, encrypted: EncryptedColumn, primary: int) -> None:
        self.encrypted = encrypted
        self._primary = primary.to_bytes(_KEY_ID_BYTES, "big")
        self.keys = [
            column(one.name, one.type)
            for one in encrypted.table.primary_key.columns
            if one.name != "tenant_id"
        ]
        # A plain name instead of the mapped table: no decryption on the way, and no `onupdate` that
        # would make re-encrypted rows look changed.
        self.stored = column(encrypted.name, LargeBinary())
        self.tenant = column("tenant_id", Uuid())
        own = [self.tenant] if encrypted.per_tenant else []
        self.table: TableClause = table(
            encrypted.table.name, *own, *self.keys, self.stored, schema=encrypted.table.schema
        )

    def _of(self, tenant_id: UUID | None) -> list[ColumnElement[bool]]:
        return [self.tenant == tenant_id] if self.encrypted.per_tenant else []

    def _outdated(self, tenant_id: UUID | None) -> ColumnElement[bool]:
        key_id = func.substr(self.stored, _KEY_ID_AT, _KEY_ID_BYTES, type_=LargeBinary())
        return and_(*self._of(tenant_id), self.stored.is_not(None), key_id != self._primary)

    def count(self, tenant_id: UUID | None) -> Select[int]:
        return select(func.count()).select_from(self.table).where(self._outdated(tenant_id))

    def page(self, tenant_id: UUID | None, after: Row[Any] | None, rows: int) -> Select[Any]:
        query = select(*self.keys, self.stored).where(self._outdated(tenant_id))
        if after is not None:
            last = [literal(value, key.type) for key, value in zip(self.keys, after, strict=False)]
            query = query.where(tuple_(*self.keys) > tuple_(*last))
        return query.order_by(*self.keys).limit(rows)

    @cached_property
    def _given(self) -> Any:
        """The batch as a table: keys, the value that was read, the value to put in its place."""
        shape = [*self.keys, column("found", LargeBinary()), column("fresh", LargeBinary())]
        arrays = [bindparam(f"given_{i}", type_=ARRAY(c.type)) for i, c in enumerate(shape)]
        columns = [column(f"given_{i}", c.type) for i, c in enumerate(shape)]
        return func.unnest(*arrays).table_valued(*columns, name="given").render_derived()

    def replace(self, tenant_id: UUID | None) -> Update:
        """Compare and set: locks what still holds the value that was read, skips what is locked."""
        *keys, found, fresh = self._given.c
        same = [own == given for own, given in zip(self.keys, keys, strict=True)]
        free = (
            select(*self.keys, fresh.label("fresh"))
            .where(*self._of(tenant_id), *same, self.stored == found)
            .with_for_update(of=self.table, skip_locked=True)
            .cte("free")
        )
        locked = [own == free.c[own.name] for own in self.keys]
        replaced = update(self.table).values({self.stored: free.c.fresh})
        return replaced.where(*self._of(tenant_id), *locked).returning(self.keys[0])


class _Outstanding(NamedTuple):
    """Rows of one column and tenant that lie under another key than the primary."""

    source: _Source
    tenant_id: UUID | None
    rows: int


async def _outstanding(
    open_session: OpenSession, columns: Sequence[EncryptedColumn], tenants: Tenants, primary: int
) -> list[_Outstanding]:
    sources = [_Source(one, primary) for one in columns]
    found = await _count(open_session, [s for s in sources if not s.encrypted.per_tenant], None)
    owned = [source for source in sources if source.encrypted.per_tenant]
    if owned:
        for tenant_id in await _listed(tenants):
            found += await _count(open_session, owned, tenant_id)
    return found


async def _listed(tenants: Tenants) -> list[UUID]:
    """All tenants at once, so that no cursor of the caller stays open while rows are rotated."""
    if isinstance(tenants, AsyncIterable):
        return [tenant async for tenant in tenants]
    return list(tenants)


async def _count(
    open_session: OpenSession, sources: Sequence[_Source], tenant_id: UUID | None
) -> list[_Outstanding]:
    if not sources:
        return []
    async with translated(), open_session(tenant_id) as session:
        found = [
            (
                source,
                await session.scalar(source.count(tenant_id), execution_options=_OWN_PREDICATE),
            )
            for source in sources
        ]
    return [_Outstanding(source, tenant_id, rows) for source, rows in found if rows]


def _reporter(
    progress: Progress | None, finished: int, rows: int, total: int
) -> Callable[[int], None]:
    """Tells `progress` of one item's rows, never more than were counted for it."""

    def report(done: int) -> None:
        if progress is not None:
            progress(finished + min(done, rows), total)

    return report


class _Pace:
    """Keeps the average below a rate, from its first batch on."""

    def __init__(self, rows_per_second: int) -> None:
        self._seconds_per_row = 1 / rows_per_second
        self._free_at = 0.0

    async def wait(self, rows: int) -> None:
        """Wait until `rows` more may be written."""
        now = asyncio.get_running_loop().time()
        starts = max(now, self._free_at)
        self._free_at = starts + rows * self._seconds_per_row
        await asyncio.sleep(starts - now)


@dataclass(frozen=True, slots=True)
class _Job:
    """Rotates the rows of one column and tenant, and adds what it did to `counts`."""

    open_session: OpenSession
    manager: EncryptionManager
    item: _Outstanding
    counts: RotationCounts
    pace: _Pace
    batch_rows: int
    report: Callable[[int], None]

    async def run(self) -> None:
        """Pass over the rows until none was locked or changed under our hands."""
        replaced, overtaken = 0, 0
        unreadable = Counter[str]()
        for attempt in range(MAX_PASSES):
            await asyncio.sleep(_PAUSE_SECONDS if attempt else 0)
            unreadable.clear()
            replaced, overtaken = await self._pass(replaced, unreadable)
            self.counts.overtaken += overtaken
            if not overtaken:
                break
        self.counts.rotated += replaced
        self.counts.missed += overtaken
        self.counts.unreadable += unreadable

    async def _pass(self, replaced: int, unreadable: Counter[str]) -> tuple[int, int]:
        """Go once through the rows in key order: all replaced so far, overtaken in this pass."""
        after, overtaken = None, 0
        while page := await self._read(after):
            after = page[-1]
            fresh = self._encrypted_anew(page, unreadable)
            written = await self._replace(fresh)
            replaced += written
            overtaken += len(fresh) - written
            self.report(replaced + unreadable.total())
        return replaced, overtaken

    async def _read(self, after: Row[Any] | None) -> Sequence[Row[Any]]:
        query = self.item.source.page(self.item.tenant_id, after, self.batch_rows)
        async with translated(), self.open_session(self.item.tenant_id) as session:
            found = await session.execute(query, execution_options=_OWN_PREDICATE)
            rows: Sequence[Row[Any]] = found.all()
        return rows

    def _encrypted_anew(
        self, page: Sequence[Row[Any]], unreadable: Counter[str]
    ) -> list[tuple[Any, ...]]:
        """Each row of the page with its value under the primary key, except what does not open."""
        binding = self.item.source.encrypted.binding(self.item.tenant_id)
        fresh: list[tuple[Any, ...]] = []
        for row in page:
            try:
                secret = self.manager.decrypt(row[-1], binding)
            except DecryptionFailed as failure:
                unreadable[f"{binding.place} {failure.code}"] += 1
            else:
                fresh.append((*row, self.manager.encrypt(secret, binding)))
        return fresh

    async def _replace(self, fresh: Sequence[tuple[Any, ...]]) -> int:
        """Write the batch in a transaction of its own; how many rows still held what was read."""
        if not fresh:
            return 0
        await self.pace.wait(len(fresh))
        given = {f"given_{i}": list(values) for i, values in enumerate(zip(*fresh, strict=True))}
        statement = self.item.source.replace(self.item.tenant_id)
        async with translated(), self.open_session(self.item.tenant_id) as session:
            written = await session.execute(statement, given, execution_options=_OWN_PREDICATE)
            rows = len(written.all())
            await session.commit()
        return rows
