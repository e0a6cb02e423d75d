"""Reports of all kinds in one batch, by any hand, end as a simple model says.

Named, unnamed, of second copies, of another channel or tenant, of nobody, doubled: mixed by chance,
from seeds that stay, and cut into batches.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

import asyncpg
import pytest

from shared.kernel.ids import new_id
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import AlreadyReported, StatusReport
from whatsapp.domain.value_objects import MessageStatus

pytestmark = pytest.mark.postgres

S = MessageStatus
START = datetime(2026, 11, 23, tzinfo=UTC)
RANK = {S.SENT: 0, S.FAILED: 1, S.DELIVERED: 2, S.READ: 3}
REPORTED = tuple(RANK)
ROUNDS, MESSAGES, REPORTS = 40, 8, 60
LOCK = "SELECT id FROM whatsapp_outbound_messages"


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@pytest.fixture
def stored(at, message, superuser):
    """Messages whose one request is under way, and whose wamid is known or not."""

    async def stored(customer, number):
        messages = [message(customer) for _ in range(number)]
        async with at(customer) as desk:
            await desk.messages.save_outbound_many(messages)
        ids = [one.id for one in messages]
        await superuser.execute(
            "UPDATE whatsapp_outbound_messages SET attempts = 1, status = 'unknown'"
            " WHERE id = ANY($1)",
            ids,
        )
        await superuser.execute(
            "UPDATE whatsapp_outbound_messages SET status = 'sent', wamid = 'wamid.' || id"
            " WHERE id = ANY($1)",
            ids[::2],
        )
        return ids

    return stored


def report(wamid, status, at, message_id=None):
    failure = FailureReason(131026, "Undeliverable", "") if status is S.FAILED else None
    return StatusReport(
        wamid=wamid,
        status=status,
        occurred_at=START + timedelta(seconds=at),
        message_id=message_id,
        attempt=None if message_id is None else 1,
        failure=failure,
        errors=[] if failure is None else [{"code": failure.code, "title": "", "details": ""}],
    )


@dataclass
class Model:
    """Where messages stand, which wamids are theirs, and every report that was kept."""

    standing: dict
    wamids: dict
    kept: set

    def record(self, batch):
        for one in batch:
            if one.message_id in self.standing:
                self.wamids.setdefault(one.wamid, one.message_id)
        self.kept |= {(one.wamid, one.status.value, one.occurred_at) for one in batch}

    def end(self):
        """What all reports of a message together make of it, in whatever order they came."""
        for wamid, status, _ in self.kept:
            message_id = self.wamids.get(wamid)
            if message_id is not None:
                old = self.standing[message_id]
                if old is None or RANK[S(status)] > RANK[old]:
                    self.standing[message_id] = S(status)
        return self.standing


def drawn(rng, ids, foreign):
    """One report of any of the kinds; some are told both with and without their message."""
    status, at = rng.choice(REPORTED), rng.randrange(3)
    later = at + 10
    own, other = rng.choice(ids), rng.choice(foreign)
    return rng.choice(
        [
            report(f"wamid.{own}", status, at, own),
            report(f"wamid.{own}", status, at, own),
            report(f"wamid.{own}", status, at),
            report(f"wamid.{own}", status, later),
            report(f"wamid.copy.{own}", status, at, own),
            report(f"wamid.copy.{own}", status, at),
            report(f"wamid.copy.{own}", status, later),
            report(f"wamid.{other}", status, at, other),  # Of another channel or tenant.
            report(f"wamid.{other}", status, at),
            report(f"wamid.nobody.{rng.randrange(5)}", status, at),
            report(f"wamid.nobody.{rng.randrange(5)}", status, at, new_id()),
        ]
    )


@pytest.fixture
def record(at, ana):
    """As a processor does it: as if all were new, and once more where one was not."""

    async def record(batch):
        with suppress(AlreadyReported):
            async with at(ana) as desk:
                return await desk.messages.record_statuses(ana.channel.id, batch, all_new=True)
        async with at(ana) as desk:
            return await desk.messages.record_statuses(ana.channel.id, batch)

    return record


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_whatever_is_mixed_ends_as_the_model_says(
    ana, bea, stored, superuser, record, seed
) -> None:
    rng = Random(seed)
    ids, foreign = await stored(ana, MESSAGES), await stored(bea, 3)
    elsewhere = await stored(
        replace(ana, channel=replace(ana.channel, id=await _another(superuser, ana))), 3
    )
    all_foreign = [*foreign, *elsewhere]
    reports = [drawn(rng, ids, all_foreign) for _ in range(REPORTS)]
    before = await _standing(superuser, all_foreign)
    model = Model(
        {one: S.SENT if place % 2 == 0 else None for place, one in enumerate(ids)},
        {f"wamid.{one}": one for one in ids[::2]},
        set(),
    )
    first = 0
    while first < len(reports):
        batch = reports[first : first + rng.randrange(1, 25)]
        first += len(batch)
        model.record(batch)
        recorded = await record(batch)
        assert all(one.message_id in {None, *ids} for one in recorded.reports)

    kept = await superuser.fetch(
        "SELECT wamid, status, occurred_at, message_id FROM whatsapp_status_events"
        " WHERE channel_id = $1 AND tenant_id = $2",
        ana.channel.id,
        ana.tenant_id,
    )
    assert len(kept) == len(model.kept)
    assert {(row["wamid"], row["status"], row["occurred_at"]) for row in kept} == model.kept
    assert {row["message_id"] for row in kept} <= {None, *ids}
    for row in kept:
        assert row["message_id"] == model.wamids.get(row["wamid"]), row["wamid"]
    ended = {one: S.value if S else "unknown" for one, S in model.end().items()}
    assert await _standing(superuser, ids) == ended
    assert await _standing(superuser, all_foreign) == before


@pytest.mark.parametrize("turn", [sorted, lambda ids: sorted(ids, reverse=True)])
async def test_messages_are_taken_in_the_order_of_their_ids(
    at, ana, stored, superuser, database, is_waiting, turn
) -> None:
    """So that two batches wait for, and not on, each other: seen where one has to wait midway."""
    ids = sorted(await stored(ana, 60))
    for one in reversed(ids):  # They lie in the table in another order.
        await superuser.execute(
            "UPDATE whatsapp_outbound_messages SET details = details WHERE id = $1", one
        )
    batch = [report(f"wamid.{one}", S.READ, 0, one) for one in turn(ids)]

    async def tell():
        async with at(ana) as desk:
            await desk.messages.record_statuses(ana.channel.id, batch)

    other = await asyncpg.connect(database.superuser_url.replace("+asyncpg", ""))
    try:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks, other.transaction():
            await other.fetch(f"{LOCK} WHERE id = $1 FOR UPDATE", ids[30])
            telling = tasks.create_task(tell())
            await is_waiting(telling)
            free = await superuser.fetch(
                f"{LOCK} WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED", ids
            )
    finally:
        await other.close()

    assert [row["id"] for row in free] == ids[31:]
    assert set((await _standing(superuser, ids)).values()) == {"read"}


async def _standing(superuser, ids):
    rows = await superuser.fetch(
        "SELECT id, status FROM whatsapp_outbound_messages WHERE id = ANY($1)", ids
    )
    return {row["id"]: row["status"] for row in rows}


async def _another(superuser, customer):
    """Another channel of the customer's."""
    other = new_id()
    rows = await superuser.fetch(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name = 'whatsapp_channels'"
    )
    names = ", ".join({row["column_name"] for row in rows} - {"id", "phone_number_id"})
    await superuser.execute(
        f"INSERT INTO whatsapp_channels (id, phone_number_id, {names})"  # noqa: S608  # its columns
        f" SELECT $1, $2, {names} FROM whatsapp_channels WHERE id = $3",
        other,
        str(other.int)[:15],
        customer.channel.id,
    )
    return other
