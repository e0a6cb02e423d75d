"""Who is who: any order and any number of processes end with the same people."""

import asyncio
import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.infrastructure.database import create_engine, create_session_factory
from shared.kernel.errors import TellwireError
from shared.kernel.ids import new_id
from whatsapp.application.applied import Placed
from whatsapp.application.apply_changes import ApplyChanges
from whatsapp.application.apply_inbound import ApplyInbound
from whatsapp.application.apply_statuses import ApplyStatuses
from whatsapp.application.apply_webhook import ApplyWebhook
from whatsapp.application.know_contact import (
    KnowContact,
    MarketingWish,
    heed_marketing_wishes,
    know_people,
)
from whatsapp.domain.conversation import Person
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.value_objects import InboundContent, MessageStatus, PhoneNumber, UserId
from whatsapp.domain.webhook import InboundReceived, StatusReported
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_status_errors
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

PAYLOADS = Path(__file__).parents[2] / "contract/payloads"
T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PHONES = [f"49151555500{n:02}" for n in range(4)]
USERS = [f"DE.user{n}" for n in range(4)]
OLD, NEW = PhoneNumber("+4915155550000"), PhoneNumber("+4915155550001")
OLD_ID, NEW_ID = UserId("DE.old"), UserId("DE.new")
_numbers = count(1)


@pytest.fixture
def database(module_database):
    return module_database


def told(customer, *, wa_id=None, user_id=None, at=T0, **values):
    """A message as Meta tells of it."""
    given = {
        "waba_id": "1",
        "phone_number_id": customer.channel.phone_number_id,
        "wamid": f"wamid.people.{next(_numbers)}",
        "wa_id": wa_id,
        "user_id": user_id,
        "previous_user_id": None,
        "profile_name": None,
        "username": None,
        "group_id": None,
        "sent_at": at,
        "content": InboundContent("text", {"body": "Hi"}),
        "context_wamid": None,
        "errors": (),
        "raw": {},
    }
    return InboundReceived(**given | values)


def moved(customer, old, new, *, at, **ids):
    change = {"type": "user_changed_number", "wa_id": new} | ids
    content = InboundContent("system", {"body": "moved", **change})
    return told(customer, wa_id=old, at=at, content=content)


@pytest.fixture
def apply(sessions, ana):
    webhook = ApplyWebhook(
        begin=work_in(sessions),
        statuses=ApplyStatuses(judge=outcome_of_status_errors),
        inbound=ApplyInbound(),
        changes=ApplyChanges(),
        followers=[KnowContact()],
    )

    async def apply(elements, customer=ana):
        route = Route(customer.tenant_id, customer.channel.id)
        while True:
            try:
                return await webhook(route, [Placed(new_id(), one) for one in elements])
            except TellwireError as error:
                if not error.retryable:
                    raise

    return apply


@pytest.fixture
def look(sessions, ana):
    """Whom an address leads to."""

    async def look(address, customer=ana):
        async with work_in(sessions)(customer.tenant_id) as work:
            return await work.conversations.get_by_address(customer.channel.id, address)

    return look


def people_of(messages):
    """The model: whoever shares a name is one person, with all messages and the latest time."""
    people = []
    for message in messages:
        names = {name for name in (message.wa_id, message.user_id) if name}
        touching = [person for person in people if person[0] & names]
        rest = [person for person in people if not person[0] & names]
        whole = (
            names.union(*(p[0] for p in touching)),
            1 + sum(p[1] for p in touching),
            max([message.sent_at, *(p[2] for p in touching)]),
        )
        people = [*rest, whole]
    return sorted((sorted(names), number, at) for names, number, at in people)


async def stored_people(superuser, customer):
    rows = await superuser.fetch(
        "SELECT v.id, v.unread_count, v.last_inbound_at, a.address"
        " FROM whatsapp_conversations v LEFT JOIN whatsapp_conversation_addresses a"
        " ON a.tenant_id = v.tenant_id AND a.conversation_id = v.id"
        " WHERE v.tenant_id = $1 AND v.merged_into IS NULL",
        customer.tenant_id,
    )
    people = defaultdict(lambda: [set(), 0, None])
    for row in rows:
        person = people[row["id"]]
        person[0].add((row["address"] or "").lstrip("+"))
        person[1:] = row["unread_count"], row["last_inbound_at"]
    return sorted((sorted(names), number, at) for names, number, at in people.values())


SEEN = st.tuples(
    st.sampled_from([None, *PHONES]),
    st.sampled_from([None, *USERS]),
    st.integers(min_value=0, max_value=1000),
).filter(lambda seen: seen[0] or seen[1])


