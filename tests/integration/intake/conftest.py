"""An intake without HTTP: bodies go into the inbox, a processor empties it, tenants are seen."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import asyncpg
import pytest

from shared.infrastructure.database import create_engine
from webhook_bodies import APP
from whatsapp.application.apply_changes import ApplyChanges
from whatsapp.application.apply_inbound import ApplyInbound
from whatsapp.application.apply_statuses import ApplyStatuses
from whatsapp.application.apply_webhook import ApplyWebhook
from whatsapp.application.count_inbound import CountInbound
from whatsapp.application.heed_reports import HeedReports
from whatsapp.application.know_contact import KnowContact
from whatsapp.application.process_webhooks import ProcessWebhooks
from whatsapp.application.record_events import RecordEvents
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.value_objects import MessageContent, PhoneNumber
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_status_errors
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyWebhookInbox
from whatsapp.infrastructure.persistence.repositories.webhook_queue import SQLAlchemyWebhookQueue
from whatsapp.infrastructure.persistence.work import work_in


@dataclass(slots=True)
class Debits:
    """In the limiter's place: how many were counted against which number, at which rate.

    What failures hold back or slow down is the point elsewhere (sending/test_late_failures.py).
    """

    taken: list[tuple[str, int, int]] = field(default_factory=list)

    async def debit(self, phone_number_id: str, count: int, *, rate: int) -> None:
        self.taken.append((phone_number_id, count, rate))

    async def hold(self, phone_number_id: str, span: timedelta) -> None:
        pass

    async def hold_pair(self, phone_number_id: str, recipient: str, span: timedelta) -> None:
        pass

    async def slow_down(self, phone_number_id: str) -> None:
        pass


@dataclass(slots=True)
class Intake:
    """What a test does: `await intake.take_in(body, ...)`, then look."""

    inbox: SQLAlchemyWebhookInbox
    process: ProcessWebhooks
    superuser: Any
    debits: Debits = field(default_factory=Debits)
    followed: list[Any] = field(default_factory=list)
    poison: set[str] = field(default_factory=set)
    counted: dict[tuple[str, str], int] = field(default_factory=dict)

    async def __call__(self, work: Any, route: Any, applied: Any) -> None:
        """As a follower: note what was new, or break at what is poison."""
        del work
        if str(route.tenant_id) in self.poison:
            raise ZeroDivisionError
        for one in applied.inbound:
            if one.received.wamid in self.poison:
                raise ZeroDivisionError
        self.followed.append((route, applied))

    def count(self, kind: str, result: str, number: int) -> None:
        self.counted[kind, result] = self.counted.get((kind, result), 0) + number

    async def take_in(self, *bodies: bytes, app_id: str = APP) -> None:
        """Store bodies and process until nothing is left to claim."""
        for body in bodies:
            await self.inbox.append(app_id, body)
        while await self.process():
            pass

    async def wait_out_leases(self, *, attempts: int = 1) -> None:
        """As if the leases of what could not be stored had run out, after so many attempts."""
        await self.superuser.execute(
            "UPDATE webhook_inbox SET lease_until = now() - interval '1s', attempts = $1", attempts
        )
        while await self.process():
            pass

    async def column(self, query: str, *arguments: Any) -> list[Any]:
        return [row[0] for row in await self.superuser.fetch(query, *arguments)]

    async def inbound(self, customer: Any) -> list[str]:
        """The wamids that a customer has, with repetitions if there were any."""
        return await self.column(
            "SELECT wamid FROM whatsapp_inbound_messages WHERE tenant_id = $1 ORDER BY 1",
            customer.tenant_id,
        )

    async def reports(self, customer: Any) -> list[str]:
        """The statuses that a customer has, as `wamid status`."""
        return await self.column(
            "SELECT wamid || ' ' || status FROM whatsapp_status_events WHERE tenant_id = $1"
            " ORDER BY 1",
            customer.tenant_id,
        )

    async def quarantine(self) -> list[str]:
        return await self.column("SELECT reason FROM webhook_quarantine ORDER BY id")

    async def kept(self, customer: Any) -> list[tuple[str, str | None]]:
        rows = await self.superuser.fetch(
            "SELECT field, reason FROM whatsapp_account_events WHERE tenant_id = $1 ORDER BY id",
            customer.tenant_id,
        )
        return [tuple(row) for row in rows]

    async def channel(self, customer: Any) -> Any:
        row = await self.superuser.fetchrow(
            "SELECT * FROM whatsapp_channels WHERE id = $1", customer.channel.id
        )
        return dict(row) | {"reported": json.loads(row["reported"])}


@pytest.fixture
async def intake(sessions, database, ana, bea) -> AsyncIterator[Intake]:
    engines = [create_engine(database.url(f"tellwire_{role}")) for role in ("intake", "process")]
    superuser = await asyncpg.connect(database.superuser_url.replace("+asyncpg", ""))
    for table in ("webhook_inbox", "webhook_digests", "webhook_quarantine"):
        await superuser.execute(f"DELETE FROM {table}")  # noqa: S608  # our own tables
    # Those of other tests have the same numbers.
    await superuser.execute(
        "UPDATE whatsapp_channels SET verified_at = NULL WHERE tenant_id <> ALL($1)",
        [ana.tenant_id, bea.tenant_id],
    )
    nothing_yet: Any = None
    made = Intake(SQLAlchemyWebhookInbox(engines[0]), nothing_yet, superuser)
    made.process = ProcessWebhooks(
        inbox=SQLAlchemyWebhookQueue(engines[1]),
        parse=parse_webhook,
        apply=ApplyWebhook(
            begin=work_in(sessions),
            statuses=ApplyStatuses(judge=outcome_of_status_errors),
            inbound=ApplyInbound(),
            changes=ApplyChanges(),
            followers=[made],
        ),
        count_inbound=CountInbound(begin=work_in(sessions), limiter=cast("Any", made.debits)),
        heed_reports=HeedReports(
            begin=work_in(sessions),
            limiter=cast("Any", made.debits),
            judge=outcome_of_status_errors,
        ),
        count_elements=made.count,
    )
    yield made
    await superuser.close()
    await asyncio.gather(*(engine.dispose() for engine in engines))


@pytest.fixture
async def account(intake, ana):
    """Ana's channel belongs to the account `waba-1` and has a number to show."""
    await intake.superuser.execute(
        "UPDATE whatsapp_channels SET provider_account_id = 'waba-1',"
        " display_phone_number = '+1 555-078-3881' WHERE id = $1",
        ana.channel.id,
    )
    return ana


