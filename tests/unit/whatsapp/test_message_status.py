"""Every pair of statuses against a table written out by hand, and what order may not change."""

from functools import reduce
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.domain.value_objects import (
    DEAD_LETTERS,
    FORWARD,
    REPORTED,
    REPORTS,
    RETRY,
    STEPS,
    MessageStatus,
    sources_of,
)

S = MessageStatus

# One line per status: what Tellwire does itself | what a report of Meta's may do.
WRITTEN = """
queued    : sending cancelled expired failed        | sent failed delivered read played
sending   : sent failed retrying unknown queued     | sent failed delivered read played
retrying  : queued sending cancelled expired failed | sent failed delivered read played
unknown   : queued failed retrying expired          | sent failed delivered read played
cancelled :                                         | sent failed delivered read played
expired   :                                         | sent failed delivered read played
sent      :                                         | failed delivered read played
failed    :                                         | delivered read played
delivered :                                         | read played
read      :                                         | played
played    :                                         |
"""


def _written() -> dict[str, tuple[set[str], set[str]]]:
    table = {}
    for line in WRITTEN.strip().splitlines():
        source, targets = line.split(":")
        steps, reports = targets.split("|")
        table[source.strip()] = (set(steps.split()), set(reports.split()))
    return table


def advance(status, event):
    return event if event in FORWARD[status] else status


def test_the_written_table_names_every_status() -> None:
    assert set(_written()) == {str(status) for status in S}


@pytest.mark.parametrize(("source", "target"), list(product(S, S)))
def test_every_pair_is_as_written(source, target) -> None:
    steps, reports = _written()[source]

    assert (target in STEPS[source]) is (target in steps)
    assert (target in REPORTS[source]) is (target in reports)
    assert (target in FORWARD[source]) is (target in steps | reports)
    again = source in {"failed", "expired", "unknown"} and target == "queued"
    assert (target in RETRY[source]) is again


@pytest.mark.parametrize("table", [FORWARD, STEPS, REPORTS, RETRY])
def test_the_sources_of_a_status_are_the_table_read_backwards(table) -> None:
    pairs = {(source, target) for target in S for source in sources_of(target, table)}

    assert pairs == {(source, target) for source in S for target in table[source]}


def test_sent_is_never_a_source_of_what_a_sweep_does() -> None:
    assert sources_of(S.FAILED, STEPS) == {S.QUEUED, S.SENDING, S.RETRYING, S.UNKNOWN}
    assert sources_of(S.CANCELLED) == {S.QUEUED, S.RETRYING}
    assert sources_of(S.EXPIRED) == {S.QUEUED, S.RETRYING, S.UNKNOWN}


def test_no_transition_lowers_the_rank_and_only_pending_ones_keep_it() -> None:
    for source in S:
        for target in FORWARD[source]:
            assert target.rank > source.rank or (source.is_pending and target.is_pending)


def test_repeating_a_status_is_not_a_transition() -> None:
    assert not [status for status in S if status in FORWARD[status]]


def test_the_sets_are_as_written() -> None:
    assert {s for s in S if s.is_pending} == {"queued", "sending", "retrying", "unknown"}
    assert {s for s in S if s.is_final} == {"failed", "cancelled", "expired", "read", "played"}
    assert sorted(DEAD_LETTERS) == ["expired", "failed"]
    assert sorted(REPORTED, key=lambda s: s.rank) == [
        "sent", "failed", "delivered", "read", "played",
    ]  # fmt: skip


@pytest.mark.parametrize("start", list(S))
def test_all_orders_of_all_reports_end_the_same(start) -> None:
    ends = {reduce(advance, order, start) for order in permutations(sorted(REPORTED))}

    assert ends == {S.PLAYED}


@given(
    start=st.sampled_from(S),
    events=st.lists(st.sampled_from(sorted(REPORTED)), max_size=12),
    data=st.data(),
)
def test_the_order_and_repetition_of_reports_do_not_change_the_end(start, events, data) -> None:
    shuffled = data.draw(st.permutations(events + events[:3]))

    assert reduce(advance, events, start) is reduce(advance, shuffled, start)


@given(start=st.sampled_from(S), events=st.lists(st.sampled_from(S), max_size=20))
def test_what_meta_proved_is_never_taken_back(start, events) -> None:
    status = start
    for event in events:
        following = advance(status, event)
        assert following.rank >= status.rank
        status = following
    if S.DELIVERED in events:
        assert status.rank >= S.DELIVERED.rank


def test_a_late_sent_does_not_revive_a_failure_and_delivery_beats_it() -> None:
    assert reduce(advance, [S.FAILED, S.SENT], S.SENDING) is S.FAILED
    assert reduce(advance, [S.FAILED, S.DELIVERED], S.SENT) is S.DELIVERED
    assert reduce(advance, [S.DELIVERED, S.FAILED], S.SENT) is S.DELIVERED
