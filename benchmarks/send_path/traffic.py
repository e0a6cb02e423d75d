"""What is sent through the installation, and how its coming through is followed."""

import asyncio
import time
from collections.abc import Sequence
from itertools import count
from typing import Any, Final
from uuid import UUID

from benchmarks.plant import Plant

from shared.infrastructure.database import RLSManager, SQLAlchemyUnitOfWork
from whatsapp.domain.entities import Channel, OutboundMessage
from whatsapp.domain.value_objects import IdempotencyKey, MessageContent, PhoneNumber
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMessageRepository

BATCH: Final = 500
POSTS_AT_ONCE: Final = 2
PATIENCE_SECONDS: Final = 200.0
_recipients = count(1)


async def post_all(plant: Plant, channels: Sequence[Channel], number: int) -> None:
    """Have the API accept so many messages, in batches to each channel in turn."""
    work = iter(range(0, number, BATCH))

    async def post_some() -> None:
        for start in work:
            channel = channels[start // BATCH % len(channels)]
            await _post_batch(plant, channel, min(BATCH, number - start))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(POSTS_AT_ONCE):
            tasks.create_task(post_some())


async def _post_batch(plant: Plant, channel: Channel, number: int) -> None:
    messages = [body_for(channel) for _ in range(number)]
    async with plant.http.post(
        f"{plant.api}/v1/messages/batch",
        json={"messages": messages},
        headers=plant.headers(channel),
    ) as answer:
        accepted = (await answer.json()).get("accepted")
        if accepted != number:
            raise RuntimeError(f"{accepted} of {number} accepted, HTTP {answer.status}")


def body_for(channel: Channel) -> dict[str, Any]:
    """A request for another message, to a recipient of its own."""
    number = next(_recipients)
    return {
        "channel_id": str(channel.id),
        "to": f"+4917{number:08d}",
        "type": "text",
        "text": {"body": f"Your order {number} is on its way"},
    }


async def enqueue(plant: Plant, channels: Sequence[Channel], number: int) -> None:
    """Put so many messages straight into the queue of each channel, through the repository."""
    sessions = plant.installation.sessions
    for channel in channels:
        for start in range(0, number, BATCH):
            async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
                await rls.set_context(tenant_id=channel.tenant_id)
                messages = [_message(channel) for _ in range(min(BATCH, number - start))]
                await SQLAlchemyMessageRepository(uow.session).save_outbound_many(messages)
                await uow.commit()


def _message(channel: Channel) -> OutboundMessage:
    number = next(_recipients)
    return OutboundMessage(
        tenant_id=channel.tenant_id,
        channel_id=channel.id,
        recipient=PhoneNumber(f"+4917{number:08d}"),
        content=MessageContent.text(f"Your order {number} is on its way"),
        idempotency_key=IdempotencyKey(f"n{number}"),
    )


async def until(
    plant: Plant, channels: Sequence[Channel], since: UUID, *statuses: str, pause: float = 0.05
) -> float:
    """Wait until all of the channels' messages from `since` on stand there; gives when."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await plant.all_stand_at(channels, since, statuses):  # noqa: ASYNC110  # of others
            await asyncio.sleep(pause)
    return time.perf_counter()
