"""Texts that would be SQL if anybody pasted them into a statement: they stay texts."""

import pytest
from sqlalchemy import text

from shared.kernel.clock import utc_now
from shared.kernel.errors import TellwireError
from whatsapp.domain.entities import Channel
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import StatusReport
from whatsapp.domain.value_objects import (
    AccessToken,
    IdempotencyKey,
    InboundContent,
    MessageContent,
    MessageStatus,
)

pytestmark = pytest.mark.postgres


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


def probes(other):
    """What somebody would try who wants to be the tenant `other` for one statement."""
    switch = f"set_config('app.jwt_tenant','{other}',true)"
    return [
        f"' OR {switch} IS NOT NULL --",
        f"'||(SELECT/**/{switch})||'",
        f"x'/**/UNION/**/SELECT/**/{switch}/**/--",
        f"$$;SELECT/**/{switch};--",
        f"\\';SELECT/**/{switch};--",
        "'; RESET ROLE; --",
        "%(tenant)s",
        ":tenant",
        "$1",
        "\\",
        "%",
        "_",
        "')",
        "\N{MODIFIER LETTER APOSTROPHE} OR 1=1",
    ]


async def still_served(desk, customer):
    assert await desk.uow.session.scalar(text("SELECT current_setting('app.jwt_tenant')")) == str(
        customer.tenant_id
    )
    seen = await desk.uow.session.execute(text("SELECT tenant_id FROM whatsapp_channels"))
    assert {row.tenant_id for row in seen} == {customer.tenant_id}


async def test_texts_to_search_by_find_nothing_and_change_nothing(at, ana, bea):
    async with at(ana) as desk:
        for probe in probes(bea.tenant_id):
            assert await desk.channels.get_by_phone_number_id(probe) is None
            assert await desk.messages.get_outbound_by_wa_id(probe) is None
            assert await desk.messages.get_inbound_by_wa_id(probe) is None
            key = probe.replace(" ", "+").encode("ascii", "ignore").decode()
            assert await desk.messages.get_outbound_by_idempotency_key(IdempotencyKey(key)) is None
            await still_served(desk, ana)


async def test_ids_that_are_texts_are_refused(at, ana, bea):
    async with at(ana) as desk:
        for probe in probes(bea.tenant_id):
            for attempt in (
                desk.channels.get_by_id(probe),
                desk.channels.get_by_organization(probe),
                desk.channels.delete(probe),
                desk.channels.list(after=probe),
                desk.messages.get_outbound_by_id(probe),
                desk.messages.load_for_sending([probe]),
                desk.messages.cancel_outbound(probe, utc_now()),
                desk.messages.get_failed_for_retry(limit=probe),
            ):
                with pytest.raises((TellwireError, TypeError, AttributeError)):
                    await attempt
                await desk.uow.rollback()
        await still_served(desk, ana)


async def test_texts_to_store_come_back_as_they_were(at, ana, bea, message, inbound):
    async with at(ana) as desk:
        for number, probe in enumerate(probes(bea.tenant_id)):
            channel = await desk.channels.add(
                Channel(
                    tenant_id=ana.tenant_id,
                    name=probe,
                    phone_number_id=str(number),
                    access_token=AccessToken("EAAG"),
                    pause_reason=probe,
                )
            )
            assert (channel.name, channel.pause_reason) == (probe, probe)
            saved = await desk.messages.save_outbound(
                message(
                    ana, content=MessageContent.text(probe), wamid=probe, metadata={probe: probe}
                )
            )
            (many,) = await desk.messages.save_outbound_many(
                [message(ana, content=MessageContent.text(probe), metadata={probe: probe})]
            )
            assert saved.metadata == many.metadata == {probe: probe}
            assert saved.content == many.content == MessageContent.text(probe)
            heard = await desk.messages.save_inbound(
                inbound(
                    ana,
                    wamid=probe,
                    profile_name=probe,
                    content=InboundContent("text", {"body": probe}),
                    raw={probe: probe},
                )
            )
            assert (heard.wamid, heard.profile_name, heard.raw) == (probe, probe, {probe: probe})
            await still_served(desk, ana)


async def test_texts_of_metas_reports_and_answers_are_values(at, ana, bea, message, superuser):
    async with at(ana) as desk:
        for probe in probes(bea.tenant_id):
            saved = await desk.messages.save_outbound(message(ana))
            told = StatusReport(
                wamid=probe,
                status=MessageStatus.FAILED,
                occurred_at=utc_now(),
                message_id=saved.id,
                failure=FailureReason(1, probe, probe),
                errors=[{"title": probe}],
                pricing={probe: probe},
            )
            recorded = await desk.messages.record_statuses(ana.channel.id, [told])
            assert (recorded.kept, recorded.moved) == (1, 1)
            found = await desk.messages.get_outbound_by_id(saved.id)
            assert found.failure == FailureReason(1, probe, probe)
            await still_served(desk, ana)
    assert (
        await superuser.fetchval(
            "SELECT count(*) FROM whatsapp_outbound_messages WHERE tenant_id = $1", bea.tenant_id
        )
        == 0
    )
