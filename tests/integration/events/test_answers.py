"""What a customer answers or reacts to of ours is told by our id, and by the id that we gave."""

import pytest

from webhook_bodies import body, inbound_to
from whatsapp.application.applied import Placed
from whatsapp.application.apply_changes import ApplyChanges
from whatsapp.application.apply_inbound import ApplyInbound
from whatsapp.application.apply_statuses import ApplyStatuses
from whatsapp.application.apply_webhook import ApplyWebhook
from whatsapp.application.record_events import RecordEvents
from whatsapp.domain.events.body import meta_body
from whatsapp.domain.value_objects import given_wamid
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_status_errors
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook

pytestmark = pytest.mark.postgres

ANSWERS = {
    "a quote": ({"context": {"id": "wamid.ours", "from": "15550783881"}}, ("context", "id")),
    "a reaction": (
        {"type": "reaction", "reaction": {"message_id": "wamid.ours", "emoji": "+"}},
        ("reaction", "message_id"),
    ),
    "a reaction taken back": (
        {"type": "reaction", "reaction": {"message_id": "wamid.ours"}},
        ("reaction", "message_id"),
    ),
}


@pytest.fixture
def hear(begin, ana):
    """Take in what a customer of Ana's wrote; gives the event that tells of it."""
    apply = ApplyWebhook(
        begin=begin,
        statuses=ApplyStatuses(judge=outcome_of_status_errors),
        inbound=ApplyInbound(),
        changes=ApplyChanges(),
        followers=[RecordEvents()],
    )

    async def hear(said):
        async with begin(ana.tenant_id) as work:
            await work.events.open()
            await work.commit()
        elements = parse_webhook(body(inbound_to(ana, **said))).elements
        route = Route(ana.tenant_id, ana.channel.id)
        await apply(route, [Placed(None, element) for element in elements])
        async with begin(ana.tenant_id) as work:
            (event,) = await work.events.list_after(0, limit=10)
        return event

    return hear


@pytest.mark.parametrize("name", ANSWERS)
async def test_it_names_our_message_in_both_forms(ana, sent, set_status, hear, name) -> None:
    said, (at, key) = ANSWERS[name]
    ours = await sent(ana)
    await set_status(ours, "read", wamid="wamid.ours")

    event = await hear(said)

    assert event.data["answers"] == str(ours.id)
    (message,) = meta_body(event)["entry"][0]["changes"][0]["value"]["messages"]
    assert message[at] == {**said[at], key: given_wamid(ours.id)}
    assert "context" in said or "context" not in message


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_another_system_sent_keeps_metas_id(hear, name) -> None:
    said, (at, _) = ANSWERS[name]

    event = await hear(said)

    assert "answers" not in event.data
    (message,) = meta_body(event)["entry"][0]["changes"][0]["value"]["messages"]
    assert message[at] == said[at]
