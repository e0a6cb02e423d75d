"""Messages as arrays: the same values as one by one, and one spelling of each content."""

import json
from copy import copy
from datetime import UTC, datetime

import pytest

from shared.kernel.ids import new_id
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.value_objects import MessageContent, PhoneNumber, RecipientType
from whatsapp.domain.value_objects.message_content.frozen_json import canonical
from whatsapp.infrastructure.persistence.repositories.message_rows import arrays_of, columns_of

TENANT, CHANNEL = new_id(), new_id()
JSON_COLUMNS = {"body", "details", "envelope"}


def message(number: int, **more) -> OutboundMessage:
    return OutboundMessage(
        tenant_id=TENANT,
        channel_id=CHANNEL,
        recipient=PhoneNumber(f"+49151000000{number:02}"),
        content=MessageContent.text(f'Ünï "{number}" \\ \u2028'),
        **more,
    )


def test_arrays_hold_what_single_rows_hold() -> None:
    at = datetime(2026, 11, 23, tzinfo=UTC)
    messages = [
        message(1, metadata={"order": "7"}, envelope={"category": "x"}),
        message(2, send_at=datetime.max.replace(tzinfo=UTC), created_at=at),
    ]

    arrays = arrays_of(messages)

    for place, one in enumerate(messages):
        for name, value in columns_of(one).items():
            column = arrays[name]
            found = column[place] if column else None  # Without any value: filled up by unnest.
            assert (json.loads(found) if name in JSON_COLUMNS else found) == value


def test_only_a_column_without_any_value_is_left_empty() -> None:
    arrays = arrays_of([message(1), message(2, callback_data="mine")])

    assert arrays["callback_data"] == [None, "mine"]
    assert arrays["wamid"] == []
    assert len(arrays["id"]) == 2


@pytest.mark.parametrize("kind", list(RecipientType))
@pytest.mark.parametrize("quoted", [None, 'wamid."1"\\'])
def test_the_one_spelling_of_a_content_is_that_of_its_parts(kind, quoted) -> None:
    content = MessageContent("text", {"body": 'a "b" ü', "preview_url": True}, quoted, kind)

    assert content.canonical_json() == canonical(content.to_dict())
    assert json.loads(content.body_json()) == content.to_dict()["text"]


def test_a_copy_is_equal_and_goes_its_own_way() -> None:
    original = message(1, metadata={"order": "7"})
    twin = copy(original)

    assert twin == original
    twin.attempts = 3
    assert original.attempts == 0
