"""The same report with our echo and without it, in bodies of their own, about a lost answer."""

from itertools import count

import pytest

from webhook_bodies import body, status_of
from whatsapp.infrastructure.cloud_api.callback import callback_data

pytestmark = pytest.mark.postgres

_numbers = count(1)


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@pytest.fixture
def lost(left, ana):
    """`await lost()`: the id of a message of Ana's whose answer nobody has."""

    async def lost():
        return await left(ana, f"+49152{next(_numbers):08}")

    return lost


def named(customer, message_id, status="delivered", at=1764000000):
    echo = callback_data(message_id=message_id, attempt=1)
    return unnamed(customer, message_id, status, at, biz_opaque_callback_data=echo)


def unnamed(customer, message_id, status="delivered", at=1764000000, **more):
    return status_of(customer, f"wamid.{message_id}", status, timestamp=str(at), **more)


async def standing(superuser, message_id):
    return tuple(
        await superuser.fetchrow(
            "SELECT status, wamid FROM whatsapp_outbound_messages WHERE id = $1", message_id
        )
    )


@pytest.mark.parametrize("status", ["sent", "delivered", "read", "failed"])
@pytest.mark.parametrize("is_named_first", [True, False])
@pytest.mark.parametrize("bodies", [1, 2])
async def test_the_second_tells_the_wamid_and_the_event_once(
    intake, ana, lost, told, superuser, status, is_named_first, bodies
):
    message_id = await lost()
    more = {"errors": [{"code": 131026, "title": "x"}]} if status == "failed" else {}
    echo = callback_data(message_id=message_id, attempt=1)
    without = unnamed(ana, message_id, status, **more)
    given = unnamed(ana, message_id, status, biz_opaque_callback_data=echo, **more)
    both = [given, without] if is_named_first else [without, given]

    for one in [body(*both)] if bodies == 1 else [body(one) for one in both]:
        await intake.take_in(one)

    assert await standing(superuser, message_id) == (status, f"wamid.{message_id}")
    assert await told() == [f"message.{status} wamid.{message_id}"]
    assert len(await intake.reports(ana)) == 1


async def test_a_step_that_was_parked_is_told_before_the_one_that_stands(
    intake, ana, lost, told, superuser
):
    message_id = await lost()
    for one in [
        unnamed(ana, message_id, "read", 1764000002),
        unnamed(ana, message_id, "delivered", 1764000001),
        named(ana, message_id, "delivered", 1764000001),
        named(ana, message_id, "read", 1764000002),
        named(ana, message_id, "sent"),
    ]:
        await intake.take_in(body(one))

    assert await standing(superuser, message_id) == ("read", f"wamid.{message_id}")
    assert await told() == [
        f"message.{status} wamid.{message_id}" for status in ("delivered", "read")
    ]


async def test_bodies_that_name_each_others_lost_messages_wait_for_each_other(
    ana, lost, both_stored, superuser
) -> None:
    """Each names one message and does not name the other: neither is undone to go on."""
    one, other = await lost(), await lost()
    await both_stored(
        body(named(ana, one), unnamed(ana, other)),
        body(named(ana, other, "read"), unnamed(ana, one, "read")),
    )
    assert await standing(superuser, one) == ("read", f"wamid.{one}")
    assert await standing(superuser, other) == ("read", f"wamid.{other}")
