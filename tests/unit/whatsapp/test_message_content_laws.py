"""Whatever JSON comes, content is taken or refused as promised, and nothing shows it."""

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp.domain.value_objects import InvalidContent, MessageContent, MessageType

CANARY = "Canary7f3a"
LINK = "https://example.org/file"
ABSENT = object()
EXAMPLES = json.loads(Path(__file__).with_name("message_examples.json").read_text("utf-8"))
VALID = {name: (payload["type"], payload[payload["type"]]) for name, payload in EXAMPLES.items()}


def changed(name, path, value):
    """The valid example `name` with `value` at `path` (a list of keys and indexes)."""
    kind, body = copy.deepcopy(VALID[name])
    if not path:
        return kind, value
    part = body
    for key in path[:-1]:
        part = part[key]
    if value is ABSENT:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return kind, body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def _paths(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(child, (*path, key))


ALL_PATHS = [(name, path) for name, (_, body) in VALID.items() for path in _paths(body)]


def _refusal_of(kind, body):
    """The refusal of a content, or None if it was taken; any other exception is a bug."""
    try:
        content = MessageContent.parse(kind, body)
    except InvalidContent as refusal:
        return refusal
    json.loads(content.canonical_json())
    return None


def _is_as_promised(refusal, kind):
    return refusal is None or refusal.field.startswith((kind, "recipient_type"))


@given(kind=st.sampled_from([str(kind) for kind in MessageType]), body=JSON)
@settings(max_examples=300)
def test_any_json_is_taken_or_refused_and_never_anything_else(kind, body) -> None:
    assert _is_as_promised(_refusal_of(kind, body), kind)


@given(payload=JSON)
def test_any_json_as_a_request_is_taken_or_refused(payload) -> None:
    with suppress(InvalidContent):
        MessageContent.from_payload(payload)


@given(where=st.sampled_from(ALL_PATHS), value=JSON, drop=st.booleans())
@settings(max_examples=600)
def test_a_valid_message_with_any_part_replaced_is_taken_or_refused(where, value, drop) -> None:
    name, path = where
    kind, body = changed(name, path, ABSENT if drop and path else value)

    assert _is_as_promised(_refusal_of(kind, body), kind)


@given(where=st.sampled_from(ALL_PATHS), value=JSON)
@settings(max_examples=300)
def test_an_unknown_key_that_is_json_is_kept_wherever_it_stands(where, value) -> None:
    name, path = where
    kind, body = copy.deepcopy(VALID[name])
    part = body
    for key in path:
        part = part[key]
    if not isinstance(part, dict):
        return
    part["new_by_meta"] = value

    # What freezing refuses has a test of its own.
    if _refusal_of("text", {"body": "x", "more": value}) is None:
        assert MessageContent.parse(kind, body).to_dict()[kind] == body


@given(
    where=st.sampled_from(ALL_PATHS), canary=st.sampled_from([CANARY, [CANARY], {CANARY: CANARY}])
)
@settings(max_examples=300)
def test_no_refusal_and_no_repr_shows_what_was_given(where, canary) -> None:
    name, path = where
    kind, body = changed(name, path, canary)
    shown: list[Any] = []
    for value in (body, {"?": body, CANARY + "\0": 1}, {CANARY: {CANARY: "\0"}}):
        try:
            content = MessageContent.parse(kind, value)
        except InvalidContent as refusal:
            shown += [str(refusal), repr(refusal), refusal.detail, refusal.field, refusal.args]
        else:
            shown += [repr(content), str(content), f"{content}", [repr([content])]]

    assert CANARY not in json.dumps(shown)
    assert LINK not in json.dumps(shown)


def test_long_texts_and_keys_of_strangers_do_not_show_either() -> None:
    for body in ({"body": CANARY * 1000}, {"body": "x", CANARY: {"a": "\0"}}, {CANARY: 1}):
        with pytest.raises(InvalidContent) as refusal:
            MessageContent.parse("text", body)
        assert CANARY not in f"{refusal.value.field}{refusal.value!r}{refusal.value}"
