"""Edits and removals of a message: forward only, each step once, whatever order they come in."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from shared.kernel.ids import new_id
from whatsapp.domain.entities import InboundMessage, steps_of
from whatsapp.domain.value_objects import InboundContent
from whatsapp.domain.value_objects.inbound_content import plain

TENANT, CHANNEL = new_id(), new_id()
AT = datetime(2026, 11, 23, 8, tzinfo=UTC)
KEYS = st.sampled_from(["code", "title", "error_data", "details", "forwarded", "source_url"])
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


def message(wamid="wamid.first", *, content=None, at=AT):
    return InboundMessage(
        tenant_id=TENANT,
        channel_id=CHANNEL,
        wamid=wamid,
        content=content or InboundContent("text", {"body": "first"}),
        sent_at=at,
    )


def edit(number, after, of="wamid.first"):
    body = {"type": "text", "text": {"body": f"edit {number}"}}
    content = InboundContent("edit", {"original_message_id": of, "message": body})
    return message(f"wamid.{number:03}", content=content, at=AT + after)


def removal(number, after, of="wamid.first"):
    content = InboundContent("revoke", {"original_message_id": of})
    return message(f"wamid.{number:03}", content=content, at=AT + after)


def amended(*amendments):
    found = message()
    found.amendments = amendments
    return found


def test_what_was_never_amended_is_as_it_was() -> None:
    found = message()

    assert (found.current, found.edited_at, found.revoked_at) == (found.content, None, None)
    assert steps_of(found, ()) == []


def test_the_latest_edit_counts_and_the_original_stays() -> None:
    found = amended(edit(2, 2 * MINUTE), edit(1, MINUTE))

    assert (found.current.text, found.content.text) == ("edit 2", "first")
    assert found.edited_at == AT + 2 * MINUTE


def test_of_edits_of_the_same_second_the_same_one_counts_always() -> None:
    both = edit(1, MINUTE), edit(2, MINUTE)

    assert amended(*both).current == amended(*reversed(both)).current == both[1].content.edited


def test_limits_are_those_of_the_kind_of_amendment() -> None:
    assert amended(edit(1, 15 * MINUTE)).current.text == "edit 1"
    assert amended(edit(1, 15 * MINUTE + SECOND)).current.text == "first"
    assert amended(removal(1, 2 * DAY)).revoked_at == AT + 2 * DAY
    assert amended(removal(1, 2 * DAY + SECOND)).revoked_at is None


def test_what_is_about_another_message_changes_nothing() -> None:
    assert amended(edit(1, MINUTE, of="wamid.other")).current.text == "first"


def test_an_edit_is_not_edited_itself() -> None:
    first = edit(1, MINUTE)
    first.amendments = (edit(2, MINUTE, of=first.wamid),)

    assert first.edited_at is None


def test_an_amendment_opens_no_window() -> None:
    assert message().opens_window
    assert not edit(1, MINUTE).opens_window
    assert not removal(1, MINUTE).opens_window


def test_an_edit_behind_a_known_one_and_anything_behind_a_removal_moves_nothing() -> None:
    known, late, gone = edit(2, 2 * MINUTE), edit(1, MINUTE), removal(3, MINUTE)

    assert steps_of(amended(known, late), {known.id}) == [(late, False)]
    assert steps_of(amended(known, gone), {gone.id}) == [(known, False)]
    assert steps_of(amended(known, late, gone), ()) == [(late, True), (known, True), (gone, True)]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.just("1e999999999"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["context", "referral", "errors"]), JSON))
def test_whatever_stands_around_a_message_is_read_or_left_out(raw) -> None:
    found = message()
    found.raw = raw
    plain((found.context, found.referral))

    assert all(one.title for one in found.errors)


def test_an_error_of_any_code_is_shown() -> None:
    found = message()
    found.raw = {"errors": [{"code": code} for code in (131051, "131051", 1e300, "1e999999999")]}

    assert [one.code for one in found.errors] == [131051, 131051, None, None]


AMENDMENTS = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=8).map(
    lambda made: [
        (removal if removes else edit)(number, minutes * MINUTE)
        for number, (removes, minutes) in enumerate(made)
    ]
)


@given(AMENDMENTS, st.data())
def test_steps_end_where_the_message_stands_in_whatever_order_they_become_known(all_, data) -> None:
    """The message itself may come at any place among them."""
    order = data.draw(st.permutations(all_))
    there = data.draw(st.integers(0, len(order)))
    told, known = [], set()
    for count in range(there, len(order) + 1):
        found = amended(*order[:count])
        told += [step.amendment for step in steps_of(found, known) if step.moved]
        known = {one.id for one in order[:count]}

    found = amended(*all_)
    edits = [one for one in told if one.content.type == "edit"]
    assert len({one.id for one in told}) == len(told)
    assert [one.sent_at for one in edits] == sorted(one.sent_at for one in edits)
    removals = [one for one in told if one.content.type == "revoke"]
    assert len(removals) == bool(found.revoked_at)
    if removals:
        assert told[-1] is removals[0]
    elif edits:
        assert edits[-1].content.edited == found.current
    else:
        assert found.current == found.content
