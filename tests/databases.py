"""Migrated databases for tests: clones of one template, lent again while they are as good as new.

To make a database costs a third of a second of processor time and hundreds of files, to empty one
a few milliseconds. So one that was given back is lent again, unless the test changed anything about
it but rows, gathered statistics about it, or let it grow; that one is dropped.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import asyncpg

from tellwire.embedded.postgres import SUPERUSER, EmbeddedPostgres
from tellwire.embedded.roles import grant_database, quoted

MOST_GROWTH_BYTES = 512 * 1024
"""Emptied indexes keep their pages: beyond this a database is not like a new one to the planner."""
MOST_VACUUMS = 3
PATIENCE_SECONDS = 120  # To copy a database takes long where the machine has much else to do.
KEPT = "alembic_version"
_numbers = count(1)

_LOOKS = f"""
    WITH ours AS (
        SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    ), looks(part) AS (
        SELECT concat_ws(' ', oid, relname, relkind, relowner, relrowsecurity,
                         relforcerowsecurity, relacl, reloptions, relhastriggers) FROM ours
        UNION ALL SELECT concat_ws(' ', attrelid, attnum, attname, atttypid, atttypmod, attnotnull,
                                   attisdropped, attacl, attstattarget)
            FROM pg_attribute WHERE attrelid IN (SELECT oid FROM ours)
        UNION ALL SELECT x::text FROM pg_attrdef x WHERE adrelid IN (SELECT oid FROM ours)
        UNION ALL SELECT x::text FROM pg_constraint x WHERE conrelid IN (SELECT oid FROM ours)
        UNION ALL SELECT x::text FROM pg_index x WHERE indrelid IN (SELECT oid FROM ours)
        UNION ALL SELECT x::text FROM pg_trigger x WHERE tgrelid IN (SELECT oid FROM ours)
        UNION ALL SELECT x::text FROM pg_statistic_ext x
        UNION ALL SELECT concat_ws(' ', starelid, staattnum)
            FROM pg_statistic WHERE starelid IN (SELECT oid FROM ours)
        UNION ALL SELECT x::text FROM pg_policy x
        UNION ALL SELECT x::text FROM pg_rewrite x WHERE ev_class IN (SELECT oid FROM ours)
        UNION ALL SELECT x::text FROM pg_proc x JOIN pg_namespace n ON n.oid = pronamespace
            WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
        UNION ALL SELECT x::text FROM pg_namespace x WHERE nspname !~ '^pg_(temp|toast_temp)'
        UNION ALL SELECT x::text FROM pg_default_acl x
        UNION ALL SELECT x::text FROM pg_extension x
        UNION ALL SELECT concat_ws(' ', setdatabase, setrole, setconfig) FROM pg_db_role_setting
            WHERE setdatabase IN
                (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        UNION ALL SELECT concat_ws(' ', datdba, datallowconn, datconnlimit, datacl)
            FROM pg_database WHERE datname = current_database()
        UNION ALL SELECT x::text FROM {KEPT} x
    )
    SELECT md5(string_agg(part, '|' ORDER BY part COLLATE "C")) FROM looks
"""  # noqa: S608  # constants of this file
_TABLES_WITH_PAGES = f"""
    SELECT relname FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> '{KEPT}'
      AND pg_relation_size(oid) > 0
"""  # noqa: S608  # as above
_END_OTHERS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_SIZE = "SELECT pg_database_size(current_database())"


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database of its own; `url("tellwire_app")` is how Tellwire would reach it."""

    server: EmbeddedPostgres
    name: str

    def url(self, role: str) -> str:
        if role == SUPERUSER:
            raise ValueError("tests connect as Tellwire's roles; superuser_url is for catalogues")
        return self.server.url(role, self.name)

    @property
    def superuser_url(self) -> str:
        return self.server.url(SUPERUSER, self.name)


@dataclass(slots=True)
class Databases:
    """The databases of one server, each lent to one borrower at a time."""

    server: EmbeddedPostgres
    template: str
    _free: list[str] = field(default_factory=list)
    _as_made: dict[str, tuple[str, int]] = field(default_factory=dict)  # Looks and size.

    @contextmanager
    def lend(self) -> Iterator[Database]:
        """A database without rows, like one that was just made."""
        name = self._free.pop() if self._free else self._make()
        try:
            yield Database(self.server, name)
        finally:
            if run(self._is_renewed(name)):
                self._free.append(name)
            else:
                run(self._execute(f"DROP DATABASE {quoted(name)} WITH (FORCE)"))

    def _make(self) -> str:
        name = f"test_{next(_numbers)}"
        run(self._execute(f"CREATE DATABASE {quoted(name)} TEMPLATE {quoted(self.template)}"))
        run(grant_database(self.server.url(SUPERUSER, "postgres"), database=name))
        self._as_made[name] = run(self._look_at(name))
        return name

    async def _execute(self, statement: str) -> None:
        connection = await self._connect("postgres")
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def _connect(self, name: str) -> Any:
        url = self.server.url(SUPERUSER, name).replace("+asyncpg", "")
        return await asyncpg.connect(url, command_timeout=PATIENCE_SECONDS)

    async def _look_at(self, name: str) -> tuple[str, int]:
        connection = await self._connect(name)
        try:
            return await connection.fetchval(_LOOKS), await connection.fetchval(_SIZE)
        finally:
            await connection.close()

    async def _is_renewed(self, name: str) -> bool:
        """Whether the database is empty now and otherwise as it was made."""
        looks, size = self._as_made[name]
        try:
            connection = await self._connect(name)
        except (asyncpg.PostgresError, OSError):  # A test may have done anything to it.
            return False
        try:
            await connection.execute(_END_OTHERS)
            if await connection.fetchval(_SIZE) > size + MOST_GROWTH_BYTES:
                return False
            return await self._is_emptied(connection) and await connection.fetchval(_LOOKS) == looks
        except (asyncpg.PostgresError, TimeoutError):
            return False
        finally:
            await connection.close()

    async def _is_emptied(self, connection: Any) -> bool:
        """Delete all rows, give the pages back, and forget what is known of the tables' sizes."""
        tables = [quoted(row[0]) for row in await connection.fetch(_TABLES_WITH_PAGES)]
        if not tables:
            return True
        # Without triggers, and with that without looking for rows that refer to others.
        await connection.execute("SET session_replication_role = replica; SET lock_timeout = '5s'")
        await connection.execute("; ".join(f"DELETE FROM {table}" for table in tables))  # noqa: S608  # names from the catalogue
        for _ in range(MOST_VACUUMS):
            # As long as anybody has a snapshot, as PostgreSQL's own autovacuum may in this moment,
            # deleted rows stay, and their pages with them.
            await connection.execute(_END_OTHERS)
            await connection.execute(f"VACUUM {', '.join(tables)}")
            if not await connection.fetch(_TABLES_WITH_PAGES):
                break
        for table in tables:
            await connection.execute(
                "SELECT pg_clear_relation_stats('public', $1)", table.strip('"')
            )
        return not await connection.fetch(_TABLES_WITH_PAGES)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run `work` to its end, whatever event loop the test has."""
    return outside(lambda: asyncio.run(work))


def outside(work: Callable[[], Any]) -> Any:
    """Run `work` in a thread of its own, where no event loop of a test can be in its way."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(work).result()
