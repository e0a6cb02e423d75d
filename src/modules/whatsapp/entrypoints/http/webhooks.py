"""Where Meta posts its webhooks: proved, written down, answered; everything else comes later."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response

from shared.kernel.errors import Unauthenticated
from whatsapp.entrypoints.http.documentation import problems
from whatsapp.entrypoints.http.services import Services

PREFIX: Final = "/webhooks/whatsapp"
SIGNATURE_HEADER: Final = b"x-hub-signature-256"

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
    body = await request.body()
    headers: list[tuple[bytes, bytes]] = request.scope["headers"]
    signatures = [value for name, value in headers if name == SIGNATURE_HEADER]
    try:
        await services.receive_webhook(app_id, body, signatures)
    except Unauthenticated:
        services.metrics.webhook_refused()
        raise
    services.metrics.webhook_stored(len(body))
    return Response()
