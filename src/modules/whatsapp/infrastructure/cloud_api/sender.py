"""Sends the domain's messages through the Cloud API."""

from whatsapp.application.ports import Leave, leave_at_once
from whatsapp.application.send_uploads import heed_lost_upload
from whatsapp.domain.entities import Channel, OutboundMessage
from whatsapp.domain.outcome import Outcome
from whatsapp.infrastructure.cloud_api.callback import callback_data
from whatsapp.infrastructure.cloud_api.client import CloudApiClient, Departure
from whatsapp.infrastructure.cloud_api.payloads import message_payload


class CloudApiSender:
    """The port `Sender`: speaks for each channel with the channel's own token."""

    def __init__(self, client: CloudApiClient) -> None:
        self._client = client

    async def send(
        self,
        channel: Channel,
        message: OutboundMessage,
        attempt: int,
        *,
        leave: Leave = leave_at_once,
    ) -> Outcome:
        """One request, never repeated, that carries the message's id and attempt along."""
        payload = message_payload(
            to=message.recipient,
            content=(
                message.content.with_uploads(message.uploaded)
                if message.uploaded
                else message.content
            ),
            callback_data=callback_data(message_id=message.id, attempt=attempt),
            envelope=message.envelope,
        )
        outcome = await self._client.send(
            phone_number_id=channel.phone_number_id,
            token=channel.access_token,
            payload=payload,
            departure=Departure(leave),
        )
        return heed_lost_upload(message, outcome)
