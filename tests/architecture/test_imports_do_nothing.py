"""Importing Tellwire does nothing: the composition root builds, and tests build their own."""

import importlib
import pkgutil
import subprocess
import sys
import threading
from types import ModuleType

import aiohttp
import pytest
import sqlalchemy
from aiohttp import web
from fastapi import FastAPI
from redis.asyncio import Redis, RedisCluster
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from shared.infrastructure.settings import Settings

ROOTS = ("shared", "tenancy", "whatsapp", "whatsapp_simulator", "tellwire")
RUNS_WHEN_IMPORTED = {"tellwire.__main__"}  # `python -m tellwire`
BUILT = (
    AsyncEngine,
    AsyncSession,
    FastAPI,
    Redis,
    RedisCluster,
    Session,
    Settings,
    aiohttp.ClientSession,
    async_sessionmaker,
    sessionmaker,
    sqlalchemy.Engine,
    threading.Thread,
    web.Application,
)
PROBE = """
import importlib, sys
def refuse(event, arguments):
    opens = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if opens or event in {"socket.connect", "socket.bind", "subprocess.Popen", "os.mkdir"}:
        print(event, arguments[:2], flush=True)
sys.addaudithook(refuse)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def _names() -> list[str]:
    names = []
    for root in ROOTS:
        names.append(root)
        package = importlib.import_module(root)
        names += [m.name for m in pkgutil.walk_packages(package.__path__, f"{root}.")]
    return [name for name in names if name not in RUNS_WHEN_IMPORTED]


@pytest.fixture(scope="module")
def modules() -> list[ModuleType]:
    return [importlib.import_module(name) for name in _names()]


def test_no_module_holds_a_connection_an_app_or_settings(modules) -> None:
    assert [
        f"{module.__name__}.{name}"
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, BUILT)
    ] == []


def test_importing_everything_opens_no_connection_and_writes_no_file() -> None:
    ran = subprocess.run(  # noqa: S603  # our own interpreter and our own names
        [sys.executable, "-B", "-c", PROBE, *_names()],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
