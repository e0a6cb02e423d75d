"""Where Meta posts its webhooks: proved, written down, answered; everything else comes later."""

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.types import Scope

from shared.kernel.errors import Unauthenticated
from whatsapp.entrypoints.http.documentation import problems
from whatsapp.entrypoints.http.services import Services

PREFIX: Final = "/webhooks/whatsapp"
SIGNATURE_HEADER: Final = b"x-hub-signature-256"
REFUSAL: Final = "tellwire_webhook_refusal"
"""Where a request says that the short way has refused it, and why."""

router = APIRouter(prefix=PREFIX, tags=["Webhooks from Meta"])
"""Declares routes and holds nothing else."""


@router.get("/{app_id}", response_class=PlainTextResponse, responses=problems(400))
async def answer_handshake(
    app_id: str,
    services: Services,
    mode: Annotated[str, Query(alias="hub.mode")] = "",
    token: Annotated[str, Query(alias="hub.verify_token")] = "",
    challenge: Annotated[str, Query(alias="hub.challenge")] = "",
) -> PlainTextResponse:
    """Meta asks whether this address wants an app's webhooks; the token says that it is ours."""
    answer = await services.answer_handshake(app_id, mode=mode, token=token, challenge=challenge)
    return PlainTextResponse(answer)


@router.post("/{app_id}", responses=problems(413), response_class=Response)
async def receive_webhook(app_id: str, request: Request, services: Services) -> Response:
    """Answer 200 once the body is stored; 503 asks Meta to deliver it again."""
    refusal: Exception | None = request.scope.get(REFUSAL)
    try:
        if refusal is not None:
            raise refusal
        body = await request.body()
        await services.receive_webhook(app_id, body, signatures_in(request.scope))
    except Unauthenticated:
        services.metrics.webhook_refused()
        raise
    services.metrics.webhook_stored(len(body))
    return Response()


def signatures_in(scope: Scope) -> Sequence[bytes]:
    """Every header that could be the signature; exactly one is in order."""
    return [value for name, value in scope["headers"] if name == SIGNATURE_HEADER]
