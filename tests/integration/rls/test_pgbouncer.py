"""Behind PgBouncer in transaction mode, where transactions of all clients share few connections."""

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from shared.infrastructure.database import create_engine
from shared.infrastructure.database.direct import fetch_alone
from shared.infrastructure.database.engine import alone
from tellwire.embedded.account import Account
from tellwire.embedded.process import ServerProcess

pytestmark = pytest.mark.postgres

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
CLIENT = """
import asyncio, json, sys
from uuid import UUID
from sqlalchemy import select, text
from shared.infrastructure.database import RLSManager, create_engine, create_session_factory
from tellwire.database import load_models
load_models()
from whatsapp.infrastructure.persistence.models import ChannelModel

url, pgbouncer, *tenants = sys.argv[1:]
told = {"foreign": 0, "errors": [], "requests": 0}
RAW = text("SELECT tenant_id FROM whatsapp_channels")

async def client(factory, number):
    for turn in range(60):
        tenant = UUID(tenants[(number + turn) % len(tenants)])
        try:
            async with factory() as session, RLSManager(session) as rls:
                await rls.set_context(tenant_id=tenant)
                for end in (session.commit, session.rollback):
                    seen = set(await session.scalars(select(ChannelModel.tenant_id)))
                    seen |= {row.tenant_id for row in await session.execute(RAW)}
                    told["foreign"] += seen != {tenant}
                    await end()
            async with factory() as session:
                told["foreign"] += len((await session.execute(RAW)).all())
            told["requests"] += 1
        except Exception as error:
            told["errors"].append(str(error)[:200])

async def main():
    engine = create_engine(url, pgbouncer=pgbouncer == "yes")
    factory = create_session_factory(engine)
    await asyncio.gather(*(client(factory, number) for number in range(4)))
    await engine.dispose()

asyncio.run(main())
print(json.dumps(told))
"""


@pytest.fixture
def bouncer_url(database, server_directory):
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed (make test installs it where it runs as root)")
    directory = server_directory / "pgbouncer"
    directory.mkdir(exist_ok=True)
    account = Account.unprivileged(server_directory)
    account.take_over(directory)
    sockets = database.url("tellwire_app").partition("?host=")[2]
    (directory / "users").write_text('"tellwire_app" ""\n')
    (directory / "pgbouncer.ini").write_text(
        f"""[databases]
* = host={sockets}
[pgbouncer]
listen_addr =
listen_port = 5432
unix_socket_dir = {directory}
auth_type = trust
auth_file = {directory}/users
pool_mode = transaction
default_pool_size = 2
{"max_prepared_statements = 0" if _version() >= (1, 21) else ""}
"""
    )
    server = ServerProcess(
        [PGBOUNCER, str(directory / "pgbouncer.ini")],
        account=account,
        cwd=directory,
        log=directory / "log",
    )
    path = directory / ".s.PGSQL.5432"
    server.wait_until(lambda: _answers(path), timeout=timedelta(seconds=10))
    yield database.url("tellwire_app").replace(sockets, str(directory))
    server.stop(timeout=timedelta(seconds=10))


def _version():
    told = subprocess.run([PGBOUNCER, "--version"], capture_output=True, text=True, check=True)  # noqa: S603  # found on the path
    return tuple(int(part) for part in re.search(r"(\d+)\.(\d+)", told.stdout).groups())


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


async def _run(url, *, pgbouncer, tenants):
    arguments = [url, "yes" if pgbouncer else "no", *map(str, tenants)]
    clients = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLIENT, *arguments), stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    outputs = await asyncio.gather(*(client.communicate() for client in clients))
    return [json.loads(output) for output, _ in outputs]


async def test_two_processes_of_four_clients_on_two_connections_see_their_own_rows(
    bouncer_url, ana, bea
):
    told = await _run(bouncer_url, pgbouncer=True, tenants=[ana.tenant_id, bea.tenant_id])

    assert told == [{"foreign": 0, "errors": [], "requests": 240}] * 2


async def test_prepared_statements_would_be_in_each_others_way(bouncer_url, ana, bea):
    """Why `pgbouncer=True` is there: errors without it, though never another tenant's rows."""
    told = await _run(bouncer_url, pgbouncer=False, tenants=[ana.tenant_id, bea.tenant_id])

    assert [process["foreign"] for process in told] == [0, 0]
    assert any("prepared statement" in error for process in told for error in process["errors"])


async def past_sqlalchemy(engine, statement, parameters):
    return await fetch_alone(engine, statement, parameters)


async def by_sqlalchemy(engine, statement, parameters):
    async with engine.begin() as connection:
        return (await connection.execute(statement, parameters)).all()


@pytest.mark.parametrize("run", [past_sqlalchemy, by_sqlalchemy])
async def test_statements_that_are_transactions_of_their_own_meet_no_others(bouncer_url, run):
    """Preparing and running one are two round trips: on one connection, as in a transaction."""
    engine = create_engine(bouncer_url, pgbouncer=True, pool_size=8, max_overflow=0)
    statements = [text(f"SELECT {number} + CAST(:n AS integer) AS sum") for number in range(8)]

    async def client(number: int) -> list[int]:
        return [
            (await run(alone(engine), statements[number], {"n": turn}))[0].sum for turn in range(50)
        ]

    try:
        sums = await asyncio.gather(*map(client, range(8)))
    finally:
        await engine.dispose()
    assert sums == [list(range(number, number + 50)) for number in range(8)]
