"""Whatever Meta tells, however it is ordered, cut and repeated, and whoever processes it: one end.

Four people of whom one moves to another's number, three messages of ours, an account with a
template: told once in order, one by one, and once at random to three processors at a time.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from webhook_bodies import APP, change, edit_of, inbound_to, messages_of
from whatsapp.domain.value_objects import PhoneNumber
from whatsapp.infrastructure.cloud_api.callback import callback_data

pytestmark = pytest.mark.postgres

T0 = 1795420800
PEOPLE = (
    (("5511987654321", "551187654321"), "BR.a1"),
    (("5215512345678", "525512345678"), "MX.b2"),
    (("4915155550000",), "DE.c3"),
    (("5491123456789", "541123456789"), "AR.d4"),
)
MOVER, NEW = PEOPLE[0], PEOPLE[3]
OURS = ("+5511987654321", "+525512345678", "+4915155550000")
KINDS = ("inbound", "status", "edit", "group", "wish", "call", "move")
OF_THE_ACCOUNT = ("template", "quality", "ban")
BY_RANK = ("unknown", "sent", "failed", "delivered", "read")


@pytest.fixture
def database(module_database):
    return module_database


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that Meta tells, at `at` in Unix seconds; each kind takes of it what it needs."""

    kind: str
    at: int
    phone: str | None
    user: str | None
    new: str
    n: int
    status: str
    flag: bool


@st.composite
def events(draw, kinds: Sequence[str], moves_at: int) -> Event:
    kind = draw(st.sampled_from(kinds))
    who, minute, n = draw(st.integers(0, 2)), draw(st.integers(0, 2000)), draw(st.integers(0, 5))
    if kind == "move":
        who, minute = 0, moves_at
    if kind == "status":
        who = n % len(OURS)
        minute = minute % moves_at if who == 0 else minute
    phones, user = NEW if who == 0 and minute > moves_at else PEOPLE[who]
    # Another name of somebody who never wrote is not kept, so statuses tell none.
    named = "phone" if kind == "status" else draw(st.sampled_from(["phone", "user", "both"]))
    return Event(
        kind=kind,
        at=T0 + 60 * minute,
        phone=None if named == "user" and kind != "move" else draw(st.sampled_from(phones)),
        user=None if named == "phone" else user,
        new=draw(st.sampled_from(NEW[0])),
        n=n,
        status=draw(st.sampled_from(BY_RANK[1:])),
        flag=draw(st.booleans()),
    )


@st.composite
def plays(draw):
    """What is told, the order in which it comes, some of it twice, and where bodies are cut."""
    moves_at = draw(st.integers(500, 1500))
    # Few kinds in each, so that one thing is told of one person again and again.
    kinds = draw(st.lists(st.sampled_from(KINDS + OF_THE_ACCOUNT), max_size=2))
    event = events(["inbound", "status", *kinds], moves_at)
    told = draw(st.lists(event, min_size=4, max_size=10, unique_by=lambda one: one.at))
    again = draw(st.lists(st.integers(0, len(told) - 1), max_size=2))
    order = draw(st.permutations([*range(len(told)), *again]))
    cuts = sorted(draw(st.sets(st.integers(1, len(order) - 1), max_size=4)))
    return told, [order[a:b] for a, b in pairwise([0, *cuts, len(order)])]


