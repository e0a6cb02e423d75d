"""Workers that are stopped, asked to end, or left without an answer."""

import asyncio
import signal

import pytest
import pytest_asyncio

from crew import running_crew
from fleet import PATIENCE
from whatsapp.domain.entities import UnknownPolicy, WindowPolicy

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]


async def new_channel(crew, rate=100, **more):
    return await crew.fleet.new_channel(rate, window_policy=WindowPolicy.ALLOW, **more)


async def test_a_worker_stopped_beyond_its_lease_and_woken_again_changes_nothing(crew) -> None:
    channel = await new_channel(crew, on_unknown=UnknownPolicy.RESEND)
    await crew.fleet.enqueue(channel, 300)
    sleeper = crew.start_worker()
    await crew.until_requests(60, or_for=30)

    crew.kill_worker(sleeper, signal.SIGSTOP)
    crew.start_worker()
    await crew.settle(channel, within=100)
    before = await crew.judge(channel)
    crew.kill_worker(sleeper, signal.SIGCONT)
    await asyncio.sleep(2)
    after = await crew.judge(channel)

    assert before == after
    assert after.is_clean, (after, crew.logs())
    # Woken, it works on as if nothing had been.
    await crew.fleet.enqueue(channel, 50)
    await crew.settle(channel, within=60)
    assert (await crew.judge(channel)).is_clean


async def test_asked_to_end_a_worker_finishes_what_has_left_and_gives_back_the_rest(crew) -> None:
    channel = await new_channel(crew)
    await crew.fleet.enqueue(channel, 300)
    worker = crew.start_worker()
    await crew.until_requests(60, or_for=30)

    crew.kill_worker(worker, signal.SIGTERM)
    await crew.until_dead(worker, within=crew.fleet.settings.shutdown_grace_seconds)

    left = await crew.fleet.sql(
        "SELECT state, attempt, count(*) FROM whatsapp_send_queue GROUP BY 1, 2"
    )
    unknown = await crew.fleet.sql(
        "SELECT 1 FROM whatsapp_message_attempts WHERE tenant_id = $1 AND outcome <> 'accepted'",
        channel.tenant_id,
    )
    assert {tuple(row)[:2] for row in left} == {("ready", 0)}
    assert unknown == []
    crew.start_worker()
    await crew.settle(channel, within=60)
    verdict = await crew.judge(channel)
    assert verdict.is_clean
    assert set(verdict.statuses) == {"read"}


HUNG, ANSWERED = 10, 20
LEASE, GRACE = 30, 1
"""A request may take half of the lease: a worker that waits for its answers takes that long."""


async def test_asked_to_end_a_worker_leaves_what_is_not_answered_in_its_grace(directory) -> None:
    async with running_crew(
        directory, lease=LEASE, settings={"shutdown_grace_seconds": GRACE}
    ) as crew:
        channel = await new_channel(crew)
        await crew.fleet.control("webhooks/pause", {})  # No echo settles anything before the end.
        await crew.behave(channel, HUNG // 2, after="hang")
        await crew.behave(channel, HUNG // 2, before="hang")
        await crew.fleet.enqueue(channel, HUNG + ANSWERED)
        worker = crew.start_worker()
        await until_statuses(crew, channel, {"queued": HUNG, "sent": ANSWERED})

        crew.kill_worker(worker, signal.SIGTERM)
        await crew.until_dead(worker, within=LEASE / 2 - 3 * GRACE)

        crew.start_worker()
        await until_statuses(crew, channel, {"unknown": HUNG, "sent": ANSWERED})
        await crew.fleet.control("webhooks/resume", {})
        await crew.settle(channel, within=60)
        verdict = await crew.judge(channel)
        assert verdict.is_clean, (verdict, crew.logs())
        assert set(verdict.statuses) == {"read"}
        assert len(await crew.unknown_attempts(channel)) == HUNG


async def until_statuses(crew, channel, wanted: dict[str, int]) -> None:
    async with asyncio.timeout(PATIENCE * LEASE):
        while await crew.statuses(channel) != wanted:  # noqa: ASYNC110  # other processes' work
            await asyncio.sleep(0.1)


TAKEN = {
    "hang": {"after": "hang"},
    "reset": {"after": "reset"},
    "empty": {"after": "empty"},
    "truncated": {"after": "truncated"},
    "html": {"after": "html"},
    "late report": {"after": "hang", "script": "late", "late_s": 2},
}
NOT_TAKEN = {"hang": {"before": "hang"}, "reset": {"before": "reset"}}
NO_ANSWER = 20
"""So many requests of each channel get none."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def unanswered(settled_crew):
    """What became of requests that left and got no answer: a channel for each kind of silence."""
    crew, channels = settled_crew, {}
    kinds = [("taken", name, None, behaviour) for name, behaviour in TAKEN.items()]
    for policy in (UnknownPolicy.FAIL, UnknownPolicy.CATEGORY):
        kinds += [("not taken", name, policy, one) for name, one in NOT_TAKEN.items()]
    for taken, name, policy, behaviour in kinds:
        given = {} if policy is None else {"on_unknown": policy}
        channel = channels[taken, name, policy] = await new_channel(crew, 40, **given)
        await crew.behave(channel, NO_ANSWER, **behaviour)
        await crew.fleet.enqueue(channel, 60)
    crew.start_worker()
    await crew.settle(*channels.values(), within=80)
    found = {
        kind: (await crew.judge(channel), await crew.unknown_attempts(channel))
        for kind, channel in channels.items()
    }
    await crew.fleet.tidy_up()
    return found


@pytest.mark.parametrize("how", TAKEN)
async def test_what_meta_took_and_did_not_answer_is_settled_by_its_echo(unanswered, how) -> None:
    verdict, unknown = unanswered["taken", how, None]

    assert verdict.is_clean, verdict
    assert set(verdict.statuses) == {"read"}
    assert len(unknown) == NO_ANSWER


@pytest.mark.parametrize("how", NOT_TAKEN)
async def test_what_meta_did_not_take_fails_after_silence_where_wanted(unanswered, how) -> None:
    verdict, _ = unanswered["not taken", how, UnknownPolicy.FAIL]

    assert verdict.is_clean, verdict
    assert verdict.statuses["failed"] == NO_ANSWER


@pytest.mark.parametrize("how", NOT_TAKEN)
async def test_what_meta_did_not_take_is_by_default_sent_once_more(unanswered, how) -> None:
    verdict, unknown = unanswered["not taken", how, UnknownPolicy.CATEGORY]

    assert verdict.is_clean, verdict
    assert set(verdict.statuses) == {"read"}
    assert len(unknown) == NO_ANSWER


async def test_nothing_is_sent_again_while_no_webhook_comes_in(crew) -> None:
    channel = await new_channel(crew, on_unknown=UnknownPolicy.RESEND)
    await crew.fleet.control("webhooks/pause", {})
    await crew.behave(channel, 30, after="reset")
    await crew.fleet.enqueue(channel, 60)
    crew.start_worker()

    await crew.until_requests(60, or_for=30)
    deadline = crew.fleet.settings.unknown_deadline_seconds
    for _ in range(6):
        await crew.fleet.enqueue(channel, 1)
        await asyncio.sleep(deadline / 3)
    statuses = await crew.statuses(channel)
    await crew.fleet.control("webhooks/resume", {})
    await crew.settle(channel, within=60)

    verdict = await crew.judge(channel)
    assert statuses["unknown"] == 30
    assert verdict.is_clean, (verdict, crew.logs())
    assert set(verdict.statuses) == {"read"}
