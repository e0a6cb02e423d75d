"""The worker process: sends, retries, settles and empties the webhook inbox until stopped."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import Final, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database import create_session_factory
from shared.infrastructure.redis import RedisClient
from shared.infrastructure.settings import DatabaseRole, Settings
from shared.kernel.errors import Unavailable
from tellwire.database import refuse_other_schema
from tellwire.events import open_events
from tellwire.garbage import garbage_search, settle_down
from tellwire.media import open_media_work
from tellwire.open_files import allow_many_connections
from tellwire.resources import open_database, open_redis, set_up_encryption
from tellwire.worker_metrics import CountedQueue, WorkerMetrics, shown_metrics
from whatsapp.application.apply_changes import ApplyChanges
from whatsapp.application.apply_inbound import ApplyInbound
from whatsapp.application.apply_statuses import ApplyStatuses
from whatsapp.application.apply_webhook import ApplyWebhook
from whatsapp.application.count_inbound import CountInbound
from whatsapp.application.dispatch_channel import DispatchChannel
from whatsapp.application.dispatch_settings import DispatchSettings
from whatsapp.application.fresh_channel import Readings
from whatsapp.application.gates import Gates
from whatsapp.application.heed_reports import HeedReports
from whatsapp.application.in_flight import InFlight
from whatsapp.application.know_contact import KnowContact
from whatsapp.application.late_failures import LateFailures
from whatsapp.application.ports import BeginWork
from whatsapp.application.process_webhooks import MAX_BODIES, CountElements, ProcessWebhooks
from whatsapp.application.read_together import ReadTogether
from whatsapp.application.record_events import RecordEvents
from whatsapp.application.record_results import Recorders
from whatsapp.application.tend_channel import ExpireUnsent, RetryFailed, SettleUnknown
from whatsapp.domain.rate_limit import RateLimiter
from whatsapp.domain.send_queue import Lease, SendQueue
from whatsapp.entrypoints.workers.loop import Loop
from whatsapp.entrypoints.workers.send_worker import SendWorker
from whatsapp.infrastructure.cloud_api.client import CloudApiClient, create_http_session
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_status_errors
from whatsapp.infrastructure.cloud_api.sender import CloudApiSender
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook
from whatsapp.infrastructure.persistence.repositories import RedisChannelDrivers, RedisRateLimiter
from whatsapp.infrastructure.persistence.repositories.webhook_queue import SQLAlchemyWebhookQueue
from whatsapp.infrastructure.persistence.work import work_in

INBOX_PAUSE_SECONDS: Final = 0.05
"""Between handfuls, unless one was full: what a tenth of it brings costs nearly as much."""
FORGET_PAUSE_SECONDS: Final = 5.0
CONCURRENCY_OF_ALL: Final = 4
"""So many times that of one channel."""

logger = logging.getLogger(__name__)


async def run_worker(settings: Settings, stopping: asyncio.Event) -> None:
    """Work until `stopping` is set; what is under way is finished within the grace period.

    Beyond the grace period it is left: marked messages become `unknown` and are settled by what
    Meta reports about them.
    """
    allow_many_connections()
    async with AsyncExitStack() as stack:
        work = [*await _assemble(settings, stack), garbage_search()]
        settle_down()
        logger.info("worker started")
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(one.run(stopping)) for one in work]
            await stopping.wait()
            _, late = await asyncio.wait(working, timeout=settings.shutdown_grace.total_seconds())
            for task in late:
                task.cancel()


class Runner(Protocol):
    """Something that a worker does all the time."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Do it until `stopping` is set."""
        ...


async def _databases(settings: Settings, stack: AsyncExitStack) -> Sequence[AsyncEngine]:
    """As the application, the dispatcher and the processor of webhooks."""
    engines = [
        await stack.enter_async_context(open_database(settings, role, plans_once=True))
        for role in (DatabaseRole.APP, DatabaseRole.DISPATCH, DatabaseRole.PROCESS)
    ]
    await refuse_other_schema(engines[0])
    return engines


