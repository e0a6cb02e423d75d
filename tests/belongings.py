"""One of everything that a tenant can have, so that every route has something to lead to."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from whatsapp.application.applied import Placed
from whatsapp.application.apply_changes import ApplyChanges
from whatsapp.application.apply_inbound import ApplyInbound
from whatsapp.application.apply_statuses import ApplyStatuses
from whatsapp.application.apply_webhook import ApplyWebhook
from whatsapp.application.know_contact import KnowContact
from whatsapp.domain.events import EventType, NewEvent
from whatsapp.domain.media import Media, MediaDirection
from whatsapp.domain.media_type import MediaKind
from whatsapp.domain.value_objects import InboundContent
from whatsapp.domain.webhook import InboundReceived
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_status_errors
from whatsapp.infrastructure.persistence.work import work_in

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(40))


@dataclass(frozen=True, slots=True)
class Belongings:
    """Ids of a tenant's things. The message is a dead letter, and the file has been uploaded."""

    channel_id: UUID
    phone_number_id: str
    message_id: UUID
    conversation_id: UUID
    media_id: UUID
    heard_id: UUID
    """The inbound message that brought a file."""
    provider_media_id: str
    endpoint_id: UUID
    event_id: UUID


async def belongings_of(world: Any, client: httpx.AsyncClient, customer: Any) -> Belongings:
    """Let `customer` have them, by the API where that can be."""

    async def made(path: str, **given: Any) -> UUID:
        answer = await client.post(path, **{"headers": customer.headers} | given)
        assert answer.is_success, answer.text
        return UUID(answer.json()["id"])

    channel = str(customer.channel_id)
    message = {"channel_id": channel, "to": "+4915550000001", "text": {"body": str(new_id())}}
    message_id = await made("/v1/messages", json=message)
    await world.query("DELETE FROM whatsapp_send_queue WHERE id = :id", id=message_id)
    await world.query(
        "UPDATE whatsapp_outbound_messages SET status = 'failed', failure_code = 131026,"
        " failure_title = 'Undeliverable', failure_details = '' WHERE id = :id",
        id=message_id,
    )
    endpoint_id = await made("/v1/webhook-endpoints", json={"url": "https://a.example/x"})
    typed = customer.headers | {"Content-Type": "image/png"}
    media_id = await made("/v1/media", content=PNG + new_id().bytes, headers=typed)
    event_id = await _told(world, customer, endpoint_id)
    await _hear(world, customer)
    heard = await _file(world, customer)
    rows = await world.query(
        "SELECT c.phone_number_id, v.id FROM whatsapp_channels c"
        " JOIN whatsapp_conversations v ON v.channel_id = c.id WHERE c.id = :id",
        id=customer.channel_id,
    )
    return Belongings(
        channel_id=customer.channel_id,
        phone_number_id=rows[0].phone_number_id,
        message_id=message_id,
        conversation_id=rows[0].id,
        media_id=media_id,
        heard_id=heard.message_id,
        provider_media_id=heard.provider_media_id,
        endpoint_id=endpoint_id,
        event_id=event_id,
    )


async def _told(world: Any, customer: Any, endpoint_id: UUID) -> UUID:
    """An event, and an attempt to deliver it."""
    event = NewEvent(
        type=EventType.CHANNEL_PAUSED,
        occurred_at=utc_now(),
        data={},
        channel_id=customer.channel_id,
    )
    async with work_in(world.sessions)(customer.tenant_id) as work:
        await work.events.record(others=[event])
        await work.commit()
    await world.query(
        "INSERT INTO webhook_deliveries VALUES (:t, :d, :e, :v, 'channel.paused', 1, 'retrying',"
        " 500, NULL, 'no', 12, now(), now())",
        t=customer.tenant_id,
        d=new_id(),
        e=endpoint_id,
        v=event.id,
    )
    return event.id


async def _hear(world: Any, customer: Any) -> None:
    """A person wrote, so that there are a contact and a conversation."""
    apply = ApplyWebhook(
        begin=work_in(world.sessions),
        statuses=ApplyStatuses(judge=outcome_of_status_errors),
        inbound=ApplyInbound(),
        changes=ApplyChanges(),
        followers=[KnowContact()],
    )
    heard = InboundReceived(
        waba_id="1",
        phone_number_id="1",
        wamid=f"wamid.heard.{new_id()}",
        wa_id="4915112345678",
        user_id=None,
        previous_user_id=None,
        profile_name="Carla",
        username=None,
        group_id=None,
        sent_at=utc_now(),
        content=InboundContent("text", {"body": "Hi"}),
        context_wamid=None,
        errors=(),
        raw={},
    )
    await apply(Route(customer.tenant_id, customer.channel_id), [Placed(new_id(), heard)])


async def _file(world: Any, customer: Any) -> Media:
    """A file that a person sent, and that is still to be fetched."""
    media = Media(
        tenant_id=customer.tenant_id,
        direction=MediaDirection.INBOUND,
        kind=MediaKind.DOCUMENT,
        channel_id=customer.channel_id,
        message_id=new_id(),
        provider_media_id=str(new_id().int)[-15:],
        mime_type="application/pdf",
    )
    async with work_in(world.sessions)(customer.tenant_id) as work:
        await work.media.expect(media)
        await work.commit()
    return media
