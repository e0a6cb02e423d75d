"""The API process: the HTTP API and webhook intake as one app."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from shared.infrastructure.database import create_session_factory
from shared.infrastructure.http.app import equip
from shared.infrastructure.http.body import BodyLimit
from shared.infrastructure.http.problem import ERROR_REFERENCE, ErrorForm
from shared.infrastructure.observability import HttpMetrics
from shared.infrastructure.redis import RedisClient
from shared.infrastructure.settings import DatabaseRole, Settings
from shared.kernel.secret import Secret
from tellwire import error_reference
from tellwire.database import refuse_other_schema
from tellwire.documentation_page import add_documentation
from tellwire.media import open_store
from tellwire.resources import open_database, open_redis, set_up_encryption
from tenancy.application.authenticate import Authenticate
from tenancy.infrastructure.work import tenancy_work_in
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
from whatsapp.application.media_ports import MediaStore
from whatsapp.application.ports import BeginWork
from whatsapp.application.read_conversation import ReadConversation, ShowTyping
from whatsapp.application.receive_webhook import AnswerHandshake, KnownApps, ReceiveWebhook
from whatsapp.application.replay_events import ReplayEvents
from whatsapp.application.retry_dead_letters import RetryDeadLetters
from whatsapp.application.send_test_event import SendTestEvent
from whatsapp.application.store_media import ReadMedia, RemoveMedia, StoreMedia
from whatsapp.application.stream_events import StreamEvents
from whatsapp.domain.events import AddressPolicy
from whatsapp.domain.rate_limit import RateLimiter
from whatsapp.entrypoints.http import (
    account_events,
    channels,
    contacts,
    conversations,
    dead_letters,
    events,
    graph,
    graph_media,
    media,
    messages,
    webhook_endpoints,
    webhooks,
)
from whatsapp.entrypoints.http.caller import ensure_key
from whatsapp.entrypoints.http.event_stream import EventStreams, Silence
from whatsapp.entrypoints.http.graph_errors import GRAPH_PATH, graph_error_response
from whatsapp.entrypoints.http.metrics import ApiMetrics
from whatsapp.entrypoints.http.operations import Check, Readiness, operations_router
from whatsapp.entrypoints.http.services import STATE, EndpointServices, HttpServices
from whatsapp.entrypoints.http.webhook_intake import WebhookIntake
from whatsapp.infrastructure.cloud_api.client import CloudApiClient, create_http_session
from whatsapp.infrastructure.cloud_api.code_table import advice_for
from whatsapp.infrastructure.cloud_api.webhooks import MAX_BODY_BYTES, signature_matches
from whatsapp.infrastructure.persistence.repositories import (
    RedisRateLimiter,
    SQLAlchemyMetaAppRepository,
    SQLAlchemyWebhookInbox,
)
from whatsapp.infrastructure.persistence.work import work_in

MEBIBYTE: Final = 1024 * 1024
REQUEST_LIMIT: Final = BodyLimit(MEBIBYTE, within=timedelta(seconds=15))
MEDIA_LIMIT: Final = BodyLimit(100 * MEBIBYTE, within=timedelta(minutes=10), is_streamed=True)
BATCH_LIMIT: Final = BodyLimit(8 * MEBIBYTE, within=timedelta(seconds=30))
WEBHOOK_LIMIT: Final = BodyLimit(MAX_BODY_BYTES, within=timedelta(seconds=5), is_signed=True)


ROUTERS: Final = (
    dead_letters.router,  # before messages, whose ids would catch its paths
    messages.router,
    channels.router,
    media.router,
    conversations.router,
    contacts.router,
    webhook_endpoints.router,
    events.router,
    account_events.router,
    webhooks.router,
    graph.router,
    graph_media.router,
)


def body_limit_of(path: str) -> BodyLimit:
    """How much may come in at `path`, and in what time."""
    if path.startswith(f"{webhooks.PREFIX}/"):
        return WEBHOOK_LIMIT
    if path == media.PREFIX or graph_media.UPLOAD_PATH.fullmatch(path):
        return MEDIA_LIMIT
    return BATCH_LIMIT if path == "/v1/messages/batch" else REQUEST_LIMIT


class _Api(FastAPI):
    """The app, and in front of it the short way of webhooks, before anything of FastAPI's runs."""

    def __init__(self, *, metrics: HttpMetrics, trusted_proxies: str, **given: Any) -> None:
        # A redirect would lead to wherever the caller's Host says, with the key and without TLS.
        super().__init__(redirect_slashes=False, **given)
        self._intake = WebhookIntake(
            ProxyHeadersMiddleware(super().__call__, trusted_proxies),  # type: ignore[arg-type]  # its own names of the same types
            services=partial(getattr, self.state, STATE),
            limit_of=body_limit_of,
            metrics=metrics,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._intake(scope, receive, send)


def create_api(settings: Settings) -> FastAPI:
    """The app; it connects when it starts and closes everything when it stops.

    Starting raises Misconfigured where a database role could evade row-level security.
    """
    registry = CollectorRegistry()
    metrics = ApiMetrics(registry)
    readiness = Readiness()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            set_up_encryption(settings)
            engine = await stack.enter_async_context(
                open_database(settings, DatabaseRole.APP, plans_once=True)
            )
            await refuse_other_schema(engine)
            intake = await stack.enter_async_context(
                open_database(settings, DatabaseRole.INTAKE, plans_once=True)
            )
            redis = await stack.enter_async_context(open_redis(settings))
            http = await stack.enter_async_context(create_http_session())
            client = CloudApiClient(
                http, base_url=settings.graph_base_url, version=settings.graph_version
            )
            limiter, store = RedisRateLimiter(redis), open_store(settings)
            services = _services(settings, engine, intake, client, limiter, store, metrics)
            setattr(app.state, STATE, services)
            async with readiness.watching(_checks(engine, intake, redis)):
                yield

    http_metrics = HttpMetrics(registry)
    app = _Api(
        metrics=http_metrics,
        trusted_proxies=settings.trusted_proxies,
        title="Tellwire",
        summary="Self-hosted, multi-tenant WhatsApp Business messaging",
        version=version("tellwire"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    for router in ROUTERS:
        app.include_router(router)
    token = _secret(settings.metrics_token)
    app.include_router(operations_router(readiness, registry, metrics_token=token))
    _add_pages(app)
    equip(app, metrics=http_metrics, limit_of=body_limit_of, admit=_admit, form_of=_form_of)
    return app


def _secret(setting: SecretStr | None) -> Secret | None:
    return None if setting is None else Secret(setting.get_secret_value())


def _add_pages(app: FastAPI) -> None:
    add_documentation(app)
    app.get(ERROR_REFERENCE, include_in_schema=False)(show_errors)


async def show_errors() -> HTMLResponse:
    """What every code means, at the address that problem documents name as their type."""
    return HTMLResponse(error_reference.page())


async def _admit(scope: Scope) -> None:
    """Whoever brings a body brings a key."""
    await ensure_key(getattr(scope["app"].state, STATE), scope)


def _form_of(path: str) -> ErrorForm | None:
    """Clients of Meta's endpoint read Meta's errors."""
    return graph_error_response if GRAPH_PATH.fullmatch(path) else None


def close_streams(app: FastAPI) -> None:
    """End the streams of `app`, which have no end of their own; safe in a signal handler."""
    services: HttpServices | None = getattr(app.state, STATE, None)
    if services is not None:
        services.event_streams.closing = True


def _endpoint_services(settings: Settings, begin: BeginWork) -> EndpointServices:
    policy = AddressPolicy.parse(settings.webhook_allowed_networks)
    return EndpointServices(
        create=CreateEndpoint(begin=begin, policy=policy),
        change=ChangeEndpoint(begin=begin, policy=policy),
        delete=DeleteEndpoint(begin=begin),
        rotate=RotateEndpointSecret(begin=begin),
        test=SendTestEvent(begin=begin),
        replay=ReplayEvents(begin=begin, keep=settings.event_retention),
    )


def _services(
    settings: Settings,
    engine: AsyncEngine,
    intake: AsyncEngine,
    client: CloudApiClient,
    limiter: RateLimiter,
    store: MediaStore,
    metrics: ApiMetrics,
) -> HttpServices:
    sessions = create_session_factory(engine)
    begin = work_in(sessions)
    known_apps = KnownApps(apps=SQLAlchemyMetaAppRepository(sessions))
    return HttpServices(
        authenticate=Authenticate(begin=tenancy_work_in(sessions)),
        begin=begin,
        accept_message=AcceptMessage(begin=begin),
        accept_batch=AcceptBatch(begin=begin),
        accept_graph_message=AcceptGraphMessage(begin=begin),
        mark_as_read=MarkAsRead(begin=begin, receipts=client),
        read_conversation=ReadConversation(begin=begin, receipts=client),
        show_typing=ShowTyping(begin=begin, receipts=client),
        cancel_message=CancelMessage(begin=begin),
        retry_message=RetryMessage(begin=begin),
        retry_dead_letters=RetryDeadLetters(begin=begin),
        store_media=StoreMedia(begin=begin, store=store),
        read_media=ReadMedia(begin=begin, store=store),
        remove_media=RemoveMedia(begin=begin, store=store),
        find_graph_media=FindGraphMedia(begin=begin),
        explain=advice_for,
        add_channel=AddChannel(begin=begin),
        verify_channel=VerifyChannel(begin=begin, directory=client),
        change_channel=ChangeChannel(begin=begin),
        pause_channel=PauseChannel(begin=begin),
        resume_channel=ResumeChannel(begin=begin),
        rotate_token=RotateToken(begin=begin),
        limiter=limiter,
        answer_handshake=AnswerHandshake(known_apps=known_apps),
        receive_webhook=ReceiveWebhook(
            known_apps=known_apps,
            inbox=SQLAlchemyWebhookInbox(intake),
            signature_matches=signature_matches,
        ),
        endpoints=_endpoint_services(settings, begin),
        event_streams=EventStreams(events=StreamEvents(begin=begin), bell=Silence()),
        metrics=metrics,
    )


def _checks(engine: AsyncEngine, intake: AsyncEngine, redis: RedisClient) -> Mapping[str, Check]:
    async def ask(database: AsyncEngine) -> str:
        async with database.connect() as connection:
            # On for what was told so and for every standby alike.
            if await connection.scalar(text("SHOW transaction_read_only")) == "off":
                return ""
            # To a server that was demoted: the next one may lead to the one in its place.
            await connection.invalidate()
            return "takes no writes"

    async def ping() -> str:
        await redis.ping()
        return ""

    return {
        "postgresql": lambda: ask(engine),
        "postgresql as intake": lambda: ask(intake),
        "redis": ping,
    }
