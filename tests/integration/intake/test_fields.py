"""Each field that says something: what is read from it, and the channel's row afterwards."""

import json
from pathlib import Path

import pytest

from webhook_bodies import body, change
from whatsapp.domain.account import AccountReported, NumberReported, Stop
from whatsapp.infrastructure.cloud_api.changes import READ_FIELDS
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook

pytestmark = pytest.mark.postgres

PAYLOADS = Path(__file__).parents[2] / "contract/payloads/field"
NUMBER, ANOTHER = "15550783881", "19999999999"
EARLIER, LATER = 1795420800, 1795420900
NEW = {
    "status": "active",
    "pause_reason": None,
    "quality_rating": "GREEN",
    "messages_per_second": 80,
    "reported": {},
}
# No fact of these is about the channel: `test_changes.py` says what each of them changes.
OF_OTHERS = {
    "message_template_status_update",
    "message_template_quality_update",
    "template_category_update",
    "user_preferences",
    "calls",
}


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@pytest.fixture
async def rated(intake, account):
    """Ana's channel, verified when its quality was good."""
    await intake.superuser.execute(
        "UPDATE whatsapp_channels SET quality_rating = 'GREEN' WHERE id = $1", account.channel.id
    )
    return account


async def row(intake, customer):
    """What a report may change of the channel, without the times."""
    channel = await intake.channel(customer)
    reported = {key: one["value"] for key, one in channel["reported"].items()}
    return {key: channel[key] for key in NEW} | {"reported": reported}


def payload(field):
    """The change in the file of the field, as Meta writes it."""
    (found,) = json.loads((PAYLOADS / f"{field}.json").read_text())["entry"][0]["changes"]
    return found


def about(number, **values):
    return change("phone_number_quality_update", display_phone_number=number, **values)


def event(name, state=None, **values):
    if state is not None:
        values["ban_info"] = {"waba_ban_state": state, "waba_ban_date": "April 17, 2025"}
    return change("account_update", event=name, **values)


def number_fact(key, value, number=NUMBER, **values):
    return NumberReported(key=key, value=value, display_phone_number=number, **values)


def stopped(name, stop, number=None):
    fact = AccountReported(event=name, stop=stop, display_phone_number=number)
    return [fact], {
        "status": "paused",
        "pause_reason": stop.value,
        "reported": {"connection" if stop is Stop.DISCONNECTED else "account": name},
    }


def noted(key, value, number=NUMBER):
    return [number_fact(key, value, number)], {"reported": {key: value}}


def over(name, stop):
    """That an account may send again changes nothing where it could."""
    key = "connection" if stop is Stop.DISCONNECTED else "account"
    return [AccountReported(event=name, stop=stop, is_over=True)], {"reported": {key: name}}


