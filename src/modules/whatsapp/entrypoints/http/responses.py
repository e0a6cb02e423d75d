"""What callers get to see of messages."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Self, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from whatsapp.application.message_views import AttemptView, MessageHistory, StatusView
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.value_objects import MessageStatus, MessageType, PhoneNumber, Priority

Explain: TypeAlias = Callable[[int | None], str | None]
"""What to do about a code of Meta's, in words for a person; None where nothing is known."""


class ProblemResponse(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(examples=["/docs/errors#message_not_found"])
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; the error reference lists them all.")
    field: str | None = Field(None, description="Which part of the request is meant.")
    errors: list[dict[str, str]] | None = Field(None, description="Every fault, where several.")
    instance: str | None = Field(None, description="The request id.")


class FailureResponse(BaseModel):
    """Why a message failed, or why its last attempt did; `code` is Meta's."""

    code: int | None
    title: str
    details: str
    advice: str | None = Field(None, description="What to do about it, where that is known.")


class MessageResponse(BaseModel):
    """A message and how far it has come."""

    id: UUID
    channel_id: UUID
    to: str | None = Field(None, description="The phone number it goes to.")
    recipient: str | None = Field(None, description="The user id it goes to.")
    type: MessageType
    content: Any = Field(description="Meta's object, as it was given under the type's name.")
    context: dict[str, str] | None = None
    status: MessageStatus
    status_at: datetime | None
    priority: Priority
    send_at: datetime | None
    expires_at: datetime | None
    metadata: dict[str, str]
    wamid: str | None = Field(description="The id at Meta, once it was sent.")
    attempts: int
    next_attempt_at: datetime | None
    failure: FailureResponse | None
    created_at: datetime

    @classmethod
    def of(cls, message: OutboundMessage, explain: Explain) -> Self:
        """What may be seen of `message`, its failure explained."""
        return cls(**_shown(message, explain))


class AttemptResponse(BaseModel):
    """One request to Meta."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    started_at: datetime
    finished_at: datetime
    outcome: str
    code: int | None
    reason: str | None
    retry_at: datetime | None

    @classmethod
    def of(cls, attempt: AttemptView) -> Self:
        """What may be seen of `attempt`."""
        return cls.model_validate(attempt)


class StatusResponse(BaseModel):
    """One status that Meta reported."""

    model_config = ConfigDict(from_attributes=True)

    status: MessageStatus
    occurred_at: datetime
    received_at: datetime
    attempt: int | None
    errors: list[dict[str, Any]]

    @classmethod
    def of(cls, status: StatusView) -> Self:
        """What may be seen of `status`."""
        return cls.model_validate(status)


class MessageHistoryResponse(MessageResponse):
    """A message with everything that happened to it, oldest first."""

    history: list[AttemptResponse] = Field(description="Requests to Meta and their outcomes.")
    statuses: list[StatusResponse] = Field(description="What Meta reported.")

    @classmethod
    def with_history(cls, found: MessageHistory, explain: Explain) -> Self:
        """What may be seen of a message and its history."""
        return cls(
            **_shown(found.message, explain),
            history=[AttemptResponse.of(attempt) for attempt in found.attempts],
            statuses=[StatusResponse.of(status) for status in found.statuses],
        )


class MessagePageResponse(BaseModel):
    """Messages, newest first. A short page with a `next_cursor` is not the last one."""

    data: list[MessageResponse]
    next_cursor: str | None


class RetriedResponse(BaseModel):
    """How many dead letters were queued again; with a `next_cursor` there may be more.

    Those `refused` stay dead letters: their channel or the 24-hour window does not allow them now.
    """

    retried: int
    refused: int
    next_cursor: str | None


class BatchResult(BaseModel):
    """What became of one entry: 202 stored, 200 replayed, or the problem that it had."""

    status: int
    message: MessageResponse | None = None
    problem: ProblemResponse | None = None


class BatchResponse(BaseModel):
    """Results in the order of the entries."""

    results: list[BatchResult]
    accepted: int
    replayed: int
    refused: int


def failure_of(message: OutboundMessage, explain: Explain) -> FailureResponse | None:
    """Why the message failed, with what to do about it; None if it did not."""
    failure = message.failure
    if failure is None:
        return None
    return FailureResponse(
        code=failure.code,
        title=failure.title,
        details=failure.details,
        advice=explain(failure.code),
    )


def _shown(message: OutboundMessage, explain: Explain) -> dict[str, Any]:
    to, content = message.recipient, message.content.to_dict()
    return {
        "id": message.id,
        "channel_id": message.channel_id,
        "to": to.e164 if isinstance(to, PhoneNumber) else None,
        "recipient": None if isinstance(to, PhoneNumber) else to.value,
        "type": message.content.type,
        "content": content[message.content.type.value],
        "context": content.get("context"),
        "status": message.status,
        "status_at": message.status_at,
        "priority": message.priority,
        "send_at": message.send_at,
        "expires_at": message.expires_at,
        "metadata": dict(message.metadata),
        "wamid": message.wamid,
        "attempts": message.attempts,
        "next_attempt_at": message.next_attempt_at,
        "failure": failure_of(message, explain),
        "created_at": message.created_at,
    }
