"""Fields that are about no message: each changes what it is about, never back to the older."""

from dataclasses import replace

import pytest

from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from webhook_bodies import body, change, inbound_to, messages_of
from whatsapp.application.change_channel import PauseChannel
from whatsapp.application.record_events import RecordEvents
from whatsapp.domain.account import PreferenceReported
from whatsapp.domain.entities import Channel
from whatsapp.domain.events import WebhookEndpoint, new_secret
from whatsapp.domain.value_objects import AccessToken
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

EARLIER, LATER = 1795420800, 1795420900


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@pytest.fixture
async def pauses(intake, sessions, account):
    """Events are recorded; `await pauses()` gives the channels and reasons of the pauses told."""
    apply = replace(intake.process.apply, followers=[intake, RecordEvents()])
    intake.process = replace(intake.process, apply=apply)
    begin = work_in(sessions)
    async with begin(account.tenant_id) as work:
        await work.events.open()
        await work.commit()

    async def told():
        async with begin(account.tenant_id) as work:
            events = await work.events.list_after(0, limit=100)
        paused = [one for one in events if one.type.value == "channel.paused"]
        assert [one.data["channel_id"] for one in paused] == [str(one.channel_id) for one in paused]
        return [(one.channel_id, one.data["reason"]) for one in paused]

    return told


def template(event, **values):
    return change(
        "message_template_status_update",
        event=event,
        message_template_id=806312974732579,
        message_template_name="welcome",
        message_template_language="en-US",
        **values,
    )


def score(new):
    return change(
        "message_template_quality_update",
        new_quality_score=new,
        message_template_name="welcome",
        message_template_language="en_US",
    )


def quality(event, display="15550783881"):
    return change(
        "phone_number_quality_update",
        display_phone_number=display,
        event=event,
        max_daily_conversations_per_business="TIER_10K",
    )


def ban(state):
    return change("account_update", event="DISABLED_UPDATE", ban_info={"waba_ban_state": state})


async def add_channel(sessions, customer):
    """Another verified channel of the customer's."""
    channel = Channel(
        tenant_id=customer.tenant_id,
        name="Another",
        phone_number_id=str(new_id().int)[-15:],
        access_token=AccessToken("EAAG-test-token"),
    )
    channel.verify(utc_now())
    async with work_in(sessions)(customer.tenant_id) as work:
        stored = await work.channels.add(channel)
        await work.commit()
    return stored


async def templates(intake, customer):
    rows = await intake.superuser.fetch(
        "SELECT provider_account_id, name, language, template_id, status, status_reason, quality,"
        " category FROM whatsapp_templates WHERE tenant_id = $1",
        customer.tenant_id,
    )
    return [tuple(row) for row in rows]


async def test_a_template_has_its_newest_status_quality_and_category(intake, account) -> None:
    category = change(
        "template_category_update",
        message_template_name="welcome",
        message_template_language="en_US",
        previous_category="UTILITY",
        new_category="MARKETING",
    )
    await intake.take_in(
        body(template("REJECTED", reason="INVALID_FORMAT"), time=LATER),
        body(template("APPROVED"), time=EARLIER),
        body(score("YELLOW"), time=LATER),
        body(score("GREEN"), time=EARLIER),
        body(category, time=EARLIER),
    )

    assert await templates(intake, account) == [
        (
            *("waba-1", "welcome", "en_US", "806312974732579"),
            *("REJECTED", "INVALID_FORMAT", "YELLOW", "MARKETING"),
        )
    ]


async def test_a_raised_rate_holds_for_the_number_that_it_is_about(intake, account) -> None:
    await intake.take_in(body(quality("THROUGHPUT_UPGRADE", display="19999999999"), time=LATER))
    assert (await intake.channel(account))["messages_per_second"] == 80

    await intake.take_in(body(quality("THROUGHPUT_UPGRADE"), time=LATER))
    channel = await intake.channel(account)
    assert channel["messages_per_second"] == 1000
    assert channel["reported"]["messaging_limit"]["value"] == "TIER_10K"
    assert channel["reported"]["throughput"]["value"] == "THROUGHPUT_UPGRADE"