async def _assemble(settings: Settings, stack: AsyncExitStack) -> Sequence[Runner]:
    set_up_encryption(settings)
    app, dispatch, process = await _databases(settings, stack)
    redis = await stack.enter_async_context(open_redis(settings))
    lease, gates, rng = Lease(settings.lease), Gates(), Random()  # noqa: S311  # for turns, waits
    in_flight = InFlight(most=CONCURRENCY_OF_ALL * settings.worker_concurrency)
    begin = gates.between(work_in(create_session_factory(app)))
    metrics = await stack.enter_async_context(shown_metrics(settings, dispatch, process))
    queue, limiter = CountedQueue(dispatch, metrics), await _limiter(redis)
    client = await _client(settings, lease, in_flight, stack)
    choices, readings, reads = _choices(settings, lease), Readings(), ReadTogether(begin=begin)
    recorders = _recorders(stack, begin, limiter, metrics, in_flight)

    def dispatcher(tenant_id: UUID, channel_id: UUID) -> DispatchChannel:
        return metrics.dispatcher(
            rng=rng,
            gates=gates,
            readings=readings,
            tenant_id=tenant_id,
            channel_id=channel_id,
            begin=begin,
            reads=reads,
            queue=queue,
            limiter=limiter,
            recorder=recorders.of(tenant_id),
            sender=CloudApiSender(client),
            settings=choices,
        )

    send = SendWorker(
        queue=queue,
        dispatch=dispatcher,
        drivers=RedisChannelDrivers(redis),
        retry=RetryFailed(begin=begin),
        settle=_settle_unknown(settings, begin, queue, process),
        expire=ExpireUnsent(begin=begin),
    )
    webhooks = _webhooks(
        process, begin, limiter, lease, stretch=send.stretch, count=metrics.element, look=gates.look
    )
    media = await stack.enter_async_context(
        open_media_work(settings, begin, process, stretch=send.stretch, moved=metrics.moved)
    )
    events = await open_events(settings, stack, dispatch=dispatch, process=process)
    return [send, *webhooks, media.worker, media.clean_up, *events]


async def _client(
    settings: Settings, lease: Lease, in_flight: InFlight, stack: AsyncExitStack
) -> CloudApiClient:
    """Whatever is under way has a connection of its own."""
    session = create_http_session(total_timeout=lease.to_answer, max_connections=in_flight.most)
    http = await stack.enter_async_context(session)
    return CloudApiClient(http, base_url=settings.graph_base_url, version=settings.graph_version)


def _settle_unknown(
    settings: Settings, begin: BeginWork, queue: SendQueue, process: AsyncEngine
) -> SettleUnknown:
    return SettleUnknown(
        begin=begin,
        queue=queue,
        inbox=SQLAlchemyWebhookQueue(process),
        unknown_for=settings.unknown_deadline,
        lease=Lease(settings.lease),
    )


async def _limiter(redis: RedisClient) -> RedisRateLimiter:
    limiter = RedisRateLimiter(redis)
    with suppress(Unavailable):  # Then the server is met with the first message.
        await limiter.meet_server()
    return limiter


def _recorders(
    stack: AsyncExitStack,
    begin: BeginWork,
    limiter: RateLimiter,
    metrics: WorkerMetrics,
    in_flight: InFlight,
) -> Recorders:
    metrics.show(in_flight)
    late = LateFailures.judged(outcome_of_status_errors, begin=begin, limiter=limiter)
    recorders = Recorders(begin=begin, late=late, observe=metrics.observe, in_flight=in_flight)
    stack.push_async_callback(recorders.stop)
    return recorders


def _choices(settings: Settings, lease: Lease) -> DispatchSettings:
    return DispatchSettings(
        lease=lease,
        unknown_for=settings.unknown_deadline,
        max_in_flight=settings.worker_concurrency,
    )


def _webhooks(
    process: AsyncEngine,
    begin: BeginWork,
    limiter: RateLimiter,
    lease: Lease,
    *,
    stretch: Callable[[], float],
    count: CountElements,
    look: Callable[[], None],
) -> tuple[Loop, Loop]:
    inbox = ProcessWebhooks(
        inbox=SQLAlchemyWebhookQueue(process),
        parse=parse_webhook,
        apply=ApplyWebhook(
            begin=begin,
            statuses=ApplyStatuses(judge=outcome_of_status_errors),
            inbound=ApplyInbound(),
            changes=ApplyChanges(),
            # Events last: recording them holds the tenant's lock until the end.
            followers=[KnowContact(), RecordEvents()],
        ),
        count_inbound=CountInbound(begin=begin, limiter=limiter),
        heed_reports=HeedReports(begin=begin, limiter=limiter, judge=outcome_of_status_errors),
        count_elements=count,
        look=look,
        lease=lease.length,
    )
    process_loop = Loop(
        name="process webhooks",
        work=inbox,
        pause_seconds=INBOX_PAUSE_SECONDS,
        enough=MAX_BODIES,
        stretch=stretch,
    )
    forget = Loop(name="forget bodies", work=inbox.forget, pause_seconds=FORGET_PAUSE_SECONDS)
    return process_loop, forget
