"""What Meta signed is stored as it says, and what PostgreSQL cannot hold is marked as such."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.infrastructure.database import InvalidValue
from whatsapp.infrastructure.persistence.repositories.storable import REPLACEMENT, json_text

TEXT = st.text(st.characters(exclude_categories=[]) | st.sampled_from("\0\\u\ud800\udfff0"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT | st.sampled_from([10**30, -(10**30), "null"]),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=12,
)  # fmt: skip


def mended(value):
    match value:
        case str():
            return "".join(
                REPLACEMENT if c == "\0" or 0xD800 <= ord(c) < 0xE000 else c for c in value
            )
        case list():
            return [mended(one) for one in value]
        case dict():
            return {mended(name): mended(one) for name, one in value.items()}
        case _:
            return value


@given(VALUES)
def test_the_text_says_the_same_but_for_what_cannot_be_stored(value) -> None:
    text = json_text(value)

    assert json.loads(text) == mended(value)
    text.encode()  # Nothing is left of what UTF-8 does not know.


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        [None, float("inf")],
        {"a": -float("inf")},
        {1, 2},
        b"a",
        datetime(2026, 1, 1, tzinfo=UTC),
    ],
    ids=repr,
)
def test_what_is_no_json_is_refused(value) -> None:
    with pytest.raises(InvalidValue):
        json_text({"pricing": value})
