"""The proofs of isolation as functions that give violations, so that a mutant costs one call.

`catalogue_violations` asks PostgreSQL's catalogue, `Matrix.violations` tries every table, operation
and context out. Both learn the tables from the metadata: a new table is covered when it exists.
"""

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import (
    Boolean,
    DateTime,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    Table,
    Text,
    TypeDecorator,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.infrastructure.database import Base
from shared.infrastructure.database.rls import TENANT_SETTING
from shared.kernel.ids import new_id
from tellwire.database import load_models

load_models()

PLATFORM = frozenset({"meta_apps", "webhook_digests", "webhook_inbox", "webhook_quarantine"})
"""Tables of the installation; every other one belongs to tenants."""
TENANT_TABLES = [table for table in Base.metadata.sorted_tables if table.name not in PLATFORM]
CANONICAL = (
    "({column} = (NULLIF(current_setting('" + TENANT_SETTING + "'::text, true), ''::text))::uuid)"
)
HISTORIES = {
    "events": ("UPDATE", None),
    "webhook_deliveries": ("UPDATE", None),
    "whatsapp_inbound_messages": ("UPDATE", "wamid"),
    "whatsapp_message_attempts": ("UPDATE DELETE", None),
    "whatsapp_status_events": ("UPDATE DELETE", "message_id"),
}
"""Tables that the application adds to: what it may not do there, and the column that it may change
all the same."""
_numbers = count(1)


def owner_column(table: Table) -> str:
    """The column that says whose row it is."""
    return "tenant_id" if "tenant_id" in table.c else "id"


def plain(url: str) -> str:
    return url.replace("+asyncpg", "")


# --- Rows for every table ------------------------------------------------------------------------


async def insert_row(connection: Any, table: Table, row: Mapping[str, Any]) -> None:
    names = ", ".join(row)
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await connection.execute(
        f"INSERT INTO {table.name} ({names}) VALUES ({places})",  # noqa: S608  # names of our tables
        *row.values(),
    )


async def make_row(connection: Any, table: Table, tenant: UUID) -> dict[str, Any]:
    """A row of `tenant` that can be inserted: what it refers to is inserted here, itself is not."""
    row: dict[str, Any] = {"id": new_id(), owner_column(table): tenant}
    for key in table.foreign_key_constraints:
        parent = key.referred_table
        if parent.name == "tenants" or parent is table or is_computed(key):
            continue
        referred = await make_row(connection, parent, tenant)
        await insert_row(connection, parent, referred)
        row |= reference(key, referred)
    for column in table.c:
        if column.name not in row and not column.nullable and column.server_default is None:
            row[column.name] = _value(table, column)
    return row


def is_computed(key: ForeignKeyConstraint) -> bool:
    """Whether PostgreSQL fills in what refers, from other columns of the row."""
    return any(element.parent.computed is not None for element in key.elements)


def reference(key: ForeignKeyConstraint, referred: Mapping[str, Any]) -> dict[str, Any]:
    """What a row needs in order to refer to `referred`."""
    columns = {element.parent.name: referred[element.column.name] for element in key.elements}
    if "parked_channel_id" in columns:
        columns |= {"channel_id": columns.pop("parked_channel_id"), "message_id": None}
    return columns


def _value(table: Table, column: Any) -> Any:
    for check in table.constraints:
        listed = re.match(rf"{column.name} IN \('([^']+)'", str(getattr(check, "sqltext", "")))
        if listed:
            return listed[1]
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    values: dict[type, Any] = {
        Uuid: new_id(),
        Text: f"{next(_numbers)}",
        LargeBinary: b"x",
        Integer: 1,
        Boolean: False,
        DateTime: datetime.now(UTC),
        JSONB: "{}",
    }
    return next(value for base, value in values.items() if isinstance(kind, base))


# --- The matrix ----------------------------------------------------------------------------------

READS, REFUSED, NOTHING = "rows", "42501", "0 rows"


async def _fresh(_connection: Any, _tenant: UUID) -> None:
    """A connection that never heard of a tenant."""


async def _committed(connection: Any, tenant: UUID) -> None:
    async with connection.transaction():
        await set_tenant(connection, tenant)


async def _rolled_back(connection: Any, tenant: UUID) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await set_tenant(connection, tenant)
    await transaction.rollback()


async def _reset(connection: Any, tenant: UUID) -> None:
    await connection.execute("SELECT set_config($1, $2, false)", TENANT_SETTING, str(tenant))
    await connection.execute(f"RESET {TENANT_SETTING}")


async def _discarded(connection: Any, tenant: UUID) -> None:
    await connection.execute("SELECT set_config($1, $2, false)", TENANT_SETTING, str(tenant))
    await connection.execute("DISCARD ALL")


PASTS = {
    "fresh": _fresh,
    "after commit": _committed,
    "after rollback": _rolled_back,
    "after RESET": _reset,
    "after DISCARD ALL": _discarded,
}


async def set_tenant(connection: Any, value: object) -> None:
    await connection.execute("SELECT set_config($1, $2, true)", TENANT_SETTING, str(value))


@dataclass(frozen=True, slots=True)
class Rows:
    """Two tenants with a row in every table, and for each one more that can be inserted."""

    mine: UUID
    theirs: UUID
    spare: dict[tuple[UUID, str], dict[str, Any]] = field(default_factory=dict)
    stored: dict[tuple[UUID, str], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    async def seed(cls, superuser_url: str) -> "Rows":
        rows = cls(new_id(), new_id())
        connection = await asyncpg.connect(plain(superuser_url))
        try:
            for tenant in (rows.mine, rows.theirs):
                await connection.execute("INSERT INTO tenants VALUES ($1, 'A tenant')", tenant)
                for table in TENANT_TABLES:
                    await rows._seed_table(connection, table, tenant)
        finally:
            await connection.close()
        return rows

    async def _seed_table(self, connection: Any, table: Table, tenant: UUID) -> None:
        key = (tenant, table.name)
        if table.name == "tenants":
            self.stored[key] = self.spare[key] = {"id": tenant, "name": "A tenant"}
            return
        self.stored[key] = await make_row(connection, table, tenant)
        await insert_row(connection, table, self.stored[key])
        self.spare[key] = await make_row(connection, table, tenant)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Tries every operation on every table as the application's role and as the owner."""

    app_url: str
    owner_url: str
    rows: Rows

    async def violations(
        self, tables: Iterable[Table] = tuple(TENANT_TABLES), pasts: Iterable[str] = tuple(PASTS)
    ) -> list[str]:
        """What somebody could see or do that they must not, or could not that they must."""
        found: list[str] = []
        tables = list(tables)
        for past in pasts:
            connection = await asyncpg.connect(
                plain(self.app_url), statement_cache_size=0, connection_class=StatusConnection
            )
            try:
                await PASTS[past](connection, self.rows.theirs)
                for table in tables:
                    cells = await self._cells(connection, table)
                    found += [f"{table.name}, {past}: {cell}" for cell in cells]
            finally:
                await connection.close()
        for table in tables:
            found += [f"{table.name}: {problem}" for problem in await self._other_ways(table)]
        return found

    async def _cells(self, connection: Any, table: Table) -> list[str]:
        cells = []
        contexts = {"mine": self.rows.mine, "unset": None, "garbage": "garbage"}
        for context, tenant in contexts.items():
            # Unset first means: exactly as the connection's past left it.
            for operation, target, statement, values, allowed in self._operations(table, context):
                got = await self._try(connection, tenant, statement, values)
                if got not in allowed:
                    cells.append(f"{operation} {target} with {context} context gave {got}")
        return cells

    def _operations(self, table: Table, context: str) -> Iterable[tuple[Any, ...]]:
        name, owner = table.name, owner_column(table)
        denied, column = HISTORIES.get(name, ("", owner))
        # Whose it is would be asked before or after whether it may be done at all.
        no_right = {REFUSED} | ({"22P02"} if context == "garbage" else set())
        for target, tenant in (("own", self.rows.mine), ("foreign", self.rows.theirs)):
            reach = context == "mine" and target == "own"
            gone = {NOTHING} | ({"22P02"} if context == "garbage" else set())
            where = f"WHERE {owner} = $1"
            for operation, statement in (
                ("SELECT", f"SELECT 1 FROM {name} {where}"),  # noqa: S608  # names of our tables
                ("UPDATE", f"UPDATE {name} SET {column or owner} = {column or owner} {where}"),  # noqa: S608  # as above
                ("DELETE", f"DELETE FROM {name} {where} AND id = $2"),  # noqa: S608  # as above
            ):
                values = [tenant, self.rows.stored[tenant, name]["id"]][: statement.count("$")]
                is_denied = operation in denied and not (operation == "UPDATE" and column)
                may_be = no_right if is_denied else {READS} if reach else gone
                yield operation, target, statement, values, may_be
            spare = self.rows.spare[tenant, name]
            names = ", ".join(spare)
            places = ", ".join(f"${number}" for number in range(1, len(spare) + 1))
            insert = f"INSERT INTO {name} ({names}) VALUES ({places})"  # noqa: S608  # as above
            # A tenant's own row exists already: that its key is in the way shows it was let pass.
            taken = {READS, "23505"} if name == "tenants" else {READS}
            refused = {REFUSED} | gone - {NOTHING}
            yield "INSERT", target, insert, list(spare.values()), taken if reach else refused
        foreign = {REFUSED} if context == "mine" else gone
        if "UPDATE" in denied:
            foreign = no_right
        move = f"UPDATE {name} SET {owner} = $1"  # noqa: S608  # as above
        yield "MOVE", "own", move, [self.rows.theirs], foreign
        seen = f"SELECT 1 FROM {name} WHERE {owner} <> $1"  # noqa: S608  # as above
        yield "SELECT", "anybody's", seen, [self.rows.mine], gone

    async def _try(
        self, connection: Any, tenant: object | None, statement: str, values: list[Any]
    ) -> str:
        """What came of it: rows, 0 rows, or the SQLSTATE; undone in any case."""
        transaction = connection.transaction()
        await transaction.start()
        try:
            if tenant is not None:
                await set_tenant(connection, tenant)
            status = await connection.fetch_status(statement, *values)
        except asyncpg.PostgresError as error:
            return str(error.sqlstate)
        else:
            return NOTHING if status.endswith(" 0") else READS
        finally:
            await transaction.rollback()

    async def _other_ways(self, table: Table) -> list[str]:
        """The owner, and a statement that was planned for another tenant."""
        found = []
        owner = await asyncpg.connect(plain(self.owner_url))
        app = await asyncpg.connect(plain(self.app_url))
        everything = f"SELECT {owner_column(table)} FROM {table.name}"  # noqa: S608  # our tables
        try:
            async with owner.transaction():
                await set_tenant(owner, self.rows.mine)
                if {row[0] for row in await owner.fetch(everything)} - {self.rows.mine}:
                    found.append("its owner sees another tenant's rows")
            prepared = await app.prepare(everything)
            for tenant in [self.rows.mine] * 10 + [self.rows.theirs]:
                async with app.transaction():
                    await set_tenant(app, tenant)
                    if {row[0] for row in await prepared.fetch()} != {tenant}:
                        found.append("a prepared statement gives other rows than the tenant's")
        except asyncpg.PostgresError as error:
            found.append(f"a prepared statement fails with {error.sqlstate}")
        finally:
            await owner.close()
            await app.close()
        return found


class StatusConnection(asyncpg.Connection):
    """asyncpg gives either rows or the command's status; the matrix wants the status."""

    async def fetch_status(self, statement: str, *values: Any) -> str:
        prepared = await self.prepare(statement)
        await prepared.fetch(*values)
        return str(prepared.get_statusmsg())


# --- The catalogue -------------------------------------------------------------------------------

_QUESTIONS = {
    "has no row-level security, or not for its owner": """
        SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
          AND c.relname <> 'alembic_version'
          AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
    """,
    "has no policy": """
        SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
          AND c.relname <> 'alembic_version'
          AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)
    """,
    "has a policy for everybody": """
        SELECT tablename || '.' || policyname FROM pg_policies WHERE 'public' = ANY(roles)
    """,
    "has a policy that is true": """
        SELECT tablename || '.' || policyname FROM pg_policies
        WHERE coalesce(qual, '') IN ('true', '(true)')
           OR coalesce(with_check, '') IN ('true', '(true)')
    """,
    "has two permissive policies for one role and command": """
        SELECT p.tablename || ' for ' || r.role || ' ' || c.command
        FROM pg_policies p CROSS JOIN unnest(p.roles) AS r(role)
        JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS c(command)
          ON p.cmd IN (c.command, 'ALL')
        WHERE p.permissive = 'PERMISSIVE'
        GROUP BY p.tablename, r.role, c.command HAVING count(*) > 1
    """,
    "has a policy with a subquery, which Citus refuses": """
        SELECT polrelid::regclass || '.' || polname FROM pg_policy
        WHERE polqual::text LIKE '%SUBLINK%' OR polwithcheck::text LIKE '%SUBLINK%'
    """,
    "is a function in a policy and not STABLE": """
        SELECT DISTINCT p.proname FROM pg_depend d
        JOIN pg_proc p ON p.oid = d.refobjid
        WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_proc'::regclass
          AND p.provolatile <> 's'
    """,
    "is a view that reads with its owner's rights": """
        SELECT relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'v'
          AND NOT coalesce('security_invoker=true' = ANY(reloptions), false)
    """,
    "is a materialized view, which no policy can guard": """
        SELECT relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'm'
    """,
    "is a function that runs with its owner's rights": """
        SELECT proname FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND prosecdef
    """,
    "is a sequence, which counts for all tenants together": """
        SELECT relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'
    """,
    "is a trigger or rule of somebody's own": """
        SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgname <> ALL($1)
        UNION ALL
        SELECT rulename FROM pg_rules WHERE schemaname = 'public'
    """,
    "is a key that does not begin with the tenant": """
        SELECT k.conname FROM pg_constraint k
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
        WHERE k.contype IN ('p', 'u', 'x') AND a.attname <> 'tenant_id'
          AND k.conrelid::regclass::text = ANY($1)
    """,
    "refers to another tenant's rows as well": """
        SELECT k.conname FROM pg_constraint k
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
        JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[1]
        WHERE k.contype = 'f' AND k.conrelid::regclass::text = ANY($1)
          AND NOT (a.attname = 'tenant_id'
                   AND f.attname = CASE k.confrelid::regclass::text
                                   WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END)
    """,
    "is an index that does not begin with the tenant": """
        SELECT i.indexrelid::regclass::text FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid::regclass::text = ANY($1) AND a.attname <> 'tenant_id'
          AND NOT i.indexrelid::regclass::text = ANY($2)
    """,
    "is an index whose comparison may leak, so that policies keep it from being used": """
        SELECT i.indexrelid::regclass || '.' || a.attname FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indexrelid
        WHERE i.indrelid::regclass::text = ANY($1)
          AND a.atttypid::regtype::text <> ALL(ARRAY['uuid', 'text', 'smallint', 'integer',
              'bigint', 'boolean', 'timestamp with time zone', 'bytea'])
    """,
}
INDEXES_ACROSS_TENANTS = {
    # Intake asks whose number or account it is before any tenant is known.
    "ix_whatsapp_channels_phone_number_id",
    "ix_whatsapp_channels_provider_account_id",
}
TRIGGERS = {
    # Brings the recipient's next entry forward; runs with the rights of whoever deleted the first.
    "bring_forward",
}
_WITHOUT_TENANT_COLUMN = ["tenants", *sorted(PLATFORM)]


async def catalogue_violations(connection: Any) -> list[str]:
    """What the catalogue holds that could let a tenant see or reach another's rows."""
    found = []
    tables = [
        row["relname"]
        for row in await connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND relname <> 'alembic_version'"
        )
    ]
    tenant_tables = [name for name in tables if name not in _WITHOUT_TENANT_COLUMN]
    for problem, question in _QUESTIONS.items():
        values = [tenant_tables, sorted(INDEXES_ACROSS_TENANTS)][: question.count("$")]
        values = [sorted(TRIGGERS)] if "pg_trigger" in question else values
        rows = await connection.fetch(question, *values)
        found += [f"{row[0]} {problem}" for row in rows]
    policies = await connection.fetch(
        "SELECT tablename, cmd, permissive, qual, with_check FROM pg_policies"
        " WHERE 'tellwire_app' = ANY(roles) AND tablename <> ALL($1)",
        sorted(PLATFORM),
    )
    for policy in policies:
        column = "id" if policy["tablename"] == "tenants" else "tenant_id"
        texts = {text for text in (policy["qual"], policy["with_check"]) if text is not None}
        if texts != {CANONICAL.format(column=column)}:
            found.append(f"{policy['tablename']} has a policy of another wording")
    return found


@pytest.fixture
async def rows(database) -> Rows:
    return await Rows.seed(database.superuser_url)


@pytest.fixture
def matrix(database, rows) -> Matrix:
    return Matrix(database.url("tellwire_app"), database.url("tellwire_owner"), rows)


@pytest.fixture
async def connect(database) -> AsyncIterator[Any]:
    """Raw connections as a role, closed at the end of the test."""
    opened = []

    async def connect(role: str = "tellwire_app", **options: Any) -> Any:
        options = {"connection_class": StatusConnection} | options
        opened.append(await asyncpg.connect(plain(database.url(role)), **options))
        return opened[-1]

    yield connect
    for connection in opened:
        await connection.close()


@pytest.fixture
def proofs() -> Any:
    """The functions of this file, for tests that give them mutants."""
    return Proofs


class Proofs:
    tables = TENANT_TABLES
    histories = HISTORIES
    pasts = PASTS
    platform = PLATFORM
    owner_column = staticmethod(owner_column)
    set_tenant = staticmethod(set_tenant)
    make_row = staticmethod(make_row)
    insert_row = staticmethod(insert_row)
    is_computed = staticmethod(is_computed)
    reference = staticmethod(reference)
    catalogue_violations = staticmethod(catalogue_violations)
