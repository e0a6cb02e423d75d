"""What customers edit or take back: shown, told once and forward only, in whatever order."""

import asyncio
import itertools
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.kernel.ids import new_id
from webhook_bodies import body, edit_of, inbound_to, new_wamid, revoke_of
from whatsapp.application.know_contact import KnowContact
from whatsapp.application.record_events import RecordEvents
from whatsapp.domain.events import EventType
from whatsapp.domain.value_objects import PhoneNumber
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

AT = 1795420800
MINUTE, HOUR, DAY = 60, 3600, 86400
_numbers = itertools.count(1)


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@dataclass(frozen=True, slots=True)
class Writer:
    """Somebody who writes to Ana, and what is shown and told of it."""

    intake: Any
    begin: Any
    customer: Any
    wa_id: str

    def says(self, text: str, wamid: str | None = None, *, at: int = AT) -> dict[str, Any]:
        values = {"from": self.wa_id, "timestamp": str(at), "text": {"body": text}}
        return inbound_to(self.customer, wamid, **values)

    def edits(self, target: str, text: str, *, after: int, wamid: str | None = None):
        at = str(AT + after)
        message = {"type": "text", "text": {"body": text}}
        given = {"from": self.wa_id, "timestamp": at}
        return edit_of(self.customer, target, message, wamid=wamid, **given)

    def revokes(self, target: str, *, after: int, wamid: str | None = None):
        given = {"from": self.wa_id, "timestamp": str(AT + after)}
        return revoke_of(self.customer, target, wamid=wamid, **given)

    async def shown(self) -> tuple[Any, dict[str, Any]]:
        """The conversation, and what is in its thread by wamid."""
        async with self.begin(self.customer.tenant_id) as work:
            found = await work.conversations.get_by_address(
                self.customer.channel.id, PhoneNumber(f"+{self.wa_id}")
            )
            view = await work.conversation_views.get_view(found.id)
            page = await work.conversation_views.list_messages(found.id, limit=200)
        assert len({one.wamid for one in page.messages}) == len(page.messages)
        return view, {one.wamid: one for one in page.messages}

    async def told(self) -> list[tuple[str, str, str | None]]:
        """The events about this person: type, wamid and text, in order."""
        async with self.begin(self.customer.tenant_id) as work:
            events = await work.events.list_after(0, limit=10_000)
        return [
            (one.type.value, one.data["wamid"], (one.data.get("content") or {}).get("body"))
            for one in events
            if one.data.get("from") == f"+{self.wa_id}"
        ]


@pytest.fixture
async def listening(intake, sessions, ana):
    """The intake with all that follows in an installation, and events open."""
    apply = replace(intake.process.apply, followers=[KnowContact(), intake, RecordEvents()])
    intake.process = replace(intake.process, apply=apply)
    async with work_in(sessions)(ana.tenant_id) as work:
        await work.events.open()
        await work.commit()
    return intake


@pytest.fixture
def new_writer(listening, sessions, ana):
    return lambda: Writer(listening, work_in(sessions), ana, f"4915{new_id().int % 10**9:09}")


@pytest.fixture
def writer(new_writer):
    return new_writer()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("together", [True, False], ids=["one body", "three bodies"])
async def test_an_edit_and_a_removal_count_in_any_order(listening, writer, order, together) -> None:
    edited, gone = new_wamid(), new_wamid()
    parts = [
        (writer.says("the 12", edited), writer.says("Oh no", gone)),
        (writer.edits(edited, "the 21", after=MINUTE),),
        (writer.revokes(gone, after=HOUR),),
    ]
    ordered = [parts[index] for index in order]
    if together:
        await listening.take_in(body(*itertools.chain(*ordered)))
    else:
        await listening.take_in(*(body(*part) for part in ordered))

    view, thread = await writer.shown()

    assert set(thread) == {edited, gone}
    assert (thread[edited].current.text, thread[edited].content.text) == ("the 21", "the 12")
    assert thread[edited].edited_at.timestamp() == AT + MINUTE
    assert thread[gone].revoked_at.timestamp() == AT + HOUR
    assert thread[gone].content.text == "Oh no"
    assert view.conversation.unread_count == 2
    assert view.last_message.wamid in {edited, gone}
    assert view.last_message.amendments
    told = await writer.told()
    assert told.count(("message.edited", edited, "the 21")) == 1
    assert told.count(("message.revoked", gone, None)) == 1
    assert told.index(("message.received", edited, "the 12")) < told.index(
        ("message.edited", edited, "the 21")
    )
    assert {type_ for type_, _, _ in told} == {
        "message.received",
        "message.edited",
        "message.revoked",
    }


