"""Every statement about events, files and webhooks, on hundreds of thousands of them.

By a plan made for its values and by one made for all, which is what processes use (ADR 17).
"""

from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import ResourceClosedError

from plans import TENANT, explain, judge, reads_hardly_more, seed, seeded, sent_in, sent_on
from shared.kernel.clock import utc_now
from shared.kernel.ids import NIL, new_id
from shared.kernel.secret import Secret
from whatsapp.domain.account import AccountEvent, TemplateReported
from whatsapp.domain.events import (
    Answer,
    ClaimedDelivery,
    DeliveryOutcome,
    DeliveryResult,
    EndpointWork,
    EventType,
    MessageProgress,
    NewEvent,
    WebhookEndpoint,
)
from whatsapp.domain.media import Media, MediaDirection, MediaFailure
from whatsapp.domain.media_repository import MediaFilter, MediaJob, MediaJobKind, Stored
from whatsapp.domain.media_type import MediaKind
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.domain.webhook_inbox import InboxEntry, Quarantined
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyAccountRepository,
    SQLAlchemyDeliveryLog,
    SQLAlchemyDeliveryQueue,
    SQLAlchemyEndpointRepository,
    SQLAlchemyEventLog,
    SQLAlchemyMediaQueue,
    SQLAlchemyMediaRepository,
    SQLAlchemyOverdue,
    SQLAlchemyWebhookInbox,
)
from whatsapp.infrastructure.persistence.repositories.webhook_queue import SQLAlchemyWebhookQueue

pytestmark = pytest.mark.postgres

MINUTE = timedelta(minutes=1)
SEED = """
    INSERT INTO event_streams (tenant_id, id, last_number, forgotten_number, is_open)
    SELECT id, id, 1000000, 0, true FROM seed_tenants;
    INSERT INTO events (tenant_id, id, number, type, subject_id, attempt, channel_id, data,
                        occurred_at, recorded_at)
    SELECT tenant_id, id, n, 'message.sent', id, 1, channel_id, '{}', now(),
           now() - interval '40 days' + n * interval '1 second'
    FROM seed_messages;
    INSERT INTO webhook_endpoints (tenant_id, id, url, description, event_types, channel_ids,
                                   format, secret, is_enabled)
    SELECT t.id, md5('w' || t.n || e)::uuid, 'https://a.example', '', '[]', '[]', 'tellwire',
           decode(repeat('00', 60), 'hex'), true
    FROM seed_tenants t CROSS JOIN generate_series(1, 2) e;
    -- One that answers nothing: all that happens to the tenant waits for it.
    INSERT INTO webhook_delivery_queue (tenant_id, id, endpoint_id, event_id, number, order_key,
                                        due_at, attempt, queued_at)
    SELECT s.tenant_id, md5('q' || s.n)::uuid, md5('w' || t.n || 1)::uuid, s.id, s.n,
           md5('k' || s.n / 4)::uuid,
           now() + CASE s.n % 3 WHEN 0 THEN interval '1 hour' ELSE '-1 hour' END, 1, now()
    FROM seed_messages s JOIN seed_tenants t ON t.id = s.tenant_id;
    UPDATE webhook_delivery_queue SET lease_token = md5('lease')::uuid, lease_until = now()
    WHERE id IN (md5('q300')::uuid, md5('q312')::uuid, md5('q336')::uuid);
    INSERT INTO webhook_deliveries (tenant_id, id, endpoint_id, event_id, event_type, attempt,
                                    outcome, excerpt, took_ms, attempted_at)
    SELECT tenant_id, id, endpoint_id, event_id, 'message.sent', 1, 'retrying', '', 1,
           now() - interval '40 days'
    FROM webhook_delivery_queue;
    INSERT INTO whatsapp_media (tenant_id, id, direction, kind, status, channel_id, message_id,
                                provider_media_id, mime_type, size, sha256, created_at, used_at)
    SELECT tenant_id, id, CASE n % 10 WHEN 0 THEN 'outbound' ELSE 'inbound' END, 'image',
           'stored', CASE n % 10 WHEN 0 THEN NULL ELSE channel_id END, id, n::text, 'image/png', 1,
           decode(md5(n::text), 'hex'), now(), now() - n * interval '1 minute'
    FROM seed_messages;
    INSERT INTO whatsapp_media_uploads (tenant_id, id, media_id, channel_id, provider_media_id,
                                        settled_at, expires_at)
    SELECT tenant_id, id, id, channel_id, n::text, now(), now() + interval '20 days'
    FROM seed_messages WHERE n % 10 = 0 AND n % 4 <> 0;
    INSERT INTO whatsapp_media_jobs (tenant_id, id, kind, media_id, channel_id, due_at, lease_token)
    SELECT tenant_id, id, CASE n % 10 WHEN 0 THEN 'upload' ELSE 'fetch' END, id, channel_id,
           now() - interval '1 hour', CASE n WHEN 300 THEN md5('lease')::uuid END
    FROM seed_messages WHERE n % 3 = 0;
    INSERT INTO webhook_inbox (id, app_id, body, received_at)
    SELECT uuidv7(), '1', '{}', now() FROM seed_messages;
    INSERT INTO webhook_digests (digest, seen_at)
    SELECT md5('d' || n)::uuid, now() - n * interval '1 minute' FROM seed_messages;
    INSERT INTO webhook_quarantine (id, inbox_id, app_id, reason, raw, received_at)
    SELECT id, id, '1', 'unknown_number', '{}', now() - n * interval '1 second' FROM seed_messages;
    INSERT INTO whatsapp_account_events
        (tenant_id, id, channel_id, field, digest, raw, subject, came_as, place)
    SELECT tenant_id, id, channel_id, 'account_update', id, '{}', channel_id, id, 0
    FROM seed_messages;
    INSERT INTO whatsapp_templates (tenant_id, id, provider_account_id, name, language)
    SELECT tenant_id, id, '1', n::text, 'en' FROM seed_messages;
"""
CHANNEL, MESSAGE, ENDPOINT, LEASE = seeded("c01"), seeded("m300"), seeded("w01"), seeded("lease")
OTHERS = [seeded(f"m{number}") for number in (300, 312, 336)]
LATER = UUID("80000000-0000-0000-0000-000000000000")
"""Where half of a list has been read."""
PICTURE = seeded("300").bytes
READ = [seeded(f"m{number}") for number in (302, 314, 338)]
MUCH_READ = [seeded(f"m{number}") for number in range(402, 642, 4)]
ENTRY = InboxEntry(MESSAGE, "1", b"{}", 1, LEASE, None)


