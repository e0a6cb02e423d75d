"""Routes of webhook endpoints: where a tenant's own systems hear what happened."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from whatsapp.domain.events import EndpointNotFound
from whatsapp.entrypoints.http.caller import WebhookReader, WebhookWriter
from whatsapp.entrypoints.http.cursor import read_cursor, write_cursor
from whatsapp.entrypoints.http.documentation import made, problems
from whatsapp.entrypoints.http.endpoint_shapes import (
    ChangeEndpointRequest,
    CreateEndpointRequest,
    DeliveryPageResponse,
    DeliveryResponse,
    EndpointPageResponse,
    EndpointResponse,
    EndpointWithSecretResponse,
    ReplayRequest,
    ReplayResponse,
    RotateSecretRequest,
    TestEventResponse,
)
from whatsapp.entrypoints.http.services import Services

PREFIX = "/v1/webhook-endpoints"
router = APIRouter(prefix=PREFIX, tags=["Webhook endpoints"])
"""Declares routes and holds nothing else."""


@router.post("", status_code=201, responses=problems(404, 409, 422) | made("Taken in"))
async def create_endpoint(
    wanted: CreateEndpointRequest, response: Response, services: Services, caller: WebhookWriter
) -> EndpointWithSecretResponse:
    """Take in an endpoint; the answer shows its secret, once. It hears what happens from now on."""
    endpoint, secret = await services.endpoints.create(
        caller.tenant_id, wanted.to_wanted(), user_id=caller.key_id
    )
    response.headers["Location"] = f"{PREFIX}/{endpoint.id}"
    return EndpointWithSecretResponse.with_secret(endpoint, secret)


@router.get("", responses=problems(422))
async def list_endpoints(
    services: Services,
    caller: WebhookReader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> EndpointPageResponse:
    """The tenant's endpoints, oldest first, by page."""
    after = read_cursor(cursor)
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        found = await work.endpoints.list(limit=limit + 1, after=after)
    page = found[:limit]
    return EndpointPageResponse(
        data=[EndpointResponse.of(endpoint) for endpoint in page],
        next_cursor=write_cursor(page[-1].id if len(found) > limit else None),
    )


@router.get("/{endpoint_id}", responses=problems(404))
async def get_endpoint(
    endpoint_id: UUID, services: Services, caller: WebhookReader
) -> EndpointResponse:
    """One endpoint; its secret is not shown again."""
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        endpoint = await work.endpoints.get_by_id(endpoint_id)
    if endpoint is None:
        raise EndpointNotFound
    return EndpointResponse.of(endpoint)


@router.patch("/{endpoint_id}", responses=problems(404, 422))
async def change_endpoint(
    endpoint_id: UUID, change: ChangeEndpointRequest, services: Services, caller: WebhookWriter
) -> EndpointResponse:
    """Change what it hears and where, or switch it on or off; off drops what waits for it."""
    endpoint = await services.endpoints.change(
        caller.tenant_id, endpoint_id, change.to_change(), user_id=caller.key_id
    )
    return EndpointResponse.of(endpoint)


@router.delete("/{endpoint_id}", status_code=204, response_class=Response, responses=problems(404))
async def delete_endpoint(endpoint_id: UUID, services: Services, caller: WebhookWriter) -> Response:
    """Forget the endpoint, its log, and what waits for it."""
    await services.endpoints.delete(caller.tenant_id, endpoint_id, user_id=caller.key_id)
    return Response(status_code=204)


@router.post("/{endpoint_id}/enable", responses=problems(404))
async def enable_endpoint(
    endpoint_id: UUID, services: Services, caller: WebhookWriter
) -> EndpointResponse:
    """Deliver again from now on; replay what it missed."""
    change = ChangeEndpointRequest(enabled=True).to_change()
    endpoint = await services.endpoints.change(
        caller.tenant_id, endpoint_id, change, user_id=caller.key_id
    )
    return EndpointResponse.of(endpoint)


@router.post("/{endpoint_id}/rotate-secret", responses=problems(404, 422))
async def rotate_secret(
    endpoint_id: UUID,
    services: Services,
    caller: WebhookWriter,
    wanted: RotateSecretRequest | None = None,
) -> EndpointWithSecretResponse:
    """Another secret, shown once; the one before signs as well until the overlap is over."""
    overlap = (wanted or RotateSecretRequest()).overlap
    endpoint, secret = await services.endpoints.rotate(
        caller.tenant_id, endpoint_id, overlap=overlap, user_id=caller.key_id
    )
    return EndpointWithSecretResponse.with_secret(endpoint, secret)


@router.post("/{endpoint_id}/test", status_code=202, responses=problems(404, 409))
async def test_endpoint(
    endpoint_id: UUID, services: Services, caller: WebhookWriter
) -> TestEventResponse:
    """Send it an event that means nothing; the deliveries show what came of it."""
    event_id = await services.endpoints.test(caller.tenant_id, endpoint_id, user_id=caller.key_id)
    return TestEventResponse(event_id=event_id)


@router.post("/{endpoint_id}/replay", status_code=202, responses=problems(404, 409, 422))
async def replay_events(
    endpoint_id: UUID, wanted: ReplayRequest, services: Services, caller: WebhookWriter
) -> ReplayResponse:
    """Deliver events again, with the ids that they had; each begins anew.

    What waits for another attempt gets it at once, and what is being delivered at this moment is
    delivered once more.

    `incomplete` says that some of what was asked for is not kept any more.
    """
    replayed = await services.endpoints.replay(
        caller.tenant_id,
        endpoint_id,
        event_ids=wanted.event_ids,
        since=wanted.since,
        until=wanted.until,
        after=wanted.after,
        user_id=caller.key_id,
    )
    return ReplayResponse(
        queued=replayed.queued, last=replayed.last, incomplete=replayed.is_incomplete
    )


@router.get("/{endpoint_id}/deliveries", responses=problems(404, 422))
async def list_deliveries(
    endpoint_id: UUID,
    services: Services,
    caller: WebhookReader,
    *,
    event_id: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> DeliveryPageResponse:
    """Every attempt, newest first, by page: when, what came of it, and when the next one is."""
    before = read_cursor(cursor)
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        endpoint = await work.endpoints.get_by_id(endpoint_id)
        found = await work.deliveries.list_attempts(
            endpoint_id, limit=limit + 1, before=before, event_id=event_id
        )
    if endpoint is None:
        raise EndpointNotFound
    page = found[:limit]
    return DeliveryPageResponse(
        data=[DeliveryResponse.of(record) for record in page],
        next_cursor=write_cursor(page[-1].id if len(found) > limit else None),
    )
