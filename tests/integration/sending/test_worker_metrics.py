"""What a worker counts, read from its port as Prometheus does it."""

import asyncio
import socket
import urllib.request
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.infrastructure.database import RLSManager, SQLAlchemyUnitOfWork, create_engine
from shared.infrastructure.settings import Settings
from shared.kernel.clock import utc_now
from shared.kernel.errors import Misconfigured
from shared.kernel.ids import new_id
from tellwire.processes import worker_children
from tellwire.worker_metrics import CountedQueue, shown_metrics
from whatsapp.application.record_results import RecordResults
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import AttemptResult
from whatsapp.domain.value_objects import MessageContent, MessageStatus, PhoneNumber, Priority
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMessageRepository
from whatsapp.infrastructure.persistence.repositories.backlog import SQLAlchemyBacklog

pytestmark = pytest.mark.postgres


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
async def engines(database):
    made = [create_engine(database.url(f"tellwire_{role}")) for role in ("dispatch", "process")]
    yield made
    for engine in made:
        await engine.dispose()


async def scraped(port: int) -> dict[tuple[str, ...], float]:
    """Every sample on the port, by its name and labels."""

    def read() -> str:
        url = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:  # our own port
            return answer.read().decode()

    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(await asyncio.to_thread(read))
        for sample in family.samples
    }


async def save(sessions, customer, priority: Priority) -> None:
    async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
        await rls.set_context(tenant_id=customer.tenant_id)
        messages = [
            OutboundMessage(
                tenant_id=customer.tenant_id,
                channel_id=customer.channel.id,
                recipient=PhoneNumber(f"+49151{number:07d}"),
                content=MessageContent.text(f"{priority} {number}"),
                priority=priority,
                created_at=utc_now() - timedelta(minutes=1),
            )
            for number in range(3)
        ]
        await SQLAlchemyMessageRepository(uow.session).save_outbound_many(messages)
        await uow.commit()


def result(outcome: str, code: int | None = None, number: int = 1) -> AttemptResult:
    return AttemptResult(
        message_id=new_id(),
        lease_token=new_id(),
        number=number,
        status=MessageStatus.SENT,
        outcome=outcome,
        started_at=utc_now(),
        finished_at=utc_now(),
        failure=None if code is None else FailureReason(code, "", ""),
    )


async def test_a_worker_shows_what_it_did_and_what_waits(sessions, ana, engines, port) -> None:
    await save(sessions, ana, Priority.HIGH)
    await save(sessions, ana, Priority.BULK)
    settings = Settings(_env_file=None, worker_metrics_port=port)

    async with shown_metrics(settings, *engines) as metrics:
        queue = CountedQueue(engines[0], metrics)
        claimed = await queue.claim(
            tenant_id=ana.tenant_id,
            channel_id=ana.channel.id,
            limit=2,
            lease=timedelta(minutes=1),
        )
        metrics.observe(result("accepted"), True)
        metrics.observe(result("accepted"), False)
        metrics.observe(result("rejected", 131026), True)
        metrics.observe(result("throttled", 130429), True)
        metrics.observe(result("not_sent", number=0), True)
        await metrics.sample(SQLAlchemyBacklog(dispatch=engines[0], process=engines[1]))
        found = await scraped(port)

    assert len(claimed) == 2
    assert found["tellwire_entries_claimed_total",] == 2
    assert found["tellwire_sends_total", "none", "accepted"] == 2
    assert found["tellwire_sends_total", "permanent", "rejected"] == 1
    assert found["tellwire_sends_total", "throttle", "throttled"] == 1
    assert not [name for name in found if "not_sent" in name]
    assert found["tellwire_outcomes_after_lease_total",] == 1
    assert found["tellwire_slots_total", "used"] == 4
    waiting = {lane: found["tellwire_queue_entries", lane] for lane in ("high", "normal", "bulk")}
    assert waiting == {"high": 3, "normal": 0, "bulk": 3}
    assert found["tellwire_queue_entries", "unknown"] == 0
    assert 59 < found["tellwire_queue_lag_seconds", "bulk"] < 120
    assert found["tellwire_queue_lag_seconds", "normal"] == 0
    assert found["tellwire_inbox_entries",] == 0


async def test_forfeited_slots_count_while_a_dispatcher_runs_and_once(engines) -> None:
    async with shown_metrics(Settings(_env_file=None), *engines) as metrics:
        needed = dict.fromkeys(("begin", "reads", "queue", "limiter", "sender"))
        recorder = RecordResults(tenant_id=new_id(), begin=None, late=None)
        dispatcher = metrics.dispatcher(
            tenant_id=recorder.tenant_id, channel_id=new_id(), recorder=recorder, **needed
        )
        slots = metrics._forfeited._value
        metrics.began(dispatcher)
        dispatcher._use.forfeited = 3
        await metrics.sample(SQLAlchemyBacklog(dispatch=engines[0], process=engines[1]))
        assert slots.get() == 3
        dispatcher._use.forfeited = 5
        metrics.ended(dispatcher)
        await metrics.sample(SQLAlchemyBacklog(dispatch=engines[0], process=engines[1]))

    assert slots.get() == 5


async def test_without_a_port_nothing_listens(engines, port) -> None:
    async with shown_metrics(Settings(_env_file=None), *engines):
        with pytest.raises(OSError, match="refused"):
            await scraped(port)


async def test_a_port_that_is_taken_is_named(engines, port) -> None:
    settings = Settings(_env_file=None, worker_metrics_port=port)
    wanted = f"TELLWIRE_WORKER_METRICS_PORT.*{port}"
    with socket.create_server(("127.0.0.1", port)), pytest.raises(Misconfigured, match=wanted):
        async with shown_metrics(settings, *engines):
            pass


def test_each_worker_of_one_machine_has_a_port_of_its_own() -> None:
    children = worker_children(Settings(_env_file=None, worker_metrics_port=9100), 3)
    silent = worker_children(Settings(_env_file=None), 2)

    name = "TELLWIRE_WORKER_METRICS_PORT"
    assert [child.environment[name] for child in children] == ["9100", "9101", "9102"]
    assert all(name not in child.environment for child in silent)