@pytest.mark.parametrize("processes", [1, 2, 4])
@settings(
    max_examples=25,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # What it tells is short; shrinking it takes minutes.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seen=st.lists(SEEN, min_size=1, max_size=12), batch=st.integers(1, 4))
async def test_any_order_and_any_number_of_processes_end_with_the_same_people(
    superuser, new_customer, apply, processes, seen, batch
):
    customer = await new_customer()
    messages = [
        told(customer, wa_id=phone, user_id=user, at=T0 + minutes * MINUTE)
        for phone, user, minutes in seen
    ]
    bodies = [messages[n : n + batch] for n in range(0, len(messages), batch)]
    shares = [bodies[n::processes] for n in range(processes)]

    async def process(share):
        for body in share:
            await apply(body, customer)

    await asyncio.gather(*(process(share) for share in shares))

    assert await stored_people(superuser, customer) == people_of(messages)


async def test_a_chain_of_names_in_one_webhook_is_one_person(apply, superuser, new_customer):
    customer = await new_customer()
    for number in range(3):
        await apply([told(customer, wa_id=PHONES[number])], customer)
        await apply([told(customer, user_id=USERS[number])], customer)
    links = [(PHONES[0], USERS[0]), (PHONES[1], USERS[0]), (PHONES[1], USERS[1])]
    links += [(PHONES[2], USERS[2]), (PHONES[2], USERS[1])]

    await apply([told(customer, wa_id=one, user_id=other) for one, other in links], customer)

    names = sorted([*PHONES[:3], *USERS[:3]])
    assert await stored_people(superuser, customer) == [(names, 11, T0)]


async def test_three_that_merge_at_once_from_both_ends_are_one(apply, superuser, new_customer):
    for _ in range(20):
        customer = await new_customer()
        await apply([told(customer, wa_id=PHONES[0])], customer)
        await apply([told(customer, user_id=USERS[0])], customer)
        await apply([told(customer, wa_id=PHONES[1])], customer)

        await asyncio.gather(
            apply([told(customer, wa_id=PHONES[0], user_id=USERS[0])], customer),
            apply([told(customer, wa_id=PHONES[1], user_id=USERS[0])], customer),
            apply([told(customer, user_id=USERS[0])], customer),
        )

        assert await stored_people(superuser, customer) == [
            (sorted([PHONES[0], PHONES[1], USERS[0]]), 6, T0)
        ]


async def test_whoever_merged_is_found_by_the_old_id(apply, ana, look, superuser):
    await apply([told(ana, wa_id=PHONES[0])])
    first = await look(OLD)
    await apply([told(ana, user_id=USERS[0])])
    second = await look(UserId(USERS[0]))
    await apply([told(ana, wa_id=PHONES[0], user_id=USERS[0])])

    kept = await look(OLD)
    went = await superuser.fetchval(
        "SELECT merged_into FROM whatsapp_conversations WHERE id = $1", second.id
    )

    assert kept.id == first.id == went


async def test_a_changed_number_goes_on_in_the_same_conversation(apply, ana, look):
    await apply([told(ana, wa_id=OLD.wa_id, user_id=OLD_ID.value)])
    before = await look(OLD)
    notice = moved(
        ana,
        OLD.wa_id,
        NEW.wa_id,
        at=T0 + MINUTE,
        user_id=NEW_ID.value,
        previous_user_id=OLD_ID.value,
    )
    await apply([notice])
    await apply([told(ana, wa_id=NEW.wa_id, user_id=NEW_ID.value, at=T0 + 2 * MINUTE)])

    after = await look(NEW)

    assert (after.id, after.phone, after.user_id) == (before.id, NEW, NEW_ID)
    assert after.last_inbound_at == T0 + 2 * MINUTE
    assert (await look(NEW_ID)).id == (await look(OLD_ID)).id == before.id


async def test_a_number_that_was_given_up_leads_to_nobody(apply, ana, look):
    await apply([told(ana, wa_id=OLD.wa_id), moved(ana, OLD.wa_id, NEW.wa_id, at=T0 + MINUTE)])

    assert await look(OLD) is None


async def test_whoever_has_a_given_up_number_next_is_somebody_else(apply, ana, look):
    await apply([told(ana, wa_id=OLD.wa_id), moved(ana, OLD.wa_id, NEW.wa_id, at=T0 + MINUTE)])
    await apply([told(ana, wa_id=OLD.wa_id, user_id="DE.stranger", at=T0 + 99 * MINUTE)])

    stranger, moved_away = await look(OLD), await look(NEW)

    assert stranger.id != moved_away.id
    assert (stranger.unread_count, moved_away.unread_count) == (1, 2)
    assert (await look(UserId("DE.stranger"))).id == stranger.id


async def test_what_was_said_before_the_move_and_comes_late_is_the_same_persons(apply, ana, look):
    await apply([moved(ana, OLD.wa_id, NEW.wa_id, at=T0 + MINUTE)])
    await apply([told(ana, wa_id=OLD.wa_id, at=T0)])

    found = await look(NEW)

    assert (found.unread_count, found.last_inbound_at) == (2, T0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_somebody_who_moves_and_comes_back_is_where_the_last_notice_says(
    apply, ana, look, order
):
    away = moved(ana, OLD.wa_id, NEW.wa_id, at=T0 + MINUTE)
    back = moved(ana, NEW.wa_id, OLD.wa_id, at=T0 + 2 * MINUTE)
    await apply([told(ana, wa_id=OLD.wa_id)])
    for index in order:
        await apply([(away, back)[index]])

    found = await look(OLD)

    assert (found.phone, found.unread_count) == (OLD, 3)
    assert await look(NEW) is None


async def test_a_changed_user_id_goes_on_in_the_same_conversation(apply, ana, look):
    await apply([told(ana, user_id=OLD_ID.value)])
    before = await look(OLD_ID)
    change = {"type": "user_changed_user_id", "user_id": NEW_ID.value}
    content = InboundContent("system", change | {"previous_user_id": OLD_ID.value})
    await apply([told(ana, user_id=NEW_ID.value, content=content, at=T0 + MINUTE)])

    after = await look(NEW_ID)

    assert (after.id, after.user_id) == (before.id, NEW_ID)


async def test_what_is_heard_late_does_not_undo_what_somebody_is_called_now(apply, ana, look):
    now = {"wa_id": "5511987654321", "user_id": "BR.a", "profile_name": "Ana", "username": "ana.b"}
    before = now | {"wa_id": "551187654321", "profile_name": "Anita", "username": "anita"}
    await apply([told(ana, **now, at=T0 + MINUTE)])

    await apply([told(ana, **before)])

    found = await look(PhoneNumber("+5511987654321"))
    assert found.unread_count == 2
    assert (found.phone, found.profile_name, found.username) == (
        *(PhoneNumber("+5511987654321"), "Ana", "ana.b"),
    )


async def test_what_was_said_before_the_move_brings_no_old_user_id_back(apply, ana, look):
    await apply([told(ana, wa_id=OLD.wa_id, user_id=OLD_ID.value)])
    ids = {"user_id": NEW_ID.value, "previous_user_id": OLD_ID.value}
    await apply([moved(ana, OLD.wa_id, NEW.wa_id, at=T0 + 2 * MINUTE, **ids)])

    await apply([told(ana, wa_id=OLD.wa_id, user_id=OLD_ID.value, at=T0 + MINUTE)])

    found = await look(NEW)
    assert (found.phone, found.user_id, found.unread_count) == (NEW, NEW_ID, 3)


async def test_a_move_within_a_group_changes_nobody(apply, ana, look):
    notice = moved(ana, OLD.wa_id, NEW.wa_id, at=T0)
    content = notice.content
    await apply([told(ana, wa_id=OLD.wa_id, content=content, raw={"group_id": "g.1"})])

    assert await look(NEW) is None


@pytest.mark.parametrize(
    ("dialled", "spelled"),
    [
        ("+5511987654321", "551187654321"),
        ("+525512345678", "5215512345678"),
        ("+541123456789", "5491123456789"),
    ],
)
async def test_both_spellings_lead_to_one_conversation_from_the_first_message_on(
    apply, ana, look, dialled, spelled
):
    await apply([told(ana, wa_id=spelled)])
    await apply([told(ana, wa_id=dialled[1:])])

    both = [await look(PhoneNumber(dialled)), await look(PhoneNumber(f"+{spelled}"))]

    assert {one.id for one in both} == {both[0].id}
    assert both[0].unread_count == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_the_latest_wish_about_marketing_holds(sessions, ana, look, order):
    wishes = [
        MarketingWish(phone=OLD, user_id=None, stopped=True, at=T0),
        MarketingWish(phone=OLD, user_id=OLD_ID, stopped=False, at=T0 + MINUTE),
    ]
    for index in order:
        async with work_in(sessions)(ana.tenant_id) as work:
            await heed_marketing_wishes(work, ana.channel.id, [wishes[index]])
            await work.commit()

    found = await look(OLD)

    assert (found.marketing_stopped, found.marketing_at) == (False, T0 + MINUTE)
    assert (found.id, found.last_message_at) == ((await look(OLD_ID)).id, None)


async def test_a_wish_survives_a_merge_and_new_messages(sessions, apply, ana, look):
    await apply([told(ana, user_id=USERS[0])])
    wishes = [MarketingWish(phone=OLD, user_id=None, stopped=True, at=T0)]
    async with work_in(sessions)(ana.tenant_id) as work:
        await heed_marketing_wishes(work, ana.channel.id, wishes)
        await work.commit()
    await apply([told(ana, wa_id=OLD.wa_id, user_id=USERS[0])])

    assert (await look(UserId(USERS[0]))).marketing_stopped


@pytest.mark.parametrize(("value", "stopped"), [("stop", True), ("resume", False)])
async def test_what_meta_reports_of_preferences_is_heeded(apply, ana, look, value, stopped):
    body = json.loads((PAYLOADS / "field" / "user_preferences.json").read_text())
    change = body["entry"][0]["changes"][0]["value"]
    change["metadata"]["phone_number_id"] = ana.channel.phone_number_id
    change["user_preferences"][0] |= {"value": value, "wa_id": OLD.wa_id}
    await apply(parse_webhook(json.dumps(body).encode()).elements)

    found = await look(OLD)

    assert found.marketing_stopped is stopped
    assert found.marketing_at == datetime.fromtimestamp(1795420800, UTC)


def call(customer, **values):
    """A webhook about a call, as Meta tells of it."""
    body = json.loads((PAYLOADS / "field" / "calls.json").read_text())
    change = body["entry"][0]["changes"][0]["value"]
    change["metadata"]["phone_number_id"] = customer.channel.phone_number_id
    change["calls"][0] |= {"from": OLD.wa_id} | values
    return parse_webhook(json.dumps(body).encode()).elements


async def test_a_call_opens_the_window_of_whoever_calls_and_nothing_is_unread(apply, ana, look):
    await apply(call(ana))

    found = await look(OLD)

    assert found.last_inbound_at == datetime.fromtimestamp(1795420800, UTC)
    assert (found.unread_count, found.last_message_at) == (0, None)


async def test_an_older_call_does_not_shorten_the_window_that_a_message_opened(apply, ana, look):
    await apply([told(ana, wa_id=OLD.wa_id, at=T0)])
    opened = (await look(OLD)).last_inbound_at
    await apply(call(ana, timestamp=str(int((T0 - MINUTE).timestamp()))))

    found = await look(OLD)

    assert (found.last_inbound_at, found.unread_count) == (opened, 1)


@pytest.mark.parametrize(
    "values",
    [
        {"direction": "BUSINESS_INITIATED", "from": "15550783881", "to": OLD.wa_id},
        {"event": "terminate", "status": "COMPLETED"},
        {"timestamp": "soon"},
        {"from": None},
    ],
    ids=str,
)
async def test_a_call_of_ours_and_the_end_of_one_open_no_window(apply, ana, look, values):
    await apply(call(ana, **values))

    assert await look(OLD) is None


async def test_a_failure_because_of_an_opt_out_is_a_wish(apply, ana, look):
    failed = StatusReported(
        waba_id="1",
        phone_number_id=ana.channel.phone_number_id,
        wamid="wamid.opted.out",
        status=MessageStatus.FAILED,
        occurred_at=T0,
        wa_id=OLD.wa_id,
        user_id=None,
        echo=None,
        errors=(FailureReason(131050, "User has stopped marketing messages", ""),),
        pricing=None,
        raw={},
    )
    await apply([failed])

    found = await look(OLD)

    assert (found.marketing_stopped, found.marketing_at) == (True, T0)


async def test_wishes_of_people_who_share_a_name_are_heeded_in_turn(sessions, ana, look):
    wishes = [
        MarketingWish(phone=OLD, user_id=None, stopped=True, at=T0),
        MarketingWish(phone=None, user_id=None, stopped=True, at=T0),
        MarketingWish(phone=NEW, user_id=OLD_ID, stopped=True, at=T0),
        MarketingWish(phone=OLD, user_id=OLD_ID, stopped=False, at=T0 - MINUTE),
    ]
    async with work_in(sessions)(ana.tenant_id) as work:
        await heed_marketing_wishes(work, ana.channel.id, wishes)
        await work.commit()

    found = [await look(OLD), await look(NEW), await look(OLD_ID)]

    assert {one.id for one in found} == {found[0].id}
    assert found[0].marketing_stopped


async def test_a_thousand_people_are_known_in_one_statement(wire, ana, database):
    people = [
        Person(
            names=(PhoneNumber(f"+49151{n:08}"), UserId(f"DE.p{n}")),
            phone=PhoneNumber(f"+49151{n:08}"),
            user_id=UserId(f"DE.p{n}"),
            at=T0,
        )
        for n in range(1000)
    ]
    engine = create_engine(wire.url(database.url("tellwire_app")))
    async with work_in(create_session_factory(engine))(ana.tenant_id) as work:
        await know_people(work, ana.channel.id, people[:1])
        wire.clear()
        await know_people(work, ana.channel.id, people)
        statements = wire.statements
    await engine.dispose()

    assert len(statements) == 1
