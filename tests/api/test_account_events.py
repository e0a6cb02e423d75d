"""What Meta reports besides messages is kept and visible: to its tenant, page by page."""

from datetime import UTC, datetime
from itertools import count
from random import Random

import pytest

from shared.kernel.ids import new_id
from webhook_bodies import body, change, messages_of
from whatsapp.application.applied import Placed
from whatsapp.application.apply_changes import ApplyChanges
from whatsapp.application.apply_inbound import ApplyInbound
from whatsapp.application.apply_statuses import ApplyStatuses
from whatsapp.application.apply_webhook import ApplyWebhook
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_status_errors
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook
from whatsapp.infrastructure.persistence.work import work_in

AT = 1795420800
ODD = {"id": "wamid.odd", "status": "teleported", "timestamp": str(AT)}
_times = count(AT)


@pytest.fixture
def take_in(world):
    """Has a customer told what a body says, as the worker does; gives the time that it names."""
    apply = ApplyWebhook(
        begin=work_in(world.sessions),
        statuses=ApplyStatuses(judge=outcome_of_status_errors),
        inbound=ApplyInbound(),
        changes=ApplyChanges(),
    )

    async def take_in(customer, *changes):
        at = next(_times)
        elements = parse_webhook(body(*changes, time=at)).elements
        placed = [Placed(new_id(), element) for element in elements]
        await apply(Route(customer.tenant_id, customer.channel_id), placed)
        return at

    return take_in


@pytest.fixture
def pages(client):
    """Every page of a list, each as its items."""

    async def pages(path, customer, **query):
        found, cursor = [], None
        while cursor is not None or not found:
            asked = query if cursor is None else query | {"cursor": cursor}
            answer = await client.get(path, params=asked, headers=customer.headers)
            assert answer.status_code == 200, answer.text
            found.append(answer.json()["data"])
            cursor = answer.json()["next_cursor"]
        return found

    return pages


async def listed(pages, customer, **query):
    (page,) = await pages("/v1/account-events", customer, **query)
    return [(one["field"], one["reason"]) for one in page]


def template(name, language="en_US", **values):
    return change(
        "message_template_status_update",
        message_template_id=806312974732579,
        message_template_name=name,
        message_template_language=language,
        **values,
    )


async def test_a_report_is_shown_as_meta_wrote_it(take_in, pages, ana) -> None:
    ban = change("account_update", event="DISABLED_UPDATE", ban_info={"waba_ban_state": "DISABLE"})
    at = await take_in(ana, ban)

    ((one,),) = await pages("/v1/account-events", ana)

    assert one.pop("id")
    assert datetime.fromisoformat(one.pop("reported_at")).timestamp() == at
    assert datetime.fromisoformat(one.pop("received_at")) <= datetime.now(UTC)
    assert one == {
        "channel_id": None,
        "provider_account_id": "waba-1",
        "field": "account_update",
        "reason": None,
        "raw": ban["value"],
    }


async def test_what_was_not_understood_is_shown_with_the_reason(take_in, pages, ana) -> None:
    await take_in(ana, messages_of("1", statuses=[ODD]), change("something_new", a=1))
    await take_in(ana, messages_of("1", errors=[{"code": 130429, "title": "Rate limit hit"}]))

    odd = ("messages", "status 'teleported' is not known")
    trouble = ("messages", "errors of the number itself")
    new = ("something_new", None)
    (first, *_), *_ = await pages("/v1/account-events", ana, not_understood=True, field="messages")

    # What came in one body has one order, which nobody promises.
    assert sorted(await listed(pages, ana), key=str) == sorted([odd, trouble, new], key=str)
    assert await listed(pages, ana, not_understood=True) == [trouble, odd]
    assert await listed(pages, ana, field="messages") == [trouble, odd]
    assert await listed(pages, ana, field="something_new") == [new]
    assert await listed(pages, ana, field="something_new", not_understood=True) == []
    assert first["channel_id"] == str(ana.channel_id)
    assert first["raw"]["errors"][0]["code"] == 130429


