"""Meta's own endpoint, answered by Tellwire: a client of the Cloud API changes its base URL only.

Requests and answers have Meta's form (Meta, Cloud API reference, messages). A message is accepted,
paced and sent like any other; its answer carries an id that Tellwire gives, which later requests
may refer to and which statuses that are passed on carry. The key is a Tellwire API key.
"""

import re
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import JSONResponse, Response

from shared.infrastructure.http.errors import MalformedBody, RouteNotFound
from shared.kernel.errors import InvalidInput
from tenancy.application.authenticate import Caller
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.value_objects import MessageType, PhoneNumber, given_wamid
from whatsapp.entrypoints.http.caller import Sender
from whatsapp.entrypoints.http.graph_documentation import GRAPH_OPENAPI, GRAPH_RESPONSES
from whatsapp.entrypoints.http.graph_requests import (
    USER_ID_BESIDE,
    InvalidGraphRequest,
    graph_message,
    graph_receipt,
)
from whatsapp.entrypoints.http.messages import KEY_HEADER, REPLAYED_HEADER
from whatsapp.entrypoints.http.requests import read_key
from whatsapp.entrypoints.http.services import HttpServices, Services

_VERSION: Final = re.compile(r"v[1-9][0-9]?\.[0-9]")


async def known_version(graph_version: str) -> None:
    """Refuse an address whose first part is no version; any that looks like one is welcome."""
    if _VERSION.fullmatch(graph_version) is None:
        raise RouteNotFound


router = APIRouter(tags=["Meta's endpoint"], dependencies=[Depends(known_version)])
"""Declares routes and holds nothing else."""


@router.post(
    "/{graph_version}/{phone_number_id}/messages",
    responses=GRAPH_RESPONSES,
    openapi_extra=GRAPH_OPENAPI,
)
async def post_graph_message(
    graph_version: str,  # noqa: ARG001  # judged by the router's dependency
    phone_number_id: str,
    request: Request,
    services: Services,
    caller: Sender,
    idempotency_key: Annotated[str | None, Header(alias=KEY_HEADER)] = None,
) -> Response:
    """Send a message, or mark one as read, in Meta's form; errors have Meta's form too."""
    payload = _read(await request.body())
    if payload.get("messaging_product") != "whatsapp":
        raise InvalidGraphRequest("is required and is always whatsapp", field="messaging_product")
    if payload.get("status") is not None:
        await _mark_as_read(services, caller, phone_number_id, payload)
        return JSONResponse({"success": True})
    new = graph_message(payload, read_key(idempotency_key, KEY_HEADER))
    stored = await services.accept_graph_message(
        caller.tenant_id, phone_number_id, new, user_id=caller.key_id
    )
    services.metrics.message_accepted(stored)
    headers = {REPLAYED_HEADER: "true"} if stored.replayed else None
    return JSONResponse(_answer(stored, payload), headers=headers)


async def _mark_as_read(
    services: HttpServices, caller: Caller, phone_number_id: str, payload: dict[str, Any]
) -> None:
    receipt = graph_receipt(payload)
    await services.mark_as_read(
        caller.tenant_id, phone_number_id, receipt.wamid, is_typing=receipt.is_typing
    )


def _read(body: bytes) -> dict[str, Any]:
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedBody from None
    if not isinstance(payload, dict):
        raise InvalidInput("An object is needed")
    return payload


def _answer(stored: OutboundMessage, payload: dict[str, Any]) -> dict[str, Any]:
    to = stored.recipient
    given = payload["recipient"] if payload.get("to") is None else payload["to"]
    named = {"wa_id": to.wa_id} if isinstance(to, PhoneNumber) else {"user_id": to.value}
    if (user_id := stored.envelope.get(USER_ID_BESIDE)) is not None:
        named["user_id"] = user_id
    message = {"id": given_wamid(stored.id)}
    if stored.content.type is MessageType.TEMPLATE:
        message["message_status"] = "accepted"
    return {
        "messaging_product": "whatsapp",
        "contacts": [{"input": given, **named}],
        "messages": [message],
    }
