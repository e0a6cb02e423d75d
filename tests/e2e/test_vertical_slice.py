"""Messages of two tenants go all the way, once, and never too fast; answers come back."""

import asyncio
from collections import Counter

import pytest

PER_TENANT = 250


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(180)
async def test_500_messages_of_two_tenants_are_all_read_once_and_never_over_the_rate(
    stack,
) -> None:
    senders = [
        await stack.new_sender("Ana's Bakery", "5001"),
        await stack.new_sender("Bea's Bikes", "5002"),
    ]

    async def post(sender, number, at_once):
        async with at_once:
            return await stack.post(
                sender,
                {
                    "to": f"+4915100{number:06d}",
                    "type": "text",
                    "text": {"body": f"Message {number}"},
                },
                **{"Idempotency-Key": f"order-{number}"},
            )

    async def run(sender):
        at_once = asyncio.Semaphore(8)
        accepted = await asyncio.gather(
            *(post(sender, number, at_once) for number in range(PER_TENANT))
        )
        return await stack.follow(sender, [one["id"] for one in accepted], within=90)

    ended = await asyncio.gather(*(run(sender) for sender in senders))

    for sender, messages in zip(senders, ended, strict=True):
        statuses = Counter(message["status"] for message in messages.values())
        assert statuses == {"read": PER_TENANT}, stack.logs()
        seen = await stack.seen_of(sender)
        assert seen["distinct_messages"] == seen["accepted"] == PER_TENANT
        assert seen["doubled_messages"] == 0
        assert seen["max_offered_in_any_second"] <= await stack.allowed_in_a_second(80)
