"""Commands refuse a schema that is not their release's, as the API and workers do."""

import asyncio
import base64

import asyncpg
import pytest
import typer
from alembic import command
from typer.core import TyperGroup
from typer.testing import CliRunner

from shared.kernel.errors import Misconfigured
from shared.kernel.ids import new_id
from tellwire.cli.main import app
from tellwire.database import alembic_config

pytestmark = pytest.mark.postgres

WITHOUT_A_SCHEMA = {
    *("demo", "serve", "api", "worker", "simulator"),  # Processes, which look by themselves.
    *("migrate", "doctor"),  # They mend it, or say so among other things.
    *("send", "keys list", "keys add", "keys promote"),  # By HTTP, or in the key file alone.
}
GIVEN = {
    "tenant_id": str(new_id()),
    "channel_id": str(new_id()),
    "key_id": str(new_id()),
    "url": "https://example.com/hook",
}
NARROWED = {"webhook requeue": ["--all"], "media purge": ["--days", "30"]}


def commands(group, path=()):
    """Every command with what it asks for."""
    if not isinstance(group, TyperGroup):
        asked = [one for one in group.params if one.required]
        words = [GIVEN.get(one.name, "1001") for one in asked]
        options = [one.opts[0] if one.opts[0].startswith("--") else "" for one in asked]
        yield path, [x for pair in zip(options, words, strict=True) for x in pair if x]
        return
    context = typer.Context(group)
    for name in group.list_commands(context):
        yield from commands(group.get_command(context, name), (*path, name))


CALLS = [
    [*path, *arguments, *NARROWED.get(" ".join(path), [])]
    for path, arguments in commands(typer.main.get_command(app))
    if " ".join(path) not in WITHOUT_A_SCHEMA
]


@pytest.fixture
def refused(database, monkeypatch, tmp_path):
    """`await refused(call)`: what is said to it; nothing else may come of it."""
    monkeypatch.chdir(tmp_path)
    url = database.url("tellwire_app").replace("+asyncpg", "")
    monkeypatch.setenv("TELLWIRE_DATABASE_URL", url)
    monkeypatch.setenv("TELLWIRE_REDIS_URL", "redis://nowhere")
    key = base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")
    monkeypatch.setenv("TELLWIRE_ENCRYPTION_KEYS", f"1:{key}")

    async def refused(call):
        done = await asyncio.to_thread(CliRunner().invoke, app, call)
        assert isinstance(done.exception, Misconfigured), (call, done.output, done.exception)
        return done.exception.detail

    return refused


def test_there_are_commands_to_look_at() -> None:
    assert ["tenant", "list"] in CALLS
    assert len(CALLS) == 23


async def test_of_a_later_release_they_name_what_to_start(database, refused) -> None:
    owner = await asyncpg.connect(database.superuser_url.replace("+asyncpg", ""))
    was = await owner.fetchval("SELECT version_num FROM alembic_version")
    await owner.execute("UPDATE alembic_version SET version_num = '9999'")
    try:
        for call in CALLS:
            said = await refused(call)
            assert said.endswith(f"needs {was}: start the release that migrated it"), call
    finally:
        await owner.execute("UPDATE alembic_version SET version_num = $1", was)
        await owner.close()


@pytest.mark.parametrize("revision", ["0018", "base"])
async def test_of_an_earlier_release_they_say_to_migrate(database, refused, revision) -> None:
    config = alembic_config(database.url("tellwire_owner"))
    await asyncio.to_thread(command.downgrade, config, revision)
    for call in CALLS:
        said = await refused(call)
        assert said.endswith("run tellwire migrate"), call
