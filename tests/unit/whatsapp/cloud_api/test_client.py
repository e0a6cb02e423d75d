import asyncio

import pytest
from aiohttp import ClientConnectionResetError
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from shared.kernel.ids import new_id
from whatsapp.domain.entities import Channel, OutboundMessage
from whatsapp.domain.outcome import Accepted
from whatsapp.domain.value_objects import AccessToken, MessageContent, PhoneNumber
from whatsapp.infrastructure.cloud_api.client import CloudApiClient, Departure, _Body
from whatsapp.infrastructure.cloud_api.sender import CloudApiSender


class FakeTransport(asyncio.Transport):
    """A transport that remembers what was written, and may be closing."""

    def __init__(self, *, closing):
        super().__init__()
        self.written = b""
        self._closing = closing

    def is_closing(self):
        return self._closing

    def write(self, data):
        self.written += data


async def _write(transport):
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol.connection_made(transport)
    writer = StreamWriter(protocol, loop)
    await writer.write_headers("POST / HTTP/1.1", CIMultiDict(Host="x"))
    departure = Departure()
    assert transport.written == b"", "the headers wait for the body"
    return writer, departure, _Body(b"{}", departure)


async def test_headers_and_body_leave_together_and_the_body_notes_it():
    transport = FakeTransport(closing=False)
    writer, departure, body = await _write(transport)

    await body.write_with_length(writer, 2)

    assert departure.has_left
    assert transport.written.startswith(b"POST / HTTP/1.1\r\n")
    assert transport.written.endswith(b"\r\n\r\n{}")


async def test_nothing_leaves_by_a_connection_that_closed_before_the_first_byte():
    transport = FakeTransport(closing=True)
    writer, departure, body = await _write(transport)

    with pytest.raises(ClientConnectionResetError):
        await body.write_with_length(writer, 2)

    assert not departure.has_left
    assert transport.written == b""


class RecordingClient(CloudApiClient):
    """A client that keeps what it is given to send."""

    def __init__(self):
        self.sent = []

    async def send(self, **given):
        self.sent.append(given)
        return Accepted("wamid.X")


async def test_a_message_is_sent_by_its_channel_with_its_id_and_attempt():
    channel = Channel(
        tenant_id=new_id(),
        name="shop",
        phone_number_id="106540352242922",
        access_token=AccessToken("EAAG-channel"),
    )
    message = OutboundMessage(
        tenant_id=channel.tenant_id,
        channel_id=channel.id,
        recipient=PhoneNumber("+16505551234"),
        content=MessageContent.text("hi"),
    )
    client = RecordingClient()

    outcome = await CloudApiSender(client).send(channel, message, 3)

    assert outcome == Accepted("wamid.X")
    (given,) = client.sent
    assert given["phone_number_id"] == channel.phone_number_id
    assert given["token"] == channel.access_token
    assert given["payload"]["to"] == "+16505551234"
    assert given["payload"]["biz_opaque_callback_data"] == f"tw1.{message.id.hex}.3"
