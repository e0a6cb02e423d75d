"""What the roles of Tellwire's database may not do."""

import asyncpg
import pytest

from tellwire.embedded.postgres import SUPERUSER
from tellwire.embedded.roles import bootstrap_database, grant_database

pytestmark = pytest.mark.postgres

RUNTIME = ["tellwire_app", "tellwire_dispatch", "tellwire_intake", "tellwire_process"]
ALL = ["tellwire_owner", *RUNTIME]


async def connect(url):
    return await asyncpg.connect(url.replace("+asyncpg", ""))


CREATIONS = [
    "CREATE TABLE public.thing (id int)",
    "CREATE TEMPORARY TABLE thing (id int)",
    "CREATE SCHEMA thing",
    "CREATE DATABASE thing",
    "CREATE ROLE thing",
    "SET SESSION AUTHORIZATION tellwire_owner",
]


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        (role, statement)
        for role in RUNTIME
        for statement in [
            *CREATIONS,
            *(f"SET ROLE {other}" for other in [*ALL, SUPERUSER] if other != role),
        ]
    ],
)
async def test_a_runtime_role_can_neither_create_nor_become_another(
    module_database, role, statement
):
    connection = await connect(module_database.url(role))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_the_owner_migrates_in_its_schema_but_is_no_superuser(module_database):
    connection = await connect(module_database.url("tellwire_owner"))
    try:
        await connection.execute("CREATE TABLE public.thing (id int); DROP TABLE public.thing")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE ROLE thing")
    finally:
        await connection.close()


async def test_a_stranger_cannot_even_connect_to_the_database(database):
    catalogue = await connect(database.superuser_url)
    try:
        await catalogue.execute("CREATE ROLE stranger LOGIN")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connect(database.url("stranger"))
    finally:
        await catalogue.execute("DROP ROLE stranger")
        await catalogue.close()


async def test_running_the_script_again_mends_what_somebody_loosened(database):
    catalogue = await connect(database.superuser_url)
    try:
        await catalogue.execute("ALTER ROLE tellwire_app BYPASSRLS CREATEDB")
        await catalogue.execute("GRANT tellwire_owner TO tellwire_app")
        await catalogue.execute(f"GRANT TEMPORARY ON DATABASE {database.name} TO PUBLIC")
        await catalogue.execute("GRANT CREATE ON SCHEMA public TO tellwire_app")

        await grant_database(database.superuser_url, database=database.name)

        assert await catalogue.fetchval(
            "SELECT NOT (rolbypassrls OR rolcreatedb"
            " OR pg_has_role(rolname, 'tellwire_owner', 'member')"
            " OR has_database_privilege(rolname, current_database(), 'TEMP')"
            " OR has_schema_privilege(rolname, 'public', 'CREATE'))"
            " FROM pg_roles WHERE rolname = 'tellwire_app'"
        )
    finally:
        await catalogue.close()


async def test_a_database_with_an_awkward_name_is_made_once_and_kept(postgres):
    server_url = postgres.url(SUPERUSER, "postgres")
    name = 'it\'s "mine"'
    await bootstrap_database(server_url, database=name)
    owner = await connect(postgres.url("tellwire_owner", name))
    await owner.execute("CREATE TABLE kept (id int)")
    await owner.close()

    await bootstrap_database(server_url, database=name)

    owner = await connect(postgres.url("tellwire_owner", name))
    assert await owner.fetchval("SELECT count(*) FROM kept") == 0
    await owner.close()
