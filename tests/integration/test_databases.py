"""The databases that tests borrow: lent again while they are as good as new, and dropped if not."""

import asyncpg
import pytest

from databases import Databases, run

pytestmark = pytest.mark.postgres
ADD_A_TENANT = "INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'Ana')"

GROW = (
    "INSERT INTO tenants (id, name) SELECT gen_random_uuid(), 'Ana' FROM generate_series(1, 20000)"
)


@pytest.fixture
def own(postgres, template_database) -> Databases:
    return Databases(postgres, template_database)


def do(lent, *statements: str):
    """Run statements as nobody but a test may; gives what the last one answers."""

    async def work():
        connection = await asyncpg.connect(lent.superuser_url.replace("+asyncpg", ""))
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return run(work())


def test_one_that_has_rows_is_emptied_and_lent_again(own) -> None:
    pages = (
        "SELECT (reltuples, pg_relation_size(oid))::text FROM pg_class WHERE relname = 'tenants'"
    )
    with own.lend() as first:
        untouched = do(first, pages)
        do(first, ADD_A_TENANT, "SELECT 1")
    with own.lend() as again:
        assert again.name == first.name
        assert do(again, "SELECT count(*) FROM tenants") == 0
        assert do(again, pages) == untouched


def test_one_that_somebody_looks_at_while_it_is_emptied_is_emptied_all_the_same(own) -> None:
    """As PostgreSQL's autovacuum does once a minute, in whichever moment."""

    async def empty(lent) -> bool:
        url = lent.superuser_url.replace("+asyncpg", "")
        connection, other = await asyncpg.connect(url), await asyncpg.connect(url)
        try:
            await connection.execute(ADD_A_TENANT)
            await other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM tenants")
            return await own._is_emptied(connection)
        finally:
            await connection.close()
            other.terminate()

    with own.lend() as lent:
        assert run(empty(lent))


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE tenants NO FORCE ROW LEVEL SECURITY",
        "GRANT TRUNCATE ON tenants TO tellwire_app",
        "CREATE TABLE left_behind ()",
        "UPDATE alembic_version SET version_num = 'other'",
        "ANALYZE tenants",
        GROW,
    ],
)
def test_one_that_was_changed_is_never_lent_again(own, change) -> None:
    with own.lend() as first:
        do(first, ADD_A_TENANT, change, "SELECT 1")
    with own.lend() as second:
        assert second.name != first.name


def test_two_at_a_time_are_never_the_same(own) -> None:
    with own.lend() as one, own.lend() as other:
        assert one.name != other.name
    with own.lend() as first, own.lend() as second:
        assert {first.name, second.name} == {one.name, other.name}, "both are lent again"
