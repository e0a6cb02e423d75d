"""Makes a database and the roles that Tellwire uses it with."""

import asyncio
from importlib import resources

import asyncpg
from sqlalchemy.engine import make_url


async def bootstrap_database(superuser_url: str, *, database: str = "tellwire") -> None:
    """Make `database` if it is missing and bring roles and rights in it to what `roles.sql` says.

    `superuser_url` names any existing database of the server, as `EmbeddedPostgres.url` gives it.
    Idempotent; it only connects as a superuser here.
    """
    server = make_url(superuser_url).set(drivername="postgresql")
    maintenance = await asyncpg.connect(server.render_as_string(hide_password=False))
    try:
        if not await maintenance.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            await maintenance.execute(f"CREATE DATABASE {quoted(database)} TEMPLATE template0")
    finally:
        await maintenance.close()
    await grant_database(superuser_url, database=database)


async def grant_database(superuser_url: str, *, database: str) -> None:
    """Run `roles.sql` in `database`; a clone of a template needs it, since rights do not follow."""
    target = make_url(superuser_url).set(drivername="postgresql", database=database)
    script = await asyncio.to_thread(roles_script)
    connection = await asyncpg.connect(target.render_as_string(hide_password=False))
    try:
        await connection.execute(script)
    finally:
        await connection.close()


def roles_script() -> str:
    """The text of `roles.sql`, which an operator may also run by hand."""
    return resources.files("tellwire.embedded").joinpath("roles.sql").read_text("utf-8")


def quoted(identifier: str) -> str:
    """An SQL identifier that stays one, whatever it holds."""
    return '"' + identifier.replace('"', '""') + '"'
