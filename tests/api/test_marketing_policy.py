"""Marketing templates for people who told Meta that they want none."""

import pytest

from shared.kernel.clock import utc_now
from whatsapp.application.know_contact import MarketingWish, heed_marketing_wishes
from whatsapp.domain.account import TemplateReported
from whatsapp.domain.entities import MarketingPolicy
from whatsapp.domain.value_objects import PhoneNumber
from whatsapp.infrastructure.persistence.work import work_in

CARLA, DORA = "+4915112345678", "+4915112345679"
ACCOUNT = "102290129340398"


@pytest.fixture
def channel_with(world, ana):
    """A channel whose account has a marketing and a utility template; Carla wants no marketing."""

    async def channel_with(policy=MarketingPolicy.ENFORCE, account=ACCOUNT, *, stopped=True):
        channel = await world.channel(
            ana.tenant_id, provider_account_id=account, marketing_policy=policy
        )
        wish = MarketingWish(phone=PhoneNumber(CARLA), user_id=None, stopped=stopped, at=utc_now())
        async with work_in(world.sessions)(ana.tenant_id) as work:
            await heed_marketing_wishes(work, channel.id, [wish])
            for name, category in (("sale", "MARKETING"), ("order", "UTILITY")):
                await work.accounts.record_template(
                    ACCOUNT,
                    TemplateReported(name=name, language="en", category=category),
                    utc_now(),
                )
            await work.commit()
        return channel.id

    return channel_with


@pytest.fixture
def send(client, ana):
    async def send(channel_id, name="sale", to=CARLA, language="en"):
        template = {"name": name, "language": {"code": language}}
        body = {"channel_id": str(channel_id), "to": to, "type": "template", "template": template}
        answer = await client.post("/v1/messages", json=body, headers=ana.headers)
        return answer.status_code, answer.json().get("code"), answer.json().get("field")

    return send


REFUSED = (422, "marketing_stopped", "to")
TAKEN = (202, None, None)


async def test_marketing_is_refused_for_whoever_wants_none(channel_with, send) -> None:
    channel = await channel_with()

    assert await send(channel) == REFUSED
    assert await send(channel, to=DORA) == TAKEN
    assert await send(channel, name="order") == TAKEN


async def test_a_template_of_which_nothing_is_known_is_metas_to_judge(channel_with, send) -> None:
    channel = await channel_with()

    assert await send(channel, name="unknown") == TAKEN
    assert await send(channel, language="de") == TAKEN
    assert await send(await channel_with(account=None)) == TAKEN


async def test_a_channel_may_leave_it_to_meta(channel_with, send) -> None:
    assert await send(await channel_with(MarketingPolicy.ALLOW)) == TAKEN


async def test_whoever_resumed_is_written_to(channel_with, send) -> None:
    assert await send(await channel_with(stopped=False)) == TAKEN
