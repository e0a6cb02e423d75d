"""What Meta reports without saying when: a repetition is none, something different is news."""

import asyncio
import json

import pytest

from shared.kernel.ids import new_id
from webhook_bodies import APP, body, change, messages_of
from whatsapp.application.applied import Placed
from whatsapp.application.apply_changes import ApplyChanges
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

FLAGGED, UNFLAGGED = "FLAGGED", "UNFLAGGED"


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


def quality(event, display="15550783881"):
    return change("phone_number_quality_update", display_phone_number=display, event=event)


def template(name, event):
    return change(
        "message_template_status_update",
        event=event,
        message_template_id=1,
        message_template_name=name,
        message_template_language="en_US",
    )


def trouble(customer, code=130429):
    return messages_of(customer, errors=[{"code": code, "title": "x"}])


async def said(intake, customer):
    """The words of what was kept, in the order in which it came."""
    rows = await intake.superuser.fetch(
        "SELECT raw FROM whatsapp_account_events WHERE tenant_id = $1 ORDER BY came_as, place",
        customer.tenant_id,
    )
    raws = [json.loads(row["raw"]) for row in rows]
    return [" ".join(filter(None, map(raw.get, NAMES))) for raw in raws]


NAMES = ("message_template_name", "event")


def heard(intake):
    """The words of what followers were told, in order."""
    changes = [one for _, applied in intake.followed for one in applied.changes]
    return [" ".join(filter(None, map(one.raw.get, NAMES))) for one in changes]


@pytest.mark.parametrize("together", [False, True])
async def test_something_different_in_between_makes_the_same_words_news(
    intake, account, together
) -> None:
    told = [quality(event) for event in (FLAGGED, UNFLAGGED, FLAGGED)]
    for one in [body(*told)] if together else map(body, told):
        await intake.take_in(one)

    assert await said(intake, account) == [FLAGGED, UNFLAGGED, FLAGGED]
    assert heard(intake) == [FLAGGED, UNFLAGGED, FLAGGED]


async def test_a_body_that_comes_again_says_nothing_new(intake, account) -> None:
    for _ in range(3):
        await intake.take_in(body(quality(FLAGGED)))
    await intake.take_in(body(quality(FLAGGED), quality(FLAGGED)))

    assert await said(intake, account) == heard(intake) == [FLAGGED]


async def test_a_batch_that_is_cut_anew_says_nothing_new(intake, account) -> None:
    """Each template and each number is told of by itself."""
    told = [
        template("one", "APPROVED"),
        template("two", "APPROVED"),
        quality(FLAGGED),
        quality(FLAGGED, display="19999999999"),
        change("something_new", event="A"),
    ]
    words = ["one APPROVED", "two APPROVED", FLAGGED, FLAGGED, "A"]
    await intake.take_in(body(*told))
    assert await said(intake, account) == words

    await intake.take_in(*map(body, told))
    await intake.take_in(body(*told[:3]), body(*told[3:]))
    await intake.take_in(body(*told[::-1]))

    assert await said(intake, account) == heard(intake) == words


async def test_what_has_a_time_counts_as_something_said(intake, account) -> None:
    await intake.take_in(body(quality(FLAGGED), time=1795420800))
    await intake.take_in(body(quality(FLAGGED)))
    assert await said(intake, account) == [FLAGGED]

    await intake.take_in(body(quality(UNFLAGGED), time=1795420900))
    await intake.take_in(body(quality(FLAGGED)))
    assert await said(intake, account) == [FLAGGED, UNFLAGGED, FLAGGED]


async def test_bodies_that_are_processed_again_are_judged_as_before(intake, account) -> None:
    """Also what was found to be a repetition and left no trace: it came before the next news."""
    await intake.take_in(body(quality(FLAGGED)))
    repeated = [body(quality(FLAGGED)), body(quality(UNFLAGGED))]
    for one in repeated:
        await intake.inbox.append(APP, one)
    copies = await intake.superuser.fetch("SELECT id, app_id, body FROM webhook_inbox")
    await intake.take_in()
    assert await said(intake, account) == [FLAGGED, UNFLAGGED]

    for copy in copies:  # As if the processor had died before it took them out.
        await intake.superuser.execute(
            "INSERT INTO webhook_inbox (id, app_id, body) VALUES ($1, $2, $3)", *copy.values()
        )
        await intake.take_in()

    assert await said(intake, account) == heard(intake) == [FLAGGED, UNFLAGGED]


@pytest.mark.parametrize("earlier_first", [True, False])
async def test_who_processes_at_the_same_time_waits_for_the_other(
    intake, account, sessions, earlier_first
) -> None:
    route, ids = Route(account.tenant_id, account.channel.id), sorted([new_id(), new_id()])
    (flagged,) = parse_webhook(body(quality(FLAGGED))).elements
    first, second = ids if earlier_first else reversed(ids)

    async def apply(came_as):
        async with work_in(sessions)(account.tenant_id) as work:
            told = await ApplyChanges()(work, route, [Placed(came_as, flagged)])
            await work.commit()
            return told.kept

    async with work_in(sessions)(account.tenant_id) as work:
        assert (await ApplyChanges()(work, route, [Placed(first, flagged)])).kept == [flagged]
        applying = asyncio.create_task(apply(second))
        await is_waiting(intake)
        await work.commit()

    assert await applying == []
    assert await said(intake, account) == [FLAGGED]


async def is_waiting(intake):
    """Until somebody waits for one of our locks."""
    async with asyncio.timeout(10):
        while not await intake.superuser.fetchval(  # noqa: ASYNC110  # PostgreSQL tells nobody
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        ):
            await asyncio.sleep(0.005)


async def test_errors_of_a_number_are_dated_by_their_entry(intake, account) -> None:
    """The same trouble tomorrow is another one; the same cut anew is not."""
    await intake.take_in(body(trouble(account), quality(FLAGGED), time=1795420800))
    await intake.take_in(body(trouble(account), time=1795420800))
    await intake.take_in(body(trouble(account), time=1795420900))
    assert len(await intake.kept(account)) == 3

    await intake.take_in(body(trouble(account)), body(trouble(account)) + b" ")
    assert len(await intake.kept(account)) == 3


@pytest.mark.parametrize("together", [False, True])
async def test_what_people_say_tells_its_own_time_and_is_told_once(intake, ana, together) -> None:
    """Meta dates no such entry: the time that stands beside the person makes it known again."""

    def wish(at, value="stop"):
        said = {"wa_id": "4915155550000", "category": "marketing_messages", "value": value}
        number = messages_of(ana)["value"]
        return change("user_preferences", **number, user_preferences=[said | {"timestamp": at}])

    told = [wish(1795426020), wish(1795540800), wish(1795426020), wish(1795430000, "resume")]
    for one in [body(*told)] if together else map(body, told):
        await intake.take_in(one)

    assert len(await intake.kept(ana)) == 3
    assert [len(applied.changes) for _, applied in intake.followed if applied.changes] == (
        [3] if together else [1, 1, 1]
    )
