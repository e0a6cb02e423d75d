"""What goes to one person keeps Meta's limit and its order, however their number is written."""

import asyncio
from uuid import UUID

import pytest

SPELLINGS = ("+5215512345678", "+525512345678")
MESSAGES, AT_ONCE = 48, 44


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(360)
async def test_two_spellings_never_make_meta_refuse_and_go_out_in_order(stack) -> None:
    """The simulator counts by `wa_id`, as Meta does; each spelling alone is far from the limit."""
    sender = await stack.new_sender("Ana's Bakery", "3101")
    ids = []
    for number in range(MESSAGES):
        body = {"to": SPELLINGS[number % 2], "type": "text", "text": {"body": f"Part {number}"}}
        ids.append((await stack.post(sender, body))["id"])

    seen = await offered(stack, sender, AT_ONCE)

    assert seen["rejected"] == {}
    log = await stack.control(f"log?phone_number_id={sender.phone_number_id}&limit=1000")
    arrived = [UUID(one["callback"].split(".")[1]) for one in log["entries"] if one.get("callback")]
    assert arrived == [UUID(one) for one in ids[: len(arrived)]]
    assert len(arrived) >= AT_ONCE


async def offered(stack, sender, number: int):
    """What Meta saw once so many messages came, or at the latest after a minute."""
    limit = asyncio.get_running_loop().time() + 60
    while True:
        seen = await stack.seen_of(sender)
        if seen["offered"] >= number or asyncio.get_running_loop().time() > limit:
            return seen
        await asyncio.sleep(0.1)
