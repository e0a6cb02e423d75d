"""What a worker counts, on a port of its own; no label speaks of a tenant or of a person."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache, partial
from typing import Any, Final
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.settings import PREFIX, Settings
from shared.kernel.errors import Misconfigured
from whatsapp.application.dispatch_channel import DispatchChannel
from whatsapp.application.in_flight import InFlight
from whatsapp.domain.media import MediaFailure
from whatsapp.domain.media_repository import MediaJob
from whatsapp.domain.repositories import AttemptResult
from whatsapp.domain.send_queue import LANES, Claim
from whatsapp.entrypoints.workers.loop import Loop
from whatsapp.infrastructure.cloud_api.code_table import rule_for
from whatsapp.infrastructure.persistence.repositories import SQLAlchemySendQueue
from whatsapp.infrastructure.persistence.repositories.backlog import SQLAlchemyBacklog

SAMPLE_SECONDS: Final = 5.0
"""Looking walks over the whole queue: often enough for an alert, too seldom to be in the way."""


class WorkerMetrics:
    """Counts what one worker does, and shows what waits for all of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self._claimed = counter(
            "tellwire_entries_claimed", "Queue entries that this worker claimed."
        )
        sends = counter(
            "tellwire_sends",
            "Requests to Meta by what became of them and by the class of Meta's code.",
            ("outcome", "code_class"),
        )
        self._sends = cache(sends.labels)  # To find one takes longer than to count in it.
        self._late = counter(
            "tellwire_outcomes_after_lease",
            "Outcomes that came after this worker had lost its lease; evidence, and no more.",
        )
        slots = counter("tellwire_slots", "Slots of the rate limit by their use.", ("use",))
        self._used, self._forfeited = slots.labels("used"), slots.labels("forfeited")
        self._in_flight = gauge(
            "tellwire_requests_in_flight",
            "Requests to Meta that are about to leave or not answered yet.",
        )
        self._files = counter(
            "tellwire_media_moved",
            "Attempts to fetch or upload a file, by what became of them.",
            ("job", "outcome"),
        )
        self._waiting = gauge(
            "tellwire_queue_entries",
            "Messages of the installation that have not settled, by lane.",
            ("lane",),
        )
        self._lag = gauge(
            "tellwire_queue_lag_seconds",
            "For how long the oldest due message has been due, by lane; paused channels count too.",
            ("lane",),
        )
        self._inbox = gauge("tellwire_inbox_entries", "Webhook bodies to be processed.")
        self._inbox_lag = gauge("tellwire_inbox_lag_seconds", "Age of the oldest such body.")
        self._elements = counter(
            "tellwire_webhook_elements",
            "Elements of webhooks by kind and by what became of them; repetitions are not counted.",
            ("kind", "result"),
        )
        self._live: dict[int, _Watched] = {}

    def element(self, kind: str, result: str, number: int) -> None:
        """Count elements of webhooks."""
        self._elements.labels(kind, result).inc(number)

    def claimed(self, number: int) -> None:
        """Count claimed entries."""
        self._claimed.inc(number)

    def observe(self, result: AttemptResult, held: bool) -> None:  # noqa: FBT001  # a port's form
        """Count what became of one request; what was not sent at all is none."""
        if result.number:
            code = None if result.failure is None else result.failure.code
            kind = "none" if code is None else rule_for(code).kind.value
            self._sends(result.outcome, kind).inc()
            self._used.inc()
            if not held:
                self._late.inc()

    def show(self, in_flight: InFlight) -> None:
        """Show how many requests are under way whenever somebody asks."""
        self._in_flight.set_function(lambda: in_flight.number)

    def moved(self, job: MediaJob, failure: MediaFailure | None) -> None:
        """Count one attempt to move a file."""
        outcome = "moved" if failure is None else failure.value
        self._files.labels(job.kind.value, outcome).inc()

    def dispatcher(self, **given: Any) -> DispatchChannel:
        """A dispatcher that counts here; `given` is all that one needs."""
        made = _Watched(**given)
        made.watch(self)
        return made

    def began(self, dispatcher: "_Watched") -> None:
        """A dispatcher runs."""
        self._live[id(dispatcher)] = dispatcher

    def ended(self, dispatcher: "_Watched") -> None:
        """A dispatcher has run."""
        self._count_forfeited(dispatcher)
        self._live.pop(id(dispatcher), None)

    async def sample(self, backlog: SQLAlchemyBacklog) -> int:
        """Look at what waits; gives 0, so that a loop pauses."""
        for one in self._live.values():
            self._count_forfeited(one)
        for lane, waiting in (await backlog.count_queue()).items():
            self._waiting.labels(lane).set(waiting.entries)
            self._lag.labels(lane).set(waiting.lag.total_seconds())
        inbox = await backlog.count_inbox()
        self._inbox.set(inbox.entries)
        self._inbox_lag.set(inbox.lag.total_seconds())
        return 0

    def _count_forfeited(self, dispatcher: "_Watched") -> None:
        if new := dispatcher.forfeited - dispatcher.counted:
            self._forfeited.inc(new)
            dispatcher.counted += new


class CountedQueue(SQLAlchemySendQueue):
    """The send queue, whose claims are counted."""

    def __init__(self, engine: AsyncEngine, metrics: WorkerMetrics) -> None:
        super().__init__(engine)
        self._metrics = metrics

    async def claim(
        self,
        *,
        tenant_id: UUID,
        channel_id: UUID,
        limit: int,
        lease: timedelta,
        lanes: Sequence[int] = LANES,
        in_order: bool = True,
    ) -> Claim:
        """As the queue does it."""
        entries = await super().claim(
            tenant_id=tenant_id,
            channel_id=channel_id,
            limit=limit,
            lease=lease,
            lanes=lanes,
            in_order=in_order,
        )
        self._metrics.claimed(len(entries))
        return entries


class _Watched(DispatchChannel):
    """A dispatcher that tells when it runs."""

    counted = 0

    def watch(self, metrics: WorkerMetrics) -> None:
        """Tell `metrics`."""
        self._metrics = metrics

    async def run(self) -> int:
        """As the dispatcher does it."""
        self._metrics.began(self)
        try:
            return await super().run()
        finally:
            self._metrics.ended(self)


@asynccontextmanager
async def shown_metrics(
    settings: Settings, dispatch: AsyncEngine, process: AsyncEngine
) -> AsyncGenerator[WorkerMetrics]:
    """Metrics that are shown on their port while the block runs, where the settings name one."""
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    port = settings.worker_metrics_port
    if port is None:
        yield metrics
        return
    try:
        server, thread = start_http_server(port, settings.api_host, registry)
    except OSError:
        raise Misconfigured(
            f"{PREFIX}WORKER_METRICS_PORT: nothing can listen on port {port} of {settings.api_host}"
        ) from None
    backlog = SQLAlchemyBacklog(dispatch=dispatch, process=process)
    stopping = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            sampling = Loop(
                name="sample metrics",
                work=lambda: metrics.sample(backlog),
                pause_seconds=SAMPLE_SECONDS,
            )
            tasks.create_task(sampling.run(stopping))
            yield metrics
            stopping.set()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