@dataclass(frozen=True, slots=True)
class Told:
    """A tenant of whom Meta tells: `change(place, event)` is what it writes."""

    customer: Any
    waba: str
    ours: Sequence[Any]

    def entry(self, place: int, one: Event) -> dict[str, Any]:
        written = {"id": self.waba, "changes": [self.change(place, one)]}
        return written | ({"time": one.at} if one.kind in OF_THE_ACCOUNT else {})

    def change(self, place: int, one: Event) -> dict[str, Any]:
        number = messages_of(self.customer)["value"]
        match one.kind:
            case "status":
                return messages_of(self.customer, statuses=[self.status(one)])
            case "wish":
                wish = _named(one, "wa_id", "user_id") | {"category": "marketing_messages"}
                wish |= {"value": "stop" if one.flag else "resume", "timestamp": one.at}
                return change("user_preferences", **number, user_preferences=[wish])
            case "call":
                call = _named(one, "from", "from_user_id") | {"event": "connect"}
                call |= {"direction": "USER_INITIATED", "timestamp": str(one.at)}
                return change("calls", **number, calls=[call])
            case "template":
                return change(
                    "message_template_status_update",
                    event="APPROVED" if one.flag else "REJECTED",
                    message_template_name="offer",
                    message_template_language="en-US",
                )
            case "quality" | "ban":
                return _of_the_account(one)
            case _:
                return self.message(place, one)

    def message(self, place: int, one: Event) -> dict[str, Any]:
        given: dict[str, Any] = _named(one, "from", "from_user_id") | {"timestamp": str(one.at)}
        written = partial(inbound_to, self.customer, f"in.{place}")
        match one.kind:
            case "edit":
                text = {"type": "text", "text": {"body": str(one.at)}}
                written = partial(edit_of, self.customer, f"in.{one.n}", text, wamid=f"in.{place}")
            case "group":
                given["group_id"] = "group"
            case "move":
                moved = {"type": "user_changed_number", "wa_id": one.new}
                if one.user:
                    moved |= {"user_id": NEW[1], "previous_user_id": MOVER[1]}
                given |= {"type": "system", "system": moved}
        made = written(**given)
        (message,) = made["value"]["messages"]
        made["value"]["messages"] = [message if one.phone else _without(message, "from")]
        contact = _named(one, "wa_id", "user_id") | {"profile": {"name": str(one.at)}}
        return messages_of(self.customer, contacts=[contact], **_messages(made))

    def status(self, one: Event) -> dict[str, Any]:
        n = one.n % len(OURS)
        report = _named(one, "recipient_id", "recipient_user_id")
        report |= {"id": f"out.{n}", "status": one.status, "timestamp": str(one.at)}
        if one.flag:
            echo = callback_data(message_id=self.ours[n], attempt=1)
            report["biz_opaque_callback_data"] = echo
        if one.status == "failed":
            report["errors"] = [{"code": 131026, "title": "Undeliverable"}]
        return report


def _of_the_account(one: Event) -> dict[str, Any]:
    if one.kind == "quality":
        return change("phone_number_quality_update", event="FLAGGED" if one.flag else "UNFLAGGED")
    ban = {"waba_ban_state": "DISABLE" if one.flag else "REINSTATE"}
    return change("account_update", event="DISABLED_UPDATE", ban_info=ban)


def _named(one: Event, phone: str, user: str) -> dict[str, Any]:
    return {key: name for key, name in ((phone, one.phone), (user, one.user)) if name}


def _without(message: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != key}


def _messages(made: dict[str, Any]) -> dict[str, Any]:
    return {"messages": made["value"]["messages"]}


@dataclass(frozen=True, slots=True)
class Few:
    """The queue, of which each processor takes two bodies at a time."""

    queue: Any

    async def claim(self, *, limit: int, lease: Any) -> Any:
        return await self.queue.claim(limit=min(limit, 2), lease=lease)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.queue, name)


async def people(intake, told: Told) -> list[dict[str, Any]]:
    """The contacts, with their addresses and what was said last by a name that lasts."""
    rows = await intake.superuser.fetch(
        "SELECT v.phone, v.user_id, v.profile_name, v.last_inbound_at, v.last_outbound_at,"
        " v.unread_count, v.last_message_at, v.marketing_stopped, v.marketing_at,"
        " coalesce(i.wamid, o.recipient) AS last_message, ARRAY("
        "  SELECT address FROM whatsapp_conversation_addresses a"
        "  WHERE a.tenant_id = v.tenant_id AND a.conversation_id = v.id AND NOT coalesce("
        "   a.left_at > coalesce(a.arrived_at, '-infinity'), false) ORDER BY 1) AS addresses"
        " FROM whatsapp_conversations v"
        " LEFT JOIN whatsapp_inbound_messages i ON i.id = v.last_message_id"
        " LEFT JOIN whatsapp_outbound_messages o ON o.id = v.last_message_id"
        " WHERE v.tenant_id = $1 AND v.merged_into IS NULL",
        told.customer.tenant_id,
    )
    # Which of the two spellings was heard last, a notice of the system does not tell.
    found = [
        dict(row) | {"phone": row["phone"] and PhoneNumber(row["phone"]).canonical.e164}
        for row in rows
    ]
    return sorted(found, key=lambda one: (one["addresses"], str(one)))


