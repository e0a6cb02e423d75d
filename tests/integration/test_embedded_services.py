"""One command starts a whole installation's servers, once per data directory, and ends them."""

import asyncio
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from shared.infrastructure.encryption import KeyFile
from shared.infrastructure.settings import DatabaseRole, Settings
from shared.kernel.errors import Misconfigured
from tellwire.embedded.errors import EmbeddedDirectoryUnusable, EmbeddedServiceRunning
from tellwire.embedded.services import embedded_services

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

RUN = """
import asyncio, signal, sys
from pathlib import Path
from shared.infrastructure.settings import Settings
from tellwire.embedded.services import embedded_services
signal.signal(signal.SIGINT, signal.default_int_handler)  # Ignored in the background.
async def main():
    settings = Settings(_env_file=None, data_directory=Path(sys.argv[1]))
    print("starting", flush=True)
    async with embedded_services(settings, durable=False):
        print("up", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture
def settings(server_directory, request):
    place = server_directory / f"services-{abs(hash(request.node.nodeid))}"
    yield Settings(_env_file=None, data_directory=place)
    shutil.rmtree(place, ignore_errors=True)


def running(settings):
    return embedded_services(settings, durable=False)


async def connect(settings, role):
    return await asyncpg.connect(settings.database_url_of(role).replace("+asyncpg", ""))


def servers_in(directory):
    """Processes that work in this directory, whoever started them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            place = (process / "cwd").readlink()
        except OSError:
            continue
        if place.is_relative_to(directory):
            found.append(int(process.name))
    return found


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


async def test_each_role_reaches_a_migrated_database_and_redis_answers(settings):
    async with running(settings) as ready:
        assert not ready.is_embedded
        for role in DatabaseRole:
            connection = await connect(ready, role)
            assert await connection.fetchval("SELECT current_user") == role
            assert await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
            await connection.close()
        async with Redis.from_url(ready.redis_url.get_secret_value()) as redis:
            assert await redis.ping()
        assert len(KeyFile(ready.encryption_key_file).load().ids) == 1
    assert servers_in(settings.data_directory) == []


async def test_keys_and_data_are_the_same_in_the_next_run(settings):
    async with running(settings) as ready:
        keys = ready.encryption_key_file.read_bytes()
        owner = await connect(ready, DatabaseRole.OWNER)
        await owner.execute("CREATE TABLE kept (id int)")
        await owner.close()
    async with running(settings) as ready:
        assert ready.encryption_key_file.read_bytes() == keys
        owner = await connect(ready, DatabaseRole.OWNER)
        assert await owner.fetchval("SELECT count(*) FROM kept") == 0
        await owner.close()


async def test_the_settings_lead_a_child_process_to_the_same_servers(settings):
    async with running(settings) as ready:
        variables = ready.to_environment()
    assert variables["TELLWIRE_DATABASE_URL"] == ready.database_url_of(DatabaseRole.APP)
    assert variables["TELLWIRE_ENCRYPTION_KEY_FILE"] == str(ready.encryption_key_file)


async def test_a_second_run_is_told_who_runs_and_leaves_the_first_alone(settings):
    async with running(settings) as ready:
        with pytest.raises(EmbeddedServiceRunning, match=r"Tellwire in .* is run by process"):
            async with running(settings):
                pass
        app = await connect(ready, DatabaseRole.APP)
        await app.close()


async def test_lost_keys_beside_data_are_not_replaced_by_new_ones(settings):
    async with running(settings) as ready:
        key_file = ready.encryption_key_file
    key_file.unlink()
    with pytest.raises(Misconfigured, match="is missing but there is data"):
        async with running(settings):
            pass
    assert not key_file.exists()


async def test_keys_that_are_set_are_used_and_no_file_is_made(settings):
    with_keys = settings.model_copy(update={"encryption_key_file": Path("/elsewhere/keys")})
    async with running(with_keys) as ready:
        assert ready.encryption_key_file == Path("/elsewhere/keys")
    assert not (settings.data_directory / "encryption.keys").exists()


async def test_nothing_starts_where_a_database_is_set(settings):
    own = Settings(
        _env_file=None,
        data_directory=settings.data_directory,
        database_url="postgresql://app@db/tellwire",
        redis_url="redis://cache",
    )
    async with running(own) as ready:
        assert ready is own
    assert not settings.data_directory.exists()


async def test_one_server_that_cannot_start_leaves_none_running(settings):
    (settings.data_directory / "redis").mkdir(parents=True)
    (settings.data_directory / "redis" / "thesis.txt").touch()
    settings.data_directory.chmod(0o711)
    with pytest.raises(EmbeddedDirectoryUnusable, match=r"thesis\.txt"):
        async with running(settings):
            pass
    assert servers_in(settings.data_directory) == []


async def test_a_file_in_the_place_of_the_data_directory_is_a_typed_error(settings):
    settings.data_directory.touch()
    try:
        with pytest.raises(EmbeddedDirectoryUnusable):
            async with running(settings):
                pass
    finally:
        settings.data_directory.unlink()


async def test_a_run_that_is_cancelled_at_its_start_leaves_no_server(settings):
    async def run():
        async with running(settings):
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    async with asyncio.timeout(20):
        while not servers_in(settings.data_directory):  # noqa: ASYNC110  # another process's state
            await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert servers_in(settings.data_directory) == []


@pytest.mark.soak
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "starting"),
        (signal.SIGTERM, "up"),
        (signal.SIGKILL, "starting"),
        (signal.SIGKILL, "up"),
    ],
)
def test_whatever_ends_the_starter_no_server_stays(settings, number, moment):
    command = [sys.executable, "-c", RUN, str(settings.data_directory)]
    with subprocess.Popen(  # noqa: S603  # our own interpreter
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            while process.stdout.readline() != f"{moment}\n":
                assert process.poll() is None
            if moment == "starting":
                until(lambda: servers_in(settings.data_directory))
            process.send_signal(number)
            process.wait(timeout=60)
        finally:
            process.kill()
    until(lambda: not servers_in(settings.data_directory))

    async def run_again():
        async with running(settings):
            pass

    asyncio.run(run_again())
