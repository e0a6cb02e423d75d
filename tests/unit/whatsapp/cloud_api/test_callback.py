from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.kernel.ids import new_id
from whatsapp.domain.webhook import Echo
from whatsapp.infrastructure.cloud_api.callback import callback_data, parse_callback_data


@given(st.uuids(), st.integers(1, 999_999_999))
def test_what_is_sent_along_comes_back(message_id, attempt):
    text = callback_data(message_id=message_id, attempt=attempt)

    assert len(text) <= 512
    assert parse_callback_data(text) == Echo(message_id, attempt)


@pytest.mark.parametrize("attempt", [0, -1, 10**9])
def test_attempts_count_from_one(attempt):
    with pytest.raises(ValueError, match="from 1"):
        callback_data(message_id=new_id(), attempt=attempt)


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "an order number",
        "tw1..1",
        f"tw1.{'a' * 32}",
        f"tw1.{'a' * 32}.0",
        f"tw1.{'a' * 32}.01",
        f"tw1.{'A' * 32}.1",
        f"tw1.{'a' * 31}.1",
        f"tw1.{'a' * 32}.1\n",
        f"tw1.{'a' * 32}.\u0661",
        f"tw2.{'a' * 32}.1",
    ],
)
def test_what_others_sent_along_is_not_ours(text):
    assert parse_callback_data(text) is None


@given(st.text() | st.none() | st.integers() | st.binary())
def test_parsing_never_raises(text):
    parse_callback_data(text)


def test_it_can_be_searched_for_by_the_id():
    message_id = UUID("01930000-0000-7000-8000-000000000001")

    assert callback_data(message_id=message_id, attempt=2) == f"tw1.{message_id.hex}.2"
