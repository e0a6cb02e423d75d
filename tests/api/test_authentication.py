from datetime import timedelta

import pytest

from shared.kernel.clock import utc_now
from tenancy.application.api_keys import CreateApiKey, RevokeApiKey
from tenancy.domain import IssuedApiKey, Scope, read_key
from tenancy.infrastructure.work import tenancy_work_in

ROUTES = [
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/batch"),
    ("GET", "/v1/messages"),
    ("GET", "/v1/messages/0198f2c4-6b1e-7c3a-9a53-2f1d8e4b7a60"),
    ("POST", "/v1/messages/0198f2c4-6b1e-7c3a-9a53-2f1d8e4b7a60/cancel"),
    ("POST", "/v1/messages/0198f2c4-6b1e-7c3a-9a53-2f1d8e4b7a60/retry"),
    ("GET", "/v1/messages/dead-letters"),
    ("POST", "/v1/messages/retry"),
    ("GET", "/v1/channels"),
    ("GET", "/v1/account-events"),
    ("GET", "/v1/templates"),
    ("GET", "/v1/channels/0198f2c4-6b1e-7c3a-9a53-2f1d8e4b7a60"),
]


@pytest.fixture
async def revoked(world, ana):
    text = await world.api_key(ana.tenant_id)
    begin = tenancy_work_in(world.sessions)
    await RevokeApiKey(begin=begin)(ana.tenant_id, read_key(text).key_id)
    return text


@pytest.fixture
async def expired(world, ana):
    yesterday = utc_now() - timedelta(days=1)
    create = CreateApiKey(begin=tenancy_work_in(world.sessions), now=lambda: yesterday)
    issued = await create(
        ana.tenant_id,
        name="Old",
        scopes=list(Scope),
        expires_at=yesterday + timedelta(hours=1),
    )
    return issued.text.reveal()


def invented(tenant_id):
    """A well-formed key of an existing tenant that was never stored."""
    issued = IssuedApiKey.issue(
        tenant_id=tenant_id, name="No", scopes=frozenset(Scope), at=utc_now()
    )
    return issued.text.reveal()


async def test_nobody_is_answered_alike_whatever_is_wrong(client, ana, revoked, expired) -> None:
    tampered = ana.api_key[:-1] + ("0" if ana.api_key[-1] != "0" else "1")
    headers = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer garbage"},
        {"Authorization": b"Bearer \xe9\xff"},
        {"Authorization": f"Basic {ana.api_key}"},
        {"Authorization": ana.api_key},
        *(
            {"Authorization": f"Bearer {key}"}
            for key in (revoked, expired, tampered, invented(ana.tenant_id), "tw_" + "z" * 87)
        ),
    ]

    answers = [await client.get("/v1/messages", headers=given) for given in headers]

    assert {answer.status_code for answer in answers} == {401}
    assert len({str(answer.json() | {"instance": ""}) for answer in answers}) == 1
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_wants_a_key(client, method, path) -> None:
    answer = await client.request(method, path)

    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthenticated"


async def test_every_declared_route_of_the_api_is_in_this_table(client) -> None:
    document = (await client.get("/openapi.json")).json()
    declared = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
        if path.startswith("/v1/")
    }

    assert len(declared) == len(ROUTES)
    for path in document["paths"]:
        for operation in document["paths"][path].values():
            needs_key = path.startswith(("/v1/", "/{graph_version}/"))
            assert ("security" in operation) == needs_key


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_key_without_the_scope_may_not(client, world, ana, method, path) -> None:
    key = await world.api_key(ana.tenant_id, Scope.CHANNELS_WRITE)
    body = {"channel_id": str(ana.channel_id), "messages": [{}]}

    answer = await client.request(
        method, path, json=body, headers={"Authorization": f"Bearer {key}"}
    )

    assert answer.status_code == 403
    assert answer.json()["code"] == "forbidden"


async def test_the_scheme_may_be_written_in_any_case(client, ana) -> None:
    answer = await client.get("/v1/messages", headers={"Authorization": f"bearer {ana.api_key}"})

    assert answer.status_code == 200
