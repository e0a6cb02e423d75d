"""What makes a batch of reports ready, in the fast way, says what the slow way would."""

import copy
import pickle
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import SimpleNamespace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.infrastructure.database import InvalidValue
from shared.infrastructure.database.arguments import all_given
from shared.kernel.ids import new_id, new_ids
from whatsapp.domain.repositories import RecordedReport, StatusReport
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.infrastructure.persistence.repositories.report_rows import (
    doubles_among,
    recorded_of,
    report_arrays,
)
from whatsapp.infrastructure.persistence.repositories.storable import (
    REPLACEMENT,
    storable_text,
    storable_texts,
)

TEXTS = st.text(st.characters(exclude_categories=[]) | st.sampled_from("a\0\ud83d\ude00\udfff"))
IDS = st.builds(lambda n: UUID(int=n), st.integers(1, 4))
MOMENTS = st.datetimes(
    datetime(1900, 1, 1),  # noqa: DTZ001  # the zone comes with the strategy
    datetime(2100, 1, 1),  # noqa: DTZ001  # as above
    timezones=st.just(UTC),
)
REPORTS = st.builds(
    StatusReport,
    wamid=st.sampled_from(["wamid.a", "wamid.b", "wamid.\0c", "wamid.\ud83d"]),
    status=st.sampled_from(list(MessageStatus)),
    occurred_at=MOMENTS,
    message_id=st.none() | IDS,
    attempt=st.none() | st.integers(-1, 2**15),
)


@given(st.lists(TEXTS))
def test_many_texts_are_stored_as_each_alone(texts) -> None:
    assert list(storable_texts(texts)) == [storable_text(text) for text in texts]


def test_halves_that_two_texts_hold_do_not_make_a_whole() -> None:
    assert storable_texts(["a\ud83d", "\ude00b"]) == [f"a{REPLACEMENT}", f"{REPLACEMENT}b"]


@given(st.lists(REPORTS))
def test_each_column_has_what_its_report_says_or_nothing_at_all(reports) -> None:
    arrays = report_arrays(reports)
    named = {one.wamid: one.message_id for one in reports if one.message_id}
    expected = {
        "wamids": [storable_text(one.wamid) for one in reports],
        "statuses": [one.status.value for one in reports],
        "message_ids": [one.message_id or named.get(one.wamid) for one in reports],
        "attempts": [one.attempt if one.attempt in range(2**15) else None for one in reports],
    }
    for name, column in expected.items():
        blank = all(value is None for value in column)
        assert list(arrays[name]) == ([] if blank else column)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    microseconds = [round(second * 10**6) for second in arrays["seconds"]]
    moment = timedelta(microseconds=1)
    assert microseconds == [(one.occurred_at - epoch) // moment for one in reports]


@given(st.lists(st.tuples(REPORTS, st.sampled_from(["untold", "known", "new"]), IDS)), st.data())
def test_what_is_told_takes_the_place_of_what_was_expected(told, data) -> None:
    reports = report_arrays([report for report, _, _ in told])
    named = list(reports["message_ids"]) or [None] * len(told)
    attempts = list(reports["attempts"]) or [None] * len(told)
    rows, expected = [], []
    for position, (_, how, ident) in enumerate(told):
        if how == "untold":
            ours = RecordedReport(position, named[position], True, False, attempts[position])
            expected.append(ours)
        else:
            rows.append(
                (position + 1, how == "new", ident, False, True, 7, False, False) + 2 * (None,)
            )
            if how == "new":
                expected.append(RecordedReport(position, ident, False, True, 7))

    recorded = recorded_of(reports, data.draw(st.permutations(rows)), doubled=3)

    assert list(recorded.reports) == expected
    assert (recorded.doubled, list(recorded.failed)) == (3, [])


def test_of_second_copies_each_column_has_its_own() -> None:
    at = datetime(2026, 11, 29, tzinfo=UTC)
    reports = [
        StatusReport(
            wamid=f"wamid.{n}",
            status=MessageStatus.SENT,
            occurred_at=at,
            message_id=new_id(),
            attempt=n,
        )
        for n in range(3)
    ]
    arrays = report_arrays(reports)
    rows = [SimpleNamespace(number=n + 1, doubles=n != 1, message_id=n) for n in (2, 0, 1)]

    doubles = doubles_among(arrays, rows)

    assert doubles["wamids"] == ["wamid.2", "wamid.0"]
    assert doubles["seconds"] == [at.timestamp()] * 2
    assert doubles["message_ids"] == [2, 0]


class Name(str):
    """A text of its own kind."""

    __slots__ = ()


class Kind(StrEnum):
    """Texts of a closed set."""

    ONE = "one"


@given(st.lists(st.sampled_from(["a", Name("b"), Kind.ONE, True, 3, None, b"c"])))
def test_all_are_of_a_kind_where_each_is(values) -> None:
    for kind in (str, int):
        if all(isinstance(value, kind) for value in values):
            assert all_given(kind, values, "values") is values
        else:
            with pytest.raises(InvalidValue):
                all_given(kind, values, "values")


@given(st.integers(1, 50))
def test_an_id_is_what_uuid_would_make_of_it_also_as_a_copy(number) -> None:
    for one in new_ids(number):
        same = UUID(int=one.int)
        copies = [copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))]  # noqa: S301  # ours
        for other in (same, *copies):
            assert (other, hash(other), str(other)) == (one, hash(one), str(one))
            assert (other.is_safe, other.variant, other.version) == (same.is_safe, same.variant, 7)
