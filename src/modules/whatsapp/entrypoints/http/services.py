"""What the routes work with; the composition root builds it, tests may build their own."""

from dataclasses import dataclass
from typing import Annotated, Final, cast

from fastapi import Depends, Request

from tenancy.application.authenticate import Authenticate
from whatsapp.application.accept_message import AcceptBatch, AcceptGraphMessage, AcceptMessage
from whatsapp.application.add_channel import AddChannel, VerifyChannel
from whatsapp.application.change_channel import (
    ChangeChannel,
    PauseChannel,
    ResumeChannel,
    RotateToken,
)
from whatsapp.application.change_endpoint import (
    ChangeEndpoint,
    DeleteEndpoint,
    RotateEndpointSecret,
)
from whatsapp.application.change_message import CancelMessage, RetryMessage
from whatsapp.application.create_endpoint import CreateEndpoint
from whatsapp.application.graph_media import FindGraphMedia
from whatsapp.application.mark_as_read import MarkAsRead
from whatsapp.application.ports import BeginWork
from whatsapp.application.read_conversation import ReadConversation, ShowTyping
from whatsapp.application.receive_webhook import AnswerHandshake, ReceiveWebhook
from whatsapp.application.replay_events import ReplayEvents
from whatsapp.application.retry_dead_letters import RetryDeadLetters
from whatsapp.application.send_test_event import SendTestEvent
from whatsapp.application.store_media import ReadMedia, RemoveMedia, StoreMedia
from whatsapp.domain.rate_limit import RateLimiter
from whatsapp.entrypoints.http.event_stream import EventStreams
from whatsapp.entrypoints.http.metrics import ApiMetrics
from whatsapp.entrypoints.http.responses import Explain

STATE: Final = "tellwire_services"
"""Where the app keeps them while it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointServices:
    """The use cases behind the routes of webhook endpoints."""

    create: CreateEndpoint
    change: ChangeEndpoint
    delete: DeleteEndpoint
    rotate: RotateEndpointSecret
    test: SendTestEvent
    replay: ReplayEvents


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpServices:
    """The use cases behind the routes."""

    authenticate: Authenticate
    begin: BeginWork
    accept_message: AcceptMessage
    accept_batch: AcceptBatch
    accept_graph_message: AcceptGraphMessage
    mark_as_read: MarkAsRead
    read_conversation: ReadConversation
    show_typing: ShowTyping
    cancel_message: CancelMessage
    retry_message: RetryMessage
    retry_dead_letters: RetryDeadLetters
    store_media: StoreMedia
    read_media: ReadMedia
    remove_media: RemoveMedia
    find_graph_media: FindGraphMedia
    explain: Explain
    add_channel: AddChannel
    verify_channel: VerifyChannel
    change_channel: ChangeChannel
    pause_channel: PauseChannel
    resume_channel: ResumeChannel
    rotate_token: RotateToken
    limiter: RateLimiter
    answer_handshake: AnswerHandshake
    receive_webhook: ReceiveWebhook
    endpoints: EndpointServices
    event_streams: EventStreams
    metrics: ApiMetrics


async def services_of(request: Request) -> HttpServices:
    """The services of the app that serves `request`."""
    # A coroutine although it waits for nothing: FastAPI runs plain functions in a thread.
    return cast("HttpServices", getattr(request.app.state, STATE))


Services = Annotated[HttpServices, Depends(services_of)]
