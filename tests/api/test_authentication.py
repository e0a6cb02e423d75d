import re
from datetime import timedelta

import pytest

from shared.kernel.clock import utc_now
from tellwire.api import ROUTERS
from tenancy.application.api_keys import CreateApiKey, RevokeApiKey
from tenancy.domain import IssuedApiKey, Scope, read_key
from tenancy.infrastructure.work import tenancy_work_in

SOME_ID = "0198f2c4-6b1e-7c3a-9a53-2f1d8e4b7a60"
SCOPES = {  # What a key needs to read below a path, and to do anything else there.
    "messages": (Scope.MESSAGES_READ, Scope.MESSAGES_SEND),
    "media": (Scope.MESSAGES_READ, Scope.MESSAGES_SEND),
    "conversations": (Scope.MESSAGES_READ, Scope.MESSAGES_SEND),
    "contacts": (Scope.MESSAGES_READ,),
    "channels": (Scope.CHANNELS_READ, Scope.CHANNELS_WRITE),
    "account-events": (Scope.CHANNELS_READ,),
    "templates": (Scope.CHANNELS_READ,),
    "webhook-endpoints": (Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE),
    "events": (Scope.MESSAGES_READ,),
}
ROUTES = [
    (method, re.sub(r"\{\w+\}", SOME_ID, route.path))
    for router in ROUTERS
    for route in router.routes
    for method in sorted(route.methods)
    if route.path.startswith("/v1/")
]


def scope_of(method, path):
    return SCOPES[path.split("/")[2]][method not in {"GET", "HEAD"}]


def says(answer, code):
    """Whether an answer has this code; that to HEAD has no body to say it in."""
    if answer.request.method == "HEAD":
        return not answer.content
    return answer.json()["code"] == code


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
async def test_every_route_wants_a_key_before_it_reads_a_body(client, method, path) -> None:
    typed = {"Content-Type": "application/json"}
    answers = [
        await client.request(method, path),
        await client.request(method, path, content=b"{", headers=typed),
        await client.request(method, path, content=b"[" * 100_000, headers=typed),
    ]

    for answer in answers:
        assert answer.status_code == 401
        assert says(answer, "unauthenticated")


async def test_the_document_says_which_operations_want_a_key(client) -> None:
    document = (await client.get("/openapi.json")).json()
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]

    declared = {(m, re.sub(r"\{\w+\}", SOME_ID, path)) for m, path, _ in operations}
    assert set(ROUTES) <= declared
    for _, path, operation in operations:
        assert ("security" in operation) == path.startswith(
            ("/v1/", "/{graph_version}/", "/v{major}.{minor}/", "/metrics")
        )


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_key_without_the_scope_may_not(client, world, ana, method, path) -> None:
    others = set(Scope) - {scope_of(method, path)}
    key = await world.api_key(ana.tenant_id, *others)
    body = {"channel_id": str(ana.channel_id), "messages": [{}]}

    answer = await client.request(
        method, path, json=body, headers={"Authorization": f"Bearer {key}"}
    )

    assert answer.status_code == 403
    assert says(answer, "forbidden")


# The stream of events has no end: its own tests open it.
@pytest.mark.parametrize(("method", "path"), [one for one in ROUTES if one[1] != "/v1/events"])
async def test_a_key_with_no_other_scope_may(client, world, ana, method, path) -> None:
    key = await world.api_key(ana.tenant_id, scope_of(method, path))

    answer = await client.request(method, path, headers={"Authorization": f"Bearer {key}"})

    assert answer.status_code not in {401, 403}


async def test_the_scheme_may_be_written_in_any_case(client, ana) -> None:
    answer = await client.get("/v1/messages", headers={"Authorization": f"bearer {ana.api_key}"})

    assert answer.status_code == 200