async def everything(intake, told: Told) -> dict[str, Any]:
    fetch, tenant = intake.superuser.fetch, told.customer.tenant_id
    messages = await fetch(
        "SELECT id, status, wamid, failure_code FROM whatsapp_outbound_messages"
        " WHERE tenant_id = $1",
        tenant,
    )
    reports = await fetch(
        "SELECT wamid, status, occurred_at, message_id FROM whatsapp_status_events"
        " WHERE tenant_id = $1",
        tenant,
    )
    channel = await intake.channel(told.customer)
    places = {one: place for place, one in enumerate(told.ours)}
    return {
        "people": await people(intake, told),
        "messages": sorted(
            (places[row["id"]], row["status"], row["wamid"], row["failure_code"])
            for row in messages
        ),
        "reports": sorted(
            (row["wamid"], row["status"], row["occurred_at"], places.get(row["message_id"], -1))
            for row in reports
        ),
        "inbound": await intake.inbound(told.customer),
        "templates": await intake.column(
            "SELECT status FROM whatsapp_templates WHERE tenant_id = $1", tenant
        ),
        # A flag that was lifted before it was heard of leaves what was known: nothing.
        "channel": (
            channel["status"],
            channel["quality_rating"] or "UNKNOWN",
            channel["reported"],
        ),
        "kept": len(await intake.kept(told.customer)),
    }


def expected(told: Sequence[Event]) -> dict[str, Any]:
    """What there has to be by the rules alone; who is who is left to the comparison."""
    reports = [one for one in told if one.kind == "status"]
    known = {one.n % len(OURS) for one in reports if one.flag}
    told_of = {n: [r.status for r in reports if r.n % len(OURS) == n] for n in known}
    best = {n: max(told_of.get(n, ["unknown"]), key=BY_RANK.index) for n in range(len(OURS))}
    wamids = [
        f"in.{place}"
        for place, one in enumerate(told)
        if one.kind in {"inbound", "edit", "group", "move"}
    ]
    templates = [one for one in told if one.kind == "template"]
    latest = max(templates, key=lambda one: one.at, default=None)
    bans = [one for one in told if one.kind == "ban"]
    ban = max(bans, key=lambda one: one.at, default=None)
    return {
        "messages": [
            (n, status, f"out.{n}" if n in known else None, 131026 if status == "failed" else None)
            for n, status in best.items()
        ],
        "reports": sorted(
            (f"out.{n}", one.status, datetime.fromtimestamp(one.at, UTC), n if n in known else -1)
            for one in reports
            for n in (one.n % len(OURS),)
        ),
        "inbound": sorted(wamids),
        "templates": [] if latest is None else ["APPROVED" if latest.flag else "REJECTED"],
        "status": "paused" if ban is not None and ban.flag else "active",
        "unread": sum(one.kind in {"inbound", "move"} for one in told),
    }


async def test_a_story_ends_alike_in_any_order_and_as_the_rules_say(
    known, new_customer, left
) -> None:
    loop = asyncio.get_running_loop()
    process = replace(known.process, inbox=Few(known.process.inbox))

    async def drain() -> None:
        while await process():
            pass

    async def tell(
        events: Sequence[Event], bodies: Sequence[Sequence[int]], *, processors: int
    ) -> dict[str, Any]:
        customer = await new_customer()
        told = Told(
            customer, f"waba-{customer.tenant_id}", [await left(customer, to) for to in OURS]
        )
        await known.superuser.execute(
            "UPDATE whatsapp_channels SET provider_account_id = $2 WHERE id = $1",
            *(customer.channel.id, told.waba),
        )
        for places in bodies:
            entries = [told.entry(place, events[place]) for place in places]
            written = {"object": "whatsapp_business_account", "entry": entries}
            await known.inbox.append(APP, json.dumps(written).encode())
        await asyncio.gather(*(drain() for _ in range(processors)))
        assert await known.quarantine() == []
        return await everything(known, told)

    async def play(story) -> None:
        events, bodies = story
        in_order = sorted(range(len(events)), key=lambda place: events[place].at)
        in_turn = await tell(events, [[place] for place in in_order], processors=1)
        at_random = await tell(events, bodies, processors=3)

        # A call and an edit open no place in time for the name that stands beside them.
        if any(one.kind in {"call", "edit"} for one in events):
            for person in (*in_turn["people"], *at_random["people"]):
                del person["profile_name"]
        assert at_random == in_turn
        found = {key: at_random[key] for key in ("messages", "reports", "inbound", "templates")}
        found["status"] = at_random["channel"][0]
        found["unread"] = sum(person["unread_count"] for person in at_random["people"])
        assert found == expected(events)

    @settings(
        max_examples=80,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],  # Shrinking it takes minutes.
    )
    @given(plays())
    def law(story) -> None:
        asyncio.run_coroutine_threadsafe(play(story), loop).result(60)

    await asyncio.to_thread(law)
