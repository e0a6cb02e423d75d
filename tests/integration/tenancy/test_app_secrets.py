"""The two live secrets of a Meta app: none is lost, whoever changes them at the same moment."""

import asyncio

import pytest

from shared.infrastructure.encryption import EncryptionManager, KeyRing, configure_encryption
from shared.infrastructure.settings import Settings
from shared.kernel.secret import Secret
from tellwire.installation import Installation
from tenancy.infrastructure.work import tenancy_work_in
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

OLD, NEW, TOKEN = Secret("old-secret"), Secret("new-secret"), Secret("verify")


@pytest.fixture
def installation(sessions, engine) -> Installation:
    return Installation(
        settings=Settings(),
        sessions=sessions,
        engine=engine,
        process_engine=engine,
        begin=work_in(sessions),
        begin_tenancy=tenancy_work_in(sessions),
    )


async def waiting(superuser, number):
    """Until so many transactions wait for a row of somebody else's."""
    async with asyncio.timeout(30):
        while number > await superuser.fetchval(  # noqa: ASYNC110  # PostgreSQL tells nobody
            "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
        ):
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("first", ["rotate", "settle"])
async def test_settling_takes_back_no_secret_that_is_taken_at_the_same_moment(
    installation, superuser, first
):
    await installation.add_app("1", secret=Secret("oldest"), verify_token=TOKEN)
    await installation.rotate_app_secret("1", OLD)
    steps = {"rotate": NEW, "settle": None}
    order = [steps.pop(first), *steps.values()]

    blocking = superuser.transaction()
    await blocking.start()
    await superuser.execute("SELECT FROM meta_apps FOR UPDATE")
    running = []
    for number, secret in enumerate(order, start=1):
        running.append(asyncio.create_task(installation.rotate_app_secret("1", secret)))
        await waiting(superuser, number)
    await blocking.commit()
    await asyncio.gather(*running)

    app = await installation.apps.find_app("1")
    assert app.secret == NEW
    assert app.previous_secret == (None if first == "rotate" else OLD)


async def test_a_secret_that_does_not_open_is_set_anew(installation):
    await installation.add_app("1", secret=OLD, verify_token=TOKEN)
    configure_encryption(EncryptionManager(KeyRing.generate(key_id=2)))

    await installation.add_app("1", secret=NEW, verify_token=TOKEN)

    app = await installation.apps.find_app("1")
    assert (app.secret, app.previous_secret, app.verify_token) == (NEW, None, TOKEN)
