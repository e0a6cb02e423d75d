"""Routes of messages."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import ValidationError

from shared.infrastructure.http.app import validation_error
from shared.infrastructure.http.problem import problem
from shared.kernel.errors import TellwireError
from whatsapp.application.accept_message import Wanted
from whatsapp.application.message_views import MessageFilter
from whatsapp.domain.entities import MessageNotFound, OutboundMessage
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.entrypoints.http.caller import Reader, Sender
from whatsapp.entrypoints.http.cursor import read_cursor, write_cursor
from whatsapp.entrypoints.http.documentation import IDEMPOTENT, problems
from whatsapp.entrypoints.http.requests import (
    BatchEntry,
    Instant,
    SendBatchRequest,
    SendMessageRequest,
    read_key,
    read_recipient,
)
from whatsapp.entrypoints.http.responses import (
    BatchResponse,
    BatchResult,
    Explain,
    MessageHistoryResponse,
    MessagePageResponse,
    MessageResponse,
    ProblemResponse,
)
from whatsapp.entrypoints.http.services import Services

KEY_HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotency-Replayed"

router = APIRouter(prefix="/v1/messages", tags=["Messages"])
"""Declares routes and holds nothing else."""


@router.post("", status_code=202, responses=problems(404, 409, 422) | IDEMPOTENT)
async def send_message(
    wanted: SendMessageRequest,
    response: Response,
    services: Services,
    caller: Sender,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias=KEY_HEADER,
            description="1 to 255 visible ASCII characters. The same key never sends twice; "
            "without one, the same message to the same recipient within one second, or for the "
            "same second of `send_at`, is one message.",
        ),
    ] = None,
) -> MessageResponse:
    """Store and queue a message; it is sent as soon as its channel's rate allows."""
    new = wanted.to_message(read_key(idempotency_key, KEY_HEADER))
    stored = await services.accept_message(caller.tenant_id, new, user_id=caller.key_id)
    services.metrics.message_accepted(stored)
    if stored.replayed:
        response.status_code = 200
        response.headers[REPLAYED_HEADER] = "true"
    return MessageResponse.of(stored, services.explain)


@router.post("/batch", responses=problems(422))
async def send_batch(batch: SendBatchRequest, services: Services, caller: Sender) -> BatchResponse:
    """Store and queue up to 1000 messages in one transaction, each with a result of its own."""
    wanted = [_entry(entry) for entry in batch.messages]
    results = await services.accept_batch(caller.tenant_id, wanted, user_id=caller.key_id)
    answers = [_result(result, services.explain) for result in results]
    for result in results:
        if isinstance(result, OutboundMessage):
            services.metrics.message_accepted(result)
    codes = [answer.status for answer in answers]
    accepted, replayed = codes.count(202), codes.count(200)
    return BatchResponse(
        results=answers,
        accepted=accepted,
        replayed=replayed,
        refused=len(answers) - accepted - replayed,
    )


@router.get("", responses=problems(422))
async def list_messages(
    services: Services,
    caller: Reader,
    *,
    status: MessageStatus | None = None,
    channel_id: UUID | None = None,
    recipient: Annotated[
        str | None, Query(max_length=140, description="A phone number with + or a user id.")
    ] = None,
    created_from: Instant | None = None,
    created_before: Instant | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> MessagePageResponse:
    """Messages, newest first, by page; follow `next_cursor` until it is null."""
    wanted = MessageFilter(
        channel_id=channel_id,
        status=status,
        recipient=read_recipient(recipient, "recipient"),
        created_from=created_from,
        created_before=created_before,
    )
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        page = await work.views.list_outbound(wanted, limit=limit, before=read_cursor(cursor))
    return MessagePageResponse(
        data=[MessageResponse.of(message, services.explain) for message in page.messages],
        next_cursor=write_cursor(page.next_before),
    )


@router.get("/{message_id}", responses=problems(404))
async def get_message(
    message_id: UUID, services: Services, caller: Reader
) -> MessageHistoryResponse:
    """One message with its history of attempts and statuses."""
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        found = await work.views.get_history(message_id)
    if found is None:
        raise MessageNotFound
    return MessageHistoryResponse.with_history(found, services.explain)


@router.post("/{message_id}/cancel", responses=problems(404, 409))
async def cancel_message(message_id: UUID, services: Services, caller: Sender) -> MessageResponse:
    """Take a message back before it is sent; 409 once it is on its way."""
    message = await services.cancel_message(caller.tenant_id, message_id, user_id=caller.key_id)
    return MessageResponse.of(message, services.explain)


@router.post("/{message_id}/retry", status_code=202, responses=problems(404, 409, 422))
async def retry_message(message_id: UUID, services: Services, caller: Sender) -> MessageResponse:
    """Send a message again that failed for good; 422 where it would not be accepted today."""
    message = await services.retry_message(caller.tenant_id, message_id, user_id=caller.key_id)
    return MessageResponse.of(message, services.explain)


def _entry(given: Any) -> Wanted:
    """What one entry of a batch asks for, or why it cannot be read."""
    try:
        entry = BatchEntry.model_validate(given)
        return entry.to_message(read_key(entry.idempotency_key, "idempotency_key"))
    except ValidationError as error:
        return validation_error(error.errors(include_url=False, include_input=False))
    except TellwireError as error:
        return error


def _result(result: OutboundMessage | TellwireError, explain: Explain) -> BatchResult:
    if isinstance(result, TellwireError):
        return BatchResult(status=result.status, problem=ProblemResponse(**problem(result)))
    status = 200 if result.replayed else 202
    return BatchResult(status=status, message=MessageResponse.of(result, explain))
