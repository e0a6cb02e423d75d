"""Who is calling, as a dependency of routes."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope as AsgiScope

from shared.kernel.errors import Unauthenticated
from tenancy.application.authenticate import Caller
from tenancy.domain import Scope
from whatsapp.entrypoints.http.services import HttpServices, Services

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    bearerFormat="tw_...",
    description="An API key of a tenant, as `Authorization: Bearer tw_...`.",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def caller_with(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency that gives the caller, or raises Unauthenticated, or Forbidden without scope."""

    async def caller(services: Services, credentials: Credentials) -> Caller:
        found = await _recognised(services, credentials)
        structlog.contextvars.bind_contextvars(tenant_id=str(found.tenant_id))
        found.ensure(scope)
        return found

    return caller


async def ensure_key(services: HttpServices, scope: AsgiScope) -> None:
    """Raise Unauthenticated unless the request brings a key, whatever that may do.

    It is remembered, so that asking once more for the caller costs nothing.
    """
    await _recognised(services, await _bearer(Request(scope)))


async def _recognised(
    services: HttpServices, credentials: HTTPAuthorizationCredentials | None
) -> Caller:
    if credentials is None:
        raise Unauthenticated
    return await services.authenticate(credentials.credentials)


Sender = Annotated[Caller, Depends(caller_with(Scope.MESSAGES_SEND))]
Reader = Annotated[Caller, Depends(caller_with(Scope.MESSAGES_READ))]
ChannelReader = Annotated[Caller, Depends(caller_with(Scope.CHANNELS_READ))]
ChannelWriter = Annotated[Caller, Depends(caller_with(Scope.CHANNELS_WRITE))]
WebhookReader = Annotated[Caller, Depends(caller_with(Scope.WEBHOOKS_READ))]
WebhookWriter = Annotated[Caller, Depends(caller_with(Scope.WEBHOOKS_WRITE))]
