"""What one channel is told is stored by handfuls: nothing is lost, doubled or waits for itself."""

import asyncio
from dataclasses import replace
from itertools import count

import pytest

from webhook_bodies import APP, body, inbound_to, messages_of, new_wamid, number_of, status_of
from whatsapp.application.handfuls import MAX_AT_ONCE
from whatsapp.infrastructure.cloud_api.callback import callback_data

pytestmark = pytest.mark.postgres

RATE = 80
_numbers = count(1)


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@pytest.fixture
def sent(left, superuser, ana):
    """`await sent()`: the id of a message of Ana's that Meta has called by its wamid."""

    async def sent():
        message_id = await left(ana, f"+49151{next(_numbers):08}")
        await superuser.execute(
            "UPDATE whatsapp_outbound_messages SET status = 'sent', wamid = $2 WHERE id = $1",
            message_id,
            f"wamid.{message_id}",
        )
        return message_id

    return sent


def named(customer, message_id, status="delivered"):
    return status_of(
        customer, f"wamid.{message_id}", status, biz_opaque_callback_data=_echo(message_id)
    )


def unnamed(customer, message_id, status="delivered"):
    return status_of(customer, f"wamid.{message_id}", status)


def trouble(customer, code):
    return messages_of(customer, errors=[{"code": code, "title": "x"}])


def _echo(message_id):
    return callback_data(message_id=message_id, attempt=1)


async def statuses(superuser, *ids):
    return {
        await superuser.fetchval("SELECT status FROM whatsapp_outbound_messages WHERE id = $1", one)
        for one in ids
    }


async def test_bodies_that_name_each_others_unnamed_messages_wait_for_each_other(
    ana, sent, both_stored, superuser
) -> None:
    """Each names one message and does not name the other: neither is undone to go on."""
    one, other = await sent(), await sent()
    await both_stored(
        body(named(ana, one), unnamed(ana, other)),
        body(named(ana, other, "read"), unnamed(ana, one, "read")),
    )
    assert await statuses(superuser, one, other) == {"read"}


async def test_a_body_of_many_handfuls_is_stored_told_and_counted_once(
    intake, ana, sent, told, superuser
) -> None:
    number = MAX_AT_ONCE + 7
    ids = [await sent() for _ in range(5)]
    many = [inbound_to(ana) for _ in range(number)]
    reports = [named(ana, ids[0]), unnamed(ana, ids[1]), named(ana, ids[2], "read")]
    long = body(*many[:60], *reports, *many[60:], unnamed(ana, ids[0]), named(ana, ids[1], "read"))

    await intake.take_in(long, body(*many[:3], *reports), long)

    assert len(await intake.inbound(ana)) == number
    assert intake.debits.taken == [(number_of(ana), number, RATE)]
    assert intake.counted["inbound", "applied"] == number
    assert intake.counted["status", "applied"] == len(await intake.reports(ana)) == 4
    events = await told()
    assert len(events) == len(set(events)) == number + 4
    assert await statuses(superuser, ids[1], ids[2]) == {"read"}


async def test_what_repeats_nothing_is_stored_in_one_go_and_what_does_in_two(
    intake, ana, sent, told
) -> None:
    ids, tries = [await sent() for _ in range(3)], []
    apply = intake.process.apply

    async def statuses_applied(work, route, reported, *, all_new):
        tries.append(all_new)
        return await apply.statuses(work, route, reported, all_new=all_new)

    intake.process = replace(intake.process, apply=replace(apply, statuses=statuses_applied))
    old, new = (named(ana, ids[0]), named(ana, ids[1])), named(ana, ids[2])

    await intake.take_in(body(*old))
    assert tries == [True]
    await intake.take_in(body(inbound_to(ana), *old, new))
    assert tries == [True, True, False]
    assert len(await intake.reports(ana)) == 3
    assert len(await told()) == 4
    assert intake.counted["status", "applied"] == 3
    assert intake.counted["inbound", "applied"] == 1
    assert intake.debits.taken == [(number_of(ana), 1, RATE)]


async def test_what_is_broken_in_a_later_handful_is_kept_alone(intake, ana, told) -> None:
    poison = new_wamid()
    intake.poison.add(poison)
    number = 2 * MAX_AT_ONCE
    many = [inbound_to(ana) for _ in range(number)]

    await intake.take_in(body(*many, inbound_to(ana, poison)), body(*many[:2], inbound_to(ana)))
    await intake.wait_out_leases(attempts=5)

    assert len(await intake.inbound(ana)) == number + 1
    assert sum(taken for _, taken, _ in intake.debits.taken) == number + 1
    assert intake.counted["inbound", "applied"] == number + 1
    events = await told()
    assert len(events) == len(set(events)) == number + 1
    assert len(await intake.quarantine()) == 1
    assert await intake.column("SELECT count(*) FROM webhook_inbox") == [0]


async def test_who_dies_between_handfuls_leaves_the_rest_to_the_next(intake, ana, told) -> None:
    number = 2 * MAX_AT_ONCE + 1
    troubles = [trouble(ana, 131000), trouble(ana, 131016)]
    apply, calls = intake.process.apply, 0

    async def dying(route, belonging):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise asyncio.CancelledError
        return await apply(route, belonging)

    await intake.inbox.append(APP, body(*troubles, *(inbound_to(ana) for _ in range(number))))
    with pytest.raises(asyncio.CancelledError):
        await replace(intake.process, apply=dying)()
    await intake.wait_out_leases()

    assert len(await intake.inbound(ana)) == number
    assert sum(taken for _, taken, _ in intake.debits.taken) == number
    assert len(await intake.kept(ana)) == 2
    events = await told()
    assert len(events) == len(set(events)) == number


async def test_what_is_said_without_a_time_is_judged_the_same_across_handfuls(intake, ana) -> None:
    """The same words with others between are news, also where they stand handfuls apart."""
    between = [inbound_to(ana) for _ in range(MAX_AT_ONCE)]
    words = [trouble(ana, code) for code in (131000, 131016, 131000)]
    said = body(words[0], *between, words[1], *between[:5], words[2])

    await intake.inbox.append(APP, said)
    copies = await intake.superuser.fetch("SELECT id, app_id, body FROM webhook_inbox")
    await intake.take_in()
    for copy in copies:  # As if the processor had died before it took them out.
        await intake.superuser.execute(
            "INSERT INTO webhook_inbox (id, app_id, body) VALUES ($1, $2, $3)", *copy.values()
        )
    await intake.take_in()

    assert len(await intake.kept(ana)) == 3


async def test_others_are_looked_after_between_any_two_bodies(intake, ana) -> None:
    """A handful of bodies is read in one go: requests whose slot comes meanwhile have to leave."""
    bodies, seen = 30, []

    class Inbox(type(intake.process.inbox)):
        async def routes(self, **asked):
            seen.append("routes")
            return await super().routes(**asked)

    def parse(raw):
        seen.append("parse")
        return intake_parses(raw)

    async def apply(*given):
        seen.append("apply")
        return await intake_applies(*given)

    intake_parses, intake_applies = intake.process.parse, intake.process.apply
    intake.process = replace(
        intake.process,
        inbox=Inbox(intake.process.inbox._engine),
        parse=parse,
        apply=apply,
        look=lambda: seen.append("look"),
    )
    for _ in range(bodies):
        await intake.inbox.append(APP, body(inbound_to(ana)))

    assert await intake.process() == bodies

    read, placed = seen[: seen.index("routes")], seen[seen.index("routes") + 1 :]
    assert read == ["look", "parse"] * bodies
    assert placed[: placed.index("apply")] == ["look"] * bodies
