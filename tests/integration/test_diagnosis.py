"""What `tellwire doctor` finds in a database and a Redis, and what it says to do."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from shared.infrastructure.encryption import KeyRing
from shared.infrastructure.settings import Settings
from tellwire.cli.diagnosis import examinations
from tellwire.embedded.roles import grant_database

pytestmark = [pytest.mark.postgres, pytest.mark.redis]
ROLE = "tellwire_dispatch"


@pytest.fixture
def settings(database, redis_url) -> Settings:
    return Settings(
        _env_file=None,
        database_url=database.url("tellwire_app"),
        redis_url=redis_url,
        encryption_keys=KeyRing.generate().to_setting().reveal(),
    )


async def problems(settings: Settings) -> dict[str, str]:
    return {one.what: one.problem async for one in examinations(settings) if one.problem}


async def test_an_installation_as_it_should_be_has_no_problem(settings) -> None:
    assert await problems(settings) == {}


async def test_a_role_whose_transactions_never_end_is_told_to_run_the_script(
    settings, database
) -> None:
    engine = create_async_engine(database.superuser_url)
    async with engine.begin() as superuser:
        reset = f"ALTER ROLE {ROLE} IN DATABASE {database.name} RESET transaction_timeout"
        await superuser.execute(text(reset))
    await engine.dispose()

    found = await problems(settings)

    assert list(found) == [f"database role {ROLE}"]
    assert "run roles.sql once more" in found[f"database role {ROLE}"]
    await grant_database(database.superuser_url, database=database.name)
    assert await problems(settings) == {}


async def test_a_server_without_that_setting_is_taken_as_it_is(settings, monkeypatch) -> None:
    """As PostgreSQL 16: it knows no such name."""
    asked = "shared.infrastructure.database.engine._TRANSACTION_TIMEOUT"
    monkeypatch.setattr(asked, text("SELECT current_setting('no.such_setting', true)"))
    assert await problems(settings) == {}