PARTNERS = {"waba_info": {"waba_id": "waba-1", "owner_business_id": "2329417887457253"}}
FIELDS = {
    "review": (payload("account_review_update"), noted("account_review", "APPROVED", None)),
    "alert": (payload("account_alerts"), noted("alert", "OBA_APPROVED", None)),
    "security": (payload("security"), noted("security", "PIN_CHANGED")),
    "name": (payload("phone_number_name_update"), noted("name_decision", "APPROVED")),
    "username": (payload("business_username_update"), noted("username_status", "APPROVED")),
    "limit": (payload("business_capability_update"), noted("messaging_limit", "TIER_2K", None)),
    "limit as a number": (
        change("business_capability_update", max_daily_conversations_per_business=2000),
        noted("messaging_limit", "2000", None),
    ),
    "limit of one number": (
        change("business_capability_update", max_daily_conversation_per_phone=-1),
        noted("messaging_limit", "-1", None),
    ),
    "security of another number": (
        change("security", display_phone_number="+1 999-999-9999", event="PIN_CHANGED"),
        ([number_fact("security", "PIN_CHANGED", ANOTHER)], {}),
    ),
    "throughput": (
        payload("phone_number_quality_update"),
        (
            [
                number_fact("throughput", "THROUGHPUT_UPGRADE", messages_per_second=1000),
                number_fact("messaging_limit", "TIER_UNLIMITED"),
            ],
            {
                "messages_per_second": 1000,
                "reported": {
                    "throughput": "THROUGHPUT_UPGRADE",
                    "messaging_limit": "TIER_UNLIMITED",
                },
            },
        ),
    ),
    "onboarding": (about(NUMBER, event="ONBOARDING"), noted("quality_event", "ONBOARDING")),
    "lower limit": (
        about(NUMBER, event="DOWNGRADE", current_limit="TIER_250"),
        (
            [number_fact("quality_event", "DOWNGRADE"), number_fact("messaging_limit", "TIER_250")],
            {"reported": {"quality_event": "DOWNGRADE", "messaging_limit": "TIER_250"}},
        ),
    ),
    "flagged": (
        about(NUMBER, event="FLAGGED"),
        (
            [number_fact("quality_flag", "FLAGGED", quality_rating="RED")],
            {"quality_rating": "RED", "reported": {"quality_flag": "FLAGGED"}},
        ),
    ),
    "unflagged, and not low": (
        about(NUMBER, event="UNFLAGGED"),
        (
            [number_fact("quality_flag", "UNFLAGGED", ended_rating="RED")],
            {"reported": {"quality_flag": "UNFLAGGED"}},
        ),
    ),
    "disabled": (
        event("DISABLED_UPDATE", "DISABLE"),
        stopped("DISABLED_UPDATE DISABLE", Stop.DISABLED),
    ),
    "disabled, naming a number": (
        event("DISABLED_UPDATE", "DISABLE", phone_number=ANOTHER),
        stopped("DISABLED_UPDATE DISABLE", Stop.DISABLED),
    ),
    "to be disabled": (
        payload("account_update"),
        noted("account_event", "DISABLED_UPDATE SCHEDULE_FOR_DISABLE", None),
    ),
    "reinstated": (
        event("DISABLED_UPDATE", "REINSTATE"),
        over("DISABLED_UPDATE REINSTATE", Stop.DISABLED),
    ),
    "deleted": (event("ACCOUNT_DELETED"), stopped("ACCOUNT_DELETED", Stop.DELETED)),
    "partner removed": (
        event("PARTNER_REMOVED", **PARTNERS),
        stopped("PARTNER_REMOVED", Stop.DISCONNECTED),
    ),
    "this number removed": (
        event("PARTNER_REMOVED", phone_number=NUMBER, disconnection_info={"reason": "x"}),
        stopped("PARTNER_REMOVED", Stop.DISCONNECTED, NUMBER),
    ),
    "another number removed": (
        event("PARTNER_REMOVED", phone_number=ANOTHER, disconnection_info={"reason": "x"}),
        (stopped("PARTNER_REMOVED", Stop.DISCONNECTED, ANOTHER)[0], {}),
    ),
    "app uninstalled": (
        event("PARTNER_APP_UNINSTALLED", **PARTNERS),
        stopped("PARTNER_APP_UNINSTALLED", Stop.DISCONNECTED),
    ),
    "offboarded": (
        event("ACCOUNT_OFFBOARDED"),
        stopped("ACCOUNT_OFFBOARDED", Stop.DISCONNECTED),
    ),
    "partner added": (
        event("PARTNER_ADDED", **PARTNERS),
        over("PARTNER_ADDED", Stop.DISCONNECTED),
    ),
    "app installed": (
        event("PARTNER_APP_INSTALLED", **PARTNERS),
        over("PARTNER_APP_INSTALLED", Stop.DISCONNECTED),
    ),
    "reconnected": (
        event("ACCOUNT_RECONNECTED"),
        over("ACCOUNT_RECONNECTED", Stop.DISCONNECTED),
    ),
    **{
        name: (event(name), noted("account_event", name, None))
        for name in (
            "ACCOUNT_RESTRICTION",
            "ACCOUNT_VIOLATION",
            "PARTNER_CLIENT_CERTIFICATION_STATUS_UPDATE",
            "VOLUME_BASED_PRICING_TIER_UPDATE",
        )
    },
}


