"""Ids in the order in which they were made."""

import time
from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from shared.kernel import ids


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=10))
def test_ids_are_of_version_seven_and_each_is_greater_than_all_before_it(numbers) -> None:
    made = [
        one
        for number in numbers
        for one in (*ids.new_ids(number), *map(UUID, ids.new_id_texts(number)), ids.new_id())
    ]

    assert len(made) == 2 * sum(numbers) + len(numbers)
    assert all(a < b for a, b in pairwise(made))
    assert {(one.version, one.int >> 62 & 0b11) for one in made} == {(7, 0b10)}


def test_an_id_as_text_is_spelt_as_any_other() -> None:
    (made,) = ids.new_id_texts(1)

    assert made == str(UUID(made))


def test_ids_tell_the_time_and_do_not_go_back_with_the_clock(monkeypatch) -> None:
    monkeypatch.setattr(ids, "_state", dict(ids._state))  # What others make keeps its time.
    now = time.time_ns() + 10**15
    monkeypatch.setattr(ids.time, "time_ns", lambda: now)
    first = ids.new_id()
    monkeypatch.setattr(ids.time, "time_ns", lambda: now - 10**12)
    later = ids.new_ids(2)

    assert first.int >> 80 == now // 10**6
    assert first < later[0] < later[1]