async def test_the_preview_of_a_conversation_follows_the_edit(listening, writer) -> None:
    wamid = new_wamid()
    await listening.take_in(body(writer.says("the 12", wamid)))
    before, _ = await writer.shown()
    await listening.take_in(body(writer.edits(wamid, "the 21", after=MINUTE)))
    after, _ = await writer.shown()

    assert before.last_message.current.text == "the 12"
    assert after.last_message.current.text == "the 21"
    assert after.conversation == before.conversation


async def test_an_edit_changes_the_caption_of_a_picture(listening, writer, ana) -> None:
    wamid = new_wamid()
    picture = {"id": "m1", "mime_type": "image/jpeg", "sha256": "c2hh", "caption": "Mine"}
    sent = {"from": writer.wa_id, "timestamp": str(AT), "type": "image", "image": picture}
    changed = {"type": "image", "image": picture | {"caption": "Ours"}}
    edit = edit_of(ana, wamid, changed, **{"from": writer.wa_id, "timestamp": str(AT + 1)})
    await listening.take_in(body(edit, inbound_to(ana, wamid, **sent)))

    _, thread = await writer.shown()

    assert thread[wamid].current.media.caption == "Ours"
    assert thread[wamid].content.media.caption == "Mine"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_what_comes_too_late_stands_by_itself_and_changes_nothing(
    listening, writer, order
) -> None:
    edited, gone, late = new_wamid(), new_wamid(), [new_wamid(), new_wamid()]
    parts = [
        body(writer.says("a", edited), writer.says("b", gone)),
        body(
            writer.edits(edited, "A", after=15 * MINUTE + 1, wamid=late[0]),
            writer.revokes(gone, after=2 * DAY + 1, wamid=late[1]),
        ),
    ]
    await listening.take_in(*(parts[index] for index in order))

    view, thread = await writer.shown()

    assert set(thread) == {edited, gone, *late}
    assert thread[edited].current.text == "a"
    assert (thread[edited].edited_at, thread[gone].revoked_at) == (None, None)
    assert view.conversation.unread_count == 2
    assert {type_ for type_, _, _ in await writer.told()} == {"message.received"}


async def test_the_last_moment_of_the_limits_counts(listening, writer) -> None:
    edited, gone = new_wamid(), new_wamid()
    await listening.take_in(
        body(
            writer.says("a", edited),
            writer.says("b", gone),
            writer.edits(edited, "A", after=15 * MINUTE),
            writer.revokes(gone, after=2 * DAY),
        )
    )

    _, thread = await writer.shown()

    assert set(thread) == {edited, gone}
    assert thread[edited].current.text == "A"
    assert thread[gone].revoked_at is not None


async def test_what_is_about_nothing_that_we_have_is_kept_beside_its_neighbours(
    listening, writer
) -> None:
    orphans, known = [new_wamid(), new_wamid()], new_wamid()
    await listening.take_in(
        body(
            writer.edits("wamid.nobody", "now", after=0, wamid=orphans[0]),
            writer.says("Hi", known),
            writer.revokes("wamid.nobody", after=0, wamid=orphans[1]),
        )
    )

    view, thread = await writer.shown()

    assert set(thread) == {known, *orphans}
    assert thread[orphans[0]].content.edited.text == "now"
    assert view.conversation.unread_count == 1
    assert view.last_message.wamid == known
    assert sorted(wamid for _, wamid, _ in await writer.told()) == sorted(thread)
    assert await listening.quarantine() == []


async def test_an_edit_of_a_shape_that_nobody_knows_is_a_message_like_any_other(
    listening, writer, ana
) -> None:
    known, odd = new_wamid(), new_wamid()
    given = {"from": writer.wa_id, "timestamp": str(AT)}
    await listening.take_in(
        body(
            writer.says("Hi", known),
            inbound_to(ana, odd, **given, type="edit", edit={"original_message_id": known}),
            inbound_to(ana, **given, type="edit", edit=["what", "ever"]),
            inbound_to(ana, **given, type="revoke", revoke={"original_message_id": "x" * 5000}),
        )
    )

    view, thread = await writer.shown()

    assert len(thread) == view.conversation.unread_count == 4
    assert thread[known].edited_at is None


async def test_neither_opens_the_window_nor_is_marked_as_read(listening, writer) -> None:
    wamid = new_wamid()
    await listening.take_in(body(writer.says("a", wamid)))
    before, _ = await writer.shown()
    await listening.take_in(
        body(writer.edits(wamid, "A", after=MINUTE), writer.revokes(wamid, after=HOUR))
    )
    after, _ = await writer.shown()

    assert after.conversation.last_inbound_at == before.conversation.last_inbound_at
    async with writer.begin(writer.customer.tenant_id) as work:
        newest = await work.conversation_views.get_newest_inbound(after.conversation.id)
    assert newest.wamid == wamid


async def test_another_tenants_edit_changes_nothing(listening, writer, bea) -> None:
    wamid = new_wamid()
    of_bea = edit_of(
        bea,
        wamid,
        {"type": "text", "text": {"body": "forged"}},
        **{"from": writer.wa_id, "timestamp": str(AT + 1)},
    )
    await listening.take_in(body(of_bea), body(writer.says("a", wamid)))

    _, thread = await writer.shown()

    assert thread[wamid].current.text == "a"