@pytest.fixture
def known(intake: Intake) -> Intake:
    """The intake together with what a worker has beside it: who is who."""
    apply = replace(intake.process.apply, followers=[KnowContact(), intake])
    intake.process = replace(intake.process, apply=apply)
    return intake


@pytest.fixture
def left(sessions, superuser) -> Callable[..., Awaitable[UUID]]:
    """`await left(customer, to)`: a message has left, and nobody knows yet what became of it."""

    async def left(customer: Any, to: str = "+16505551234") -> UUID:
        message = OutboundMessage(
            tenant_id=customer.tenant_id,
            channel_id=customer.channel.id,
            recipient=PhoneNumber(to),
            content=MessageContent.text("Hi"),
        )
        async with work_in(sessions)(customer.tenant_id) as work:
            saved = await work.messages.save_outbound(message)
            await work.commit()
        await superuser.execute(
            "UPDATE whatsapp_outbound_messages SET status = 'unknown', attempts = 1 WHERE id = $1",
            saved.id,
        )
        return saved.id

    return left


@pytest.fixture
async def told(intake, sessions, ana):
    """`await told()`: the types of the events that Ana has been told, by the wamid in them."""
    followers = [RecordEvents(), intake]
    intake.process = replace(
        intake.process, apply=replace(intake.process.apply, followers=followers)
    )
    async with work_in(sessions)(ana.tenant_id) as work:
        await work.events.open()
        await work.commit()

    async def told():
        return await intake.column(
            "SELECT type || ' ' || coalesce(data ->> 'wamid', data ->> 'message_id') FROM events"
            " WHERE tenant_id = $1 ORDER BY number",
            ana.tenant_id,
        )

    return told


@pytest.fixture
def both_stored(intake, is_waiting):
    """Have the second body wait for the first, which has stored its first reports and no more."""

    async def both_stored(first: bytes, second: bytes) -> None:
        reached, go = asyncio.Event(), asyncio.Event()
        apply = intake.process.apply
        record = apply.statuses

        async def stopping(work, route, reported, **more):
            fetch = work.messages._fetch

            async def stopping_after(statement, *args):
                rows = await fetch(statement, *args)
                if "whatsapp_status_events" in str(statement) and not reached.is_set():
                    reached.set()
                    await go.wait()
                return rows

            work.messages._fetch = stopping_after
            return await record(work, route, reported, **more)

        stopped = replace(intake.process, apply=replace(apply, statuses=stopping))
        await intake.inbox.append(APP, first)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            processing = tasks.create_task(stopped())
            await reached.wait()
            await intake.inbox.append(APP, second)
            beside = tasks.create_task(intake.process())
            await is_waiting(beside)
            go.set()
        assert (processing.result(), beside.result()) == (1, 1)

    return both_stored
