"""Who is calling, as a dependency of routes."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any

import structlog
from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from shared.kernel.errors import Unauthenticated
from tenancy.application.authenticate import Caller
from tenancy.domain import Scope
from whatsapp.entrypoints.http.services import HttpServices, Services, services_of

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


class KeyedRoute(APIRoute):
    """Asks for a key before anything of the body is read as JSON.

    FastAPI reads it before it asks for anything. Nobody's megabytes would take all others' time.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's own, behind the question."""
        answer = super().get_route_handler()

        async def keyed(request: Request) -> Response:
            # It is remembered, so that asking who it is, with the scope, costs nothing more.
            await _recognised(await services_of(request), await _bearer(request))
            return await answer(request)

        return keyed


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