async def test_a_flagged_number_shows_it(intake, account) -> None:
    await intake.take_in(body(quality("FLAGGED"), time=LATER))

    assert (await intake.channel(account))["quality_rating"] == "RED"


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
async def test_a_disabled_account_pauses_its_channels_until_it_is_reinstated(
    intake, account, pauses, order
) -> None:
    told = [body(ban("DISABLE"), time=EARLIER), body(ban("REINSTATE"), time=LATER)]
    await intake.take_in(told[order[0]])
    if order[0] == 0:
        channel = await intake.channel(account)
        assert (channel["status"], channel["pause_reason"]) == (
            "paused",
            "Meta has disabled the account",
        )
    await intake.take_in(told[order[1]])

    channel = await intake.channel(account)
    assert (channel["status"], channel["pause_reason"]) == ("active", None)
    expected = [(account.channel.id, "Meta has disabled the account")] if order[0] == 0 else []
    assert await pauses() == expected


async def test_a_pause_is_told_once_per_channel_that_stops_sending(
    intake, sessions, account, pauses
) -> None:
    """However often Meta says it, and not of one that was paused before."""
    channels = {}
    for status in ("active", "disabled", "paused"):
        channel = await add_channel(sessions, account)
        channels[status] = channel.id
        await intake.superuser.execute(
            "UPDATE whatsapp_channels SET provider_account_id = 'waba-1', status = $1,"
            " pause_reason = CASE $1 WHEN 'paused' THEN 'by hand' END WHERE id = $2",
            status,
            channel.id,
        )
    await intake.take_in(body(ban("DISABLE"), ban("DISABLE"), time=EARLIER))
    await intake.take_in(body(change("something_new"), ban("DISABLE"), time=LATER))

    reason = "Meta has disabled the account"
    assert sorted(await pauses()) == sorted(
        [(account.channel.id, reason), (channels["active"], reason)]
    )


async def test_a_report_about_a_template_reaches_whoever_listens_to_one_channel_of_the_account(
    intake, sessions, account
) -> None:
    """It is told once, whichever channel it is applied to first."""
    another = await add_channel(sessions, account)
    await intake.superuser.execute(
        "UPDATE whatsapp_channels SET provider_account_id = 'waba-1' WHERE id = $1", another.id
    )
    apply = replace(intake.process.apply, followers=[RecordEvents()])
    intake.process = replace(intake.process, apply=apply)
    async with work_in(sessions)(account.tenant_id) as work:
        await work.events.open()
        for channel in (account.channel, another):
            await work.endpoints.add(
                WebhookEndpoint(
                    tenant_id=account.tenant_id,
                    url="https://example.com",
                    secret=new_secret(),
                    channel_ids=frozenset({channel.id}),
                )
            )
        await work.commit()

    await intake.take_in(body(template("REJECTED"), time=EARLIER))

    waiting = await intake.column(
        "SELECT endpoint_id FROM webhook_delivery_queue WHERE tenant_id = $1", account.tenant_id
    )
    assert len(set(waiting)) == len(waiting) == 2


async def test_a_pause_that_ends_in_the_same_transaction_is_none(intake, account, pauses) -> None:
    await intake.take_in(body(ban("DISABLE"), ban("REINSTATE"), time=LATER))

    assert (await intake.channel(account))["status"] == "active"
    assert await pauses() == []


async def test_a_pause_that_is_not_stored_is_not_told(intake, account, pauses) -> None:
    intake.poison.add(str(account.tenant_id))
    await intake.take_in(body(ban("DISABLE"), time=LATER))
    assert (await intake.channel(account))["status"] == "active"
    assert await pauses() == []

    intake.poison.clear()
    await intake.wait_out_leases()
    assert (await intake.channel(account))["status"] == "paused"
    assert len(await pauses()) == 1


async def test_a_pause_for_another_reason_has_another_end(intake, account) -> None:
    await intake.superuser.execute(
        "UPDATE whatsapp_channels SET status = 'paused', pause_reason = 'by hand' WHERE id = $1",
        account.channel.id,
    )
    await intake.take_in(body(ban("REINSTATE"), time=LATER))

    assert (await intake.channel(account))["pause_reason"] == "by hand"


@pytest.mark.parametrize("lifted_first", ["ban", "connection"])
async def test_of_two_pauses_neither_end_is_the_end_of_the_other(
    intake, account, pauses, lifted_first
) -> None:
    reasons = {
        "ban": "Meta has disabled the account",
        "connection": "The account was disconnected from this app",
    }
    ends = {
        "ban": ban("REINSTATE"),
        "connection": change("account_update", event="ACCOUNT_RECONNECTED"),
    }
    begins = {
        "ban": ban("DISABLE"),
        "connection": change("account_update", event="PARTNER_REMOVED"),
    }
    (left,) = set(reasons) - {lifted_first}
    # The one that is lifted first also came first, so that its reason is shown.
    for place, kind in enumerate([lifted_first, left]):
        await intake.take_in(body(begins[kind], time=EARLIER + place))
    await intake.take_in(body(ends[lifted_first], time=LATER))

    channel = await intake.channel(account)
    assert (channel["status"], channel["pause_reason"]) == ("paused", reasons[left])
    await intake.take_in(body(ends[left], time=LATER + 1))
    channel = await intake.channel(account)
    assert (channel["status"], channel["pause_reason"]) == ("active", None)
    assert await pauses() == [(account.channel.id, reasons[lifted_first])]


