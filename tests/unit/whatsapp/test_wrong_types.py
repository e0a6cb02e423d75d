"""What is no value of its type is refused by name when it is given, not somewhere inside."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from shared.kernel.errors import InvalidInput
from tenancy.domain import Tenant
from whatsapp.domain.entities import Channel, InboundMessage, OutboundMessage
from whatsapp.domain.value_objects import (
    AccessToken,
    IdempotencyKey,
    InboundContent,
    MessageContent,
    PhoneNumber,
    UserId,
)

CANARY = "canary"
NAIVE = datetime(2026, 11, 23)  # noqa: DTZ001  # as given by who forgot the zone
NUMBER = PhoneNumber("+4915112345678")
OUTBOUND = {
    "tenant_id": UUID(int=1),
    "channel_id": UUID(int=2),
    "recipient": NUMBER,
    "content": MessageContent.text("Hello"),
}
KEYED = {"idempotency_key": IdempotencyKey("order-1")}
INBOUND = {
    "tenant_id": UUID(int=1),
    "channel_id": UUID(int=2),
    "wamid": "wamid.1",
    "content": InboundContent("text", {"body": "Hi"}),
    "sent_at": datetime(2026, 11, 23, tzinfo=UTC),
    "sender": NUMBER,
}
CHANNEL = {
    "tenant_id": UUID(int=1),
    "name": "Orders",
    "phone_number_id": "1",
    "access_token": AccessToken("EAAG"),
}
WRONG = [
    (OutboundMessage, OUTBOUND, "recipient", CANARY, "invalid_recipient"),
    (OutboundMessage, OUTBOUND, "content", CANARY, "invalid_content"),
    (OutboundMessage, OUTBOUND, "idempotency_key", CANARY, "invalid_idempotency_key"),
    (OutboundMessage, OUTBOUND, "metadata", CANARY, "invalid_metadata"),
    (OutboundMessage, OUTBOUND, "metadata", {CANARY: 7}, "invalid_metadata"),
    (OutboundMessage, OUTBOUND, "metadata", {7: CANARY}, "invalid_metadata"),
    (OutboundMessage, OUTBOUND, "send_at", CANARY, "invalid_schedule"),
    (OutboundMessage, OUTBOUND, "expires_at", 7, "invalid_schedule"),
    (OutboundMessage, OUTBOUND, "created_at", CANARY, "invalid_schedule"),
    (OutboundMessage, OUTBOUND | KEYED, "created_at", NAIVE, "invalid_schedule"),
    (OutboundMessage, OUTBOUND | KEYED, "send_at", NAIVE, "invalid_schedule"),
    (OutboundMessage, OUTBOUND, "priority", "high", "invalid_input"),
    (OutboundMessage, OUTBOUND, "envelope", CANARY, "invalid_input"),
    (InboundMessage, INBOUND, "wamid", 7, "invalid_input"),
    (InboundMessage, INBOUND, "content", CANARY, "invalid_input"),
    (InboundMessage, INBOUND, "sent_at", CANARY, "invalid_input"),
    (InboundMessage, INBOUND, "sent_at", NAIVE, "invalid_input"),
    (InboundMessage, INBOUND, "sender", CANARY, "invalid_input"),
    (InboundMessage, INBOUND, "sender_user_id", CANARY, "invalid_input"),
    (InboundMessage, INBOUND, "raw", CANARY, "invalid_input"),
    (Channel, CHANNEL, "name", 7, "invalid_channel"),
    (Channel, CHANNEL, "phone_number_id", 7, "invalid_channel"),
    (Channel, CHANNEL, "access_token", CANARY, "invalid_channel"),
    (Channel, CHANNEL, "messages_per_second", "80", "invalid_channel"),
    (Channel, CHANNEL, "messages_per_second", 1.5, "invalid_channel"),
    (Tenant, {}, "name", 7, "invalid_tenant"),
]


@pytest.mark.parametrize(("kind", "values", "name", "wrong", "code"), WRONG)
def test_an_entity_names_the_field_and_never_shows_what_was_given(kind, values, name, wrong, code):
    with pytest.raises(InvalidInput) as raised:
        kind(**values | {name: wrong})

    assert (raised.value.code, raised.value.field) == (code, name)
    assert CANARY not in str(raised.value)


@pytest.mark.parametrize("wrong", [7, None, b"canary", ["canary"]])
@pytest.mark.parametrize(
    ("make", "code"),
    [
        (PhoneNumber, "invalid_phone_number"),
        (PhoneNumber.parse, "invalid_phone_number"),
        (PhoneNumber.from_wa_id, "invalid_phone_number"),
        (UserId, "invalid_user_id"),
        (IdempotencyKey, "invalid_idempotency_key"),
        (AccessToken, "invalid_access_token"),
    ],
)
def test_a_value_object_takes_text_alone(make, code, wrong):
    with pytest.raises(InvalidInput) as raised:
        make(wrong)

    assert raised.value.code == code
    assert CANARY not in str(raised.value)
