"""`tellwire keys rotate`, as scripts run it: its exit code says whether old keys may go."""

import asyncio
import base64
import os

import pytest
from typer.testing import CliRunner

from shared.infrastructure.encryption import EncryptionManager, KeyRing, configure_encryption
from tellwire.cli.main import app

pytestmark = pytest.mark.postgres

OLD, NEW, OTHER = (
    f"{number}:{base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip('=')}"
    for number in (1, 2, 3)
)


@pytest.fixture
def encryption():
    manager = EncryptionManager(KeyRing.parse(OLD))
    configure_encryption(manager)
    yield manager
    configure_encryption(None)


async def test_it_fails_while_something_does_not_open(database, ana, monkeypatch, tmp_path) -> None:
    assert ana.channel.access_token.reveal()
    monkeypatch.chdir(tmp_path)
    url = database.url("tellwire_app").replace("+asyncpg", "")
    monkeypatch.setenv("TELLWIRE_DATABASE_URL", url)
    monkeypatch.setenv("TELLWIRE_REDIS_URL", "redis://nowhere")

    async def rotate(*keys: str) -> tuple[int, str]:
        monkeypatch.setenv("TELLWIRE_ENCRYPTION_KEYS", ",".join(keys))
        done = await asyncio.to_thread(CliRunner().invoke, app, ["keys", "rotate"])
        return done.exit_code, done.output

    code, said = await rotate(OTHER)
    assert (code, "0 re-encrypted, 0 missed, 1 unreadable" in said) == (1, True), said
    code, said = await rotate(NEW, OLD)
    assert (code, "1 re-encrypted, 0 missed, 0 unreadable" in said) == (0, True), said