@pytest.fixture(scope="module")
def seeded_url(module_database) -> str:
    seed(module_database.superuser_url, SEED)
    return module_database.url("tellwire_app")


def progress(message_id: UUID) -> MessageProgress:
    return MessageProgress(
        message_id=message_id, status=MessageStatus.READ, occurred_at=utc_now(), attempt=1
    )


def something() -> NewEvent:
    return NewEvent(
        type=EventType.MESSAGE_RECEIVED, occurred_at=utc_now(), data={}, context_wamid="wamid.300"
    )


def delivered(number: int, outcome: DeliveryOutcome) -> DeliveryResult:
    claimed = ClaimedDelivery(
        tenant_id=TENANT,
        endpoint_id=ENDPOINT,
        id=seeded(f"q{number}"),
        event_id=seeded(f"m{number}"),
        lease_token=LEASE,
        attempt=2,
        queued_at=utc_now(),
    )
    return DeliveryResult(
        claimed=claimed, outcome=outcome, answer=Answer(status=500), at=utc_now(), due_at=utc_now()
    )


def picture(**values: Any) -> Media:
    values.setdefault("direction", MediaDirection.INBOUND)
    return Media(tenant_id=TENANT, kind=MediaKind.IMAGE, **values)


def endpoint() -> WebhookEndpoint:
    return WebhookEndpoint(
        tenant_id=TENANT, id=ENDPOINT, url="https://a.example", secret=Secret("seeded")
    )


def job() -> MediaJob:
    return MediaJob(TENANT, MESSAGE, MediaJobKind.FETCH, MESSAGE, CHANNEL, 1, LEASE)


def account_event() -> AccountEvent:
    return AccountEvent(
        tenant_id=TENANT,
        channel_id=CHANNEL,
        provider_account_id="1",
        field="account_update",
        digest=new_id(),
        raw={"event": "X"},
        subject=CHANNEL,
        came_as=MESSAGE,
        place=1,
    )


def stray() -> Quarantined:
    return Quarantined(
        inbox_id=MESSAGE, app_id="1", reason="unknown", phone_number_id=None, raw=b""
    )


def reported() -> TemplateReported:
    return TemplateReported(name="300", language="en", status="APPROVED")


