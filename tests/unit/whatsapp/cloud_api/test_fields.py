import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.infrastructure.cloud_api.fields import (
    identifier,
    integer,
    is_storable,
    moment,
    person,
    read_json,
)

AT = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)
SECONDS = int(AT.timestamp())


@pytest.mark.parametrize("value", [SECONDS, str(SECONDS), SECONDS * 1000, str(SECONDS * 1000)])
def test_a_time_may_come_in_seconds_or_milliseconds_as_number_or_text(value):
    assert moment(value) == AT


@pytest.mark.parametrize(
    "value",
    [None, "", "now", 0, -1, 1.5, True, "1e9", 10**9, 5 * 10**9, 10**13, 10**18, 10**400, "\u0661"],
)
def test_a_time_that_cannot_be_is_not_there(value):
    assert moment(value) is None


@given(st.integers() | st.text() | st.floats() | st.booleans() | st.none() | st.lists(st.none()))
def test_reading_a_field_never_raises(value):
    moment(value)
    integer(value)
    identifier(value)
    person(value, value)


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        (("5511987654321",), ("5511987654321", None)),
        (("US.13491208655302741918",), (None, "US.13491208655302741918")),
        (("16505551234", "US.1A2b"), ("16505551234", "US.1A2b")),
        (("US.ENT.1A2b", "16505551234"), ("16505551234", "US.ENT.1A2b")),
        (("+16505551234", "", None, 7), (None, None)),
        (("016505551234", "123", "1" * 16), (None, None)),
        (("16505551234", "16505559999"), ("16505551234", None)),
    ],
)
def test_a_person_is_a_number_or_a_user_id_wherever_it_stands(candidates, expected):
    assert person(*candidates) == expected


def test_half_an_emoji_does_not_spoil_the_rest():
    assert read_json(b'{"name":"Ana \\ud83d","body":"\\u00e9"}') == {"name": "Ana ?", "body": "é"}


def test_a_nul_character_is_replaced_and_an_escaped_backslash_is_not_mistaken_for_one():
    assert read_json(rb'["a\u0000b", "a\\u0000b", "a\\\u0000b"]') == [
        "a\ufffdb",
        "a\\u0000b",
        "a\\\ufffdb",
    ]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a":NaN,"b":1}', {"a": None, "b": 1}),
        (b'{"a":1e999,"b":-Infinity}', {"a": None, "b": None}),
        (b'{"a":1e999,"b":' + b"9" * 5000 + b"}", {"a": None, "b": None}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
        (b"", None),
        (b"{", None),
        (b"[" * 100_000, None),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, None),
    ],
)
def test_what_is_nearly_json_is_read_and_what_is_not_is_nothing(raw, expected):
    assert read_json(raw) == expected


@given(st.binary(max_size=300))
def test_reading_json_never_raises(raw):
    read_json(raw)


@given(st.recursive(st.none() | st.text() | st.floats(), st.lists))
def test_what_was_read_can_be_stored(value):
    read = read_json(json.dumps(value).encode())

    assert is_storable(read)
    assert b"\\u0000" not in json.dumps(read).encode()
    json.dumps(read, ensure_ascii=False).encode()


def test_what_is_nested_without_end_cannot_be_stored():
    assert not is_storable(read_json(b"[" * 300 + b"]" * 300))
