"""What is given to a repository is looked at first: the transaction it belongs to goes on."""

from datetime import datetime

import pytest

from shared.infrastructure.database.driver_errors import InvalidValue
from shared.kernel.clock import utc_now
from tenancy.infrastructure.repositories import SQLAlchemyApiKeyRepository
from whatsapp.domain.media import Media, MediaDirection
from whatsapp.domain.media_type import MediaKind
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyChannelRepository,
    SQLAlchemyEndpointRepository,
    SQLAlchemyMediaRepository,
    SQLAlchemyMessageRepository,
)

pytestmark = pytest.mark.postgres

CANARY = "canary"
NAIVE = datetime(2026, 11, 23)  # noqa: DTZ001  # as given by who forgot the zone
MESSAGES, CHANNELS = SQLAlchemyMessageRepository, SQLAlchemyChannelRepository
NO_BASE = (SQLAlchemyApiKeyRepository, SQLAlchemyEndpointRepository)
AT = {"at": utc_now()}
CALLS = [
    *((MESSAGES, name, {}) for name in ("save_outbound", "save_inbound", "add", "update")),
    *((MESSAGES, name, {}) for name in ("update_outbound", "get_outbound_by_idempotency_key")),
    *((MESSAGES, name, {}) for name in ("get_outbound_by_id", "save_outbound_many", "delete")),
    *((MESSAGES, name, AT) for name in ("accept_outbound", "refusals", "send_again")),
    *((MESSAGES, name, {}) for name in ("count_alike", "load_for_sending", "record_attempts")),
    *((CHANNELS, name, {}) for name in ("get_by_id", "find", "get_by_organization", "add")),
    *((CHANNELS, name, {}) for name in ("update", "delete")),
    *((kind, name, {}) for kind in NO_BASE for name in ("get_by_id", "add", "update", "delete")),
]


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


async def refuse(open_desk, ana, message, kind, name, *args, **kwargs):
    """The call is refused, shows nothing of what was given, and what was stored before stays."""
    kept = message(ana)
    async with open_desk(ana) as desk:
        await desk.messages.save_outbound(kept)
        with pytest.raises(InvalidValue) as raised:
            await getattr(kind(desk.uow.session), name)(*args, **kwargs)
    async with open_desk(ana) as desk:
        assert await desk.messages.get_outbound_by_id(kept.id) == kept
    assert CANARY not in repr((raised.value, raised.value.__cause__, raised.value.__context__))


@pytest.mark.parametrize("wrong", [CANARY, 7, b"canary", {"canary": 1}], ids=repr)
@pytest.mark.parametrize(("kind", "name", "others"), CALLS)
async def test_an_argument_of_another_type_is_refused(at, ana, message, kind, name, others, wrong):
    await refuse(at, ana, message, kind, name, wrong, **others)


@pytest.mark.parametrize("name", ["save_outbound_many", "record_attempts", "load_for_sending"])
async def test_one_element_of_another_type_fails_the_batch_and_nothing_of_it_is_stored(
    at, ana, message, name
):
    first = message(ana)
    await refuse(at, ana, message, MESSAGES, name, [first, CANARY])
    async with at(ana) as desk:
        assert await desk.messages.get_outbound_by_id(first.id) is None


@pytest.mark.parametrize("wrong", [CANARY, -1, None])
@pytest.mark.parametrize(
    ("kind", "name"),
    [(MESSAGES, "get_failed_for_retry"), *((kind, "list") for kind in (MESSAGES, *NO_BASE))],
)
async def test_a_limit_is_a_number_of_rows(at, ana, message, kind, name, wrong):
    await refuse(at, ana, message, kind, name, limit=wrong)


async def test_a_page_begins_behind_an_id(at, ana, message):
    await refuse(at, ana, message, CHANNELS, "list", after=CANARY)


async def test_a_number_is_looked_for_by_its_text(at, ana, message):
    await refuse(at, ana, message, CHANNELS, "get_by_phone_number_id", 7)


async def test_reports_are_reports(at, ana, message):
    await refuse(at, ana, message, MESSAGES, "record_statuses", ana.channel.id, [CANARY])
    await refuse(at, ana, message, MESSAGES, "expect_answers", ana.channel.id, CANARY)


async def test_a_time_without_its_zone_is_not_taken_for_one_of_this_machine(at, ana, message):
    media = Media(tenant_id=ana.tenant_id, direction=MediaDirection.OUTBOUND, kind=MediaKind.IMAGE)
    ana.channel.verified_at = media.used_at = NAIVE
    await refuse(at, ana, message, CHANNELS, "update", ana.channel)
    for name in ("add", "expect", "save_outbound"):
        await refuse(at, ana, message, SQLAlchemyMediaRepository, name, media)
    stored = message(ana)
    stored.advance(MessageStatus.SENDING, NAIVE)
    await refuse(at, ana, message, MESSAGES, "update_outbound", stored)


async def test_text_never_becomes_a_channels_token(at, ana, message):
    ana.channel.access_token = CANARY
    await refuse(at, ana, message, CHANNELS, "update", ana.channel)