async def test_reports_come_newest_first_and_page_by_page_to_their_tenant(
    take_in, pages, ana, bea
) -> None:
    """Both tenants have the account; each is shown its own."""
    for number in range(5):
        await take_in(ana, change("something_new", a=number))
        await take_in(ana, messages_of("1", statuses=[ODD | {"id": f"wamid.{number}"}]))
        await take_in(bea, change("something_new", b=number))

    async def read(customer, **query):
        found = await pages("/v1/account-events", customer, **query)
        return [[one["raw"] for one in page] for page in found]

    mine = [{"a": number} for number in range(4, -1, -1)]
    assert await read(ana, limit=2, field="something_new") == [mine[:2], mine[2:4], mine[4:]]
    assert await read(ana, limit=5, field="something_new") == [mine]
    assert await read(bea, limit=4) == [
        [{"b": number} for number in (4, 3, 2, 1)],
        [{"b": 0}],
    ]
    unread = await read(ana, limit=3, not_understood=True)
    assert [[one["id"] for one in page] for page in unread] == [
        ["wamid.4", "wamid.3", "wamid.2"],
        ["wamid.1", "wamid.0"],
    ]
    assert await read(bea, not_understood=True) == [[]]


async def test_a_page_of_large_reports_is_short_and_leads_to_the_rest(take_in, pages, ana) -> None:
    """Meta tells the history of a number's conversations in megabytes."""
    random = Random(1)
    large = [random.randbytes(size).hex() for size in (750_000, 2_500_000, *(750_000,) * 5)]
    for text in large:
        await take_in(ana, change("history", text=text))
    await take_in(ana, change("something_new", a=1))

    found = await pages("/v1/account-events", ana, limit=200)
    few = await pages("/v1/account-events", ana, limit=2)

    in_order = [{"a": 1}, *({"text": text} for text in reversed(large))]
    for read in (found, few):
        assert [one["raw"] for page in read for one in page] == in_order
    assert [len(page) for page in found] == [4, 3, 1]
    assert [len(page) for page in few] == [2, 2, 2, 1, 1]


async def test_a_cursor_leads_to_nothing_of_another_tenant(take_in, client, ana, bea) -> None:
    for _ in range(2):
        await take_in(ana, change("something_new"))
    await take_in(bea, change("bea's own"))
    page = await client.get("/v1/account-events", params={"limit": 1}, headers=ana.headers)

    taken = {"cursor": page.json()["next_cursor"]}
    answer = await client.get("/v1/account-events", params=taken, headers=bea.headers)

    assert answer.json()["data"] == []


@pytest.mark.parametrize("path", ["/v1/account-events", "/v1/templates"])
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"cursor": "x"}, "invalid_cursor"),
        ({"limit": 0}, "validation_failed"),
        ({"limit": 201}, "validation_failed"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(client, ana, path, query, code) -> None:
    answer = await client.get(path, params=query, headers=ana.headers)

    assert answer.status_code == 422
    assert answer.json()["code"] == code


async def test_a_template_is_shown_with_what_is_known_of_it(take_in, pages, ana) -> None:
    score = change(
        "message_template_quality_update",
        new_quality_score="YELLOW",
        message_template_name="welcome",
        message_template_language="en-US",
    )
    await take_in(ana, template("welcome", event="REJECTED", reason="INVALID_FORMAT"))
    await take_in(ana, score)

    ((one,),) = await pages("/v1/templates", ana)

    assert one.pop("id")
    assert one == {
        "provider_account_id": "waba-1",
        "name": "welcome",
        "language": "en_US",
        "template_id": "806312974732579",
        "status": "REJECTED",
        "status_reason": "INVALID_FORMAT",
        "quality": "YELLOW",
        "category": None,
    }


async def test_templates_come_page_by_page_to_their_tenant(take_in, pages, ana, bea) -> None:
    """Both tenants have the account and a template of the same name."""
    for number in range(5):
        await take_in(ana, template(f"t{number}", event="APPROVED"))
    await take_in(bea, template("t0", event="PAUSED"))
    await take_in(ana, template("t0", event="REJECTED"))

    async def read(customer, **query):
        found = await pages("/v1/templates", customer, **query)
        return [[(one["name"], one["status"]) for one in page] for page in found]

    mine = [("t0", "REJECTED"), *((f"t{number}", "APPROVED") for number in range(1, 5))]
    assert await read(ana, limit=2) == [mine[:2], mine[2:4], mine[4:]]
    assert await read(ana, limit=5) == [mine]
    assert await read(bea) == [[("t0", "PAUSED")]]
