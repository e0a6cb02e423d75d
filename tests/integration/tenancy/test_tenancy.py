from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pytest

from shared.infrastructure.database import TenantNotFound, create_engine
from shared.kernel.clock import utc_now
from shared.kernel.errors import Forbidden, Unauthenticated
from shared.kernel.ids import new_id
from tenancy.application import authenticate as module
from tenancy.application.api_keys import CreateApiKey, RevokeApiKey
from tenancy.application.authenticate import Authenticate
from tenancy.application.create_tenant import CreateTenant
from tenancy.domain import ApiKeyNotFound, InvalidTenant, Scope
from tenancy.infrastructure.repositories import SQLAlchemyTenantDirectory
from tenancy.infrastructure.work import tenancy_work_in


@dataclass
class Time:
    now: object

    def __call__(self):
        return self.now


@pytest.fixture
def begin(sessions):
    return tenancy_work_in(sessions)


@pytest.fixture
def time():
    return Time(utc_now())


@pytest.fixture
def authenticate(begin, time):
    return Authenticate(begin=begin, now=time, monotonic=lambda: time().timestamp())


@pytest.fixture
def new_key(begin, time):
    async def new_key(tenant_id, *, scopes=("messages:send",), **more):
        create = CreateApiKey(begin=begin, now=time)
        return await create(tenant_id, name="Shop", scopes=scopes, **more)

    return new_key


async def test_a_tenant_is_stored_under_its_own_context(begin) -> None:
    tenant = await CreateTenant(begin=begin)("  Ana's shop ")

    async with begin(tenant.id) as work:
        assert (await work.tenants.get()).name == "Ana's shop"
    async with begin(new_id()) as work:
        assert await work.tenants.get() is None
    assert tenant.created_at is not None


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\0b"])
async def test_a_tenant_needs_a_name_that_can_be_read(begin, name) -> None:
    with pytest.raises(InvalidTenant):
        await CreateTenant(begin=begin)(name)


async def test_a_key_tells_who_is_calling_and_what_they_may_do(ana, new_key, authenticate) -> None:
    issued = await new_key(ana.tenant_id)

    caller = await authenticate(issued.text.reveal())

    assert (caller.tenant_id, caller.key_id) == (ana.tenant_id, issued.key.id)
    caller.ensure(Scope.MESSAGES_SEND)
    with pytest.raises(Forbidden, match="channels:write"):
        caller.ensure(Scope.CHANNELS_WRITE)


async def test_the_database_holds_no_key_that_could_be_used(ana, new_key, database, query) -> None:
    text = (await new_key(ana.tenant_id)).text.reveal()

    rows = await query(database.superuser_url, "SELECT api_keys::text AS row FROM api_keys")

    assert text[3:46] not in rows[0].row
    assert text[47:] not in rows[0].row


async def test_a_key_for_a_tenant_that_does_not_exist_is_not_made(new_key) -> None:
    with pytest.raises(TenantNotFound):
        await new_key(new_id())


async def test_a_key_of_one_tenant_with_the_name_of_another_is_nobody(
    ana, bea, new_key, authenticate
) -> None:
    of_ana = (await new_key(ana.tenant_id)).text.reveal()
    of_bea = (await new_key(bea.tenant_id)).text.reveal()

    for mixed in (of_ana[:46] + of_bea[46:], of_bea[:46] + of_ana[46:]):
        with pytest.raises(Unauthenticated):
            await authenticate(mixed)


async def test_a_revoked_key_is_nobody_once_it_is_forgotten(
    ana, new_key, authenticate, begin, time
) -> None:
    issued = await new_key(ana.tenant_id)
    text = issued.text.reveal()
    await authenticate(text)
    await RevokeApiKey(begin=begin, now=time)(ana.tenant_id, issued.key.id)

    time.now += module.REMEMBERED_FOR

    with pytest.raises(Unauthenticated):
        await authenticate(text)


async def test_a_clock_that_is_set_back_lets_no_revoked_key_live_longer(
    ana, new_key, begin, time
) -> None:
    passed = [0.0]
    authenticate = Authenticate(begin=begin, now=time, monotonic=lambda: passed[0])
    issued = await new_key(ana.tenant_id)
    text = issued.text.reveal()
    await authenticate(text)
    await RevokeApiKey(begin=begin, now=time)(ana.tenant_id, issued.key.id)

    time.now -= timedelta(hours=1)
    passed[0] += module.REMEMBERED_FOR.total_seconds()

    with pytest.raises(Unauthenticated):
        await authenticate(text)


async def test_a_key_is_remembered_no_longer_than_it_lives(ana, new_key, authenticate, time):
    issued = await new_key(ana.tenant_id, expires_at=time.now + timedelta(seconds=1))
    text = issued.text.reveal()
    await authenticate(text)

    time.now += timedelta(seconds=1)

    with pytest.raises(Unauthenticated):
        await authenticate(text)


async def test_a_remembered_key_costs_no_query(ana, new_key, authenticate, engine) -> None:
    text = (await new_key(ana.tenant_id)).text.reveal()
    caller = await authenticate(text)

    await engine.dispose()
    before = engine.pool.checkedin()

    assert await authenticate(text) == caller
    assert engine.pool.checkedin() == before


async def test_no_more_keys_are_remembered_than_the_bound(
    ana, new_key, authenticate, monkeypatch
) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    for _ in range(4):
        await authenticate((await new_key(ana.tenant_id)).text.reveal())

    assert len(authenticate._remembered.entries) == 2


async def test_guesses_are_not_remembered(ana, new_key, authenticate) -> None:
    text = (await new_key(ana.tenant_id)).text.reveal()
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await authenticate(text[:-1] + ("0" if text[-1] != "0" else "1"))

    assert not authenticate._remembered.entries


async def test_another_tenants_key_cannot_be_revoked(ana, bea, new_key, begin) -> None:
    issued = await new_key(ana.tenant_id)

    with pytest.raises(ApiKeyNotFound):
        await RevokeApiKey(begin=begin)(bea.tenant_id, issued.key.id)


async def test_operators_can_list_all_tenants_by_page(ana, bea, database) -> None:
    engine = create_engine(database.url("tellwire_process"))
    directory = SQLAlchemyTenantDirectory(engine)
    try:
        first = await directory.list_ids(limit=1)
        rest = await directory.list_ids(after=first[0])
    finally:
        await engine.dispose()

    assert [*first, *rest] == sorted([ana.tenant_id, bea.tenant_id])
    assert isinstance(first[0], UUID)


async def test_no_older_copy_of_a_key_takes_its_revocation_back(ana, new_key, begin) -> None:
    issued = await new_key(ana.tenant_id)
    async with begin(ana.tenant_id) as work:
        older = await work.api_keys.get_by_id(issued.key.id)
    revoked = await RevokeApiKey(begin=begin)(ana.tenant_id, issued.key.id)

    older.name = "renamed"
    async with begin(ana.tenant_id) as work:
        stored = await work.api_keys.update(older)
        await work.commit()

    assert (stored.name, stored.revoked_at) == ("renamed", revoked.revoked_at)
    older.revoke(revoked.revoked_at + timedelta(seconds=1))
    async with begin(ana.tenant_id) as work:
        assert (await work.api_keys.update(older)).revoked_at == revoked.revoked_at
