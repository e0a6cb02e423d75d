"""Whatever an entity holds comes back from PostgreSQL as it was, field by field."""

import string
from dataclasses import fields, replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.kernel.ids import new_id
from shared.kernel.secret import Secret
from whatsapp.domain.account import AccountEvent
from whatsapp.domain.conversation import Conversation
from whatsapp.domain.entities import (
    Channel,
    ChannelStatus,
    MarketingPolicy,
    UnknownPolicy,
    WindowPolicy,
)
from whatsapp.domain.events import EndpointFormat, EventType, WebhookEndpoint
from whatsapp.domain.media import Media, MediaDirection, MediaStatus
from whatsapp.domain.media_type import MediaKind
from whatsapp.domain.value_objects import AccessToken, PhoneNumber, UserId
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyAccountRepository,
    SQLAlchemyChannelRepository,
    SQLAlchemyConversationRepository,
    SQLAlchemyEndpointRepository,
    SQLAlchemyMediaRepository,
)

pytestmark = pytest.mark.postgres

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
SOME = TEXT.filter(str.strip)
VISIBLE = st.text(string.ascii_letters + string.digits + "|-_.", min_size=1, max_size=60)
TIMES = st.datetimes(datetime(2009, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # the zone is beside it
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
IDS = st.builds(new_id)
SECRETS = st.builds(Secret, VISIBLE)
VALUES = {
    Channel: {
        "name": SOME,
        "phone_number_id": st.integers(1, 10**15).map(str),
        "access_token": st.builds(AccessToken, VISIBLE),
        "provider_account_id": st.none() | VISIBLE,
        "app_id": st.none() | VISIBLE,
        "display_phone_number": st.none() | TEXT,
        "status": st.sampled_from(ChannelStatus),
        "messages_per_second": st.integers(1, 1000),
        "keeps_order": st.booleans(),
        "window_policy": st.sampled_from(WindowPolicy),
        "marketing_policy": st.sampled_from(MarketingPolicy),
        "on_unknown": st.sampled_from(UnknownPolicy),
        "quality_rating": st.none() | TEXT,
        "pause_reason": st.none() | TEXT,
        "verified_at": st.none() | TIMES,
    },
    Media: {
        "direction": st.sampled_from(MediaDirection),
        "kind": st.sampled_from(MediaKind),
        "status": st.sampled_from(MediaStatus),
        "channel_id": st.none(),
        "message_id": st.none() | IDS,
        "provider_media_id": st.none() | VISIBLE,
        "mime_type": st.none() | TEXT,
        "filename": st.none() | TEXT,
        "size": st.none() | st.integers(0, 2**40),
        "sha256": st.binary(min_size=32, max_size=32),
        "failure": st.none() | TEXT,
        "created_at": TIMES,
        "used_at": st.none() | TIMES,
    },
    Conversation: {
        "phone": st.none() | st.just(PhoneNumber("+4915112345678")),
        "user_id": st.none() | st.just(UserId("DE.0123456789")),
        "profile_name": st.none() | TEXT,
        "username": st.none() | TEXT,
        "last_inbound_at": st.none() | TIMES,
        "last_outbound_at": st.none() | TIMES,
        "unread_count": st.integers(0, 10**6),
        "last_message_id": st.none() | IDS,
        "last_message_at": st.none() | TIMES,
        "marketing_stopped": st.booleans(),
        "marketing_at": st.none() | TIMES,
    },
    AccountEvent: {
        "channel_id": st.none(),
        "provider_account_id": st.none() | TEXT,
        "field": TEXT,
        "digest": IDS,
        "raw": JSON,
        "reason": st.none() | TEXT,
        "reported_at": st.none() | TIMES,
        "subject": st.none() | IDS,
        "came_as": st.none() | IDS,
        "place": st.none() | st.integers(0, 10**6),
    },
    WebhookEndpoint: {
        "url": SOME,
        "secret": SECRETS,
        "description": TEXT,
        "event_types": st.frozensets(st.sampled_from(EventType)),
        "channel_ids": st.frozensets(IDS, max_size=3),
        "format": st.sampled_from(EndpointFormat),
        "previous_secret": st.none() | SECRETS,
        "previous_secret_until": st.none() | TIMES,
        "is_enabled": st.booleans(),
        "disabled_reason": st.none() | TEXT,
        "failing_since": st.none() | TIMES,
    },
}
REPOSITORIES = {
    Channel: SQLAlchemyChannelRepository,
    Media: SQLAlchemyMediaRepository,
    Conversation: SQLAlchemyConversationRepository,
    AccountEvent: SQLAlchemyAccountRepository,
    WebhookEndpoint: SQLAlchemyEndpointRepository,
}
# PostgreSQL's own to fill, or another method's: when it was stored, and how long a number rests.
NOT_GIVEN = {
    Channel: {"created_at", "updated_at", "rests_until"},
    Media: set[str](),
    Conversation: {"created_at", "channel_id"},
    AccountEvent: {"received_at"},
    WebhookEndpoint: {"created_at", "updated_at"},
}
KEPT_BY_UPDATE = {"created_at"}


def shown(entity, but=()):
    """Every field that was given, secrets opened."""
    values = {one.name: getattr(entity, one.name) for one in fields(entity)}
    left_out = NOT_GIVEN[type(entity)] | set(but)
    return {
        name: value.reveal() if isinstance(value, Secret) else value
        for name, value in values.items()
        if name not in left_out
    }


def test_no_field_of_an_entity_is_left_out_here() -> None:
    for kind, values in VALUES.items():
        assert {one.name for one in fields(kind)} == values.keys() | NOT_GIVEN[kind] | {
            "id",
            "tenant_id",
        }


@pytest.mark.parametrize("kind", VALUES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
async def test_what_is_stored_and_overwritten_comes_back_as_it_was(at, ana, kind, data) -> None:
    def draw(entity_id: UUID):
        values = data.draw(st.fixed_dictionaries(VALUES[kind]))
        more = {"channel_id": ana.channel.id} if kind is Conversation else {}
        return kind(tenant_id=ana.tenant_id, id=entity_id, **values | more)

    one, other = draw(ident := new_id()), draw(ident)
    async with at(ana) as desk:
        repository = REPOSITORIES[kind](desk.uow.session)
        added = await repository.add(one)
        assert shown(added) == shown(one)
        found = await repository.get_by_id(ident)
        assert shown(found) == shown(one)

        changed = await repository.update(other)
        assert shown(changed, KEPT_BY_UPDATE) == shown(other, KEPT_BY_UPDATE)
        assert await repository.get_by_id(ident) == replace(changed)
        await desk.uow.rollback()