@pytest.mark.parametrize(("told", "expected"), FIELDS.values(), ids=FIELDS)
async def test_a_field_is_read_and_changes_the_row(intake, rated, told, expected) -> None:
    facts, changed = expected
    (element,) = parse_webhook(body(told)).elements
    assert list(element.facts) == facts

    await intake.take_in(body(told, time=LATER))

    assert await row(intake, rated) == NEW | changed
    assert await intake.kept(rated) == [(told["field"], None)]


def test_every_field_that_is_read_is_in_the_table():
    assert {told["field"] for told, _ in FIELDS.values()} == READ_FIELDS - OF_OTHERS


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
async def test_a_flag_that_ends_leaves_the_quality_open(intake, rated, order) -> None:
    """The number may be better, or Meta has lowered its limit instead: its rating is not told."""
    told = [
        body(about(NUMBER, event="FLAGGED"), time=EARLIER),
        body(about(NUMBER, event="UNFLAGGED"), time=LATER),
    ]
    await intake.take_in(told[order[0]], told[order[1]])

    assert (await row(intake, rated))["quality_rating"] == ("UNKNOWN" if order[0] == 0 else "GREEN")


async def test_a_flag_and_a_raised_rate_both_count_whichever_came_first(intake, rated) -> None:
    faster = about(NUMBER, event="THROUGHPUT_UPGRADE")
    await intake.take_in(
        body(faster, time=LATER), body(about(NUMBER, event="FLAGGED"), time=EARLIER)
    )

    found = await row(intake, rated)
    assert (found["quality_rating"], found["messages_per_second"]) == ("RED", 1000)


BANNED, DELETED = event("DISABLED_UPDATE", "DISABLE"), event("ACCOUNT_DELETED")
REINSTATED = event("DISABLED_UPDATE", "REINSTATE")
ADDED, REMOVED = event("PARTNER_ADDED"), event("PARTNER_REMOVED")


@pytest.mark.parametrize(
    ("stop", "end", "status"),
    [
        (REMOVED, ADDED, "active"),
        (event("PARTNER_APP_UNINSTALLED"), event("PARTNER_APP_INSTALLED"), "active"),
        (event("ACCOUNT_OFFBOARDED"), event("ACCOUNT_RECONNECTED"), "active"),
        (BANNED, ADDED, "paused"),
        (BANNED, event("ACCOUNT_RECONNECTED"), "paused"),
        (REMOVED, REINSTATED, "paused"),
        (DELETED, REINSTATED, "paused"),
        (DELETED, ADDED, "paused"),
        (event("PARTNER_REMOVED", phone_number=NUMBER), ADDED, "active"),
        (REMOVED, event("ACCOUNT_RECONNECTED", phone_number=ANOTHER), "paused"),
    ],
)
async def test_a_pause_is_ended_by_its_own_opposite(intake, rated, stop, end, status) -> None:
    await intake.take_in(body(stop, time=EARLIER), body(end, time=LATER))

    assert (await row(intake, rated))["status"] == status


async def test_a_ban_is_not_older_than_news_of_another_kind(intake, rated) -> None:
    await intake.take_in(body(ADDED, time=LATER), body(BANNED, time=EARLIER))

    assert (await row(intake, rated))["status"] == "paused"


async def test_news_of_a_customer_are_heard_where_meta_writes_them_to_a_partner(
    intake, rated
) -> None:
    """`waba_info` names the account; around it stands the business that Meta tells."""
    mine = event("PARTNER_REMOVED", waba_info={"waba_id": "waba-1"})
    others = event("PARTNER_REMOVED", waba_info={"waba_id": "waba-of-others"})
    await intake.take_in(body(others, time=LATER))
    assert (await row(intake, rated))["status"] == "active"
    assert await intake.quarantine() == ["an account that no channel has"]

    await intake.take_in(body(mine, waba="a-business", time=LATER))
    assert (await row(intake, rated))["status"] == "paused"
