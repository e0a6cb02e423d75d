"""A dispatcher does not end while something is due that came forward during its last claim."""

import asyncio

from whatsapp.domain.value_objects import MessageStatus

KIM = "+4915100000003"


class AnswersLate:
    """A queue whose answer that nothing is due arrives when all that was under way is recorded."""

    def __init__(self, queue, is_idle) -> None:
        self.queue, self.is_idle = queue, is_idle
        self.late = 0

    def __getattr__(self, name):
        return getattr(self.queue, name)

    async def claim(self, **given):
        claim = await self.queue.claim(**given)
        if not claim and not self.is_idle():
            self.late += 1
            while not self.is_idle():  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.01)
        return claim


async def test_what_comes_forward_during_a_claim_is_sent_before_the_dispatcher_ends(
    office,
) -> None:
    channel = await office.channel()
    office.queue = AnswersLate(office.queue, lambda: not dispatcher._open)
    messages = await office.store(channel, KIM, KIM)
    dispatcher = office.dispatcher(channel)

    async with asyncio.timeout(30):
        await dispatcher.run()

    assert office.queue.late
    assert {one.status for one in await office.read(messages)} == {MessageStatus.SENT}
