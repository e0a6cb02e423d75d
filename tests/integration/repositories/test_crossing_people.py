"""Merges that cross wait for, and not on, each other: nothing has to be tried again."""

import asyncio
from random import Random

import pytest

from shared.infrastructure.database import create_engine, create_session_factory
from shared.kernel.ids import new_id
from webhook_bodies import body, inbound_to, new_wamid
from whatsapp.application.applied import Placed
from whatsapp.application.apply_changes import ApplyChanges
from whatsapp.application.apply_inbound import ApplyInbound
from whatsapp.application.apply_statuses import ApplyStatuses
from whatsapp.application.apply_webhook import ApplyWebhook
from whatsapp.application.know_contact import KnowContact
from whatsapp.application.read_conversation import ReadConversation
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_status_errors
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

PROCESSORS = 6
ROUNDS = 12
PEOPLE = 4


@pytest.fixture
async def begin(database):
    engine = create_engine(database.url("tellwire_app"), pool_size=PROCESSORS + 1)
    yield work_in(create_session_factory(engine))
    await engine.dispose()


@pytest.fixture
def apply(begin, ana):
    """Once, whatever it raises."""
    webhook = ApplyWebhook(
        begin=begin,
        statuses=ApplyStatuses(judge=outcome_of_status_errors),
        inbound=ApplyInbound(),
        changes=ApplyChanges(),
        followers=[KnowContact()],
    )

    async def apply(*messages):
        elements = parse_webhook(body(*messages)).elements
        placed = [Placed(new_id(), element) for element in elements]
        await webhook(Route(ana.tenant_id, ana.channel.id), placed)

    return apply


def phone(turn: int, number: int) -> str:
    return f"4915155{turn:04}{number:02}"


def user(turn: int, number: int) -> str:
    return f"DE.user{turn}x{number}"


async def test_merges_that_cross_never_have_to_be_tried_again(apply, ana, superuser) -> None:
    """Each processor joins every phone with two user ids, in an order of its own."""
    rng = Random(7)
    for turn in range(ROUNDS):
        alone = [{"from": phone(turn, n)} for n in range(PEOPLE)]
        alone += [{"from": "", "from_user_id": user(turn, n)} for n in range(PEOPLE)]
        await apply(*(inbound_to(ana, new_wamid(), **one) for one in alone))
        joins = [
            {"from": phone(turn, n), "from_user_id": user(turn, (n + step) % PEOPLE)}
            for n in range(PEOPLE)
            for step in (0, 1)
        ]
        shares = [rng.sample(joins, 3) for _ in range(PROCESSORS - 1)]
        shares.append(joins)

        async def process(share):
            for at in range(0, len(share), 2):
                pair = share[at : at + 2]
                await apply(*(inbound_to(ana, new_wamid(), **one) for one in pair))

        await asyncio.gather(*(process(share) for share in shares))

        people = await superuser.fetchval(
            "SELECT count(DISTINCT conversation_id) FROM whatsapp_conversation_addresses"
            " WHERE address LIKE $1 OR address LIKE $2",
            f"+4915155{turn:04}%",
            f"DE.user{turn}x%",
        )
        assert people == 1


class NoReceipts:
    """Meta is told elsewhere."""

    async def mark_as_read(self, **_):
        return None


async def test_reading_beside_merges_never_has_to_be_tried_again(
    apply, begin, ana, superuser
) -> None:
    read = ReadConversation(begin=begin, receipts=NoReceipts())
    for turn in range(ROUNDS):
        messages = [inbound_to(ana, new_wamid(), **{"from": phone(turn, n)}) for n in range(2)]
        messages.append(inbound_to(ana, new_wamid(), **{"from": "", "from_user_id": user(turn, 0)}))
        await apply(*messages)
        ids = await superuser.fetch(
            "SELECT DISTINCT conversation_id AS id FROM whatsapp_conversation_addresses"
            " WHERE address LIKE $1 OR address LIKE $2",
            f"+4915155{turn:04}%",
            f"DE.user{turn}x%",
        )
        names = [{"from": phone(turn, n), "from_user_id": user(turn, 0)} for n in (1, 0)]
        await asyncio.gather(
            *(apply(inbound_to(ana, new_wamid(), **one)) for one in names),
            *(read(ana.tenant_id, row["id"]) for row in ids),
        )