OF_TENANT = {
    "record progress": (SQLAlchemyEventLog, lambda e: e.record(progress=[*map(progress, READ)])),
    "record much": (SQLAlchemyEventLog, lambda e: e.record(progress=[*map(progress, MUCH_READ)])),
    "record others": (SQLAlchemyEventLog, lambda e: e.record(others=[something()])),
    "load events": (SQLAlchemyEventLog, lambda e: e.load(OTHERS)),
    "list events": (SQLAlchemyEventLog, lambda e: e.list_after(150_000, limit=50)),
    "forget events": (
        SQLAlchemyEventLog,
        lambda e: e.forget(before=utc_now() - timedelta(days=30), limit=50),
    ),
    "record deliveries": (
        SQLAlchemyDeliveryLog,
        lambda d: d.record(
            [
                delivered(300, DeliveryOutcome.DELIVERED),
                delivered(312, DeliveryOutcome.RETRYING),
                delivered(336, DeliveryOutcome.RETRYING),
            ]
        ),
    ),
    "list deliveries": (
        SQLAlchemyDeliveryLog,
        lambda d: d.list_attempts(ENDPOINT, limit=50, before=LATER),
    ),
    "replay some": (
        SQLAlchemyDeliveryLog,
        lambda d: d.replay(endpoint(), event_ids=OTHERS, limit=50, look_at=1000),
    ),
    "replay a time": (
        SQLAlchemyDeliveryLog,
        lambda d: d.replay(
            endpoint(), since=utc_now() - timedelta(days=41), after=9999, limit=50, look_at=1000
        ),
    ),
    "list endpoints": (SQLAlchemyEndpointRepository, lambda e: e.list(limit=50)),
    "get endpoint": (SQLAlchemyEndpointRepository, lambda e: e.get_by_id(ENDPOINT)),
    "note failing": (SQLAlchemyEndpointRepository, lambda e: e.note_failing(ENDPOINT, utc_now())),
    "note working": (SQLAlchemyEndpointRepository, lambda e: e.note_working(ENDPOINT)),
    "disable": (SQLAlchemyEndpointRepository, lambda e: e.disable(ENDPOINT, "gone")),
    "expect a file": (
        SQLAlchemyMediaRepository,
        lambda m: m.expect(picture(channel_id=CHANNEL, provider_media_id="new")),
    ),
    "expect a known file": (
        SQLAlchemyMediaRepository,
        lambda m: m.expect(picture(channel_id=CHANNEL, provider_media_id="300")),
    ),
    "list files": (
        SQLAlchemyMediaRepository,
        lambda m: m.list_media(MediaFilter(), limit=50, before=LATER),
    ),
    "list files of a channel": (
        SQLAlchemyMediaRepository,
        lambda m: m.list_media(MediaFilter(channel_id=CHANNEL), limit=50),
    ),
    "list files of a message": (
        SQLAlchemyMediaRepository,
        lambda m: m.list_media(MediaFilter(message_id=MESSAGE), limit=50),
    ),
    "list files that Meta calls so": (
        SQLAlchemyMediaRepository,
        lambda m: m.list_media(MediaFilter(provider_media_id="302"), limit=50),
    ),
    "find the same file": (
        SQLAlchemyMediaRepository,
        lambda m: m.find_same(PICTURE, "image/png", at=utc_now()),
    ),
    "save a file": (
        SQLAlchemyMediaRepository,
        lambda m: m.save_outbound(
            picture(direction=MediaDirection.OUTBOUND, mime_type="image/png", sha256=PICTURE)
        ),
    ),
    "mark for removal": (SQLAlchemyMediaRepository, lambda m: m.mark_for_removal(MESSAGE)),
    "find files": (SQLAlchemyMediaRepository, lambda m: m.find_many(OTHERS)),
    "record stored": (
        SQLAlchemyMediaRepository,
        lambda m: m.record_stored(job(), Stored(size=1, sha256=b"1", mime_type="image/png")),
    ),
    "record failed": (
        SQLAlchemyMediaRepository,
        lambda m: m.record_failed(job(), MediaFailure.GONE),
    ),
    "record uploaded": (
        SQLAlchemyMediaRepository,
        lambda m: m.record_uploaded(job(), "9", at=utc_now(), expires_at=utc_now() + MINUTE),
    ),
    "postpone": (SQLAlchemyMediaRepository, lambda m: m.postpone(job(), MINUTE)),
    "want uploads": (
        SQLAlchemyMediaRepository,
        lambda m: m.want_uploads(
            CHANNEL, [seeded("m300"), seeded("m360")], at=utc_now(), needed_at=utc_now()
        ),
    ),
    "find uploads": (
        SQLAlchemyMediaRepository,
        lambda m: m.find_uploads(CHANNEL, OTHERS, at=utc_now()),
    ),
    "forget uploads": (SQLAlchemyMediaRepository, lambda m: m.forget_uploads(CHANNEL, OTHERS)),
    "take for removal": (
        SQLAlchemyMediaRepository,
        lambda m: m.take_for_removal(
            before=utc_now() - timedelta(days=7), begun_before=utc_now(), limit=20
        ),
    ),
    "record removed": (SQLAlchemyMediaRepository, lambda m: m.record_removed(OTHERS)),
    "list account events": (
        SQLAlchemyAccountRepository,
        lambda a: a.list_events(limit=50, before=LATER),
    ),
    "list templates": (
        SQLAlchemyAccountRepository,
        lambda a: a.list_templates(limit=50, after=LATER),
    ),
    "keep account events": (
        SQLAlchemyAccountRepository,
        lambda a: a.record_events([account_event()]),
    ),
    "record template": (
        SQLAlchemyAccountRepository,
        lambda a: a.record_template("1", reported(), utc_now()),
    ),
    "find state": (SQLAlchemyAccountRepository, lambda a: a.find_state(CHANNEL)),
}
# Each by the role that may do it, and no other.
OF_ALL_TENANTS = {
    "find deliveries": (
        "tellwire_dispatch",
        lambda e: SQLAlchemyDeliveryQueue(e).find_work(after=(NIL, NIL), limit=100),
    ),
    "claim deliveries": (
        "tellwire_dispatch",
        lambda e: SQLAlchemyDeliveryQueue(e).claim(
            EndpointWork(TENANT, ENDPOINT), limit=20, lease=MINUTE
        ),
    ),
    "claim files": (
        "tellwire_process",
        lambda e: SQLAlchemyMediaQueue(e).claim(limit=20, per_tenant=5, lease=MINUTE),
    ),
    "whose files are old": (
        "tellwire_process",
        lambda e: anext(
            SQLAlchemyOverdue(e).of_files(before=utc_now(), begun_before=utc_now()), None
        ),
    ),
    "whose events are old": (
        "tellwire_process",
        lambda e: anext(SQLAlchemyOverdue(e).of_events(before=utc_now()), None),
    ),
    "append webhooks": ("tellwire_intake", lambda e: SQLAlchemyWebhookInbox(e).append("1", b"n")),
    "claim webhooks": (
        "tellwire_process",
        lambda e: SQLAlchemyWebhookQueue(e).claim(limit=50, lease=MINUTE),
    ),
    "read until": ("tellwire_process", lambda e: SQLAlchemyWebhookQueue(e).read_until()),
    "release webhooks": ("tellwire_process", lambda e: SQLAlchemyWebhookQueue(e).release([ENTRY])),
    "finish webhooks": (
        "tellwire_process",
        lambda e: SQLAlchemyWebhookQueue(e).finish([ENTRY], [stray()], forget=[ENTRY]),
    ),
    "forget digests": (
        "tellwire_process",
        lambda e: SQLAlchemyWebhookQueue(e).forget_older_than(timedelta(days=8), limit=50),
    ),
}


@pytest.mark.parametrize("name", OF_TENANT)
async def test_a_statement_about_events_and_files_reads_what_it_needs(seeded_url, name):
    made, call = OF_TENANT[name]
    caught = await sent_in(seeded_url, lambda session: call(made(session)))
    sent = [one for one in caught if "reserve_events" not in one[0]]

    assert sent
    for one in sent:
        assert judge(await explain(seeded_url, TENANT, one), set()) == []
        assert await reads_hardly_more(seeded_url, one)


@pytest.mark.parametrize("name", OF_ALL_TENANTS)
async def test_a_statement_for_all_tenants_reads_what_it_needs(seeded_url, name):
    role, call = OF_ALL_TENANTS[name]
    url = seeded_url.replace("tellwire_app", role)

    async def without_rows(engine):
        with suppress(ResourceClosedError):  # Of what gives none, where it goes by SQLAlchemy.
            await call(engine)

    sent = await sent_on(url, without_rows)

    assert sent
    for one in sent:
        assert judge(await explain(url, None, one), set()) == []
        assert await reads_hardly_more(url, one)