async def test_an_edit_and_its_message_that_are_stored_at_once_find_each_other(
    listening, new_writer
) -> None:
    """Two processors, two transactions: whichever commits later tells of the edit, once."""
    for _ in range(10):
        writer, wamid = new_writer(), new_wamid()
        for one in (writer.edits(wamid, "B", after=1), writer.says("A", wamid)):
            await listening.inbox.append("app-1", body(one))
        one_each = replace(listening.process, inbox=_OneAtATime(listening.process.inbox))
        await asyncio.gather(one_each(), one_each())
        await listening.take_in()

        _, thread = await writer.shown()
        assert thread[wamid].current.text == "B"
        assert (await writer.told()).count(("message.edited", wamid, "B")) == 1


class _OneAtATime:
    """The queue, which gives one body to each who asks."""

    def __init__(self, queue):
        self._queue = queue

    def __getattr__(self, name):
        return getattr(self._queue, name)

    async def claim(self, *, limit, lease):
        del limit
        return await self._queue.claim(limit=1, lease=lease)


@st.composite
def stories(draw):
    """Two messages, what becomes of them and of one that nobody has; in any order, some twice."""
    offsets = st.sampled_from([0, 1, MINUTE, 15 * MINUTE, 16 * MINUTE, 3 * DAY])
    change = st.tuples(st.sampled_from(["edit", "revoke"]), st.integers(0, 2), offsets)
    changes = draw(st.lists(change, max_size=6))
    parts = [*range(2), *range(2, 2 + len(changes))]
    again = draw(st.lists(st.sampled_from(parts), max_size=3))
    order = draw(st.permutations(parts + again))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=4)))
    return changes, [order[a:b] for a, b in pairwise([0, *cuts, len(order)]) if a < b]


async def test_a_story_ends_alike_however_it_is_told(listening, new_writer) -> None:
    loop = asyncio.get_running_loop()

    async def play(story) -> None:
        changes, cuts = story
        writer, wamids = new_writer(), [new_wamid() for _ in range(3 + len(changes))]

        def made(part):
            if part < 2:
                return writer.says(f"original {part}", wamids[part])
            kind, target, after = changes[part - 2]
            wamid = wamids[part + 1]
            if kind == "edit":
                return writer.edits(wamids[target], f"edit {part}", after=after, wamid=wamid)
            return writer.revokes(wamids[target], after=after, wamid=wamid)

        await listening.take_in(*(body(*map(made, cut)) for cut in cuts))
        view, thread = await writer.shown()
        told = await writer.told()
        for number in range(2):
            _check(changes, number, wamids, thread, told)
        counting = [place for place, change in enumerate(changes) if _counts(change)]
        alone = {wamids[place + 3] for place in range(len(changes)) if place not in counting}
        assert set(thread) == {*wamids[:2], *alone}
        assert view.conversation.unread_count == 2
        assert view.last_message.wamid in wamids[:2]

    @settings(max_examples=40, suppress_health_check=list(HealthCheck), database=None)
    @given(stories())
    def law(story) -> None:
        asyncio.run_coroutine_threadsafe(play(story), loop).result(60)

    await asyncio.to_thread(law)


def _counts(change) -> bool:
    kind, target, after = change
    return target < 2 and after <= (15 * MINUTE if kind == "edit" else 2 * DAY)


def _check(changes, number, wamids, thread, told) -> None:
    """One of the two messages: shown as its last edit, gone if removed, and told up to there."""
    mine = [
        (after, wamids[place + 3], place + 2, kind)
        for place, (kind, target, after) in enumerate(changes)
        if target == number and _counts((kind, target, after))
    ]
    edits = sorted(one for one in mine if one[3] == "edit")
    removals = sorted(one for one in mine if one[3] == "revoke")
    shown = thread[wamids[number]]
    last = f"edit {edits[-1][2]}" if edits else f"original {number}"
    assert shown.current.text == last
    assert (shown.revoked_at and shown.revoked_at.timestamp()) == (
        AT + removals[0][0] if removals else None
    )
    steps = [(kind, text) for kind, wamid, text in told if wamid == wamids[number]]
    assert steps[0] == (EventType.MESSAGE_RECEIVED, f"original {number}")
    assert len(set(steps)) == len(steps)
    order = [f"edit {one[2]}" for one in edits]
    heard = [text for kind, text in steps if kind == EventType.MESSAGE_EDITED]
    assert heard == sorted(heard, key=order.index)
    assert steps.count((EventType.MESSAGE_REVOKED, None)) == bool(removals)
    if removals:
        assert steps[-1] == (EventType.MESSAGE_REVOKED, None)
    elif edits:
        assert heard[-1] == last