async def test_what_an_operator_pauses_during_a_ban_stays_paused_after_it(
    intake, account, pauses, sessions
) -> None:
    await intake.take_in(body(ban("DISABLE"), time=EARLIER))
    pause = PauseChannel(begin=work_in(sessions))
    await pause(account.tenant_id, account.channel.id, reason="Stocktaking")
    # What Tellwire finds itself keeps the reason: a ban is such trouble, and may end by itself.
    await pause(account.tenant_id, account.channel.id, reason="Locked", code="meta_131031")
    await intake.take_in(body(ban("REINSTATE"), time=LATER))

    channel = await intake.channel(account)
    assert (channel["status"], channel["pause_reason"]) == ("paused", "Stocktaking")
    assert len(await pauses()) == 1


async def test_what_tellwire_finds_during_a_ban_ends_with_it(intake, account, sessions) -> None:
    await intake.take_in(body(ban("DISABLE"), time=EARLIER))
    pause = PauseChannel(begin=work_in(sessions))
    await pause(account.tenant_id, account.channel.id, reason="Locked", code="meta_131031")
    await intake.take_in(body(ban("REINSTATE"), time=LATER))

    assert (await intake.channel(account))["status"] == "active"


async def test_a_restriction_is_shown_and_pauses_nothing(intake, account) -> None:
    await intake.take_in(body(change("account_update", event="ACCOUNT_RESTRICTION"), time=LATER))

    channel = await intake.channel(account)
    assert channel["status"] == "active"
    assert channel["reported"]["account_event"]["value"] == "ACCOUNT_RESTRICTION"


async def test_a_preference_is_given_to_followers_once(intake, ana) -> None:
    wish = messages_of(
        ana,
        user_preferences=[
            {
                "wa_id": "16505551234",
                "category": "marketing_messages",
                "value": "stop",
                "timestamp": EARLIER,
            }
        ],
    ) | {"field": "user_preferences"}
    await intake.take_in(body(wish, time=LATER), body(wish, inbound_to(ana), time=LATER))

    facts = [f for _, applied in intake.followed for one in applied.changes for f in one.facts]
    assert [(f.wa_id, f.category, f.is_wanted) for f in facts] == [
        ("16505551234", "marketing_messages", False)
    ]
    assert isinstance(facts[0], PreferenceReported)


async def test_every_field_is_kept_once_also_one_that_nobody_knows(intake, account, bea) -> None:
    echo = messages_of(account, message_echoes=[{"id": "wamid.echo"}]) | {
        "field": "smb_message_echoes"
    }
    told = body(echo, change("something_new", a=1), change("history", b=[2]), time=LATER)
    await intake.take_in(told, told + b" ")

    assert sorted(await intake.kept(account)) == [
        ("history", None),
        ("smb_message_echoes", None),
        ("something_new", None),
    ]
    assert await intake.kept(bea) == []


async def test_a_report_of_an_account_that_nobody_has_is_kept_aside(intake, account) -> None:
    await intake.take_in(body(ban("DISABLE"), waba="somebody-elses", time=LATER))

    assert await intake.quarantine() == ["an account that no channel has"]
    assert (await intake.channel(account))["status"] == "active"


async def test_the_same_words_without_a_time_are_news_again(intake, account) -> None:
    """The account may be banned, reinstated and banned: the first and the last body are alike."""
    for state in ("DISABLE", "REINSTATE", "DISABLE"):
        await intake.take_in(body(ban(state)))

    assert (await intake.channel(account))["status"] == "paused"
    assert len(await intake.kept(account)) == 3


async def test_bodies_of_long_ago_are_forgotten(intake, ana) -> None:
    told = body(inbound_to(ana))
    await intake.take_in(told)
    assert await intake.process.forget() == 0

    await intake.superuser.execute("UPDATE webhook_digests SET seen_at = now() - interval '2d'")
    assert await intake.process.forget() == 1
    await intake.take_in(told)
    assert len(await intake.inbound(ana)) == 1
